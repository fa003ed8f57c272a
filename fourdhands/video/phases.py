"""What a phase of a long job found, kept on disk: the next run goes on from there.

A phase's file belongs to a key, the hash of all that it depends on: the input, the settings it
looks at, the phases before it. Another key, or a broken file, and the phase runs again.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
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
        with replacing(self._path(name)) as partial, partial.open("wb") as file:
            np.savez(file, key=np.array(key), **arrays)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
