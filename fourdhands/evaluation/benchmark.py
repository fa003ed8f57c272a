"""A method's figures by the rules of a benchmark's protocol."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from tqdm import tqdm

from fourdhands.evaluation.alignments import Alignment, Compared, Points
from fourdhands.evaluation.breakdown import Breakdowns
from fourdhands.evaluation.protocols import PROTOCOLS, Chosen, Column, Protocol
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.skeleton import NUM_SIDES, Side

CHUNK: Final = 256
"""Images that are compared at once."""
NEIGHBOURS: Final = 2
"""Frames before a chunk that accelerations need."""


def find_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: there is no {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def score(
    protocol: Protocol, pair: Pair, *, any_count: bool, joints_of_mesh: Tensor | None = None
) -> dict[str, float]:
    """A protocol's figures (see `measure`)."""
    metrics = measure(protocol, pair, any_count=any_count, joints_of_mesh=joints_of_mesh)
    return metrics.compute()


def measure(
    protocol: Protocol, pair: Pair, *, any_count: bool, joints_of_mesh: Tensor | None = None
) -> "ProtocolMetrics":
    """A protocol's figures and their breakdowns, whose images are in the order of time.

    Several processes (`torch.distributed`, with a backend for the CPU's tensors) may each have a
    share of the images, or none; sequences must not be cut. All get the figures of all.

    Args:
        protocol: the rules.
        pair: predictions in the truth's order.
        any_count: whether there may be other than the official number of images.
        joints_of_mesh: (S, J, V) makes joints of meshes, for protocols that want such; None to
            stay with the joints that truth and predictions bring.

    Raises:
        ValueError: there are no images, or not the official number; hands are not labelled as the
            protocol wants them, or none is.
    """
    images = _of_all_processes(len(pair))
    if not images:
        raise ValueError("the benchmark is empty: there is no image to score")
    if protocol.counts and images not in protocol.counts.values() and not any_count:
        raise ValueError(
            f"{protocol.title} has {protocol.counts_in_words} images, here are {images:,}: "
            "figures of others cannot be compared with it; say --any_count true to see them "
            "nevertheless"
        )
    check_labels(protocol, pair)
    if not any(column.points == "vertices" for column in protocol.columns):
        pair = replace(
            pair, predicted=pair.predicted.without_meshes(), true=pair.true.without_meshes()
        )
    before = NEIGHBOURS if any(column.temporal for column in protocol.columns) else 0
    metrics = ProtocolMetrics(protocol)
    order = pair.true.in_order()
    pieces = pair.chunks(CHUNK, before, order)
    bar = tqdm(pieces, desc="score", total=-(-len(pair) // CHUNK), leave=False)
    with _one_thread():
        for piece, repeated in bar:
            if joints_of_mesh is not None:
                piece = replace(
                    piece,
                    predicted=_regressed(piece.predicted, joints_of_mesh),
                    true=_regressed(piece.true, joints_of_mesh),
                )
            metrics.update(piece, repeated)
        if any(column.trajectory for column in protocol.columns):
            for sequences in pair.trajectories(CHUNK, order):
                metrics.update_trajectories(sequences)
    return metrics


def check_labels(protocol: Protocol, pair: Pair) -> None:
    """See that hands are labelled as the protocol counts them.

    Raises:
        ValueError: they are not, or no hand is labelled at all.
    """
    true = pair.true
    there = true.joints_valid.any(-1)
    if not _of_all_processes(int(_anything_labelled(protocol, true))):
        raise ValueError(f"the truth has no label of anything that {protocol.title} counts")
    if protocol.complete == "joints":
        return
    for samples, what in ((true, "labelled"), (pair.predicted, "predicted")):
        missing = _missing(samples, there)
        if (lacking := missing.any(-1)).any():
            count = int((~missing[lacking]).sum(-1)[0])
            raise ValueError(
                f"{protocol.title} counts hands whole: of the {_first(true, lacking)} only {count} "
                f"of {missing.shape[-1]} joints are {what}"
            )
    if protocol.complete == "hands":
        return
    if not (some := there.any(-1)).all():
        name = true.names[int((~some).nonzero()[0])]
        raise ValueError(f"{protocol.title} has a hand in every image; {name!r} has no labels")
    if true.vertices_valid.any() and (lacking := there != true.vertices_valid).any():
        raise ValueError(
            f"{protocol.title} counts hands whole: of the {_first(true, lacking)} joints or mesh "
            "are labelled, not both"
        )


def _anything_labelled(protocol: Protocol, true: HandSamples) -> bool:
    joints = true.joints_valid.any() | true.vertices_valid.any()  # or joints are made of meshes
    labels = {
        "joints": joints,
        "vertices": true.vertices_valid.any(),
        "joints_2d": true.joints_2d_valid.any(),
    }
    return any(column.alone or bool(labels[column.points]) for column in protocol.columns)


def _missing(samples: HandSamples, there: Tensor) -> Tensor:
    """(N, S, J) joints of hands that are there, (N, S), of which nothing is known.

    A joint that a file holds without calling it valid is known; zeros are no place for a joint.
    """
    missing = there[..., None] & ~samples.joints_valid
    missing[missing.clone()] = (samples.joints[missing] == 0).all(-1)
    return missing


def _first(samples: HandSamples, which: Tensor) -> str:
    """The first of some hands, (N, S) bool, in words."""
    image, side = which.nonzero()[0].tolist()
    return f"{Side(side).name.lower()} hand in {samples.names[image]!r}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Count in one: a chunk's operations are so short that threads spend more on waiting.

    F-scores, which take most of the time, have threads of their own.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_all_processes(number: int) -> int:
    """The sum over all processes that work together."""
    if not (dist.is_available() and dist.is_initialized()):
        return number
    total = torch.tensor(number)
    dist.all_reduce(total)
    return int(total)


def _regressed(samples: HandSamples, joints_of_mesh: Tensor) -> HandSamples:
    joints = joints_of_mesh.to(samples.vertices) @ samples.vertices
    return replace(samples, mesh_joints=joints)


class ProtocolMetrics:
    """All columns of a protocol over any number of batches, and of processes."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        shared: dict[Counted, Metric] = {}
        for column in protocol.columns:
            if _counted(column) not in shared:
                shared[_counted(column)] = column.statistic()
        self.statistics: dict[str, Any] = {c.key: shared[_counted(c)] for c in protocol.columns}
        self.breakdowns = Breakdowns(protocol, self.statistics)

    def update(self, pair: Pair, repeated: int = 0) -> None:
        """Add a batch to all columns but those of trajectories.

        Args:
            pair: in double precision; in the order of time where a column is temporal.
            repeated: of its first images were in the last batch, too; only temporal columns want
                them (two, for accelerations).

        Raises:
            ValueError: what counts is nowhere, as the pixel of a joint beside the camera.
        """
        if self.protocol.complete != "joints":
            pair = _whole_hands(pair)
        fresh = pair.take(torch.arange(repeated, len(pair))) if repeated else pair
        meshes = pair.true.vertices.shape[2] > 0
        aligned: dict[tuple[Alignment, Points], Compared] = {}
        seen: set[Counted] = set()
        for column in self.protocol.columns:
            counted = _counted(column)
            if column.trajectory or counted in seen:
                continue
            if column.points == "vertices" and not meshes and not column.alone:
                continue
            seen.add(counted)
            what = column.alignment, column.points
            if what not in aligned:
                found = column.alignment(pair if column.temporal else fresh, column.points)
                aligned[what] = _checked(found, column)
            compared = _chosen(aligned[what], fresh, column.chosen)
            self.statistics[column.key].update(compared)
        self.breakdowns.update(aligned, fresh)

    def update_trajectories(self, pair: Pair) -> None:
        """Add whole sequences to the columns of trajectories.

        Args:
            pair: in double precision and in order; meshes are not looked at.
        """
        done: set[Counted] = set()
        for column in self.protocol.columns:
            if column.trajectory and _counted(column) not in done:
                done.add(_counted(column))
                compared = _checked(column.alignment(pair, column.points), column)
                self.statistics[column.key].update(_chosen(compared, pair, column.chosen))

    def compute(self) -> dict[str, float]:
        """Every figure by key, in its unit; NaN where nothing could be counted."""
        figures = {}
        with warnings.catch_warnings():
            # a process without images has its part in the sums of all, too
            warnings.filterwarnings("ignore", "The ``compute`` method of metric")
            for column in self.protocol.columns:
                value = self.statistics[column.key].compute()
                number = float(value if column.part is None else value[column.part])
                figures[column.key] = number * column.factor
        return figures


Counted = tuple[Callable[[], Metric], Alignment, Points, Chosen, bool]
"""What columns have in common that are parts of one statistic."""


def _counted(column: Column) -> Counted:
    return column.statistic, column.alignment, column.points, column.chosen, column.temporal


def _whole_hands(pair: Pair) -> Pair:
    """Hands of which anything is labelled count with all joints."""
    valid = pair.true.joints_valid.any(-1, keepdim=True).expand_as(pair.true.joints_valid)
    return replace(pair, true=replace(pair.true, joints_valid=valid))


def _checked(compared: Compared, column: Column) -> Compared:
    if not bool(compared.errors.isfinite().all()):
        raise ValueError(
            f"{column.name} cannot be told: a prediction that counts comes to lie nowhere, as a "
            "joint in the plane of the camera, which has no pixel"
        )
    return compared


def _chosen(compared: Compared, pair: Pair, chosen: Chosen) -> Compared:
    """Leave out the images or hands that do not count."""
    if chosen == "all":
        return compared
    if chosen in ("single", "interacting"):
        return compared.only((pair.interacting == (chosen == "interacting"))[:, None, None])
    side = Side.RIGHT if chosen == "right" else Side.LEFT
    return compared.only((torch.arange(NUM_SIDES) == side)[None, :, None])
