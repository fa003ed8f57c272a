"""Clips whose truth is known, with errors like a network's: for the benchmark and for tests.

Two hands of the scene generator move and touch in the world; a camera stands, sways or jerks; its
trajectory is known up to scale; what a network would say of the hands is wrong in a network's ways.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.data.synthetic.camera import CameraConfig
from fourdhands.data.synthetic.config import KindShares, SceneConfig
from fourdhands.data.synthetic.motion import Timeline, tremor
from fourdhands.data.synthetic.rotation import matrices_from_vectors, rotation_between, unit
from fourdhands.data.synthetic.stage import Stage as SceneStage
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.clip import ObservedClip
from fourdhands.refinement.noise import lasting
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES
from fourdhands.structures import HandState

Array = NDArray[np.float64]
CameraKind = Literal["static", "smooth", "jerky"]

IMAGE_SIZE: Final = (1280, 720)


@dataclass(frozen=True)
class Errors:
    """How wrong the network is.

    Attributes:
        orientation: radians, of the wrist, going on for some frames.
        fingers: radians a joint, going on for some frames.
        white: share of those that is new in each frame.
        depth: relative, new in each frame, and as much that goes on.
        lateral: metres across the line of sight, going on.
        depth_bias: relative, of each side for the whole clip.
        orientation_bias: radians, of each side for the whole clip.
        betas: of a unit, of the whole clip and as much in each frame.
        pixels: of 2D joints.
        outliers: share of 2D joints that are anywhere.
        outlier_pixels: how far.
        gaps: least and greatest length of a gap in frames, at 30 a second.
        wrong_confidence: share of hands and joints whose confidence says nothing.
    """

    orientation: float = 0.10
    fingers: float = 0.12
    white: float = 0.4
    depth: float = 0.03
    lateral: float = 0.006
    depth_bias: float = 0.04
    orientation_bias: float = 0.05
    betas: float = 0.3
    pixels: float = 3.0
    outliers: float = 0.05
    outlier_pixels: float = 80.0
    gaps: tuple[int, int] = (10, 60)
    wrong_confidence: float = 0.05


NO_ERRORS: Final = Errors(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (0, 0), 0)


@dataclass(frozen=True)
class SimulatedClip:
    """One clip.

    Attributes:
        observed: what refinement gets.
        camera: the trajectory, in units of its own.
        true_hands: camera frame, dimensions (1, T, S).
        true_joints: (1, T, S, J, 3) camera frame.
        true_cam_from_world: (T, 4, 4) metres.
        true_scale: metres a unit of the trajectory.
    """

    observed: ObservedClip
    camera: CameraMotion
    true_hands: HandState
    true_joints: Tensor
    true_cam_from_world: Array
    true_scale: float


def simulate(
    seed: int,
    frames: int,
    camera: CameraKind,
    *,
    model: HandModel,
    fps: float = 30.0,
    errors: Errors | None = None,
    fingers: Tensor | None = None,
) -> SimulatedClip:
    """Make a clip.

    Args:
        seed: decides everything.
        frames: T.
        camera: how it moves.
        model: of the hands.
        fps: frames a second.
        errors: of the network; typical ones if None.
        fingers: (T, S, 15, 3, 3) in place of the scene's, on hands that stay apart.
    """
    rng = np.random.default_rng((seed, frames))
    errors = errors or Errors()
    scenes = SceneConfig(
        image_size=IMAGE_SIZE,
        kinds=KindShares(0, 0, 0.7, 0.3) if fingers is None else KindShares(0, 1, 0, 0),
        hand_size=(0.25, 0.5),
        distance=(0.35, 0.8),
        truncated_share=0,
        camera=CameraConfig(moving_share=0, wide_share=0),
    )
    scene = SceneStage(scenes, model, num_frames=frames, fps=fps).scene(rng)
    hands = scene.hands
    if fingers is not None:
        hands = replace(hands, hand_pose=fingers.to(hands.hand_pose))
    joints = model(hands).joints.numpy().astype(np.float64)
    cam_from_world = _camera(rng, camera, joints, scene.times)
    rotation, shift = cam_from_world[:, :3, :3], cam_from_world[:, :3, 3]
    true = _moved(hands.map(Tensor.double), rotation, shift, model)
    true_joints = np.einsum("tij,tskj->tski", rotation, joints) + shift[:, None, None]
    scale = float(np.exp(rng.uniform(np.log(0.2), np.log(5.0)))) if camera != "static" else 1.0
    trajectory = cam_from_world.copy()
    trajectory[:, :3, 3] /= scale
    intrinsics = scene.camera.intrinsics
    observed = _observe(rng, true, true_joints, intrinsics, fps, errors)
    return SimulatedClip(
        observed=observed,
        camera=CameraMotion(trajectory, source=f"{camera} camera"),
        true_hands=true.map(lambda values: values[None]),
        true_joints=torch.from_numpy(true_joints)[None],
        true_cam_from_world=cam_from_world,
        true_scale=scale,
    )


def _camera(rng: np.random.Generator, kind: CameraKind, joints: Array, times: Array) -> Array:
    """(T, 4, 4) camera from world; it starts where the scene's camera stood, and looks at hands."""
    frames = len(times)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    if kind == "static":
        return poses
    middle = joints.mean((1, 2))
    depth = float(np.median(middle[:, 2]))
    timeline = Timeline.sample(rng, times, (0.5, 1.5))
    keys = rng.normal(0, 0.22 * depth, (timeline.num_keys, 3))
    place = timeline.interpolate(keys)
    aside = timeline.interpolate(rng.normal(0, 0.08, (timeline.num_keys, 3)))
    shake = tremor(rng, times, 3, 0.004, 3.0)
    if kind == "jerky":
        place = place + 0.6 * _lasting(rng, (frames, 3), times, 0.1) * 0.03
        shake = shake + _lasting(rng, (frames, 3), times, 0.1) * 0.03
    place = place - place[0]
    aim = np.stack(
        [
            rotation_between(unit(target - eye), unit(middle[0]))
            for target, eye in zip(middle, place, strict=True)
        ]
    )
    rotation = matrices_from_vectors(aside - aside[0] + shake - shake[0]) @ aim
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = -np.einsum("tij,tj->ti", rotation, place)
    return poses


def _moved(hands: HandState, rotation: Array, shift: Array, model: HandModel) -> HandState:
    turned, moved = torch.from_numpy(rotation)[:, None], torch.from_numpy(shift)[:, None]
    roots = model.roots(hands.map(Tensor.float)).double()
    rest = roots - hands.transl
    wrist = (turned @ roots[..., None])[..., 0] + moved
    return HandState(turned @ hands.global_orient, hands.hand_pose, hands.betas, wrist - rest)


def _lasting(
    rng: np.random.Generator, shape: tuple[int, ...], times: Array, seconds: float
) -> Array:
    """Unit noise (T, ...) that goes on for some time."""
    white = rng.normal(size=shape)
    white[0] = rng.normal(size=shape[1:])
    return lasting(white, times[1] - times[0] if len(times) > 1 else 1.0, seconds)


def _observe(
    rng: np.random.Generator,
    true: HandState,
    joints: Array,
    intrinsics: Array,
    fps: float,
    errors: Errors,
) -> ObservedClip:
    T = len(joints)
    times = np.arange(T) / fps

    def noise(*shape: int) -> Array:
        """Correlated and white, of unit size together."""
        last = _lasting(rng, (T, NUM_SIDES, *shape), times, 0.3)
        fresh = rng.normal(size=last.shape)
        return np.sqrt(1 - errors.white**2) * last + errors.white * fresh

    def turns(vectors: Array) -> Tensor:
        flat = matrices_from_vectors(vectors.reshape(-1, 3))
        return torch.from_numpy(flat.reshape(*vectors.shape[:-1], 3, 3))

    bias = rng.normal(0, errors.orientation_bias, (1, NUM_SIDES, 3))
    orientation = true.global_orient @ turns(errors.orientation * noise(3) + bias)
    pose = true.hand_pose @ turns(errors.fingers * noise(15, 3))
    away = 1 + errors.depth_bias * rng.normal(size=(1, NUM_SIDES, 1))
    away = away * (1 + errors.depth * rng.normal(size=(T, NUM_SIDES, 1)))
    away = away * (1 + errors.depth * _lasting(rng, (T, NUM_SIDES, 1), times, 0.3))
    aside = errors.lateral * _lasting(rng, (T, NUM_SIDES, 3), times, 0.3)
    aside[..., 2] = 0
    wrist = joints[:, :, 0] * away.clip(0.5, 2) + aside
    rest = torch.from_numpy(joints[:, :, 0]) - true.transl
    shape = rng.normal(size=(1, NUM_SIDES, NUM_BETAS))
    shape = shape + rng.normal(size=(T, NUM_SIDES, NUM_BETAS))
    betas = true.betas + torch.from_numpy(errors.betas * shape)
    homogeneous = joints @ intrinsics.T
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    pixels = pixels + errors.pixels * rng.normal(size=pixels.shape)
    wrong = rng.random((T, NUM_SIDES, NUM_JOINTS)) < errors.outliers
    pixels[wrong] += rng.uniform(-1, 1, (int(wrong.sum()), 2)) * errors.outlier_pixels
    sure = rng.uniform(0.6, 1.0, wrong.shape) * np.where(wrong, rng.uniform(0.2, 1, wrong.shape), 1)
    observed = _gaps(rng, T, fps, errors.gaps)
    confidence = np.where(
        observed, rng.uniform(0.7, 1, observed.shape), rng.uniform(0, 0.3, observed.shape)
    )
    lost = rng.random(observed.shape) < errors.wrong_confidence
    confidence = np.where(lost, rng.uniform(0, 1, observed.shape), confidence)
    if errors == NO_ERRORS:
        sure, confidence = np.ones_like(sure), observed.astype(float)
    # where a hand is hidden, the network answers something, and the 2D joints are anywhere
    hidden = torch.from_numpy(~observed)
    garbage = turns(0.6 * rng.normal(size=(T, NUM_SIDES, 3)))
    orientation = torch.where(hidden[..., None, None], orientation @ garbage, orientation)
    anywhere = 60 * rng.normal(size=pixels.shape)
    pixels = np.where(observed[..., None, None], pixels, pixels + anywhere)
    batch = {
        "observed": torch.from_numpy(observed & (confidence > 0)),
        "confidence": torch.from_numpy(confidence),
        "joints_2d": torch.from_numpy(pixels),
        "joints_2d_confidence": torch.from_numpy(sure),
    }
    hands = HandState(orientation, pose, betas, torch.from_numpy(wrist) - rest)
    return ObservedClip(
        hands=hands.map(lambda values: values[None]),
        **{name: value[None] for name, value in batch.items()},
        intrinsics=torch.from_numpy(intrinsics)[None],
        fps=torch.tensor([fps], dtype=torch.float64),
    )


def _gaps(
    rng: np.random.Generator, frames: int, fps: float, length: tuple[int, int]
) -> NDArray[np.bool_]:
    """(T, S): one gap a hand for every 128 frames or so; at least half of the clip is seen."""
    observed = np.ones((frames, NUM_SIDES), bool)
    if length[1] == 0:
        return observed
    for side in range(NUM_SIDES):
        for start in range(0, frames, 128):
            size = int(rng.integers(length[0], length[1] + 1) * fps / 30)
            room = min(128, frames - start)
            size = min(size, room // 2)
            first = start + int(rng.integers(0, room - size + 1))
            observed[first : first + size, side] = False
    return observed
