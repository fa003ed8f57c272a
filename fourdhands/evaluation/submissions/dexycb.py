"""DexYCB: a line of text for each image of the test split in which a hand is labelled.

The number of an image is its place among all images of the split: sequences by subject and name,
their cameras, their frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.data.convert.dexycb import SERIALS, s0_test_sequences
from fourdhands.data.convert.sources import read_npz, read_yaml
from fourdhands.evaluation.predictions_file import samples_of
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions.base import (
    MOST_IMAGES,
    Contents,
    Context,
    Key,
    ServerFile,
    as_text,
    frame_key,
    read_lines,
    refuse_first,
    unique,
)
from fourdhands.files import replacing
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES

_FIELDS: Final = 1 + 3 * NUM_JOINTS
_LONGEST_LINE: Final = 4096
_MILLI: Final = 1e3
_MOST_FRAMES: Final = 10_000


class DexYcb(ServerFile):
    """Number and 63 millimetres, camera frame of OpenCV, common order; S0."""

    name = "dexycb"
    suffix = ".txt"
    sides = None
    needs_list = True
    list_is = (
        "the folder of DexYCB's download, or a text file of the split's images in their order "
        "(SEQUENCE/CAMERA/FRAME in a line, or its number before it)"
    )

    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """Folder and frame."""
        return [frame_key(name) for name in names]

    def name_of(self, key: Key) -> str:
        """As of a converted set."""
        return f"{key[0]}/{key[1]}" if isinstance(key, tuple) else str(key)

    def numbers(self, context: Context, there: Sequence[Key]) -> dict[Key, int] | None:
        """Numbers of the images that a file has to have; None if no list says.

        Args:
            context: with the list.
            there: images that somebody has predicted: of these it does not matter whether a hand is
                labelled, as the official program does not look at more than it has labels for.
        """
        if context.images is None:
            return None
        if context.images.is_dir():
            return _numbers_of_download(context.images, frozenset(there))
        numbers: dict[Key, int] = {}
        lines = read_lines(context.images, self.list_is)
        keys: list[Key] = []
        for k, line in enumerate(lines):
            number, _, name = line.rpartition(" ")
            if number and not number.isdigit():
                raise ValueError(f"{context.images}: {line[:60]!r} is not [NUMBER] NAME")
            keys.append(frame_key(name))
            numbers[keys[-1]] = int(number) if number else k
        unique(keys, context.images)
        unique(list(numbers.values()), context.images)
        return numbers

    def write(self, samples: HandSamples, path: Path, context: Context) -> str:
        """Write results.txt; see `ServerFile`."""
        numbers = self.numbers(context, self.keys(samples.names, ()))
        if numbers is None:
            raise ValueError(
                f"{self.title}: the numbers of the images are missing; --submission_list has to "
                f"be {self.list_is}"
            )
        listed = sorted(numbers, key=numbers.__getitem__)
        ordered = self.in_order(samples, listed, str(context.images))
        joints = _one_hand(ordered) * _MILLI
        line = ",".join(["%d"] + [as_text(joints)] * (_FIELDS - 1)) + "\n"
        with replacing(path) as partial, partial.open("w", encoding="ascii") as file:
            for key, values in zip(listed, joints, strict=True):
                file.write(line % (numbers[key], *values.ravel().tolist()))
        return f"{len(listed):,} images, joints in mm, {numbers[listed[-1]] + 1:,} in the split"

    def read(self, path: Path, context: Context, *, meshes: bool = True) -> Contents:
        """Read results.txt; it does not say whose hands these are, so that both sides get them."""
        numbers, joints = _read_lines(path)
        keys: list[Key] = list(numbers)
        there: list[Key] = []
        if context.images is not None and context.images.is_dir():
            known = _numbers_of_download(context.images, None)
            given = frozenset(numbers)
            there = [key for key, number in known.items() if number in given]
        names = self.numbers(context, there)
        if names is not None:
            by_number = {number: key for key, number in names.items()}
            if extra := [number for number in numbers if number not in by_number]:
                raise ValueError(f"{path}: {context.images} has no image {extra[0]}")
            if lacking := sorted(by_number.keys() - set(numbers)):
                name = self.name_of(by_number[lacking[0]])
                raise ValueError(
                    f"{path}: {len(lacking)} images are missing, as {lacking[0]}, {name!r}"
                )
            keys = [by_number[number] for number in numbers]
        both = np.repeat(joints[:, None], NUM_SIDES, 1)
        arrays: dict[str, NDArray[Any]] = {
            "joints": both,
            "joints_valid": np.ones(both.shape[:-1], bool),
            "handedness": np.full(both.shape[:2], 0.5),
        }
        return Contents(keys, samples_of(tuple(map(str, numbers)), arrays))


def _read_lines(path: Path) -> tuple[list[int], NDArray[np.float64]]:
    """Numbers, and joints (N, 21, 3) in metres."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    numbers: list[int] = []
    values: list[NDArray[np.float64]] = []
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            where = f"{path}: line {len(numbers) + 1}"
            words = line.split(b",")
            if len(words) != _FIELDS:
                raise ValueError(f"{where} has {len(words)} fields, it has to have {_FIELDS}")
            try:
                numbers.append(int(words[0]))
                values.append(np.array([float(word) for word in words[1:]]))
            except ValueError:
                raise ValueError(f"{where} is not a number and 63 coordinates") from None
            if numbers[-1] < 0:
                raise ValueError(f"{where}: the image {numbers[-1]} cannot be")
            if len(numbers) > MOST_IMAGES:
                raise ValueError(f"{path}: more than {MOST_IMAGES} lines")
    unique(numbers, path)
    joints = np.stack(values) if values else np.zeros((0, 3 * NUM_JOINTS))
    return numbers, joints.reshape(-1, NUM_JOINTS, 3) / _MILLI


def _one_hand(samples: HandSamples) -> NDArray[Any]:
    """(N, 21, 3) of the hand that an image shows, more surely than the other, in its own precision.

    Raises:
        ValueError: an image has none, or two that are equally sure.
    """
    whole = samples.joints_valid.all(-1) & samples.joints.isfinite().flatten(2).all(-1)
    refuse_first(samples, ~whole.any(-1), "no hand with all joints")
    sure = torch.where(whole, samples.handedness.double(), -1.0)
    equal = whole.all(-1) & (sure[:, 0] == sure[:, 1])
    refuse_first(samples, equal, "two hands of equal handedness where the server wants one")
    chosen = samples.joints[torch.arange(len(samples)), sure.argmax(-1)]
    return (
        chosen.numpy() if chosen.dtype in (torch.float32, torch.float64) else chosen.float().numpy()
    )


def _numbers_of_download(root: Path, there: frozenset[Key] | None) -> dict[Key, int]:
    """Numbers of images of S0's test split by what the download holds.

    Args:
        root: the download.
        there: images that were predicted; of all others the labels are looked at, and those without
            a hand are left out. None for all images, labelled or not.
    """
    numbers: dict[Key, int] = {}
    place = 0
    for sequence in s0_test_sequences(root):
        frames = read_yaml(root / sequence / "meta.yml")["num_frames"]
        if not isinstance(frames, int) or not 0 <= frames <= _MOST_FRAMES:
            raise ValueError(f"{root / sequence / 'meta.yml'}: num_frames is {frames!r:.40}")
        for serial in SERIALS:
            folder = f"{sequence}/{serial}"
            for frame in range(frames):
                key = (folder, frame)
                if there is None or key in there or _labelled(root / folder, frame):
                    numbers[key] = place
                place += 1
    return numbers


def _labelled(folder: Path, frame: int) -> bool:
    return bool((read_npz(folder / f"labels_{frame:06d}.npz")["joint_3d"] != -1).any())
