"""Pictures of single frames: the crops, the hands predicted and true over them, and the side view.

The evaluation shows its best, median and worst frames; training shows validation frames alike.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fourdhands.evaluation.runner import Sample, Scores
from fourdhands.geometry.camera import crop_intrinsics
from fourdhands.geometry.crop import crop_affine
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import PAPER, draw_hands, grid, side_extent, side_view
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import ClipBatch, HandGeometry, Predictions, left_from_right_root

Image = NDArray[np.uint8]

CELL_HEIGHT = 192
ABSENT_INK = (150, 150, 150)
CAPTIONS = (
    *("right hand", "predicted", "true"),
    *("left hand", "predicted", "true"),
    *("side, predicted", "side, true"),
)
"""Of the cells of one frame (see `draw_frame`)."""
COLUMNS = len(CAPTIONS)


@dataclass(frozen=True)
class Choice:
    """A frame worth looking at.

    Attributes:
        sample: which frame.
        rank: "best", "median" or "worst".
        error: mean joint error of its hands, mm.
    """

    sample: Sample
    rank: str
    error: float

    @property
    def title(self) -> str:
        """In words."""
        return (
            f"{self.rank}: {self.error:.0f} mm, "
            f"clip {self.sample.clip}, frame {self.sample.frame_id}"
        )


def choose(scores: Scores, each: int) -> tuple[Choice, ...]:
    """Pick the frames with the least, the median and the largest error.

    Args:
        scores: of the predictor to show.
        each: how many of each kind, every one from another clip.
    """
    errors = scores.sample_errors
    return tuple(
        Choice(scores.samples[k], rank, float(errors[k]))
        for rank, k in ranked(errors, [sample.clip for sample in scores.samples], each)
    )


def ranked(
    errors: NDArray[np.float64], groups: Sequence[Hashable], each: int
) -> list[tuple[str, int]]:
    """The images with the least, the median and the largest error.

    Args:
        errors: (N,) finite.
        groups: what each image belongs to.
        each: how many of each kind, every one from another group.

    Returns:
        "best", "median" or "worst", and the number of the image.
    """
    orders = {
        "best": np.argsort(errors, kind="stable"),
        "median": np.argsort(np.abs(errors - np.median(errors)), kind="stable"),
        "worst": np.argsort(-errors, kind="stable"),
    }
    chosen = []
    for rank, order in orders.items():
        first_of_group: dict[Hashable, int] = {}
        for k in order.tolist():
            first_of_group.setdefault(groups[k], k)
        chosen += [(rank, k) for k in itertools.islice(first_of_group.values(), each)]
    return chosen


@torch.inference_mode()
def draw_choices(
    choices: Sequence[Choice],
    predictor: Callable[[ClipBatch], Predictions],
    batches: Iterable[ClipBatch],
    hand_model: HandModel,
    device: torch.device | str = "cpu",
    target: int | None = None,
) -> Image:
    """Find the chosen frames in the data once more and draw them, a row each.

    Args:
        choices: from the scores of the same data.
        predictor: what to draw.
        batches: the same data; read only as far as needed.
        hand_model: on `device`.
        device: where the predictor wants its batches.
        target: the slot of each window that was scored; None for all of them.
    """
    rows: dict[Sample, list[Image]] = {}
    wanted = {choice.sample for choice in choices}
    for batch in tqdm(batches, desc="pictures", unit=" batches"):
        found = [
            (clip, frame, sample)
            for clip, meta in enumerate(batch.meta)
            for frame, frame_id in enumerate(meta.frame_ids)
            if target in (None, frame)
            if (sample := Sample(meta.name, frame_id)) in wanted
        ]
        if not found:
            continue
        moved = batch.to(device)
        predictions = predictor(moved)
        for clip, frame, sample in found:
            rows[sample] = draw_frame(moved, predictions, hand_model, clip, frame)
        if len(rows) == len(wanted):
            break
    return draw_rows([(choice.title, rows[choice.sample]) for choice in choices])


def draw_rows(rows: Sequence[tuple[str, list[Image]]]) -> Image:
    """Lay out frames, a row each.

    Args:
        rows: title and cells (see `draw_frame`).
    """
    cells = [cell for _, row in rows for cell in row]
    return grid(cells, COLUMNS, CAPTIONS * len(rows), [title for title, _ in rows])


def draw_frame(
    batch: ClipBatch, predictions: Predictions, hand_model: HandModel, clip: int, frame: int
) -> list[Image]:
    """The cells of one frame: `COLUMNS` pictures of one height.

    In the side views the predicted left hand stands where `upsilon` puts it; both have one scale.

    Args:
        batch: with labels.
        predictions: of the batch.
        hand_model: makes the meshes.
        clip: index of the clip in the batch.
        frame: index of the frame in the clip.
    """
    assert batch.labels is not None
    where = (slice(clip, clip + 1), slice(frame, frame + 1))
    predicted = hand_model(predictions.hands[where])
    true = hand_model(batch.labels.hands[where])
    together = _placed_by_upsilon(predicted, predictions.upsilon[where])
    visible = batch.hand_visible[clip, frame].cpu().numpy()
    labelled = visible & batch.labels.hands_valid[clip, frame].cpu().numpy()
    faces = hand_model.faces.cpu().numpy()
    cells = []
    for side in Side:
        if not visible[side]:
            cells += [_absent(batch, side), _paper(batch), _paper(batch)]
            continue
        crop, intrinsics = _upright_crop(batch, clip, frame, side)
        one = np.arange(NUM_SIDES) == side
        cells.append(crop)
        for geometry, drawn in ((predicted, one), (true, one & labelled)):
            vertices = geometry.vertices[0, 0].cpu().numpy()
            cells.append(draw_hands(crop, vertices, drawn, intrinsics, faces=faces))
    views = [
        (geometry.vertices[0, 0].cpu().numpy(), drawn)
        for geometry, drawn in ((together, visible), (true, labelled))
    ]
    extent = max(side_extent(*view) for view in views)
    return [*cells, *(side_view(*view, CELL_HEIGHT, faces=faces, extent=extent) for view in views)]


def _upright_crop(
    batch: ClipBatch, clip: int, frame: int, side: Side
) -> tuple[Image, NDArray[np.float64]]:
    """A hand's crop as the photograph shows it (not mirrored), enlarged, and its intrinsics."""
    crop = batch.crops[clip, frame, side].permute(1, 2, 0).cpu().numpy()
    if side is Side.LEFT:
        crop = crop[:, ::-1]
    height, width = size = _cell_size(batch)
    enlarged = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    affine = crop_affine(batch.bbox[clip, frame, side], size, torch.tensor(False))
    intrinsics = crop_intrinsics(batch.camera.intrinsics[clip, frame], affine)
    return enlarged, intrinsics.double().cpu().numpy()


def _cell_size(batch: ClipBatch) -> tuple[int, int]:
    height, width = batch.crop_size
    return CELL_HEIGHT, round(CELL_HEIGHT * width / height)


def _paper(batch: ClipBatch) -> Image:
    return np.full((*_cell_size(batch), 3), PAPER, np.uint8)


def _absent(batch: ClipBatch, side: Side) -> Image:
    paper, text = _paper(batch), f"no {side.name.lower()} hand"
    where = (4, CELL_HEIGHT // 2)
    cv2.putText(paper, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, ABSENT_INK, 1, cv2.LINE_AA)
    return paper


def _placed_by_upsilon(geometry: HandGeometry, upsilon: torch.Tensor) -> HandGeometry:
    """Move the left hand so that its wrist lies `upsilon` from the right wrist."""
    shift = torch.zeros_like(geometry.root)
    shift[..., Side.LEFT, :] = upsilon - left_from_right_root(geometry.joints)
    return HandGeometry(
        joints=geometry.joints + shift[..., None, :],
        vertices=geometry.vertices + shift[..., None, :],
    )
