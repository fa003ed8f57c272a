"""Progress of a refinement on disk, so that it can be stopped and goes on to the same result."""

import hashlib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.files import replacing
from fourdhands.refinement.motion import Motion
from fourdhands.structures import TensorStruct


@dataclass
class SavedState:
    """A file with the last motion, and what was done to get there.

    Attributes:
        path: of the file; None saves nothing.
        key: hash of all that the result depends on.
        arrays: what the file held, empty if there was none, and what was kept since.
    """

    path: Path | None
    key: str
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def open(cls, path: Path | None, evidence: TensorStruct, settings: str) -> "SavedState":
        """Look for a file.

        Raises:
            ValueError: the file belongs to another clip or configuration, or is broken.
        """
        digest = hashlib.sha256(settings.encode())
        for field in fields(evidence):
            value = getattr(evidence, field.name)
            if isinstance(value, Tensor):
                digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
        key = digest.hexdigest()
        if path is None or not path.exists():
            return cls(path, key, {})
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a saved refinement ({error}); remove it") from None
        if str(arrays.get("key")) != key:
            raise ValueError(
                f"{path}: was saved for other hands, another camera or configuration; remove it "
                "to start anew"
            )
        return cls(path, key, arrays)

    def keep(self, **numbers: NDArray[Any]) -> None:
        """Remember some numbers; the next time the motion is saved, they are, too."""
        self.arrays |= numbers

    def save(self, motion: Motion, **numbers: NDArray[Any]) -> None:
        """Write the motion and some numbers, whole or not at all."""
        self.keep(**numbers)
        if self.path is None:
            return
        arrays = {f"motion_{k}": v.detach().cpu().numpy() for k, v in vars(motion).items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, **(self.arrays | arrays | {"key": np.array(self.key)}))

    def motion(self, like: Motion) -> Motion | None:
        """The saved motion; None if nothing was saved."""
        if "motion_wrist" not in self.arrays:
            return None
        return Motion(
            **{
                name: torch.from_numpy(self.arrays[f"motion_{name}"]).to(value)
                for name, value in vars(like).items()
            }
        )

    def number(self, name: str) -> int:
        """A saved count, 0 if nothing was saved."""
        return int(self.arrays[name]) if name in self.arrays else 0

    def remove(self) -> None:
        """Nothing is left to do."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
