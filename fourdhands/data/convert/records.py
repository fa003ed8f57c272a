"""What a data set's own file has to say: which recordings there are, and what each frame holds."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.data.convert.conventions import Mano
from fourdhands.skeleton import Side


class BadFrameError(ValueError):
    """A frame cannot be used; it is left out, and counted by this reason (no names in it)."""


@dataclass
class HandRecord:
    """One hand in one image, as far as the data set knows it; None is unknown.

    Camera frame with OpenCV's axes, metres, pixels, joints in the common order. Whatever is not
    finite or out of all proportion makes the frame a bad one, so nothing here has to be checked.

    Attributes:
        joints: (21, 3) the data set's own.
        joints_valid: (21,) which; None for all.
        joints_2d: (21, 2) labelled in the image; None if they are the projection of `joints`.
        joints_2d_valid: (21,) which; None for all.
        global_orient: (3, 3) MANO's, and with it `hand_pose`.
        hand_pose: (15, 3, 3) absolute: MANO's mean pose included.
        betas: (10,) shape, of the left hand as `Dataset.left_released` says.
        transl: (3,) MANO's.
        vertices: (778, 3) the data set's own mesh, if it brings meshes.
        bbox: (left, top, right, bottom) the data set's own, which counts where there is no mesh;
            where it has none either, the box is that of the joints.
        placed: whether joints, vertices and transl stand where the hand is, not just anywhere.
    """

    joints: ArrayLike | None = None
    joints_valid: ArrayLike | None = None
    joints_2d: ArrayLike | None = None
    joints_2d_valid: ArrayLike | None = None
    global_orient: ArrayLike | None = None
    hand_pose: ArrayLike | None = None
    betas: ArrayLike | None = None
    transl: ArrayLike | None = None
    vertices: ArrayLike | None = None
    bbox: ArrayLike | None = None
    placed: bool = True


@dataclass
class FrameRecord:
    """One image and its hands.

    Attributes:
        image: an encoded jpg or png as it is in the download, or pixels (H, W, 3) uint8, blue
            first, where they had to be changed (lens distortion).
        hands: by side; a side that is left out has no hand.
        intrinsics: (3, 3) of the image; None if unknown.
        cam_from_world: (4, 4), metres; None for the camera's own frame.
        size: (width, height) of the image that the labels were made for; None if it goes unsaid.
        shown: the hands in the image, labelled or not; None if the data set does not say. All
            frames of a data set say it or none.
        person_area: pixels^2 of the person whose hands these are (COCO); likewise.
    """

    image: bytes | NDArray[np.uint8]
    hands: Mapping[Side, HandRecord] = field(default_factory=dict)
    intrinsics: ArrayLike | None = None
    cam_from_world: ArrayLike | None = None
    size: tuple[int, int] | None = None
    shown: Collection[Side] | None = None
    person_area: float | None = None


@dataclass(frozen=True)
class Recording:
    """Frames of one sequence as seen by one camera; one frame for a set of single images.

    Attributes:
        sequence: its name.
        camera: the camera's name.
        frames: increasing numbers of the frames, each with what `Dataset.read` needs to find it;
            small and picklable.
        step: from one number to the next; a clip ends where it is larger.
        fps: frames of `frames` a second, if it is not the data set's.
    """

    sequence: str
    camera: str
    frames: Sequence[tuple[int, Any]]
    step: int = 1
    fps: float | None = None


def usual_step(lists: Iterable[Iterable[int]]) -> int:
    """The most frequent difference of neighbouring frame numbers, which increase; 1 if none.

    Args:
        lists: numbers of the frames of one sequence, a list for each camera.
    """
    counts = Counter(b - a for numbers in lists for a, b in pairwise(numbers))
    return max(counts, key=lambda step: (counts[step], -step), default=1)


@dataclass(frozen=True)
class Dataset(ABC):
    """Official files of one data set. A subclass's own fields are options of its command.

    Attributes:
        root: Folder of the official download.
    """

    root: Path

    name: ClassVar[str]
    """As on the command line, in manifests and in the clips."""
    fps: ClassVar[float] = 1.0
    """Frames a second; 1 for single images."""
    all_hands_labelled: ClassVar[bool] = False
    """Whether every visible hand is labelled in every frame."""
    left_released: ClassVar[bool] = False
    """Whether betas are of MANO's left hand as released, its shape directions not repaired."""

    @abstractmethod
    def splits(self) -> Sequence[str]:
        """The splits whose files are there.

        Raises:
            FileNotFoundError: nothing of the data set is there; says what is looked for.
        """

    @abstractmethod
    def recordings(self, split: str) -> Iterable[Recording]:
        """All recordings of a split, always in the same order.

        Raises:
            FileNotFoundError: a file that all frames need is missing.
            ValueError: such a file is not what it should be.
        """

    def notes(self, split: str) -> Iterable[str]:
        """What users of a split should know of this download; for the report."""
        return ()

    @abstractmethod
    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Read one frame. Runs in any process, on a copy of this object.

        Args:
            recording: that the frame belongs to.
            source: of the frame, from `Recording.frames`.
            mano: hand models, for labels that are given by their parameters.

        Raises:
            BadFrameError, KeyError, TypeError, ValueError, OSError: the frame is unusable.
        """
