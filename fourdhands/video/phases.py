"""What a phase of a long job found, kept on disk: the next run goes on from there.

A phase's file belongs to a key, the hash of all that it depends on: the input, the settings it
looks at, the phases before it. Another key, or a broken file, and the phase runs again.
"""

import hashlib
import io
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdhands.files import replacing

Arrays = dict[str, NDArray[Any]]


def key_of(*parts: object) -> str:
    """Hash of plain values, by their representations."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def key_of_file(path: Path) -> str:
    """Of a file, or of a folder's files, by names, sizes and times."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in paths]
    return key_of(str(path.resolve()), stats)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False) -> None:
    """Write arrays to a file, whole or not at all."""
    buffer = io.BytesIO()  # NumPy leaves a broken archive behind where the disk is full
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())


@dataclass(frozen=True)
class PhaseCache:
    """Files of phases in a folder.

    Attributes:
        folder: it is made when something is stored.
    """

    folder: Path

    def load(self, name: str, key: str) -> Arrays | None:
        """What a phase stored under this key, or None."""
        try:
            with np.load(self._path(name), allow_pickle=False) as file:
                if str(file["key"]) != key:
                    return None
                return {part: file[part] for part in file.files if part != "key"}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def store(self, name: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep what a phase found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_npz(self._path(name), {"key": np.array(key), **arrays})

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


@dataclass
class Stopwatch:
    """How long the phases take.

    Attributes:
        phases: seconds by the clock, and seconds of processors' work, by name.
    """

    phases: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add what happens inside to a phase."""
        clock, work = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            before = self.phases.get(name, (0.0, 0.0))
            spent = time.perf_counter() - clock, time.process_time() - work
            self.phases[name] = before[0] + spent[0], before[1] + spent[1]

    def __str__(self) -> str:
        """In one line."""
        parts = [
            f"{name} {clock:.0f} s ({work:.0f})" for name, (clock, work) in self.phases.items()
        ]
        clock, work = np.sum(list(self.phases.values()), 0) if self.phases else (0.0, 0.0)
        return f"{clock:.0f} s ({work:.0f} s of processors' work): {', '.join(parts)}"
