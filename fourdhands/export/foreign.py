"""Read the tensors of a foreign weights file without running anything that it asks for.

Importing weights starts here; `export.mappings` then says which tensor goes where. torch's files
are zips of raw numbers and one pickle. The pickle is read with inert stand-ins, as in
`inert_pickle`: tensors and the containers of well-known configuration libraries are noted down,
every other name is refused. Numbers are read only for the tensors that are wanted.
"""

import io
import math
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fourdhands.errors import first_line
from fourdhands.inert_pickle import check_memo

_MAX_PICKLE_BYTES: Final = 64 * 2**20
"""Of names and shapes; the largest peers have less than one MB."""
_MAX_HEADER_BYTES: Final = 32 * 2**20
_MAX_DIMENSIONS: Final = 8
_STATE_KEYS: Final = ("state_dict", "model", "module")
_STORAGE_TYPES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CONFIGURATION: Final = (
    *("yacs.", "omegaconf.", "hydra.", "mmcv.", "mmengine.", "argparse.", "pathlib.", "typing."),
    *("collections.", "copyreg.", "numpy.", "pytorch_lightning.", "lightning.", "torch.optim."),
    *("lightning_fabric.", "torchmetrics.", "torch.Size", "torch.device", "torch.dtype"),
)
"""Where names come from that checkpoints carry along beside their tensors. What they name becomes a
stand-in that does nothing, so none of these libraries is needed, and none is called."""
_BUILTINS: Final = {f"{m}.{n}" for m in ("builtins", "__builtin__") for n in ("set", "object")}
_DAMAGED: Final = (
    *(pickle.UnpicklingError, EOFError, AttributeError, LookupError, MemoryError, OverflowError),
    *(RecursionError, TypeError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile),
    *(NotImplementedError, OSError, SafetensorError),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: a state dict, bare or in a checkpoint, or safetensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, asks for code to be run, claims more than it holds, or has no
            state dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[:4] == b"PK\x03\x04":
            return _TorchZip(path).tensors()
        if start[8:] == b"{":
            return _read_safetensors(path, int.from_bytes(start[:8], "little"))
        return _read_old_torch(path)
    except _RefusedError as refused:
        raise ValueError(
            f"{path}: refused, it asks for '{refused}', which no weights need; nothing was "
            "executed. Get the file from its official source again"
        ) from None
    except _DAMAGED as error:
        raise ValueError(f"{path}: not readable as weights ({first_line(error)})") from error


class _RefusedError(Exception):
    """The pickle names something outside the list of known names."""


class _Inert(dict[Any, Any]):
    """Stand-in for anything that is no tensor: takes whatever it is given, and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "_Inert":
        return dict.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Not looked at."""

    def append(self, _: object) -> None:
        """Not kept."""

    def extend(self, _: object) -> None:
        """Not kept."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class _Note:
    """A tensor before its numbers are read."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, state: object) -> None:
        """Not looked at: without this, a pickle could set attributes, of the class even."""

    def check(self, stored: int) -> None:
        """Refuse views that reach beyond their numbers or stand for more than there are."""
        size, stride = self.size, self.stride
        whole = (self.offset, *size, *stride)
        if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
            raise ValueError("a tensor's sizes and strides do not fit")
        if not all(type(number) is int and number >= 0 for number in whole):
            raise ValueError("a tensor's sizes are no counts")
        count = math.prod(size)
        reach = self.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
        if count > stored or (count and reach > stored):
            raise ValueError(f"a tensor of {count} numbers on a storage of {stored}")


def _parameter(data: Any, *_: object) -> Any:
    return data


class _Unpickler(pickle.Unpickler):
    """Knows tensors; answers configuration with stand-ins; refuses the rest."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return _Note
        if full == "torch._utils._rebuild_parameter":
            return _parameter
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        if full == "collections.OrderedDict":
            return OrderedDict
        if full in _BUILTINS or full.startswith(_CONFIGURATION):
            return _Inert
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return _Inert
        raise _RefusedError(full)

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid
        known = isinstance(dtype, torch.dtype) and type(count) is int and type(key) is str
        if kind != "storage" or not known:
            raise ValueError("it stores its numbers in a way that is not known")
        return dtype, key, count


class _TorchZip:
    """A file of `torch.save`, checked before anything in it is read."""

    def __init__(self, path: Path) -> None:
        self.file = zipfile.ZipFile(path)
        self.entries = {entry.filename: entry for entry in self.file.infolist()}
        _check_entries(self.file.infolist(), path.stat().st_size)
        pickles = [name for name in self.entries if name.count("/") == 1 and "/data.pkl" in name]
        if len(pickles) != 1:
            raise ValueError("a zip, but not one of torch.save")
        self.pickle = pickles[0]
        self.folder = self.pickle.removesuffix("data.pkl")
        order = self.entries.get(f"{self.folder}byteorder")
        if order is not None and self.file.read(order).strip() != b"little":
            raise ValueError("its numbers are not in little-endian order")
        self.storages: dict[str, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        """The state dict."""
        if self.entries[self.pickle].file_size > _MAX_PICKLE_BYTES:
            raise ValueError(f"its list of tensors has more than {_MAX_PICKLE_BYTES} bytes")
        data = self.file.read(self.pickle)
        check_memo(data)
        content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return {name: self._tensor(note) for name, note in _named(content, _Note)}

    def _tensor(self, note: _Note) -> Tensor:
        dtype, key, count = note.storage
        if key not in self.storages:
            entry = self.entries[f"{self.folder}data/{key}"]
            if entry.file_size != count * dtype.itemsize:
                raise ValueError(
                    f"storage {key} holds {entry.file_size} bytes, not {count} numbers"
                )
            numbers = torch.empty(count, dtype=dtype)
            with self.file.open(entry) as part:
                part.readinto(numbers.view(torch.uint8).numpy())  # type: ignore[attr-defined]
            self.storages[key] = numbers
        note.check(count)
        return self.storages[key].as_strided(note.size, note.stride, note.offset)


def check_zip(path: Path) -> None:
    """Refuse what `torch.save` never writes, before torch looks at the file.

    Raises:
        ValueError: it is no zip, has compressed parts, or parts that claim more than it holds.
        zipfile.BadZipFile: it is broken.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("no file of torch.save, or cut short")
    with zipfile.ZipFile(path) as file:
        _check_entries(file.infolist(), path.stat().st_size)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse archives that would unpack to more than they are, which torch never writes."""
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise ValueError("a zip with compressed or encrypted parts, torch.save writes none")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("a zip with two parts of one name")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("a zip whose parts claim more than the file holds")


def _read_safetensors(path: Path, header: int) -> dict[str, Tensor]:
    if header > _MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {header} bytes")
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_old_torch(path: Path) -> dict[str, Tensor]:
    """Files from before torch 1.6; torch's own reader of plain data."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about other pickles than torch's
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words would advise to execute the file
        raise ValueError("neither safetensors nor plain data of torch") from error
    tensors = dict(_named(content, Tensor))
    for tensor in tensors.values():
        stored = tensor.untyped_storage().nbytes() // tensor.itemsize
        if tensor.is_sparse or tensor.numel() > stored:
            raise ValueError("a tensor that stands for more numbers than are stored")
    return tensors


def _named(content: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """The state dict's entries of a kind."""
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise ValueError("it holds no state dict (a mapping of names to tensors)")
    found = {
        name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, kind)
    }
    if not found:
        raise ValueError("its state dict has no tensors")
    parallel = all(name.startswith("module.") for name in found)  # saved within DataParallel
    for name, value in found.items():
        yield name.removeprefix("module.") if parallel else name, value
