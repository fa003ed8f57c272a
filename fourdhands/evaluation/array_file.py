"""Arrays of an npz file from anybody: checked by their headers, mapped instead of loaded.

Nothing in such a file is executed, no size that it merely claims is allocated, and arrays that are
stored as they are (`numpy.savez`) stay on disk: their pages come when they are looked at.
"""

import mmap
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK_BYTES: Final = 16 * 2**20
"""Of an array that are looked at together."""
_MAPPED_BYTES: Final = 2**20  # smaller arrays are copied: nobody has to take care of them
_UNPACKED_BYTES: Final = 4 * 2**30  # that all compressed arrays may have
_LOCAL_HEADER: Final = struct.Struct("<26xHH")  # lengths of the name and of what follows it
# What the zip and npy machinery raises for a file that is damaged or something else.
_DAMAGED: Final = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class MappedFile:
    """A file whose bytes are memory, as long as somebody looks at them."""

    def __init__(self, file: IO[bytes]) -> None:
        # private: arrays of it may be written to, the file does not change
        self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def release(self) -> None:
        """Let pages that were read go; they come again when they are looked at."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.bytes.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Arrays:
    """What a file holds.

    Attributes:
        arrays: by name, in their order of dimensions and this machine's order of bytes.
        file: that the large ones are still in.
    """

    arrays: dict[str, Array]
    file: MappedFile


@dataclass(frozen=True)
class _Header:
    """What a file says of one array.

    Attributes:
        info: where it is in the zip file.
        start: of its values, from the beginning of the member.
    """

    info: zipfile.ZipInfo
    start: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return self.dtype.itemsize * prod(self.shape)


def read_arrays(path: Path, known: Collection[str]) -> Arrays:
    """Read a file.

    Args:
        path: npz.
        known: names that it may have.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or something else; an array has an unknown name or is too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            headers = _headers(members)
            if unknown := sorted(headers.keys() - set(known)):
                raise _RefusedError(f"unknown array {unknown[0]!r}; known are {', '.join(known)}")
            packed = sum(h.size for h in headers.values() if h.info.compress_type)
            if packed > _UNPACKED_BYTES:
                raise _RefusedError(
                    f"its compressed arrays would take {packed / 2**30:,.1f} GiB, the limit is "
                    f"{_UNPACKED_BYTES / 2**30:.0f}; store them as they are (numpy.savez)"
                )
            mapped = MappedFile(file)
            arrays = {name: _read(members, h, mapped) for name, h in headers.items()}
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from None
    except _DAMAGED as error:
        raise ValueError(f"{path}: not a readable npz file ({error})") from None
    return Arrays(arrays, mapped)


def blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """Pieces along the first dimension, and where each begins."""
    rows = max(1, BLOCK_BYTES // max(1, array.itemsize * prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


class _RefusedError(Exception):
    """The file is whole, but not one of ours."""


def _headers(members: zipfile.ZipFile) -> dict[str, _Header]:
    headers: dict[str, _Header] = {}
    for info in members.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in headers:
            raise ValueError(f"the member {info.filename!r} is no array, or is there twice")
        with members.open(info) as member:
            version = npy.read_magic(member)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"{name} has the unknown npy version {version}")
            read = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
            shape, fortran, dtype = read(member)
            header = _Header(info, member.tell(), shape, fortran, dtype)
        if dtype.hasobject:
            raise ValueError(f"{name} holds objects, which are never loaded")
        hollow = not dtype.itemsize and prod(shape)  # numpy would make room for them
        if hollow or min(shape, default=0) < 0 or header.start + header.size != info.file_size:
            raise ValueError(
                f"{name} says it is {dtype} {shape}, but has {info.file_size - header.start} bytes"
            )
        headers[name] = header
    return headers


def _read(members: zipfile.ZipFile, header: _Header, mapped: MappedFile) -> Array:
    if header.info.compress_type or header.size < _MAPPED_BYTES:
        with members.open(header.info) as member:
            array: Array = npy.read_array(member, allow_pickle=False)
    else:
        array = _mapped(header, mapped)
    native = header.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, native).reshape(header.shape)


def _mapped(header: _Header, mapped: MappedFile) -> Array:
    """The values where they are, once they are known to be whole."""
    place = header.info.header_offset
    local = _LOCAL_HEADER.unpack_from(mapped.bytes, place)
    start = place + _LOCAL_HEADER.size + sum(local)
    end = start + header.info.file_size
    if end > len(mapped.bytes):
        raise ValueError("it is cut off")
    checksum = 0
    for position in range(start, end, BLOCK_BYTES):
        piece = mapped.bytes[position : min(position + BLOCK_BYTES, end)]
        checksum = zlib.crc32(piece, checksum)
        mapped.release()
    if checksum != header.info.CRC:
        raise ValueError(f"{header.info.filename} is damaged: its checksum is wrong")
    values = np.frombuffer(mapped.bytes, header.dtype, prod(header.shape), start + header.start)
    return values.reshape(header.shape, order="F" if header.fortran else "C")
