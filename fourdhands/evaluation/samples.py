"""Hands of many images as plain arrays: what protocols compare, and what files of predictions hold.

Truth and predictions have the same form, so that either may come from a file. What a benchmark does
not look at may be left out: then its mask is False, or its camera stands still.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fourdhands.evaluation.array_file import MappedFile
from fourdhands.structures import HandState, TensorStruct


@dataclass(frozen=True)
class HandSamples(TensorStruct):
    """Hands of N images: metres, camera frame with OpenCV's axes, joints in the common order.

    Attributes:
        joints: (N, S, J, 3).
        joints_valid: (N, S, J) bool.
        vertices: (N, S, V, 3), or (N, S, 0, 3) where there are no meshes.
        vertices_valid: (N, S) bool.
        joints_2d: (N, S, J, 2) pixels of the full image, centres at integers.
        joints_2d_valid: (N, S, J) bool.
        handedness: (N, S) how surely the image shows this hand, 0 to 1; truth says 0 or 1.
        sequence: (N,) int64, a number for each sequence.
        frame: (N,) int64 number in the sequence; neighbours differ by 1.
        fps: (N,) frames a second.
        cam_from_world: (N, 4, 4) where the camera stands; the identity where it does not move.
        area: (N,) pixels^2 of the person whose hands these are (COCO), 0 where nobody knows.
        names: of the images, in order.
        mesh_joints: (N, S, J, 3) joints regressed from the vertices, where there are any; None if
            nobody has regressed them (see `benchmark.score`).
        hands: MANO parameters of all hands, (N, S, ...); None where there are none.
        file: that large arrays are still in; None if all are in memory.
        intrinsics: (N, 3, 3) of the full image; None where nobody says.
        confidence: (N, S) 0 to 1, how far the method trusts each hand; None where it does not say.
        joints_2d_confidence: (N, S, J) the same of each 2D joint.
        completed: (N, S) bool, hands that were not seen but filled in over time.
    """

    joints: Tensor
    joints_valid: Tensor
    vertices: Tensor
    vertices_valid: Tensor
    joints_2d: Tensor
    joints_2d_valid: Tensor
    handedness: Tensor
    sequence: Tensor
    frame: Tensor
    fps: Tensor
    cam_from_world: Tensor
    area: Tensor
    names: tuple[str, ...]
    mesh_joints: Tensor | None = None
    hands: HandState | None = None
    file: MappedFile | None = None
    intrinsics: Tensor | None = None
    confidence: Tensor | None = None
    joints_2d_confidence: Tensor | None = None
    completed: Tensor | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.joints)

    def take(self, index: Tensor) -> "HandSamples":
        """Some images, in another order, in memory: (M,) int64."""
        chosen = self.map(lambda tensor: tensor[index])
        return replace(chosen, names=tuple(self.names[k] for k in index.tolist()), file=None)

    def without_meshes(self) -> "HandSamples":
        """The same without vertices."""
        return replace(
            self,
            vertices=self.vertices[:, :, :0],
            vertices_valid=torch.zeros_like(self.vertices_valid),
        )

    def in_order(self) -> Tensor:
        """(N,) the images by sequence, each in the order of time."""
        by_frame = self.frame.argsort(stable=True)
        return by_frame[self.sequence[by_frame].argsort(stable=True)]


@dataclass(frozen=True)
class Pair(TensorStruct):
    """Predicted and true hands of the same images.

    Attributes:
        predicted: its masks say what was predicted.
        true: its masks say what is labelled.
        closed_faces: (S, F, 3) of the meshes, the wrist closed; None where nobody needs them.
    """

    predicted: HandSamples
    true: HandSamples
    closed_faces: Tensor | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.true)

    def double(self) -> "Pair":
        """Everything real in double precision."""
        return self.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    @property
    def interacting(self) -> Tensor:
        """(N,) images that show both hands."""
        return (self.true.handedness > 0.5).all(-1)

    def take(self, index: Tensor) -> "Pair":
        """Some images, in another order, in memory: (M,) int64."""
        chosen = replace(self, predicted=self.predicted.take(index), true=self.true.take(index))
        for part in (self.predicted, self.true):
            if part.file is not None:
                part.file.release()
        return chosen

    def chunks(
        self, size: int, before: int, order: Tensor | None = None
    ) -> Iterator[tuple["Pair", int]]:
        """Cut into pieces of so many images, each with some of the images before it.

        Only the piece is in memory, if the whole comes from files.

        Args:
            size: images that are new in each piece.
            before: images that a piece has in common with the last one.
            order: (N,) int64 of the images; as they are by default.

        Yields:
            A piece in double precision, and how many of its first images belong to the last one.
        """
        order = torch.arange(len(self)) if order is None else order
        for start in range(0, len(self), size):
            first = max(0, start - before)
            yield self.take(order[first : start + size]).double(), start - first

    def trajectories(self, size: int, order: Tensor | None = None) -> Iterator["Pair"]:
        """Cut between sequences into pieces of at least so many images, but for the last.

        Args:
            size: images.
            order: (N,) int64 of the images, as `HandSamples.in_order` gives it; as they are by
                default.

        Yields:
            Whole sequences without their meshes, in double precision; the images are in order.
        """

        def light(samples: HandSamples) -> HandSamples:
            return replace(samples, vertices=samples.vertices[:, :, :0], hands=None)

        order = torch.arange(len(self)) if order is None else order
        whole, start = Pair(light(self.predicted), light(self.true)), 0
        borders = self.true.sequence[order].diff().nonzero()[:, 0] + 1
        for end in [*borders.tolist(), len(self)]:
            if end - start >= size or start < end == len(self):
                yield whole.take(order[start:end]).double()
                start = end
