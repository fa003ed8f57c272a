"""What happens in a clip before anything is drawn: fingers, hands, and the camera that sees them.

`Stage.scene` reads top to bottom: motion -> placement -> camera -> parameters in the camera frame.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.data.synthetic.camera import (
    CameraPath,
    held_path,
    pixel_rays,
    sample_intrinsics,
    still_path,
    worn_path,
)
from fourdhands.data.synthetic.config import SceneConfig
from fourdhands.data.synthetic.motion import Timeline, random_walk_rotations, tremor
from fourdhands.data.synthetic.piercing import PiercingTest
from fourdhands.data.synthetic.placement import Placement, Placer, SceneKind
from fourdhands.data.synthetic.rotation import (
    matrix_from_vector,
    random_rotation,
    rotation_between,
    unit,
)
from fourdhands.data.synthetic.scene import Scene
from fourdhands.hands.anatomy import JointAxes, rotations_from_angles, sample_hand_angles
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import NUM_BETAS, NUM_SIDES, WRIST, Side
from fourdhands.structures import HandGeometry, HandState

Array = NDArray[np.float64]

HAND_LENGTH: Final = 0.19  # metres, wrist to middle fingertip
CLEARANCE: Final = 0.12  # metres between the camera and the nearest part of a hand
ARM_TO_SIGHT: Final = np.radians(40)  # least angle between a forearm and the line of sight
FINGER_INTERVAL: Final = (0.3, 0.8)  # seconds between key poses
HAND_INTERVAL: Final = (0.4, 1.0)
CAMERA_INTERVAL: Final = (0.5, 1.5)
FINGER_CHOICES: Final = 2
FINGER_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class _Fingers:
    """A posed hand of one side with its wrist at the origin of its own frame."""

    rotations: Array  # (F, 15, 3, 3)
    joints: Array  # (F, 21, 3)
    vertices: Array  # (F, 778, 3)
    rest_wrist: Array  # (3,) of the unposed mesh, in MANO's frame


class Stage:
    """Draws scenes with one hand model.

    Args:
        config: What the scenes show.
        model: The hands.
        num_frames: Frames a scene.
        fps: Frames a second.
    """

    def __init__(
        self, config: SceneConfig, model: HandModel, *, num_frames: int, fps: float
    ) -> None:
        self.config, self.fps = config, fps
        self._times = np.arange(num_frames) / fps
        self._model = model
        self._axes = [JointAxes.from_assets(assets) for assets in model.assets]
        self._pierces = [PiercingTest(assets) for assets in model.assets]
        self._placer = Placer(model)

    def scene(self, rng: np.random.Generator) -> Scene:
        """Draw the scene of one clip."""
        times = self._times
        kind = self.config.kinds.draw(rng)
        present = np.ones(NUM_SIDES, bool)
        if kind == "single":
            present[rng.integers(NUM_SIDES)] = False
        betas = np.clip(rng.normal(0, 0.9, NUM_BETAS), -2.2, 2.2).astype(np.float32)

        fingers = self._fingers(rng, times, betas)
        vertices = np.stack([hand.vertices for hand in fingers], axis=1)
        timeline = Timeline.sample(rng, times, HAND_INTERVAL)
        arms = _draw_arms(rng)
        placement = self._placer.place(rng, kind, vertices, arms, timeline, self.fps)
        points = vertices @ placement.rotation.swapaxes(-1, -2)
        points = (points + placement.wrist[:, :, None])[:, present]
        centre = points.mean(axis=(0, 1, 2))
        turns = _turns(rng, kind, placement, timeline)
        seen = (points.reshape(len(times), -1, 3) - centre) @ turns.swapaxes(-1, -2)
        camera, turns, middle = self._film(rng, times, turns, seen)

        wrist = np.einsum("fij,fsj->fsi", turns, placement.wrist - centre) + middle[:, None]
        orientation = np.einsum("fij,fsjk->fsik", turns, placement.rotation)
        hands = HandState(
            global_orient=_tensor(orientation),
            hand_pose=_tensor(np.stack([hand.rotations for hand in fingers], axis=1)),
            betas=torch.from_numpy(betas).expand(len(times), NUM_SIDES, NUM_BETAS),
            transl=_tensor(wrist - np.stack([hand.rest_wrist for hand in fingers])),
        )
        joints = np.stack([hand.joints for hand in fingers], axis=1)
        turned = orientation.swapaxes(-1, -2)  # applied from the right
        geometry = HandGeometry(
            joints=_tensor(joints @ turned + wrist[:, :, None]),
            vertices=_tensor(vertices @ turned + wrist[:, :, None]),
        )
        elbows = np.einsum("fsij,sj->fsi", orientation, _out_of_sight(arms, orientation, wrist))
        return Scene(kind, present, hands, geometry, elbows, camera, times)

    def _fingers(
        self, rng: np.random.Generator, times: Array, betas: NDArray[np.float32]
    ) -> list[_Fingers]:
        """Move the fingers of both hands between clean key poses, free of piercing on the way.

        A few movements are posed at once, which costs little more than one, and each hand takes
        the first clean one. Where none is, more are drawn, in the end of hands that hold still.
        """
        chosen: dict[Side, _Fingers] = {}
        for attempt in range(FINGER_ATTEMPTS):
            hold = attempt >= FINGER_ATTEMPTS // 2
            angles = np.stack(
                [_draw_fingers(rng, times, hold) for _ in range(FINGER_CHOICES * NUM_SIDES)]
            )
            drawn = self._pose(angles.reshape(FINGER_CHOICES, NUM_SIDES, -1, 15, 3), betas)
            for side in Side:
                for choice in (drawn[k][side] for k in range(FINGER_CHOICES)):
                    if side not in chosen and not any(map(self._pierces[side], choice.vertices)):
                        chosen[side] = choice
            if len(chosen) == NUM_SIDES:
                break
        return [chosen.get(side, drawn[0][side]) for side in Side]

    def _pose(self, angles: Array, betas: NDArray[np.float32]) -> list[list[_Fingers]]:
        """Pose angles (C, S, F, 15, 3): C choices of both hands."""
        rotations = np.stack(
            [rotations_from_angles(angles[:, side], self._axes[side]) for side in Side], axis=2
        )
        leading = rotations.shape[:3]  # C, F, S
        state = HandState(
            global_orient=torch.eye(3).expand(*leading, 3, 3),
            hand_pose=_tensor(rotations),
            betas=torch.from_numpy(betas).expand(*leading, NUM_BETAS),
            transl=torch.zeros(*leading, 3),
        )
        with torch.inference_mode():
            geometry = self._model(state)
        wrist = geometry.joints[..., WRIST, :].numpy().astype(np.float64)
        joints = geometry.joints.numpy() - wrist[..., None, :]
        vertices = geometry.vertices.numpy() - wrist[..., None, :]
        return [
            [
                _Fingers(
                    rotations[k, :, side],
                    joints[k, :, side],
                    vertices[k, :, side],
                    wrist[k, 0, side],
                )
                for side in Side
            ]
            for k in range(leading[0])
        ]

    def _film(
        self, rng: np.random.Generator, times: Array, turns: Array, points: Array
    ) -> tuple[CameraPath, Array, Array]:
        """Choose the camera and where the hands appear in it.

        Args:
            rng: Source of randomness.
            times: (F,) seconds.
            turns: (F, 3, 3) orientation of the group of hands, first camera's frame.
            points: (F, N, 3) the hands about their middle, turned.

        Returns:
            The camera; (F, 3, 3) cam from group and (F, 3) the group's middle in each frame.
        """
        config = self.config
        intrinsics, wide = sample_intrinsics(rng, config.camera, config.image_size)
        timeline = Timeline.sample(rng, times, CAMERA_INTERVAL)
        depths = self._depths(rng, timeline, intrinsics, points)
        pixels = self._pixels(rng, timeline, intrinsics, points, depths, wide)
        middle = pixel_rays(pixels, intrinsics) * depths[:, None]
        middle += tremor(rng, times, 3, 0.0006, 5.0)
        if rng.random() >= config.camera.moving_share:
            return still_path(rng, intrinsics, len(times)), turns, middle
        if rng.random() < 0.5:
            return worn_path(rng, intrinsics, times, timeline), turns, middle
        steps = rng.normal(0, 0.02, (timeline.num_keys, 3))
        drift = timeline.interpolate(np.cumsum(steps, axis=0))
        target = middle[0] + drift - drift[0]
        camera = held_path(rng, intrinsics, times, timeline, target, pixels)
        cam_from_first = camera.cam_from_world @ np.linalg.inv(camera.cam_from_world[0])
        rotation = cam_from_first[:, :3, :3]
        middle = np.einsum("fij,fj->fi", rotation, target) + cam_from_first[:, :3, 3]
        return camera, rotation @ turns, middle

    def _depths(
        self, rng: np.random.Generator, timeline: Timeline, intrinsics: Array, points: Array
    ) -> Array:
        """(F,) depths of the group's middle: wanted size, inside the picture, not too near."""
        config = self.config
        size = rng.uniform(*config.hand_size) * config.image_size[1]
        depth = np.clip(intrinsics[0, 0] * HAND_LENGTH / size, *config.distance)
        spread = np.ptp(points.reshape(-1, 3), axis=0)[:2] * intrinsics[[0, 1], [0, 1]]
        fitting = (spread / (0.95 * np.array(config.image_size))).max()
        depth = max(depth, min(fitting, config.distance[1]))
        keys = depth * np.exp(rng.normal(0, 0.07, timeline.num_keys))
        return np.maximum(timeline.interpolate(keys), CLEARANCE - points[..., 2].min())

    def _pixels(
        self,
        rng: np.random.Generator,
        timeline: Timeline,
        intrinsics: Array,
        points: Array,
        depths: Array,
        wide: bool,
    ) -> Array:
        """(F, 2) pixels of the group's middle, inside the picture or cut by its border."""
        config = self.config
        size = np.array(config.image_size)
        reach = points[..., :2] / (points[..., 2:] + depths[:, None, None])
        reach = reach * intrinsics[[0, 1], [0, 1]]
        before, after = -reach.min(axis=(0, 1)), reach.max(axis=(0, 1))
        low, high = before, size - after
        low, high = (
            np.where(low > high, (low + high) / 2, low),
            np.where(low > high, (low + high) / 2, high),
        )
        if rng.random() < config.truncated_share:
            axis, far = rng.integers(2, size=2)
            share = rng.uniform(0.2, 0.8)  # of the hands is to be cut
            edge = (
                size[axis] - after[axis] * (1 - 2 * share)
                if far
                else before[axis] * (1 - 2 * share)
            )
            low[axis] = high[axis] = edge
        spread = rng.beta(0.5, 0.5, 2) if wide else rng.beta(1.2, 1.2, 2)
        steps = rng.normal(0, 0.05, (timeline.num_keys, 2)).cumsum(axis=0) * size
        keys = np.clip(low + spread * (high - low) + steps, low, high)
        return timeline.interpolate(keys)


def _draw_fingers(rng: np.random.Generator, times: Array, hold: bool) -> Array:
    """Joint angles (F, 15, 3) of a hand that moves from pose to pose, or holds one."""
    timeline = Timeline.sample(rng, times, FINGER_INTERVAL)
    keys = sample_hand_angles(rng, 1 if hold else timeline.num_keys)
    angles = np.repeat(keys, len(times), axis=0) if hold else timeline.interpolate(keys)
    return angles + tremor(rng, times, 45, 0.006, 2.0).reshape(-1, 15, 3)


def _draw_arms(rng: np.random.Generator) -> Array:
    """(S, 3) directions from wrist to elbow in the hands' own frames; the wrists are bent."""
    arms = np.empty((NUM_SIDES, 3))
    for side in Side:
        flexion, deviation = np.radians(np.clip(rng.normal(0, (25, 10)), (-60, -20), (60, 20)))
        bend = matrix_from_vector((0, 0, flexion)) @ matrix_from_vector((0, deviation, 0))
        arms[side] = bend[:, 0]
    arms[Side.LEFT, 0] *= -1  # a left hand's frame is the mirror image of a right one's
    return arms


def _out_of_sight(arms: Array, orientation: Array, wrists: Array) -> Array:
    """Bend the wrists (S, 3) so that forearms leave the line of sight in the middle of the clip.

    Nobody films along his own arm.
    """
    middle = len(wrists) // 2
    sight = -np.einsum("sji,sj->si", orientation[middle], wrists[middle])  # in the hands' frames
    sight = unit(sight)
    cosine = (arms * sight).sum(axis=-1, keepdims=True)
    across = unit(arms - cosine * sight)
    turned = np.cos(ARM_TO_SIGHT) * sight + np.sin(ARM_TO_SIGHT) * across
    return np.where(cosine > np.cos(ARM_TO_SIGHT), turned, arms)


def _turns(
    rng: np.random.Generator, kind: SceneKind, placement: Placement, timeline: Timeline
) -> Array:
    """Orientation of the group in the first camera's frame, (F, 3, 3): uniform on SO(3).

    The approach of crossing hands points along the line of sight, that of hands apart across it;
    being uniform itself it leaves the orientation uniform.
    """
    start = random_rotation(rng)
    if kind in ("crossing", "apart"):
        wanted = rng.normal(size=3) * (
            (0.35, 0.35, 1.0) if kind == "crossing" else (1.0, 1.0, 0.35)
        )
        wanted = unit(wanted)
        spin = matrix_from_vector(wanted * rng.uniform(0, 2 * np.pi))
        start = spin @ rotation_between(placement.approach, wanted)
    walk = random_walk_rotations(rng, start, timeline.num_keys, 0.35)
    return timeline.interpolate_rotations(walk)


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))
