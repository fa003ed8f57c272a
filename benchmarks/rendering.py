"""Images per second of the rasteriser, beside other settings and a plain numpy z-buffer.

    python benchmarks/rendering.py [--seconds 5] [--processes 2]

Every row draws the same two-hand crops of 256 x 256 pixels (random poses, views, skin and light) in
the same run; preparing the surfaces of an image (subdivision, forearms) is part of its time. The
second column counts processor time, so that it holds on a busy machine too.
"""

import argparse
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.hands.anatomy import JointAxes, sample_hand_poses
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.skin import Complexion, SkinModel
from fourdhands.rendering.sleeve import Sleeve
from fourdhands.rendering.surface import Surface
from fourdhands.skeleton import Side
from fourdhands.structures import HandState

SIZE = 256
SCENES = 48


def posed_hands(model: HandModel, rng: np.random.Generator) -> NDArray[np.float32]:
    """Vertices (SCENES, S, 778, 3) of two hands side by side, about half a metre away."""
    axes = JointAxes.from_assets(model.assets[Side.RIGHT])
    right = sample_hand_poses(rng, SCENES, axes)
    left = sample_hand_poses(rng, SCENES, axes) * (1.0, -1.0, -1.0)
    poses = Rotation.from_rotvec(np.stack([right, left], axis=1).reshape(-1, 3)).as_matrix()
    orient = Rotation.random(2 * SCENES, random_state=0).as_matrix()
    state = HandState(
        global_orient=torch.tensor(orient, dtype=torch.float32).unflatten(0, (SCENES, 2)),
        hand_pose=torch.tensor(poses, dtype=torch.float32).unflatten(0, (SCENES, 2, 15)),
        betas=torch.zeros(SCENES, 2, 10),
        transl=torch.zeros(SCENES, 2, 3),
    )
    with torch.no_grad():
        vertices = model(state).vertices.numpy()
    vertices -= vertices.mean(axis=2, keepdims=True)
    return vertices + np.array([[0.06, 0.0, 0.55], [-0.06, 0.0, 0.55]], np.float32)[:, None]


def crop_intrinsics(vertices: NDArray[np.float32]) -> NDArray[np.float64]:
    """A camera whose image the two hands fill to 85 percent."""
    uv = (vertices[..., :2] / vertices[..., 2:]).reshape(-1, 2)
    low, high = uv.min(axis=0), uv.max(axis=0)
    focal = 0.85 * SIZE / (high - low).max()
    cx, cy = (SIZE - 1) / 2 - focal * (low + high) / 2
    return np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])


def numpy_depth(surfaces: list[Surface], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """The z-buffer alone, one face at a time in numpy: what one writes first."""
    depth = np.full((SIZE, SIZE), np.inf)
    for surface in surfaces:
        points = surface.vertices.astype(np.float64)
        uv = points[:, :2] / points[:, 2:] @ intrinsics[:2, :2].T + intrinsics[:2, 2]
        corners = uv[surface.faces]
        edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        areas = edge_1[:, 0] * edge_2[:, 1] - edge_1[:, 1] * edge_2[:, 0]
        for face in np.flatnonzero(areas < 0.0):
            a, b, c = corners[face]
            low = np.clip(np.ceil(corners[face].min(axis=0)), 0, SIZE).astype(int)
            high = np.clip(np.floor(corners[face].max(axis=0)) + 1, 0, SIZE).astype(int)
            y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
            wa = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / areas[face]
            wb = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / areas[face]
            za, zb, zc = 1.0 / points[surface.faces[face], 2]
            z = 1.0 / (wa * za + wb * zb + (1.0 - wa - wb) * zc)
            hit = (wa >= 0.0) & (wb >= 0.0) & (wa + wb <= 1.0)
            window = depth[low[1] : high[1], low[0] : high[0]]
            window[hit] = np.minimum(window[hit], z[hit])
    return depth


def measure(setting: str, seconds: float, seed: int) -> tuple[float, float]:
    """Images per second of one setting in this process, and per second of processor time."""
    rng = np.random.default_rng(seed)
    model = HandModel.open()
    levels = 2 if "two subdivisions" in setting else 1
    skins = [SkinModel(assets, levels) for assets in model.assets]
    person = Complexion.sample(rng)
    painted = [skin.sample(rng, person) for skin in skins]
    sleeve = Sleeve.sample(rng)
    scenes = posed_hands(model, rng)
    cameras = [crop_intrinsics(scene) for scene in scenes]
    rasterizer = Rasterizer(SIZE, SIZE, 1 if "one sample" in setting else 2)
    background = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)

    def surfaces(index: int) -> list[Surface]:
        drawn = []
        for side in Side:
            hand, forearm = skins[side].surfaces(scenes[index][side], painted[side])
            drawn += [hand] if "no forearms" in setting else [hand, forearm]
            if "sleeves" in setting:
                drawn.append(sleeve.surface(scenes[index][side], skins[side].arm.ring))
        return drawn

    def draw(index: int) -> object:
        if "numpy" in setting:
            return numpy_depth(surfaces(index), cameras[index])
        lighting = Lighting.sample(rng)
        return rasterizer.render(surfaces(index), cameras[index], lighting, background)

    return _rate(draw, seconds)


def _rate(draw: Callable[[int], object], seconds: float) -> tuple[float, float]:
    draw(0)  # compiles
    start, start_busy = time.perf_counter(), time.process_time()
    for count, index in enumerate(cycle(range(SCENES)), 1):
        draw(index)
        elapsed, busy = time.perf_counter() - start, time.process_time() - start_busy
        if elapsed > seconds:
            return count / elapsed, count / busy
    raise AssertionError("cycle ended")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="per row")
    parser.add_argument("--processes", type=int, default=2, help="rendering side by side")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {arguments.processes} processes")
    print(f"{'two hands, 256 x 256':<34} {'images/s':>10} {'per core, busy':>15}")
    settings = (
        "no forearms",
        "no forearms, one sample a pixel",
        "forearms",
        "forearms, sleeves",
        "forearms, two subdivisions",
        "no forearms, numpy, depth only",
    )
    with ProcessPoolExecutor(arguments.processes) as pool:
        for setting in settings:
            task = partial(measure, setting, arguments.seconds)
            rates = np.array(list(pool.map(task, range(arguments.processes))))
            wall, busy = rates[:, 0].sum(), rates[:, 1].mean()
            print(f"{setting:<34} {wall:10.1f} {busy:15.1f}", flush=True)


if __name__ == "__main__":
    main()
