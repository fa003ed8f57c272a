"""One pass over the data: several predictors see the same batches and are scored alike.

Data and predictors come in, `Scores` come out; nothing is drawn or written here (see `report`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fourdhands.evaluation.errors import Comparison, FrameErrors, MaskedErrors, clip_number
from fourdhands.evaluation.metrics import CLIP_METRICS, FRAME_METRICS, METRICS, measure
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import WRIST
from fourdhands.structures import ClipBatch, ClipMeta, Predictions

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
        clip: `ClipMeta.name`.
        frame_id: number of the frame in its sequence.
    """

    clip: str
    frame_id: int


@dataclass(frozen=True)
class Scores:
    """How one predictor did. M metrics in the order of `METRICS`.

    Attributes:
        sequences: names of the Q sequences.
        totals: (Q, M) sums of errors.
        counts: (Q, M) how many there are.
        joints: (J,) mean error of each joint, NaN where a joint is never labelled; mm.
        hands: (H,) mean error of each hand in each frame; mm.
        samples: frames with a labelled hand.
        sample_errors: (len(samples),) mean error of each; mm.
        num_clips: of the data, with a labelled hand or without.
        num_frames: of the data.
    """

    sequences: tuple[str, ...]
    totals: NDArray[np.float64]
    counts: NDArray[np.int64]
    joints: NDArray[np.float64]
    hands: NDArray[np.float64]
    samples: tuple[Sample, ...]
    sample_errors: NDArray[np.float64]
    num_clips: int
    num_frames: int

    @property
    def figures(self) -> dict[str, Figure]:
        """Every metric over all data, by key."""
        return _figures(self.totals.sum(0), self.counts.sum(0))

    @property
    def labelled_clips(self) -> int:
        """Clips with a labelled hand."""
        return len({sample.clip for sample in self.samples})

    @property
    def figures_by_sequence(self) -> dict[str, dict[str, Figure]]:
        """Every metric over each sequence."""
        rows = zip(self.sequences, self.totals, self.counts, strict=True)
        return {name: _figures(totals, counts) for name, totals, counts in rows}


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
    num_frames: int | None = None,
    target: int | None = None,
) -> dict[str, Scores]:
    """Score predictors on the same batches.

    Args:
        predictors: by name.
        batches: with labels and meta; each frame once, in the target's slot if there is one.
        hand_model: on `device`.
        root: joint that root-relative errors are relative to.
        device: where the predictors want their batches.
        num_frames: of all batches, for the progress bar; None if nobody knows.
        target: the slot of each window that counts; None for all of them.

    Returns:
        Scores by the predictors' names.

    Raises:
        ValueError: there are no batches, one has no labels, or a prediction is not finite.
    """
    tallies = {name: _Tally() for name in predictors}
    with tqdm(desc="evaluate", unit=" frames", total=num_frames) as progress:
        for batch in batches:
            batch = batch.to(device)
            if batch.labels is None:
                raise ValueError("the data has no labels, nothing to evaluate against")
            whole = batch
            if target is not None:
                batch = whole.at_slot(target)
            assert batch.labels is not None
            true_geometry = hand_model(batch.labels.hands)
            for name, predictor in predictors.items():
                predictions = predictor(whole)
                if target is not None:
                    predictions = predictions[:, target : target + 1]
                geometry = hand_model(predictions.hands)
                comparison = Comparison.of(predictions, geometry, batch, true_geometry, root=root)
                _require_finite(name, comparison, batch)
                tallies[name].add(comparison, batch.meta)
            progress.update(int(batch.frame_valid.sum()))
    return {name: tally.scores() for name, tally in tallies.items()}


def _require_finite(name: str, comparison: Comparison, batch: ClipBatch) -> None:
    bad = ~comparison.predicted.vertices.isfinite().all(-1).all(-1) & comparison.visible
    if bad.any():
        clip, frame, _ = bad.nonzero()[0].tolist()
        raise ValueError(
            f"clip {batch.meta[clip].name}, frame {frame}: the prediction of '{name}' is not finite"
        )


@dataclass
class _Tally:
    """What is remembered of one predictor's errors: sums by window, and one number a hand."""

    windows: list[str] = field(default_factory=list)  # the sequence of each
    totals: list[Tensor] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)
    joint_sums: list[Tensor] = field(default_factory=list)
    hands: list[Tensor] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sample_errors: list[Tensor] = field(default_factory=list)
    frames: list[FrameErrors] = field(default_factory=list)
    clips: dict[int, str] = field(default_factory=dict)  # the sequence of each

    def add(self, comparison: Comparison, meta: Sequence[ClipMeta]) -> None:
        """Remember a batch."""
        errors = measure(FRAME_METRICS, comparison)
        totals, counts = _stacked(errors, keep=1)
        self.windows += [one.sequence for one in meta]
        self.totals.append(totals.cpu())
        self.counts.append(counts.cpu())
        self.frames.append(FrameErrors.of(comparison).to("cpu"))
        self.clips |= {clip_number(one): one.sequence for one in meta}

        ranked = errors[RANKED_BY].map(Tensor.cpu)  # (B, T, S, J)
        by_joint = ranked.map(lambda tensor: tensor.movedim(-1, 0))
        self.joint_sums.append(torch.stack(by_joint.sums(keep=1)))
        total, count = ranked.sums(keep=3)
        self.hands.append((total / count)[count > 0])
        total, count = ranked.sums(keep=2)
        self.sample_errors.append((total / count)[count > 0])
        self.samples += [
            Sample(meta[clip].name, meta[clip].frame_ids[frame])
            for clip, frame in count.nonzero().tolist()
        ]

    def scores(self) -> Scores:
        """Everything added up."""
        if not self.windows:
            raise ValueError("there is no data to evaluate on: not a single batch came")
        frames = FrameErrors.cat(self.frames).in_order()
        clip_totals, clip_counts = _stacked(measure(CLIP_METRICS, frames), keep=1)
        names, rows = np.unique(
            [*self.windows, *(self.clips[clip] for clip in frames.clip[2:].tolist())],
            return_inverse=True,
        )

        def by_sequence(windows: list[Tensor], triples: Tensor) -> NDArray[Any]:
            sums = np.zeros((len(names), len(METRICS)), triples.numpy().dtype)
            first = len(FRAME_METRICS)
            np.add.at(sums[:, :first], rows[: len(self.windows)], torch.cat(windows).numpy())
            np.add.at(sums[:, first:], rows[len(self.windows) :], triples.numpy())
            return sums

        joint_total, joint_count = torch.stack(self.joint_sums).sum(0)
        return Scores(
            sequences=tuple(map(str, names)),
            totals=by_sequence(self.totals, clip_totals),
            counts=by_sequence(self.counts, clip_counts),
            joints=(joint_total / joint_count).numpy(),
            hands=torch.cat(self.hands).numpy(),
            samples=tuple(self.samples),
            sample_errors=torch.cat(self.sample_errors).numpy(),
            num_clips=len(self.clips),
            num_frames=len(frames.clip),
        )


def _stacked(errors: Mapping[str, MaskedErrors], keep: int) -> tuple[Tensor, Tensor]:
    """Sums and counts of several errors, the kind in the last dimension."""
    sums = [one.sums(keep) for one in errors.values()]
    return torch.stack([total for total, _ in sums], -1), torch.stack([n for _, n in sums], -1)
