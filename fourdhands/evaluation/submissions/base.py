"""What files for servers have in common: which image comes where, and how hands are found in them.

A `ServerFile` turns samples into a file and back. Its keys stand between the names of images in
files of predictions (`SEQUENCE/CAMERA/FRAME`) and the server's own.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import HandSamples
from fourdhands.hands.assets import ManoAssets
from fourdhands.skeleton import NUM_JOINTS, Side

Floats = NDArray[np.floating[Any]]
Key = Hashable
MOST_IMAGES: Final = 400_000
"""Of a file whose number of images nobody knows."""
_NUMBER: Final = re.compile(r"(?:.*\D)?(\d{1,9})(?:\.\w+)?")


@dataclass(frozen=True)
class Context:
    """What a file needs beside the hands.

    Attributes:
        assets: hand models that the predictions' MANO parameters are of.
        images: the server's list of images, if it was given.
        any_count: whether there may be other than the official number of images.
    """

    assets: tuple[ManoAssets, ManoAssets]
    images: Path | None = None
    any_count: bool = False


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        keys: of its images, in its order.
        samples: the hands, camera frame with OpenCV's axes, metres; their names say nothing yet.
    """

    keys: Sequence[Key]
    samples: HandSamples


class ServerFile(ABC):
    """The file that one benchmark's server takes."""

    name: ClassVar[str]
    """Of the protocol."""
    suffix: ClassVar[str] = ".zip"
    sides: ClassVar[tuple[Side, ...] | None] = tuple(Side)
    """Whose hands the file holds; None where it does not say."""
    common_from_server: ClassVar[tuple[int, ...]] = tuple(range(NUM_JOINTS))
    """`common[k] = server[table[k]]`."""
    wants_parameters: ClassVar[bool] = False
    """Whether it holds parameters of MANO, not points."""
    needs_list: ClassVar[bool] = False
    """Whether nothing but a list tells which image is which."""
    list_is: ClassVar[str] = ""
    """What a list of the server's images is; nothing where the file needs none."""
    note: ClassVar[str] = ""
    """What users have to know of a file that was written."""

    @property
    def title(self) -> str:
        """As in tables."""
        return PROTOCOLS[self.name].title

    @property
    def count(self) -> int | None:
        """The official number of images."""
        return PROTOCOLS[self.name].images

    @abstractmethod
    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """Images by their names in predictions.

        Args:
            names: of images.
            listed: keys of the server's list, for names that can be read in two ways.

        Raises:
            ValueError: a name is not of this benchmark.
        """

    @abstractmethod
    def name_of(self, key: Key) -> str:
        """The name that a converted set gives an image."""

    @abstractmethod
    def write(self, samples: HandSamples, path: Path, context: Context) -> str:
        """Write the file, whole or not at all.

        Returns:
            What it holds, in a line.

        Raises:
            ValueError: an image or a hand is missing or too much; names it.
        """

    @abstractmethod
    def read(self, path: Path, context: Context, *, meshes: bool = True) -> Contents:
        """Read the file, trusting nothing in it.

        Args:
            path: of the file.
            context: with the list, if its order is to be known.
            meshes: whether anybody will look at meshes that have to be made of parameters.

        Raises:
            ValueError: it is not a file that the server takes; says why.
        """

    # ---- shared ---------------------------------------------------------------------------------

    def check_count(self, count: int, context: Context, what: str) -> None:
        """Refuse other than the official number of images.

        Raises:
            ValueError: there is another number.
        """
        if self.count not in (None, count) and not context.any_count:
            raise ValueError(
                f"{what} has {count} images, {self.title} has {self.count}; say --any_count true "
                "if this is meant"
            )

    def in_order(self, samples: HandSamples, listed: Sequence[Key], source: str) -> HandSamples:
        """The samples in a list's order.

        Raises:
            ValueError: an image is missing, too much, or comes twice; names it.
        """
        keys = self.keys(samples.names, listed)
        places = {key: k for k, key in enumerate(keys)}
        if len(places) != len(keys):
            twice = next(n for k, n in enumerate(samples.names) if places[keys[k]] != k)
            raise ValueError(f"predictions: {twice!r} has another name, too; an image has one")
        if missing := [key for key in listed if key not in places]:
            raise ValueError(
                f"{len(missing)} of the {len(listed)} images of {source} have no prediction, as "
                f"{self.name_of(missing[0])!r}"
            )
        if extra := places.keys() - set(listed):
            name = min(samples.names[places[key]] for key in extra)
            raise ValueError(
                f"{len(extra)} predictions are of images that {source} lacks, as {name!r}"
            )
        return samples.take(torch.tensor([places[key] for key in listed], dtype=torch.int64))


def frame_key(name: str) -> tuple[str, int]:
    """Folder and number of an image: of `a/b/12`, `a/b/000012.jpg`, `a/b/color_000012.jpg`.

    Raises:
        ValueError: the name has no number.
    """
    folder, _, last = name.rpartition("/")
    match = _NUMBER.fullmatch(last)
    if match is None:
        raise ValueError(f"{name[:80]!r} names no image: it has to be SEQUENCE/CAMERA/FRAME")
    return folder, int(match[1])


def read_lines(path: Path, what: str) -> list[str]:
    """Lines of a list that are not empty.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a list of texts.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is to be {what}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a list of names; it is to be {what}") from None
    if not any(lines):
        raise ValueError(f"{path}: the list is empty")
    return [line for line in lines if line]


def unique(keys: Sequence[Key], path: Path) -> None:
    """Refuse a list that names an image twice.

    Raises:
        ValueError: it does.
    """
    seen: set[Key] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{path}: names the image {key} twice")
        seen.add(key)


def right_hands(samples: HandSamples) -> HandSamples:
    """Make sure that every image has joints and mesh of a right hand.

    Raises:
        ValueError: one has not; names it.
    """
    right = Side.RIGHT
    if not samples.vertices.shape[2]:
        raise ValueError("predictions: the server wants meshes, and there are no vertices")
    there = samples.joints_valid[:, right].all(-1) & samples.vertices_valid[:, right]
    refuse_first(samples, ~there, "no right hand with all joints and a mesh")
    finite = [x[:, right].isfinite().flatten(1).all(1) for x in (samples.joints, samples.vertices)]
    refuse_first(samples, ~(finite[0] & finite[1]), "values that are not finite")
    return samples


def refuse_first(samples: HandSamples, bad: torch.Tensor, what: str) -> None:
    """Say which image has something that it may not have, if any has: (N,) bool.

    Raises:
        ValueError: one has.
    """
    if bad.any():
        name = samples.names[int(bad.nonzero()[0, 0])]
        raise ValueError(f"predictions: {int(bad.sum())} images have {what}, as {name!r}")


def as_text(values: NDArray[Any]) -> str:
    """The format of a number that loses nothing: nine digits tell all single floats apart."""
    return "%.9g" if values.dtype == np.float32 else "%r"
