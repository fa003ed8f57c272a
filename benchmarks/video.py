"""Videos whose truth is known through the whole of `fourdhands reconstruct --camera solve`.

    python benchmarks/video.py --checkpoint runs/quickstart/best.ckpt

Seeded clips: two hands in a papered room, filmed by a camera that somebody carries,
written as H.264. The camera's path is compared after the similarity that fits it best; hands in the
world as in `benchmarks/refinement.py`. Needs the extras `video` and `solve`.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fourdhands.cli.reconstruct import reconstruct
from fourdhands.data.synthetic.appearance import AppearanceConfig, Wardrobe
from fourdhands.data.synthetic.camera import CameraConfig
from fourdhands.data.synthetic.config import KindShares, SceneConfig
from fourdhands.data.synthetic.scene import Scene
from fourdhands.data.synthetic.stage import Stage
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.trajectories import aligned_in_world
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.visibility import visible_joints
from fourdhands.skeleton import Side
from fourdhands.video.overlay import video_file
from fourdhands.video.results import VideoHands

FPS = 30.0
SCENES = SceneConfig(
    image_size=(1280, 720),
    kinds=KindShares(single=0, apart=0.7, close=0, crossing=0.3),
    hand_size=(0.25, 0.5),
    distance=(0.35, 0.8),
    truncated_share=0,
    camera=CameraConfig(moving_share=1, wide_share=0, principal_offset=0),
)
LEAST_SPEED = 0.15
"""Metres a second: hands move as much, and do not tell how far a slower camera goes."""
LEAST_SHOWN = 0.8
"""Of the frames, that show most of a hand: not hidden by the person's own arms."""
SHOWN = "shown.npy"
LOOKS = 15
"""Frames from one to the next at which that is looked at, in pictures of a quarter of the size."""
PAPER = 1536
"""Pixels of a wall's picture."""
ROWS = {
    "frame by frame, as solved": "each frame's hands, the solver's unit as if it were the metre",
    "frame by frame, true scale": "the same, the path at its true size",
    "refined": "hands and size of the path as the program says them",
}
CAMERA_COLUMNS = {
    "path": "m", "path error": "mm", "rotation": "degrees", "worst rotation": "degrees",
    "focal length": "%", "scale": "%", "hands found": "%", "CPU": "s", "memory": "GB",
}  # fmt: skip
HAND_COLUMNS = {"G-MPJPE": "mm", "GA-MPJPE": "mm", "acceleration": "m/s^2"}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """A clip and its truth.

    Attributes:
        number: in the seed's stream.
        scene: hands and camera.
        seed: of its looks.
    """

    number: int
    scene: Scene
    seed: tuple[int, ...]

    @property
    def cam_from_world(self) -> Array:
        """(T, 4, 4) metres."""
        return self.scene.camera.cam_from_world

    @property
    def intrinsics(self) -> Array:
        """(3, 3)."""
        return self.scene.camera.intrinsics

    @property
    def joints(self) -> Tensor:
        """(T, S, 21, 3) camera frame."""
        return self.scene.geometry.joints


def clips(count: int, frames: int, seed: int, model: HandModel) -> list[Clip]:
    """The first clips of a seed's stream whose camera goes far enough, and sees both hands."""
    stage = Stage(SCENES, model, num_frames=frames, fps=FPS)
    found: list[Clip] = []
    number = 0
    while len(found) < count:
        scene = stage.scene(np.random.default_rng((seed, number)))
        clip = Clip(number, scene, (seed, number, 1))
        number += 1
        if _length(scene.camera.position) < LEAST_SPEED * frames / FPS:
            continue
        film = Film(clip, model, divisor=4)
        shown = np.stack([film.frame(t)[1] for t in range(0, frames, LOOKS)])
        if (shown.mean(0) >= LEAST_SHOWN).all():
            found.append(clip)
    return found


def _length(places: Array) -> float:
    """Metres, without the hand's trembling."""
    return float(np.linalg.norm(np.diff(places[:: int(FPS / 5)], axis=0), axis=1).sum())


class Film:
    """A clip as somebody would film it.

    Args:
        clip: what happens.
        model: of the hands.
        divisor: of the picture's sides.
    """

    def __init__(self, clip: Clip, model: HandModel, divisor: int = 1) -> None:
        self._clip, self._rng = clip, np.random.default_rng(clip.seed)
        self._wardrobe = Wardrobe(model, AppearanceConfig(people=1, occluder_share=0), 1, self._rng)
        self._look = self._wardrobe.choose(self._rng, clip.scene)
        self._light, self._room = Lighting.sample(self._rng), Room.of(self._rng, clip.scene)
        self._size = (SCENES.image_size[0] // divisor, SCENES.image_size[1] // divisor)
        self._renderer = Rasterizer(self._size[1], self._size[0])
        scale = np.array([[1, 0, (1 - divisor) / 2], [0, 1, (1 - divisor) / 2], [0, 0, divisor]])
        self._intrinsics = scale / divisor @ clip.intrinsics

    def frame(self, t: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The picture, and whether it shows most of each hand (S,)."""
        scene, poses = self._clip.scene, self._clip.cam_from_world
        surfaces, owners = self._wardrobe.dress(self._look, scene, t)
        turn = scene.camera.rotation[t] @ scene.camera.rotation[0].T
        directions = (self._light.directions @ turn.T).astype(np.float32)
        behind = self._room.seen(self._intrinsics, poses[t], *self._size)
        picture = self._renderer.render(
            surfaces, self._intrinsics, replace(self._light, directions=directions), behind
        )
        shown = []
        for side in Side:
            own = [k + 1 for k, owner in enumerate(owners) if owner.side is side and owner.bare]
            joints = self._clip.joints[t, side].numpy()
            shown.append(visible_joints(joints, picture, self._intrinsics, own).mean() > 0.5)
        grain = self._rng.normal(0, 2, picture.rgb.shape)
        return (picture.rgb + grain).round().clip(0, 255).astype(np.uint8), np.array(shown)


def write_clip(clip: Clip, model: HandModel, path: Path) -> None:
    """The video, and beside it which hands its frames show, (T, S)."""
    film, shown = Film(clip, model), []
    with video_file(path, FPS, SCENES.image_size) as sink:
        for t in tqdm(range(len(clip.scene.times)), desc="filming", unit="frame"):
            picture, visible = film.frame(t)
            sink(picture)
            shown.append(visible)
    with replacing(path.with_name(SHOWN)) as partial, partial.open("wb") as file:
        np.save(file, np.stack(shown))


@dataclass(frozen=True)
class Room:
    """A box around camera and hands with a picture on each side.

    Attributes:
        corners: (2, 3) lower and upper, metres in the world.
        papers: (6 * PAPER, PAPER, 3) pictures one below the other: -x, -y, -z, +x, +y, +z.
    """

    corners: Array
    papers: NDArray[np.uint8]

    @classmethod
    def of(cls, rng: np.random.Generator, scene: Scene) -> "Room":
        """Draw one that holds the camera's whole way."""
        path = scene.camera.position
        aside = rng.uniform((1.2, 1.0, 1.2), (2.2, 1.4, 2.2), (2, 3))
        corners = np.stack((path.min(0) - aside[0], path.max(0) + aside[1]))
        return cls(corners, np.concatenate([_paper(rng) for _ in range(6)]))

    def seen(self, K: Array, cam_from_world: Array, width: int, height: int) -> NDArray[np.uint8]:
        """What a camera sees of the walls, (H, W, 3)."""
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(K).T @ cam_from_world[:3, :3]
        eye = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
        far = np.where(rays > 0, self.corners[1] - eye, self.corners[0] - eye)
        away = far / np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        axis = away.argmin(-1)
        hit = eye + rays * away.min(-1, keepdims=True)
        part = (hit - self.corners[0]) / (self.corners[1] - self.corners[0]) * (PAPER - 1)
        across = np.where(axis == 0, part[..., 2], part[..., 0])
        down = np.where(axis == 1, part[..., 2], part[..., 1])
        beyond = np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0
        row = down.clip(0, PAPER - 1) + PAPER * (axis + 3 * beyond)
        grid = across.astype(np.float32), row.astype(np.float32)
        return np.asarray(cv2.remap(self.papers, *grid, cv2.INTER_LINEAR), np.uint8)


def _paper(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A wall's picture: clouds of all sizes, and rectangles."""
    cloud = np.zeros((PAPER, PAPER, 3), np.float32)
    for octave in range(3, 10):
        noise = rng.normal(0, 0.75**octave, (2**octave, 2**octave, 3)).astype(np.float32)
        cloud += cv2.resize(noise, (PAPER, PAPER), interpolation=cv2.INTER_CUBIC)
    cloud = 40 + 170 * (cloud - cloud.min()) / np.ptp(cloud)
    for _ in range(150):
        low, extent = rng.integers(0, PAPER, 2), rng.integers(8, PAPER // 14, 2)
        colour = rng.uniform(20, 235, 3).tolist()
        filled = cv2.FILLED if rng.random() < 0.6 else 3
        cv2.rectangle(cloud, low.tolist(), (low + extent).tolist(), colour, filled)
    return cloud.clip(0, 255).astype(np.uint8)


def camera_figures(hands: VideoHands, clip: Clip, shown: NDArray[np.bool_]) -> dict[str, float]:
    """How well the camera is known."""
    true = clip.cam_from_world
    own = hands.cam_from_world.astype(np.float64)
    places, known = (torch.from_numpy(_places(poses)) for poses in (own, true))
    turn, shift, scale = fit(places, known)
    moved = scale * places @ turn.mT + shift
    # camera from the true world: the found rotation, its world turned onto the true one
    turned = own[:, :3, :3] @ turn.numpy().T
    off = np.degrees(roma.rotmat_geodesic_distance(
        torch.from_numpy(turned), torch.from_numpy(true[:, :3, :3])).numpy())  # fmt: skip
    focal = float(clip.intrinsics[0, 0])
    return {
        "path": _length(known.numpy()),
        "path error": 1e3 * float((moved - known).square().sum(-1).mean().sqrt()),
        "rotation": float(np.median(off)),
        "worst rotation": float(off.max()),
        "focal length": 100 * abs(float(hands.intrinsics[0, 0]) / focal - 1),
        "scale": 100 * abs(float(np.log(scale))),
        "hands found": 100 * float((hands.observed[0] & shown).sum() / shown.sum()),
    }


def fit(places: Tensor, known: Tensor) -> tuple[Tensor, Tensor, float]:
    """Rotation, shift and scale from one path (T, 3) to another, by least squares."""
    turn, shift, scale = roma.rigid_points_registration(places, known, compute_scaling=True)
    return turn, shift, float(scale)


def _places(poses: Array) -> Array:
    return -np.einsum("tji,tj->ti", poses[:, :3, :3], poses[:, :3, 3])


def hand_figures(
    hands: VideoHands, clip: Clip, shown: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """How well the hands are known in the world, in each of the `ROWS`."""
    true = _samples(clip.joints, clip.cam_from_world)
    valid = torch.from_numpy(hands.observed[0] & shown)
    by_frame = torch.from_numpy(hands.frame_joints[0])
    solved, metric = solver_poses(hands, clip)
    found = {
        "frame by frame, as solved": _samples(by_frame, solved),
        "frame by frame, true scale": _samples(by_frame, metric),
        "refined": _samples(torch.from_numpy(hands.joints[0]), hands.cam_from_world),
    }
    mask = valid[..., None].expand(-1, -1, 21)
    follow = valid[2:] & valid[1:-1] & valid[:-2]
    figures: dict[str, dict[str, float]] = {}
    for name, own in found.items():
        pair = Pair(replace(own, joints_valid=mask), replace(true, joints_valid=mask))
        shaking = [(one.joints - one.joints[:, :, :1]).diff(n=2, dim=0) for one in (own, true)]
        figures[name] = {
            "G-MPJPE": _mean(aligned_in_world(pair, "joints", length=10**9)),
            "GA-MPJPE": _mean(aligned_in_world(pair, "joints", frames=None, length=10**9)),
            "acceleration": float((shaking[0] - shaking[1]).norm(dim=-1)[follow].mean()) * FPS**2,
        }
    return figures


def solver_poses(hands: VideoHands, clip: Clip) -> tuple[Array, Array]:
    """The camera's path in units of the solver's own, and at its true size."""
    poses = hands.cam_from_world.astype(np.float64)
    true = clip.cam_from_world
    places, known = (torch.from_numpy(_places(one)) for one in (poses, true))
    scale = fit(places, known)[2]
    solved, metric = poses.copy(), poses.copy()
    solved[:, :3, 3] /= float(hands.world_scale[0])
    metric[:, :3, 3] *= scale
    return solved, metric


def _samples(joints: Tensor, poses: Any) -> HandSamples:
    frames = len(joints)
    valid = torch.ones(joints.shape[:-1], dtype=torch.bool)
    return HandSamples(
        joints=joints.double(),
        joints_valid=valid,
        vertices=joints[:, :, :0].double(),
        vertices_valid=valid[..., 0] & False,
        joints_2d=joints[..., :2].double(),
        joints_2d_valid=valid,
        handedness=torch.ones(frames, 2),
        sequence=torch.zeros(frames, dtype=torch.int64),
        frame=torch.arange(frames),
        fps=torch.full((frames,), FPS),
        cam_from_world=torch.as_tensor(np.asarray(poses, np.float64)),
        area=torch.zeros(frames),
        names=tuple(map(str, range(frames))),
    )


def _mean(compared: Any) -> float:
    off = (compared.predicted - compared.true).norm(dim=-1)
    return float(off[compared.valid].mean()) * 1e3


def tables(found: list[dict[str, Any]]) -> str:
    """Cameras clip by clip; hands as means over clips."""
    heads = [f"{name} ({unit})" for name, unit in CAMERA_COLUMNS.items()]
    lines = ["| clip | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    for one in found:
        cells = [f"{one['camera'][name]:.3g}" for name in CAMERA_COLUMNS]
        lines.append(f"| {one['clip']} | " + " | ".join(cells) + " |")
    median = [np.median([one["camera"][name] for one in found]) for name in CAMERA_COLUMNS]
    lines.append("| median | " + " | ".join(f"{value:.3g}" for value in median) + " |")
    heads = [f"{name} ({unit})" for name, unit in HAND_COLUMNS.items()]
    lines += ["", "| hands | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    for row in ROWS:
        values = [np.mean([one["hands"][row][name] for one in found]) for name in HAND_COLUMNS]
        lines.append(f"| {row} | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    return "\n".join(lines)


def run(clip: Clip, model: HandModel, folder: Path, checkpoint: Path | None) -> dict[str, Any]:
    """One clip through the program; what an interrupted benchmark filmed is not filmed again."""
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / "clip.mp4"
    if not (folder / SHOWN).exists():
        write_clip(clip, model, video)
    shutil.rmtree(folder / "out", ignore_errors=True)  # its phases would go on, and cost less
    work = time.process_time()
    reconstruct(
        video, RefinementConfig(), out=folder / "out", checkpoint=checkpoint, camera="solve",
        device="cpu",
    )  # fmt: skip
    work = time.process_time() - work
    hands = VideoHands.load(folder / "out" / "hands.npz")
    shown = np.load(folder / SHOWN)
    camera = camera_figures(hands, clip, shown)
    camera["CPU"] = work
    camera["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "camera": camera,
        "hands": hand_figures(hands, clip, shown),
        "notes": [str(note) for note in hands.notes],
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="of train.py reconstruction")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/video_benchmark"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/video"))
    options = parser.parse_args()
    found = []
    model = HandModel.open()
    for clip in clips(options.clips, options.frames, options.seed, model):
        folder = options.work / f"{options.seed}-{clip.number}-{options.frames}"
        found.append({"clip": clip.number, **run(clip, model, folder, options.checkpoint)})
        print(json.dumps(found[-1]), flush=True)
    print(tables(found))
    report = {
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "frames": options.frames,
        "seed": options.seed,
        "network": options.checkpoint is not None,
        "clips": found,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with replacing(options.out / "video.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")
    with replacing(options.out / "tables.md") as partial:
        partial.write_text(tables(found) + "\n")


if __name__ == "__main__":
    main()
