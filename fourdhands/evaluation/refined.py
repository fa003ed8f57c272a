"""Refined hands for every protocol: files of predictions and predictors, run through refinement.

`refined_samples` takes hands of whole sequences, `RefiningPredictor` those of a batch's windows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands.evaluation.samples import HandSamples
from fourdhands.export.predictor import Predictor
from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import points_at_places
from fourdhands.hands.mano import HandModel
from fourdhands.models.confidence import joint_confidence
from fourdhands.models.motion_prior.prior import Completer
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.clip import ObservedClip, RefinedClip
from fourdhands.refinement.initial import merge_sources
from fourdhands.refinement.refine import refine_batch
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.structures import ClipBatch, HandState, Predictions

LONGEST_HOLE: Final = 300
"""Frames; where more are missing, a sequence is refined in two parts."""
HANDS_AT_ONCE: Final = 2048
"""Frames of all clips that are solved together."""


@dataclass(frozen=True)
class SequenceRun:
    """A run of frames of one sequence.

    Attributes:
        images: (K,) indices of the images, in the order of time.
        places: (K,) their frames in the clip.
        frames: T; frames without an image are completed and not returned.
        fps: frames a second.
    """

    images: Tensor
    places: Tensor
    frames: int
    fps: float


def sequences_of(samples: HandSamples) -> list[SequenceRun]:
    """The runs of frames of a file, longest holes aside."""
    order = samples.in_order()
    number, frame = samples.sequence[order], samples.frame[order]
    if ((number.diff() == 0) & (frame.diff() == 0)).any():
        k = int(((number.diff() == 0) & (frame.diff() == 0)).nonzero()[0])
        raise ValueError(
            f"{samples.names[int(order[k])]!r} and {samples.names[int(order[k + 1])]!r} are the "
            "same frame of the same sequence"
        )
    breaks = (number.diff() != 0) | (frame.diff() > LONGEST_HOLE)
    starts = [0, *(breaks.nonzero()[:, 0] + 1).tolist(), len(order)]
    found = []
    for start, stop in pairwise(starts):
        images = order[start:stop]
        places = samples.frame[images] - samples.frame[images[0]]
        found.append(
            SequenceRun(images, places, int(places[-1]) + 1, float(samples.fps[images[0]]))
        )
    return found


def refined_samples(
    sources: Sequence[HandSamples],
    hand_model: HandModel,
    config: RefinementConfig,
    *,
    prior: Completer | None = None,
    camera: Callable[[SequenceRun], CameraMotion] | None = None,
    meshes: bool = True,
    state: Path | None = None,
    progress: bool = True,
) -> tuple[HandSamples, list[RefinedClip]]:
    """Refine all sequences of a file.

    Args:
        sources: predictions of the same images with MANO parameters, in order of trust.
        hand_model: of the hands.
        config: how.
        prior: of finger motion.
        camera: the trajectory of a sequence; None for the cameras of the file, in metres.
        meshes: whether anybody will look at the vertices.
        state: where to save progress of each sequence to (with a number added), or None.
        progress: whether to show a bar.

    Returns:
        The same images with refined hands, every present hand in every frame, and what was found.

    Raises:
        ValueError: a file has no MANO parameters, other images, or cannot be refined.
    """
    first = sources[0]
    aligned = [first, *(_like(other, first) for other in sources[1:])]
    runs = sequences_of(first)
    results: list[RefinedClip] = []
    parts, order = [], []
    groups = list(_alike(runs))
    bar = tqdm(groups, desc="refine", unit=" sequences", disable=not progress or len(groups) < 2)
    for number, group in enumerate(bar):
        sources_of_group = [
            ObservedClip.cat([observed_clip(one, run, config) for run in group]) for one in aligned
        ]
        clip = merge_sources(sources_of_group, config.confidence)
        shown = shows_a_hand(clip, config)
        if not shown.any() and len(groups) > 1:
            shown_runs: list[SequenceRun] = []
        else:  # of one sequence that shows nothing, refinement says so
            shown = shown if shown.any() else torch.ones_like(shown)
            shown_runs = [run for run, there in zip(group, shown.tolist(), strict=True) if there]
        if shown_runs:
            cameras = [
                camera(run) if camera is not None else _own_camera(first, run) for run in shown_runs
            ]
            path = None if state is None else state.with_name(f"{state.name}.{number}")
            refined = refine_batch(
                clip[shown],
                cameras,
                prior,
                config,
                assets=hand_model.assets,
                state=path,
                progress=progress and len(groups) == 1,
            )
            results.append(refined)
        for k, run in enumerate(group):
            own = _Found.of(refined, int(shown[:k].sum())) if shown[k] else _Found.nothing(clip, k)
            parts.append(_samples_of(first, run, own, hand_model, meshes))
            order.append(run.images)
    whole = HandSamples.cat(parts)
    names = tuple(name for part in parts for name in part.names)
    whole = replace(whole, names=names)
    return whole.take(torch.cat(order).argsort()), results


def _alike(runs: list[SequenceRun]) -> Iterator[list[SequenceRun]]:
    """Runs of one length and rate, as many as are solved together."""
    groups: dict[tuple[int, float], list[SequenceRun]] = {}
    for run in runs:
        groups.setdefault((run.frames, run.fps), []).append(run)
    for (frames, _), group in groups.items():
        size = max(1, HANDS_AT_ONCE // frames)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _like(samples: HandSamples, first: HandSamples) -> HandSamples:
    places = {name: k for k, name in enumerate(samples.names)}
    if missing := [name for name in first.names if name not in places]:
        raise ValueError(f"a source lacks {len(missing)} images of the first, as {missing[0]!r}")
    return samples.take(torch.tensor([places[name] for name in first.names]))


def observed_clip(samples: HandSamples, run: SequenceRun, config: RefinementConfig) -> ObservedClip:
    """One clip of what a file says.

    Hands count where their joints are valid and `handedness` is more than a half. Without
    `confidence` all of them are sure; without `intrinsics` the focal length is sought from the
    joints and their pixels.
    """
    if samples.hands is None:
        raise ValueError(
            "the predictions have no MANO parameters (global_orient, hand_pose, betas, transl); "
            "refinement needs them"
        )
    some = samples.take(run.images)
    assert some.hands is not None
    there = some.joints_valid.any(-1) & (some.handedness > 0.5)
    confidence = some.confidence if some.confidence is not None else there.float()
    weight = some.joints_2d_confidence
    weight = some.joints_2d_valid.float() if weight is None else weight * some.joints_2d_valid
    T = run.frames

    def spread(values: Tensor, fill: float = 0.0) -> Tensor:
        whole = values.new_full((T, *values.shape[1:]), fill)
        whole[run.places] = values
        return whole[None]

    return ObservedClip(
        hands=some.hands.map(spread),
        observed=spread(there),
        confidence=spread(confidence.clamp(0, 1)),
        joints_2d=spread(some.joints_2d),
        joints_2d_confidence=spread(weight.clamp(0, 1)),
        intrinsics=_intrinsics(some)[None],
        fps=torch.tensor([run.fps], dtype=torch.float64),
    )


def _intrinsics(samples: HandSamples) -> Tensor:
    """(3, 3) of the file, or the pinhole that takes its joints to its pixels."""
    if samples.intrinsics is not None:
        matrices = samples.intrinsics.double()
        if (matrices - matrices[0]).abs().max() > 1e-2 * matrices[0].abs().max():
            raise ValueError(
                f"intrinsics of {samples.names[0]!r} and other images of its sequence differ; a "
                "sequence has one camera"
            )
        return matrices[0]
    valid = samples.joints_valid & samples.joints_2d_valid
    if not valid.any():
        raise ValueError(
            "the predictions have neither intrinsics nor joints_2d to find them from; give the "
            "array intrinsics or --focal_length"
        )
    joints, pixels = samples.joints[valid].double(), samples.joints_2d[valid].double()
    rays = joints[:, :2] / joints[:, 2:].clamp_min(1e-3)
    zero, one = torch.zeros(len(rays)).double(), torch.ones(len(rays)).double()
    rows = torch.cat(
        (torch.stack((rays[:, 0], one, zero), -1), torch.stack((rays[:, 1], zero, one), -1))
    )
    seen = torch.cat((pixels[:, 0], pixels[:, 1]))
    found = torch.linalg.lstsq(rows, seen).solution
    matrix = torch.eye(3).double()
    matrix[0, 0] = matrix[1, 1] = found[0]
    matrix[:2, 2] = found[1:]
    return matrix


def _own_camera(samples: HandSamples, run: SequenceRun) -> CameraMotion:
    """The file's `cam_from_world`, metres; frames without an image keep the last pose."""
    poses = samples.cam_from_world[run.images].double()
    last = torch.zeros(run.frames, dtype=torch.int64)
    last[run.places] = torch.arange(len(run.places))
    return CameraMotion(
        poses[last.cummax(0).values].numpy(), metric=True, source=f"{samples.names[0]}: camera"
    )


def shows_a_hand(clip: ObservedClip, config: RefinementConfig) -> Tensor:
    """(B,) bool: clips in which a hand is observed with enough confidence."""
    return (clip.observed & (clip.confidence >= config.confidence)).flatten(1).any(1)


@dataclass(frozen=True)
class _Found:
    """What refinement says of one clip; nothing of a clip without a hand."""

    present: Tensor  # (S,)
    hands: HandState | None
    intrinsics: Tensor
    cam_from_world: Tensor | None
    completed: Tensor  # (T, S)

    @classmethod
    def of(cls, refined: RefinedClip, k: int) -> "_Found":
        return cls(
            refined.present[k],
            refined.hands[k],
            refined.intrinsics[k],
            refined.cam_from_world[k],
            refined.completed[k],
        )

    @classmethod
    def nothing(cls, clip: ObservedClip, k: int) -> "_Found":
        observed = clip.observed[k]
        return cls(observed[0] & False, None, clip.intrinsics[k], None, observed & False)


def _samples_of(
    samples: HandSamples,
    run: SequenceRun,
    refined: _Found,
    hand_model: HandModel,
    meshes: bool,
) -> HandSamples:
    own = samples.take(run.images)
    there = refined.present.expand(len(run.places), -1)
    assert own.hands is not None

    hands = own.hands
    if refined.hands is not None:
        found = refined.hands[run.places]

        def chosen(name: str) -> Tensor:
            new, old = getattr(found, name), getattr(own.hands, name)
            return torch.where(there[(...,) + (None,) * (new.dim() - 2)], new.to(old), old)

        hands = HandState(**{name: chosen(name) for name in vars(found)})
    with torch.no_grad():
        geometry = hand_model(hands.map(Tensor.float).to(hand_model.mean_pose.device))
    joints = torch.where(there[..., None, None], geometry.joints.to(own.joints), own.joints)
    intrinsics = refined.intrinsics.to(joints)
    cameras = own.cam_from_world
    if refined.cam_from_world is not None:
        cameras = refined.cam_from_world[run.places].to(cameras)
    valid = there[..., None] | own.joints_valid
    vertices = (geometry.vertices if meshes else geometry.vertices[:, :, :0]).to(own.joints.device)
    return replace(
        own,
        joints=joints,
        joints_valid=valid,
        vertices=vertices,
        vertices_valid=valid.any(-1) & meshes,
        joints_2d=project(joints, intrinsics.expand(len(joints), 1, 3, 3)),
        joints_2d_valid=valid,
        cam_from_world=cameras,
        hands=hands,
        intrinsics=intrinsics.expand(len(joints), 3, 3).clone(),
        confidence=None,
        joints_2d_confidence=None,
        completed=refined.completed[run.places],
    )


@dataclass(frozen=True)
class RefiningPredictor:
    """A predictor whose windows are refined: its hands are smooth and physical within each.

    The 2D branch's joints are the evidence, its confidence their weight; without one, the network's
    own hands are all there is.

    Attributes:
        predictor: of single windows.
        config: how to refine.
        prior: of finger motion.
        window: frames that the network sees at a time; None for all.
    """

    predictor: Predictor
    config: RefinementConfig
    prior: Completer | None = None
    window: int | None = None

    @torch.inference_mode(False)
    def __call__(self, batch: ClipBatch) -> Predictions:
        """Predict, and refine; hands of windows that show none stay as they are."""
        frames = batch.times.shape[1]
        step = self.window or frames
        parts = [self.predictor(batch.slots(k, k + step)) for k in range(0, frames, step)]
        predictions = Predictions.cat(parts, 1)
        clip = observed_batch(self.predictor, batch, predictions)
        shown = shows_a_hand(clip, self.config)
        if not shown.any():
            return predictions
        refined = refine_batch(
            clip[shown], None, self.prior, self.config, assets=self.predictor.hand_model.assets
        )
        hands = predictions.hands.map(Tensor.clone)
        there = refined.present[:, None].expand_as(refined.completed)
        for name, values in vars(hands).items():
            new = getattr(refined.hands, name).to(values)
            mask = there[(...,) + (None,) * (new.dim() - 3)]
            values[shown] = torch.where(mask, new, values[shown])
        roots = self.predictor.hand_model.roots(hands)
        return replace(predictions, hands=hands, upsilon=roots[..., 1, :] - roots[..., 0, :])

    def __getattr__(self, name: str) -> Any:
        """Everything else is the predictor's."""
        return getattr(self.predictor, name)


def observed_batch(
    predictor: Predictor, batch: ClipBatch, predictions: Predictions
) -> ObservedClip:
    """What a network sees of a batch, as refinement wants it."""
    batch = batch.to(predictor.device)
    predictions = predictions.map(Tensor.clone)
    visible = batch.hand_visible
    joints_2d = predictions.hands.transl.new_zeros(*visible.shape, 21, 2)
    weight = joints_2d.new_zeros(joints_2d.shape[:-1])
    confidence = visible.float()
    if predictions.joint_logits is not None:
        geometry = predictor.hand_model(predictions.hands)
        places = predictions.joint_logits.joints()
        joints_2d = points_at_places(places, batch.visible_bbox.to(places)).float()
        weight = visible[..., None] * joint_confidence(predictions.joint_logits)
        found = predictor.confidence(predictions, geometry, batch)
        assert found is not None
        confidence = torch.where(visible, found.clamp(0, 1), 0.0)
    gaps = batch.times.diff(dim=1)
    step = gaps.median(1).values if gaps.shape[1] else torch.ones(len(gaps))
    fps = torch.where(step > 0, 1 / step.clamp_min(1e-6).to(step), 30.0)
    return ObservedClip(
        hands=predictions.hands,
        observed=visible,
        confidence=confidence,
        joints_2d=joints_2d,
        joints_2d_confidence=weight.clone(),
        intrinsics=batch.camera.intrinsics[:, 0],
        fps=fps,
    )
