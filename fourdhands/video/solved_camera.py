"""What is known of a camera's motion in a video: what solvers answer and `reconstruct` keeps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.video.frames import Video
from fourdhands.video.phases import Arrays
from fourdhands.video.search import Search


@dataclass(frozen=True)
class SolvedCamera:
    """How the camera moved.

    Attributes:
        motion: of each shot; None where it stands still.
        focal_length: pixels, if the solver found it.
        source: for people.
        notes: what the user should know.
    """

    motion: tuple[CameraMotion | None, ...]
    focal_length: float | None
    source: str
    notes: tuple[str, ...] = ()

    def to_arrays(self) -> Arrays:
        """Named arrays for a file."""
        arrays: Arrays = {
            "shots": np.array(len(self.motion)),
            "focal_length": np.array(math.nan if self.focal_length is None else self.focal_length),
            "source": np.array(self.source),
            "notes": np.array(list(self.notes), str),
        }
        for n, motion in enumerate(self.motion):
            if motion is not None:
                arrays[f"poses-{n}"] = motion.cam_from_world
                arrays[f"metric-{n}"] = np.array(motion.metric)
                arrays[f"motion-{n}"] = np.array(motion.source)
                arrays[f"depth-{n}"] = np.array(motion.scene_depth or math.nan)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "SolvedCamera":
        """Inverse of `to_arrays`."""
        motions = [
            CameraMotion(
                arrays[f"poses-{n}"],
                metric=bool(arrays[f"metric-{n}"]),
                source=str(arrays[f"motion-{n}"]),
                scene_depth=_number(arrays[f"depth-{n}"]),
            )
            if f"poses-{n}" in arrays
            else None
            for n in range(int(arrays["shots"]))
        ]
        return cls(
            tuple(motions),
            _number(arrays["focal_length"]),
            str(arrays["source"]),
            tuple(arrays["notes"].tolist()),
        )


def _number(stored: NDArray[Any]) -> float | None:
    value = float(stored)
    return None if math.isnan(value) else value


CameraSolver = Callable[[Video, Search, float | None], SolvedCamera]
"""From the video, its hands and shots, and the focal length if it is known."""
