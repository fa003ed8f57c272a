"""One pass over the data: several predictors see the same batches and are scored alike.

Data and predictors come in, `Scores` come out; nothing is drawn or written here (see `report`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fourdhands.evaluation.errors import Comparison, MaskedErrors
from fourdhands.evaluation.metrics import METRICS, measure
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import WRIST
from fourdhands.structures import ClipBatch, Predictions

Predictor = Callable[[ClipBatch], Predictions]

RANKED_BY = "mpjpe_mm"
"""Key of the metric whose errors make the histogram, the joint plot and the order of samples."""


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    Attributes:
        value: in the metric's unit; None if nothing could be counted.
        count: how many errors it is the mean of.
    """

    value: float | None
    count: int

    @classmethod
    def mean(cls, total: float, count: int) -> "Figure":
        """Divide, if there is something to divide by."""
        return cls(float(total) / int(count) if count else None, int(count))


@dataclass(frozen=True)
class Sample:
    """A frame of a clip.

    Attributes:
        clip: key of the clip.
        frame_id: number of the frame in its sequence.
    """

    clip: str
    frame_id: int


@dataclass(frozen=True)
class Scores:
    """How one predictor did. M metrics in the order of `METRICS`.

    Attributes:
        sequences: name of each clip's sequence, N of them.
        totals: (N, M) sums of errors.
        counts: (N, M) how many there are.
        joints: (J,) mean error of each joint, NaN where a joint is never labelled; mm.
        hands: (H,) mean error of each hand in each frame; mm.
        samples: frames with a labelled hand.
        sample_errors: (len(samples),) mean error of each; mm.
    """

    sequences: tuple[str, ...]
    totals: NDArray[np.float64]
    counts: NDArray[np.int64]
    joints: NDArray[np.float64]
    hands: NDArray[np.float64]
    samples: tuple[Sample, ...]
    sample_errors: NDArray[np.float64]

    @property
    def figures(self) -> dict[str, Figure]:
        """Every metric over all data, by key."""
        return _figures(self.totals.sum(0), self.counts.sum(0))

    @property
    def figures_by_sequence(self) -> dict[str, dict[str, Figure]]:
        """Every metric over each sequence."""
        names, index = np.unique(self.sequences, return_inverse=True)
        totals = np.zeros((len(names), len(METRICS)))
        counts = np.zeros((len(names), len(METRICS)), np.int64)
        np.add.at(totals, index, self.totals)
        np.add.at(counts, index, self.counts)
        return {
            str(name): _figures(*sums) for name, *sums in zip(names, totals, counts, strict=True)
        }


def _figures(totals: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, Figure]:
    return {key: Figure.mean(*sums) for key, *sums in zip(METRICS, totals, counts, strict=True)}


@torch.inference_mode()
def evaluate(
    predictors: Mapping[str, Predictor],
    batches: Iterable[ClipBatch],
    hand_model: HandModel,
    *,
    root: int = WRIST,
    device: torch.device | str = "cpu",
) -> dict[str, Scores]:
    """Score predictors on the same batches.

    Args:
        predictors: by name.
        batches: with labels and meta; each frame once.
        hand_model: on `device`.
        root: joint that root-relative errors are relative to.
        device: where the predictors want their batches.

    Returns:
        Scores by the predictors' names.

    Raises:
        ValueError: there are no batches, one has no labels, or a prediction is not finite.
    """
    tallies = {name: _Tally() for name in predictors}
    for batch in tqdm(batches, desc="evaluate", unit="batch"):
        batch = batch.to(device)
        if batch.labels is None:
            raise ValueError("the data has no labels, nothing to evaluate against")
        true_geometry = hand_model(batch.labels.hands)
        for name, predictor in predictors.items():
            predictions = predictor(batch)
            geometry = hand_model(predictions.hands)
            comparison = Comparison.of(predictions, geometry, batch, true_geometry, root=root)
            _require_finite(name, comparison, batch)
            tallies[name].add(measure(comparison), batch)
    return {name: tally.scores() for name, tally in tallies.items()}


def _require_finite(name: str, comparison: Comparison, batch: ClipBatch) -> None:
    bad = ~comparison.predicted.vertices.isfinite().all(-1).all(-1) & comparison.visible
    if bad.any():
        clip, frame, _ = bad.nonzero()[0].tolist()
        raise ValueError(
            f"clip {batch.meta[clip].key}, frame {frame}: the prediction of '{name}' is not finite"
        )


@dataclass
class _Tally:
    """What is remembered of one predictor's errors: sums, and one number a hand."""

    sequences: list[str] = field(default_factory=list)
    totals: list[NDArray[np.float64]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    joints: list[NDArray[np.float64]] = field(default_factory=list)
    hands: list[NDArray[np.float64]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sample_errors: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, errors: dict[str, MaskedErrors], batch: ClipBatch) -> None:
        totals, counts = zip(*(e.sums(keep=1) for e in errors.values()), strict=True)
        self.sequences += [meta.sequence for meta in batch.meta]
        self.totals.append(torch.stack(totals, -1).cpu().numpy())
        self.counts.append(torch.stack(counts, -1).cpu().numpy())

        ranked = errors[RANKED_BY].map(lambda tensor: tensor.cpu())  # (B, T, S, J)
        joint_sums = ranked.map(lambda tensor: tensor.movedim(-1, 0)).sums(keep=1)
        self.joints.append(torch.stack(joint_sums).double().numpy())
        total, count = ranked.sums(keep=3)
        self.hands.append((total / count)[count > 0].numpy())
        total, count = ranked.sums(keep=2)
        self.sample_errors.append((total / count)[count > 0].numpy())
        self.samples += [
            Sample(batch.meta[clip].key, batch.meta[clip].frame_ids[frame])
            for clip, frame in count.nonzero().tolist()
        ]

    def scores(self) -> Scores:
        if not self.totals:
            raise ValueError("there is no data to evaluate on: not a single batch came")
        joint_totals, joint_counts = np.sum(self.joints, axis=0)
        with np.errstate(invalid="ignore"):  # a joint that is never labelled has no error: NaN
            joints = joint_totals / joint_counts
        return Scores(
            sequences=tuple(self.sequences),
            totals=np.concatenate(self.totals),
            counts=np.concatenate(self.counts),
            joints=joints,
            hands=np.concatenate(self.hands),
            samples=tuple(self.samples),
            sample_errors=np.concatenate(self.sample_errors),
        )
