"""A method's figures by the rules of a benchmark's protocol."""

from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor
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

    Args:
        protocol: the rules.
        pair: predictions in the truth's order.
        any_count: whether there may be other than the official number of images.
        joints_of_mesh: (S, J, V) makes joints of meshes, for protocols that want such; None to
            stay with the joints that truth and predictions bring.

    Raises:
        ValueError: there are no images, or not the official number.
    """
    if not len(pair):
        raise ValueError("the benchmark is empty: there is no image to score")
    if protocol.counts and len(pair) not in protocol.counts.values() and not any_count:
        raise ValueError(
            f"{protocol.title} has {protocol.counts_in_words} images, here are {len(pair):,}: "
            "figures of others cannot be compared with it; say --any_count true to see them "
            "nevertheless"
        )
    ordered = pair.take(pair.true.in_order())
    metrics = ProtocolMetrics(protocol)
    pieces = ordered.chunks(CHUNK, NEIGHBOURS)
    for piece, repeated in tqdm(pieces, desc="score", total=-(-len(pair) // CHUNK), leave=False):
        if joints_of_mesh is not None:
            piece = replace(
                piece,
                predicted=_regressed(piece.predicted, joints_of_mesh),
                true=_regressed(piece.true, joints_of_mesh),
            )
        metrics.update(piece, repeated)
    if any(column.trajectory for column in protocol.columns):
        for sequences in ordered.trajectories(CHUNK):
            metrics.update_trajectories(sequences)
    return metrics


def _regressed(samples: HandSamples, joints_of_mesh: Tensor) -> HandSamples:
    joints = joints_of_mesh.to(samples.vertices) @ samples.vertices
    return replace(samples, mesh_joints=joints)


class ProtocolMetrics:
    """All columns of a protocol over any number of batches."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        shared: dict[Any, Any] = {}  # columns that are parts of one statistic share it
        self.statistics: dict[str, Any] = {
            c.key: shared.setdefault(_counted(c), c.statistic()) for c in protocol.columns
        }
        self.breakdowns = Breakdowns(protocol, self.statistics)

    def update(self, pair: Pair, repeated: int = 0) -> None:
        """Add a batch to all columns but those of trajectories.

        Args:
            pair: in double precision; in the order of time where a column is temporal.
            repeated: of its first images were in the last batch, too; only temporal columns want
                them (two, for accelerations).
        """
        aligned: dict[tuple[Alignment, Points], Compared] = {}
        done = set()
        fresh = pair.take(torch.arange(repeated, len(pair)))
        meshes = pair.true.vertices.shape[2] > 0
        for column in self.protocol.columns:
            if column.trajectory:
                continue
            if column.points == "vertices" and not meshes and not column.alone:
                continue
            if _counted(column) in done:
                continue
            done.add(_counted(column))
            what = column.alignment, column.points
            if what not in aligned:
                aligned[what] = column.alignment(pair if column.temporal else fresh, column.points)
            compared = _chosen(aligned[what], fresh, column.chosen)
            self.statistics[column.key].update(compared)
        self.breakdowns.update(aligned, fresh)

    def update_trajectories(self, pair: Pair) -> None:
        """Add whole sequences to the columns of trajectories.

        Args:
            pair: in double precision and in order; meshes are not looked at.
        """
        done = set()
        for column in self.protocol.columns:
            if column.trajectory and _counted(column) not in done:
                done.add(_counted(column))
                compared = column.alignment(pair, column.points)
                self.statistics[column.key].update(_chosen(compared, pair, column.chosen))

    def compute(self) -> dict[str, float]:
        """Every figure by key, in its unit; NaN where nothing could be counted."""
        figures = {}
        for column in self.protocol.columns:
            value = self.statistics[column.key].compute()
            number = float(value if column.part is None else value[column.part])
            figures[column.key] = number * column.factor
        return figures


def _counted(column: Column) -> tuple[Any, ...]:
    """What a column's statistic is of; alike for those that differ in name, part and unit."""
    return column.statistic, column.alignment, column.points, column.chosen, column.temporal


def _chosen(compared: Compared, pair: Pair, chosen: Chosen) -> Compared:
    """Leave out the images or hands that do not count."""
    if chosen == "all":
        return compared
    if chosen in ("single", "interacting"):
        keep = (pair.interacting == (chosen == "interacting"))[:, None, None]
    else:
        side = Side.RIGHT if chosen == "right" else Side.LEFT
        keep = (torch.arange(NUM_SIDES) == side)[None, :, None]
    return replace(compared, valid=compared.valid & keep)
