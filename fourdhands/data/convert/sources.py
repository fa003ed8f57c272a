"""Raw files of data sets, read without trusting them: nothing in them is executed."""

import io
import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from fourdhands import inert_pickle
from fourdhands.data.convert.records import BadFrameError

_MOST_VALUES: Final = 200_000_000
_PLY_TYPES: Final = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_PLY_ORDERS: Final = {"binary_little_endian": "<", "binary_big_endian": ">"}


def require(path: Path, what: str) -> Path:
    """A file or folder that has to be there.

    Args:
        path: where.
        what: it is, and where users get it.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it is {what}")
    return path


def first_existing(*paths: Path) -> Path:
    """The first of some places where something may lie; the very first if it is nowhere."""
    return next((path for path in paths if path.exists()), paths[0])


def read_json(path: Path, compact: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        compact: makes something smaller of every object as soon as it is read, for files that would
            not fit into memory as they are; it raises nothing.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON.
    """
    try:
        return json.loads(path.read_bytes(), object_hook=compact)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def kept(read: Callable[[Path], Any], path: Path) -> Any:
    """What a function reads of a file; kept for frames that follow, as long as the file stays.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = path.stat()
    return _kept(read, path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _kept(read: Callable[[Path], Any], path: Path, *_: int) -> Any:
    return read(path)


def read_yaml(path: Path) -> Any:
    """Read a yaml file of plain values.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not yaml, or asks for objects.
    """
    try:
        return yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not yaml ({' '.join(str(error).split())})") from None


def read_pickle(path: Path) -> Any:
    """Read a pickle of containers and arrays (see `fourdhands.inert_pickle`).

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or asks for anything to be run.
    """
    return inert_pickle.loads(path.read_bytes(), str(path), most_values=_MOST_VALUES)


def read_npy(path: Path) -> Any:
    """Read an npy file; of an array of objects the pickle inside, too.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or asks for anything to be run.
    """
    data = path.read_bytes()
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read_header(file)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: not a readable npy file ({error})") from None
    array = inert_pickle.loads(data[file.tell() :], str(path), most_values=_MOST_VALUES)
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else array


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read an npz file of plain arrays.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or holds objects.
    """
    data = path.read_bytes()
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zip files can be damaged in many ways, each with its exception
        raise ValueError(f"{path}: not a readable npz file ({error})") from None


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Read a text file of numbers between blanks.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there is something else in it.
    """
    try:
        return np.array(path.read_text().split(), np.float64)
    except ValueError:
        raise ValueError(f"{path}: holds more than numbers between blanks") from None


def read_image(path: Path) -> bytes:
    """Read an encoded image.

    Raises:
        BadFrameError: there is none.
    """
    try:
        return path.read_bytes()
    except OSError:
        raise BadFrameError("the image is missing") from None


def read_ply(path: Path) -> NDArray[np.float64]:
    """Read the vertices (N, 3) of a PLY file, text or binary.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or its vertices do not come first.
    """
    data = path.read_bytes()
    match = re.match(rb"ply\r?\n(.*?\n)end_header\r?\n", data, re.DOTALL)
    if match is None:
        raise ValueError(f"{path}: not a PLY file")
    lines = [line.split() for line in match[1].decode("latin1").splitlines()]
    lines = [words for words in lines if words and words[0] not in ("comment", "obj_info")]
    elements = [k for k, words in enumerate(lines) if words[0] == "element"]
    body = data[match.end() :]
    try:
        _, encoding, _ = next(words for words in lines if words[0] == "format")
        first, second = (*elements, len(lines))[:2]
        _, name, number = lines[first]
        if name != "vertex":
            raise ValueError("its vertices do not come first")
        fields = [(words[2], _PLY_TYPES[words[1]]) for words in lines[first + 1 : second]]
        if encoding == "ascii":
            rows = [line.split() for line in body.decode("latin1").splitlines()[: int(number)]]
            columns = np.array(rows, np.float64).reshape(int(number), len(fields)).T
            values = {field: column for (field, _), column in zip(fields, columns, strict=True)}
            return np.stack([values[axis] for axis in "xyz"], -1)
        dtype = np.dtype([(field, _PLY_ORDERS[encoding] + kind) for field, kind in fields])
        table = np.frombuffer(body, dtype, count=int(number))
        return np.stack([table[axis].astype(np.float64) for axis in "xyz"], -1)
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        raise ValueError(f"{path}: not a PLY file that can be read ({error})") from None


def numbered(folder: Path, pattern: str) -> list[tuple[int, str]]:
    """Names in a folder that are wholly a regular expression, by the number in its group.

    Sorted, each number once; nothing if there is no folder.
    """
    if not folder.is_dir():
        return []
    matches = (re.fullmatch(pattern, entry.name) for entry in folder.iterdir())
    names = sorted(((int(m[1]), m[0]) for m in matches if m), reverse=True)
    return sorted(dict(names).items())


def inside(root: Path, name: str) -> Path:
    """A file that labels name, within a folder.

    Raises:
        BadFrameError: the name leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadFrameError("a file name leads out of the data set's folder")
    return root / path
