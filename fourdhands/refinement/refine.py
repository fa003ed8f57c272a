"""`refine`: the whole way from observed clips and a camera trajectory to refined hands."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.hands.posing import HandSkeleton
from fourdhands.models.motion_prior.prior import Completer
from fourdhands.refinement.body import make_body
from fourdhands.refinement.camera_motion import CameraMotion, as_tensors
from fourdhands.refinement.clip import ObservedClip, RefinedClip, checked
from fourdhands.refinement.initial import (
    Estimate,
    estimate,
    first_motion,
    first_scale,
    noise_level,
)
from fourdhands.refinement.motion import Motion
from fourdhands.refinement.priors import GIVEN_NOISE, RefinementPrior, adapted, completed
from fourdhands.refinement.problem import Evidence, Problem
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.refinement.state import SavedState
from fourdhands.refinement.trajectory_checks import suspect
from fourdhands.refinement.windows import Outcome, solve_all
from fourdhands.refinement.world_scale import WorldScale
from fourdhands.structures import HandState

UNKNOWN_SCALE: Final = math.log(2.0)  # deviation where nothing tells the scale
SCENE_BEYOND: Final = 2.5  # times as far away as the hands is what is typically behind them
MIN_SCALE_DEVIATION: Final = 0.01


def refine(
    clip: ObservedClip,
    camera: CameraMotion | None = None,
    prior: Completer | None = None,
    config: RefinementConfig | None = None,
    *,
    assets: tuple[ManoAssets, ManoAssets] | None = None,
    state: Path | None = None,
    progress: bool = False,
) -> RefinedClip:
    """Refine B clips of the same length.

    Args:
        clip: the network's hands.
        camera: how it moved in all of them; None for a camera that stands still.
        prior: of finger motion; None for interpolation.
        config: the stages; ours if None.
        assets: of the hands; None for the open hand.
        state: file to save progress to, and to go on from if it is there; it is removed when all is
            done.
        progress: whether to show bars.

    Raises:
        ValueError: the clip cannot be refined, or the camera does not fit it.
    """
    return refine_batch(
        clip,
        None if camera is None else [camera] * len(clip.fps),
        prior,
        config,
        assets=assets,
        state=state,
        progress=progress,
    )


def refine_batch(
    clip: ObservedClip,
    cameras: list[CameraMotion] | None,
    prior: Completer | None = None,
    config: RefinementConfig | None = None,
    *,
    assets: tuple[ManoAssets, ManoAssets] | None = None,
    state: Path | None = None,
    progress: bool = False,
) -> RefinedClip:
    """`refine` with a camera for each clip."""
    config = config or RefinementConfig()
    assets = assets or load_assets()
    device = clip.observed.device
    latents = adapted(prior)
    body = make_body(assets, latents, device)
    clip = replace(clip, observed=clip.observed & (clip.confidence >= config.confidence))
    clip = checked(clip, _camera_joints(clip, body.skeleton))
    cameras = _cameras(cameras, clip)
    estimated = estimate(clip, body.skeleton, config.disagreement)
    world = _World.of(cameras, device)
    evidence, motion, notes, static = _prepare(
        estimated, body.skeleton, cameras, world, latents, config
    )
    saved = SavedState.open(state, evidence, repr(config.stages))
    with torch.no_grad():
        motion, outcome = solve_all(
            body, evidence, motion, latents, config, saved, progress=progress
        )
    problem = Problem(evidence, body)
    result = _finish(problem, motion, clip, world, outcome, static, tuple(notes))
    saved.remove()
    return result


def _camera_joints(clip: ObservedClip, skeleton: HandSkeleton) -> Tensor:
    hands = clip.hands.map(Tensor.double)
    wrist = hands.transl + skeleton.rest_joints(hands.betas)[..., 0, :]
    return skeleton(hands.global_orient, wrist, hands.hand_pose, hands.betas).joints


def _cameras(cameras: list[CameraMotion] | None, clip: ObservedClip) -> list[CameraMotion]:
    clips, frames = clip.observed.shape[:2]
    if cameras is None:
        still = np.tile(np.eye(4), (frames, 1, 1))
        return [CameraMotion(still, metric=True, source="static camera")] * clips
    for camera in cameras:
        if len(camera) < frames:
            raise ValueError(
                f"{camera.source}: has {len(camera)} poses, the clip {frames} frames; each frame "
                "needs one"
            )
    return [camera.frames(0, frames) for camera in cameras]


@dataclass(frozen=True)
class _World:
    """Where the file's world is, seen from the first camera, in which everything is solved.

    So a rigid motion and rescaling of the world changes nothing but the way back.

    Attributes:
        rotation: (B, T, 3, 3) camera from first camera.
        translation: (B, T, 3) of it, in units.
        first_from_world: (B, 3, 3) and (B, 3): the first camera in the file's world.
        unit: (B,) the file's units in one unit of `translation`.
    """

    rotation: Tensor
    translation: Tensor
    first_rotation: Tensor
    first_translation: Tensor
    unit: Tensor

    @classmethod
    def of(cls, cameras: list[CameraMotion], device: torch.device) -> "_World":
        pairs = [as_tensors(camera, device) for camera in cameras]
        rotation, translation = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        first, start = rotation[:, :1], translation[:, :1]
        relative = rotation @ first.mT
        moved = translation - (relative @ start[..., None])[..., 0]
        unit = moved.norm(dim=-1).amax(-1)
        largest = translation.norm(dim=-1).amax(-1).clamp_min(1e-300)
        # what rounding leaves of a camera that stands still is no motion
        unit = torch.where(unit > 1e-9 * largest, unit, 0.0)
        moved = torch.where(
            unit[:, None, None] > 0, moved / unit.clamp_min(1e-300)[:, None, None], 0.0
        )
        return cls(relative, moved, first[:, 0], start[:, 0], torch.where(unit > 0, unit, 1.0))


def _prepare(
    estimated: Estimate,
    skeleton: HandSkeleton,
    cameras: list[CameraMotion],
    world: _World,
    prior: RefinementPrior | None,
    config: RefinementConfig,
) -> tuple[Evidence, Motion, list[str], Tensor]:
    """Scale, first motion, completion: all that the stages start from."""
    clip = estimated.clip
    found = first_scale(estimated, world.rotation, world.translation)
    starts: list[_ScaleStart] = []
    for k, (one, camera) in enumerate(zip(found, cameras, strict=True)):
        if config.check_camera and (mistake := _mistake(estimated, world, k)):
            raise ValueError(
                f"{camera.source}: with it the hands jump about in the world; {mistake}"
            )
        starts.append(_scale_start(estimated, k, one, camera, world, config))
    like = estimated.wrist
    log_scale = like.new_tensor([start.log_scale for start in starts])
    motion = first_motion(estimated, world.rotation, world.translation, log_scale)
    noise = noise_level(estimated, skeleton, world.rotation)
    noise = noise if config.adapt else torch.ones_like(noise)
    filler = prior if config.completion == "prior" else None
    completion, precision = completed(
        motion.pose, clip.observed, clip.fps, filler, GIVEN_NOISE * noise.sqrt()
    )
    evidence = Evidence(
        observed=clip.observed,
        confidence=clip.confidence * clip.observed,
        present=clip.present,
        orientation=clip.hands.global_orient,
        wrist=estimated.wrist,
        pose=clip.hands.hand_pose,
        betas=estimated.betas,
        joints_2d=clip.joints_2d,
        joints_2d_confidence=clip.joints_2d_confidence * clip.observed[..., None],
        size=estimated.size,
        intrinsics=clip.intrinsics,
        fps=clip.fps,
        camera_rotation=world.rotation,
        camera_translation=world.translation,
        scale_start=log_scale,
        scale_deviation=like.new_tensor([start.deviation for start in starts]),
        scale_bounds=like.new_tensor([start.bounds for start in starts]),
        completion=completion,
        completion_precision=precision,
        noise=noise,
        free=torch.ones_like(clip.observed),
    )
    motion = replace(motion, pose=evidence.filled(motion.pose))
    notes = [start.note for start in starts if start.note]
    static = torch.tensor([one.static for one in found], device=like.device)
    return evidence, motion, notes, static


@dataclass(frozen=True)
class _ScaleStart:
    """What a clip's scale starts from: the logarithm, its deviation and its bounds."""

    log_scale: float
    deviation: float
    bounds: tuple[float, float]
    note: str | None = None


def _scale_start(
    estimated: Estimate,
    k: int,
    found: WorldScale,
    camera: CameraMotion,
    world: _World,
    config: RefinementConfig,
) -> _ScaleStart:
    unit = float(world.unit[k])
    known = config.world_scale or (1.0 if camera.metric else None)
    if known is not None or not (world.translation[k] != 0).any():
        log_scale = math.log((known or 1.0) * unit)
        return _ScaleStart(log_scale, 1e-3, _narrow(log_scale))
    if math.isfinite(found.deviation):
        log_scale = math.log(found.scale)
        deviation = max(found.deviation, MIN_SCALE_DEVIATION)
        return _ScaleStart(log_scale, deviation, _wide(log_scale, config))
    unseen = f"{camera.source}: its translations do not show in the hands' motion: "
    if found.static:  # the trajectory's noise is made too small to matter
        log_scale = math.log(1e-6)
        note = unseen + "a camera on a stand"
        return _ScaleStart(log_scale, UNKNOWN_SCALE, _narrow(log_scale), note)
    unknown = unseen + "the world's scale is not known"
    guess = _scale_by_scene(estimated, k, camera)
    if guess is None:
        log_scale = math.log(unit)
        return _ScaleStart(log_scale, UNKNOWN_SCALE, _wide(log_scale, config), unknown)
    log_scale = math.log(guess * unit)
    note = f"{unknown}, and guessed by how far away the scene is"
    return _ScaleStart(log_scale, UNKNOWN_SCALE, _narrow(log_scale), note)


def _narrow(log_scale: float) -> tuple[float, float]:
    return log_scale - 1e-9, log_scale + 1e-9


def _wide(log_scale: float, config: RefinementConfig) -> tuple[float, float]:
    low, high = config.scale_bounds
    return log_scale + math.log(low), log_scale + math.log(high)


def _scale_by_scene(estimated: Estimate, k: int, camera: CameraMotion) -> float | None:
    """Metres a unit if the scene is as far behind the hands as it mostly is, None if unknown."""
    depth = estimated.middle[k, ..., 2][estimated.clip.observed[k]]
    if not camera.scene_depth or not len(depth):
        return None
    return SCENE_BEYOND * float(depth.median()) / camera.scene_depth


def _mistake(estimated: Estimate, world: _World, k: int) -> str | None:
    poses = np.tile(np.eye(4), (world.rotation.shape[1], 1, 1))
    poses[:, :3, :3] = world.rotation[k].cpu().numpy()
    poses[:, :3, 3] = world.translation[k].cpu().numpy()
    return suspect(
        estimated.placed[k].cpu().numpy(),
        estimated.clip.observed[k].cpu().numpy(),
        poses,
        float(estimated.clip.fps[k]),
    )


def _finish(
    problem: Problem,
    motion: Motion,
    clip: ObservedClip,
    world: _World,
    outcome: Outcome,
    static: Tensor,
    notes: tuple[str, ...],
) -> RefinedClip:
    """Back from the first camera's frame to the file's world, at metric scale."""
    evidence = problem.evidence
    pieces = range(0, motion.wrist.shape[1], 1024)
    with torch.no_grad():
        joints = torch.cat(
            [_view_joints(problem, motion, start, start + 1024) for start in pieces], 1
        )
        rotation, translation = problem.camera(motion)
    rest = problem.body.skeleton.rest_joints(motion.betas)[..., 0, :][:, None]
    turned = rotation[:, :, None]
    betas = motion.betas[:, None].expand(*motion.wrist.shape[:3], motion.betas.shape[-1])
    hands = HandState(
        global_orient=turned @ motion.orientation,
        hand_pose=motion.pose,
        betas=betas,
        transl=joints[..., 0, :] - rest,
    )
    scale = motion.log_scale.exp() / world.unit
    back = world.first_rotation.mT
    start = (scale[:, None] * world.first_translation)[:, None, None]
    wrist = (motion.wrist - start) @ back.mT[:, None]
    in_world = HandState(
        global_orient=back[:, None, None] @ motion.orientation,
        hand_pose=motion.pose,
        betas=betas,
        transl=wrist - rest,
    )
    poses = torch.eye(4).to(rotation).repeat(*rotation.shape[:2], 1, 1)
    poses[..., :3, :3] = rotation @ world.first_rotation[:, None]
    poses[..., :3, 3] = translation + (rotation @ start[:, :, 0, :, None])[..., 0]
    focal = motion.log_focal.exp()[:, None, None]
    intrinsics = evidence.intrinsics.clone()
    intrinsics[:, :2, :2] *= focal
    deviation = outcome.scale_deviation
    if deviation is None:
        deviation = evidence.scale_deviation
    unsure = evidence.scale_deviation == UNKNOWN_SCALE
    given = evidence.scale_bounds.diff(dim=-1)[:, 0] < 1e-6
    deviation = torch.maximum(deviation, evidence.scale_deviation / 2)
    deviation = torch.where(unsure, torch.inf, torch.where(given, 0.0, deviation))
    stages = tuple(
        (name, {term: value.tolist() for term, value in values.items()})
        for name, values in outcome.energies.items()
    )
    diverged = outcome.diverged if outcome.diverged is not None else torch.zeros_like(static)
    if diverged.any():
        notes = (*notes, "a stage diverged; its best state was kept")
    present = evidence.present[:, None]
    return RefinedClip(
        hands=hands,
        hands_in_world=in_world,
        joints=joints,
        cam_from_world=poses,
        intrinsics=intrinsics,
        completed=~evidence.observed & present,
        present=evidence.present,
        world_scale=scale,
        world_scale_deviation=deviation,
        static=static,
        diverged=diverged,
        energies=stages,
        notes=notes,
    )


def _view_joints(problem: Problem, motion: Motion, start: int, stop: int) -> Tensor:
    piece = Problem(problem.evidence.frames(start, stop), problem.body)
    return piece.view(motion.frames(start, stop)).joints
