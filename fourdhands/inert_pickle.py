"""Read the arrays of an untrusted pickle without running anything that it asks for.

The official MANO files are Python 2 pickles of numpy arrays, scipy sparse matrices and `chumpy`
objects, and many data sets keep their labels in pickles of arrays. A pickle is a program: it names
callables and calls them. Here every name that such a file may use is answered by an inert stand-in
that only takes notes, every other name is refused, and the arrays are rebuilt from the notes
afterwards. numpy, scipy and chumpy are never called by the file.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.generic]

_MAX_MANO_BYTES: Final = 64 * 2**20  # the official files have 4 MB
_MAX_SPARSE_BYTES: Final = 64 * 2**20
_MAX_VALUES: Final = 1_000_000
_PUT_OPCODES: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_PLAIN_KINDS: Final = "biufSU"
_OBJECT: Final = "O"
# What the pickle machinery raises for a file that is damaged or not a pickle.
_DAMAGED: Final = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class _RefusedError(Exception):
    """The pickle names something outside the list of known names."""


class _Note:
    """Stand-in for one object of the file: keeps the arguments and the state that it is given."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def resolve(self, resolve: "_Resolver") -> Any:
        """The array that the object stands for."""
        raise ValueError("it holds an object that is no array")


class _Dtype(_Note):
    """`numpy.dtype(code, align, copy)`, then the state (version, byte order, ...)."""

    def resolve(self, resolve: "_Resolver") -> np.dtype[Any]:
        code = self.arguments[0]
        order: Any = self.state[1] if isinstance(self.state, tuple) else "|"
        if not isinstance(code, str) or not (code == "O8" or code[:1] in _PLAIN_KINDS):
            raise ValueError(f"an array has the type {code!r}; only numbers and texts are allowed")
        return np.dtype(code).newbyteorder(order)


class _Array(_Note):
    """`numpy.ndarray`, with the state (version, shape, dtype, Fortran order, bytes)."""

    def resolve(self, resolve: "_Resolver") -> Array:
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _Dtype):
            raise ValueError("an array has no number type")
        number_type = dtype.resolve(resolve)
        if number_type.kind == _OBJECT:
            return _array_of_objects(resolve(data), shape, fortran)
        flat = np.frombuffer(_as_bytes(data), number_type)
        array = flat.reshape(shape, order="F" if fortran else "C")
        return array.astype(flat.dtype.newbyteorder("="))


class _Buffer(_Note):
    """`numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`, of protocol 5."""

    def resolve(self, resolve: "_Resolver") -> Array:
        data, dtype, shape, order = self.arguments
        if not (isinstance(data, bytes | bytearray) and isinstance(dtype, _Dtype)):
            raise ValueError("an array without bytes or number type")
        if order not in ("C", "F") or (number_type := dtype.resolve(resolve)).hasobject:
            raise ValueError("an array that is not made of numbers")
        flat = np.frombuffer(bytes(data), number_type)
        array = flat.reshape(shape, order=order)  # type: ignore[call-overload]
        return array.astype(flat.dtype.newbyteorder("="))


class _Scalar(_Note):
    """`numpy.core.multiarray.scalar(dtype, bytes)`."""

    def resolve(self, resolve: "_Resolver") -> np.number[Any]:
        dtype, data = self.arguments
        if not isinstance(dtype, _Dtype):
            raise ValueError("a number has no number type")
        return np.frombuffer(_as_bytes(data), dtype.resolve(resolve))[0]


class _Sparse(_Note):
    """A scipy matrix in compressed columns or rows."""

    matrix: Callable[..., Any]

    def resolve(self, resolve: "_Resolver") -> Array:
        state = resolve(self.state)
        parts = (state["data"], state["indices"], state["indptr"])
        matrix = self.matrix(parts, shape=state.get("_shape", state.get("shape")))
        matrix.check_format(full_check=True)  # toarray writes wherever the indices say
        if (size := math.prod(matrix.shape) * matrix.dtype.itemsize) > _MAX_SPARSE_BYTES:
            raise ValueError(f"a sparse matrix would fill {size} bytes")
        return matrix.toarray()


class _SparseColumns(_Sparse):
    matrix = sparse.csc_matrix


class _SparseRows(_Sparse):
    matrix = sparse.csr_matrix


class _Ch(_Note):
    """`chumpy.ch.Ch`: a wrapped array, kept under `x`."""

    def resolve(self, resolve: "_Resolver") -> Array:
        return np.asarray(resolve(self.state["x"]))


class _Select(_Note):
    """`chumpy.reordering.Select`: entries `idxs` of the flattened `a`, in `preferred_shape`."""

    def resolve(self, resolve: "_Resolver") -> Array:
        array, indices = np.asarray(resolve(self.state["a"])), resolve(self.state["idxs"])
        return array.ravel()[indices].reshape(self.state["preferred_shape"])


def _array_of_objects(items: Any, shape: Any, fortran: Any) -> Array:
    """What numpy saves as a list: dictionaries in an array, mostly."""
    if not isinstance(items, list):
        raise ValueError("an array of objects without a list of them")
    flat = np.empty(len(items), object)
    for k, item in enumerate(items):
        flat[k] = item
    return flat.reshape(shape, order="F" if fortran else "C")


def _as_bytes(data: Any) -> bytes:
    """Python 2 wrote bytes as text, which arrives decoded as latin1."""
    return data if isinstance(data, bytes) else data.encode("latin1")


def _reconstruct_array(*_: object) -> _Array:
    """Answer `numpy.core.multiarray._reconstruct(ndarray, (0,), 'b')`."""
    return _Array()


def _reconstruct_object(cls: object, *_: object) -> _Note:
    """Answer `copy_reg._reconstructor(cls, object, None)`, how protocols 0 and 1 make objects."""
    if not (isinstance(cls, type) and issubclass(cls, _Note)):
        raise ValueError("an object of an unknown kind")
    return cls()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Answer `_codecs.encode`, how Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes that are not written as latin1 text")
    return text.encode("latin1")


_NUMPY: Final[dict[str, object]] = {
    "multiarray._reconstruct": _reconstruct_array,
    "multiarray.scalar": _Scalar,
}
_STAND_INS: Final[dict[str, object]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    **{f"{core}.{name}": c for core in ("numpy.core", "numpy._core") for name, c in _NUMPY.items()},
    **{f"{core}.numeric._frombuffer": _Buffer for core in ("numpy.core", "numpy._core")},
    **{f"scipy.sparse.{module}.csc_matrix": _SparseColumns for module in ("csc", "_csc")},
    **{f"scipy.sparse.{module}.csr_matrix": _SparseRows for module in ("csr", "_csr")},
    "chumpy.Ch": _Ch,
    "chumpy.ch.Ch": _Ch,
    "chumpy.reordering.Select": _Select,
    "copy_reg._reconstructor": _reconstruct_object,
    "copyreg._reconstructor": _reconstruct_object,
    "__builtin__.object": _Note,
    "builtins.object": _Note,
    "__builtin__.set": _Note,  # chumpy's bookkeeping, never looked at
    "builtins.set": _Note,
    "_codecs.encode": _encode,
}


class _InertUnpickler(pickle.Unpickler):
    """Unpickler whose only globals are the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


class _Resolver:
    """Turns notes into arrays, inside dictionaries, lists and tuples too.

    It counts what it visits: containers may hold each other many times over, and a few bytes of
    pickle would then stand for more than any memory holds.
    """

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def __call__(self, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {self.most} values")
        if isinstance(value, _Note):
            return value.resolve(self)
        if isinstance(value, dict):
            return {self(key): self(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self(item) for item in value)
        return value


def check_memo(data: bytes) -> None:
    """Refuse memo slots beyond the file's length, which would cost a table of that length."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _PUT_OPCODES and int(argument or 0) > len(data):
            raise ValueError(f"memo slot {argument} in {len(data)} bytes")


def loads(data: bytes, source: str, *, most_values: int = _MAX_VALUES) -> Any:
    """Read a pickle of containers, numbers, texts and arrays, executing nothing from it.

    Args:
        data: the pickle, of Python 2 or 3.
        source: where it comes from, for messages.
        most_values: that it may hold; each array counts as one.

    Returns:
        What it holds; every array-like value as a plain, dense `numpy.ndarray`.

    Raises:
        ValueError: it is damaged, or names a global outside the list.
    """
    try:
        check_memo(data)
        unpickler = _InertUnpickler(io.BytesIO(data), encoding="latin1")
        return _Resolver(most_values)(unpickler.load())
    except _RefusedError as refused:
        raise ValueError(
            f"{source}: refused, the pickle asks for '{refused}', which no data of numbers and "
            "arrays needs; nothing was executed. Get the file from its official source again"
        ) from None
    except _DAMAGED as error:
        raise ValueError(f"{source}: not a readable pickle ({error})") from error


def read_arrays(path: Path) -> dict[str, Any]:
    """Read the dictionary of arrays that an official MANO file holds; see `loads`.

    Raises:
        ValueError: The file is damaged, is no such dictionary, or names a global outside the list.
    """
    if (size := path.stat().st_size) > _MAX_MANO_BYTES:
        raise ValueError(
            f"{path}: {size} bytes are too many for a MANO file (limit {_MAX_MANO_BYTES})"
        )
    try:
        content = loads(path.read_bytes(), str(path))
    except ValueError as error:
        raise ValueError(
            f"{error}. A MANO file holds numpy arrays, scipy sparse matrices and chumpy arrays: "
            "download it again from https://mano.is.tue.mpg.de"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not MANO's dictionary")
    return content
