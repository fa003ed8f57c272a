"""Zips that nobody vouches for, and the two lists of points that HO3D and FreiHAND put into them.

Nothing is extracted; a file is read as a stream, and never further than a good one would go.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.evaluation.submissions.base import Floats, as_text
from fourdhands.files import replacing
from fourdhands.skeleton import NUM_JOINTS, NUM_VERTICES

PRED: Final = "pred.json"
_CHUNK: Final = 1 << 20
_LONGEST: Final = 1 << 18
"""Characters of one hand; 778 vertices with 17 digits and generous blanks have half of it."""
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # encrypted
    NotImplementedError,  # compressed in a way that nobody knows
    UnicodeDecodeError,
)


# ---- zips ----------------------------------------------------------------------------------------


@contextmanager
def zip_to_write(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that appears whole or not at all."""
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive


@contextmanager
def zip_to_read(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, none of whose names leads anywhere.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no zip, or broken, or there are names like `../x`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                if name.startswith("/") or ":" in name or "\\" in name or ".." in name.split("/"):
                    raise ValueError(f"{path}: holds a path that leads elsewhere, {name[:80]!r}")
            if len(set(names)) != len(names):
                raise ValueError(f"{path}: holds a file twice")
            yield archive
    except _BROKEN as error:
        raise ValueError(f"{path}: not a readable zip ({error})") from None


@contextmanager
def only_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The one file of a flat zip.

    Raises:
        FileNotFoundError: there is no zip.
        ValueError: it is not a zip with just this file.
    """
    with zip_to_read(path) as archive:
        found = [member for member in archive.namelist() if not member.endswith("/")]
        if name not in found:
            folder = next((m for m in found if m.endswith("/" + name)), None)
            where = f"{name} lies in a folder, {folder!r}: zip it flat (zip -j)" if folder else ""
            holds = ", ".join(repr(m[:40]) for m in found[:3]) or "nothing"
            raise ValueError(f"{path}: {where or f'has no {name}; it holds {holds}'}")
        if extra := [member for member in archive.namelist() if member != name]:
            raise ValueError(f"{path}: holds more than {name}, as {extra[0][:80]!r}")
        with archive.open(name) as file:
            yield file


# ---- two lists of points -------------------------------------------------------------------------


def write_points(path: Path, joints: Floats, vertices: Floats) -> None:
    """Write `[joints, vertices]`, all digits of them, as pred.json into a flat zip.

    Args:
        path: of the zip.
        joints: (N, 21, 3) in the server's order, axes and unit.
        vertices: (N, 778, 3)
    """
    with zip_to_write(path) as archive, archive.open(PRED, "w", force_zip64=True) as file:
        for start, points in ((b"[", joints), (b", ", vertices)):
            number = as_text(points)
            point = f"[{number}, {number}, {number}]"
            hand = f"[{', '.join([point] * points.shape[1])}]"
            file.write(start + b"[")
            for k, values in enumerate(points):
                text = hand % tuple(values.ravel().tolist())
                file.write((", " * (k > 0) + text).encode())
            file.write(b"]")
        file.write(b"]")


def read_points(path: Path, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read what `write_points` or anybody else has written.

    Args:
        path: of the zip.
        most: images; where there are more, reading stops.

    Returns:
        (N, 21, 3) and (N, 778, 3), which may not be finite.

    Raises:
        FileNotFoundError: there is no zip.
        ValueError: it holds anything else; says where.
    """
    with only_member(path, PRED) as file:
        stream = _Json(io.TextIOWrapper(file, encoding="utf-8"), f"{path}: {PRED}")
        stream.expect("[", "it has to be two lists, joints and vertices")
        joints = stream.hands("joints", NUM_JOINTS, most)
        stream.expect(",", "vertices do not follow the joints")
        vertices = stream.hands("vertices", NUM_VERTICES, most)
        stream.expect("]", "there are more than two lists")
        stream.end()
    if len(joints) != len(vertices):
        raise ValueError(f"{path}: joints of {len(joints)} images, vertices of {len(vertices)}")
    return joints, vertices


class _Json:
    """JSON of which no more than a hand is text at a time."""

    def __init__(self, file: io.TextIOWrapper, source: str) -> None:
        self.file, self.source = file, source
        self.text, self.at, self.ended = "", 0, False
        self.decoder = json.JSONDecoder(parse_int=float)

    def hands(self, name: str, points: int, most: int) -> NDArray[np.float64]:
        self.expect("[", f"the {name} are no list")
        found: list[NDArray[np.float64]] = []
        if self._next() == "]":
            self.at += 1
            return np.zeros((0, points, 3))
        while True:
            found.append(self._hand(name, len(found), points))
            if len(found) > most:
                raise ValueError(f"{self.source}: {name} of more than {most} images")
            if self._next() == "]":
                self.at += 1
                return np.stack(found)
            self.expect(",", f"the list of {name} breaks off after image {len(found) - 1}")

    def expect(self, token: str, otherwise: str) -> None:
        if self._next() != token:
            raise ValueError(f"{self.source}: {otherwise}")
        self.at += 1

    def end(self) -> None:
        if self._next():
            raise ValueError(f"{self.source}: something follows after the end")

    def _hand(self, name: str, image: int, points: int) -> NDArray[np.float64]:
        self._next()
        if self.text[self.at : self.at + 1] != "[":
            raise ValueError(f"{self.source}: {name} of image {image} are no list of points")
        try:
            value, self.at = self.decoder.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            raise ValueError(f"{self.source}: {name} of image {image} are broken") from None
        if len(value) != points:
            raise ValueError(
                f"{self.source}: image {image} has {len(value)} {name}, it has to have {points}"
            )
        if not all(isinstance(point, list) and len(point) == 3 for point in value):
            raise ValueError(f"{self.source}: {name} of image {image} are not all [x, y, z]")
        if not all(isinstance(x, float) for point in value for x in point):
            raise ValueError(f"{self.source}: {name} of image {image} are not all numbers")
        return np.array(value, np.float64)

    def _next(self) -> str:
        """The next character that is no blank; nothing at the end. A hand's text lies behind it."""
        while True:
            match = _BLANKS.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if len(self.text) - self.at >= _LONGEST or self.ended:
                return self.text[self.at : self.at + 1]
            more = self.file.read(_CHUNK)
            self.ended = not more
            if more and more.isspace():
                raise ValueError(f"{self.source}: a million blanks")
            self.text, self.at = self.text[self.at :] + more, 0
