"""`fourdhands hands`: import MANO, build the open hand, measure it, draw it."""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.hands import assets as hand_assets
from fourdhands.hands.anatomy import (
    JointAxes,
    named_poses,
    rotations_from_angles,
    sample_hand_angles,
    save_pose_bank,
)
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.build import POSES_IN_BANK, build_open_hand
from fourdhands.hands.open_hand.pose_bank import SEED_NAMES
from fourdhands.hands.open_hand.report import measure
from fourdhands.hands.open_hand.shapes import SHAPE_FACTORS
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.overlay import grid
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.skin import Skin, SkinModel
from fourdhands.skeleton import NUM_BETAS, Side
from fourdhands.structures import HandState

Floats = NDArray[np.floating[Any]]

MIN_POSES: Final = 64
FIGURES_BEGIN: Final = "<!-- figures: fourdhands hands report -->"
FIGURES_END: Final = "<!-- end of figures -->"

CELL: Final = 200  # pixels
DISTANCE: Final = 0.6  # metres from camera to hand
FOCAL: Final = 560.0  # pixels; a hand of 19 cm fills the cell
COLUMNS: Final = 4  # groups of three views
SHAPE_STEPS: Final = (-2.0, 0.0, 2.0)  # standard deviations
RANDOM_POSES: Final = 12
PAPER: Final = 236

# Rotations from MANO's frame to the camera: fingers up, and towards the viewer the palm, the back,
# and the thumb's side.
PALM: Final = np.array(((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
BACK: Final = Rotation.from_euler("y", 180, degrees=True).as_matrix() @ PALM
THUMB_SIDE: Final = Rotation.from_euler("xy", (-15, 65), degrees=True).as_matrix() @ PALM


def import_official(folder: Path, *, out: Path = Path("mano")) -> None:
    """Convert the official MANO_RIGHT.pkl and MANO_LEFT.pkl to npz, executing nothing of them.

    Args:
        folder: Where the two pickles lie.
        out: Folder for MANO_RIGHT.npz and MANO_LEFT.npz.
    """
    hand_assets.import_official(folder, out)
    print(f"wrote {', '.join(str(out / name) for name in hand_assets.FILE_NAMES.values())}")


def build(*, out: Path = Path("open_hand"), poses: int = POSES_IN_BANK) -> None:
    """Make the open hand anew, the same every time; takes some minutes.

    Needs scikit-image and fast-simplification (extra `dev`).

    Args:
        out: Folder for MANO_RIGHT.npz, MANO_LEFT.npz and POSES.npz.
        poses: Size of the bank of clean poses, at least 64.
    """
    if poses < MIN_POSES:
        raise ValueError(f"--poses {poses}: the bank needs at least {MIN_POSES}")
    pair, bank = build_open_hand(poses)
    hand_assets.save_assets(pair, out)
    save_pose_bank(bank, SEED_NAMES, out)
    print(f"wrote {out}")


def report(*, into: Path | None = None) -> None:
    """Measure the shipped open hand.

    Args:
        into: Markdown file whose figures are replaced; they are printed if not given.
    """
    figures = measure(hand_assets.load_assets())
    if into is None:
        print(figures)
        return
    before, begin, rest = into.read_text().partition(FIGURES_BEGIN)
    _, end, after = rest.partition(FIGURES_END)
    if not (begin and end):
        raise ValueError(f"'{into}' has no lines '{FIGURES_BEGIN}' and '{FIGURES_END}'")
    partial = into.with_name(f".{into.name}.partial")
    partial.write_text(f"{before}{begin}\n\n{figures}\n{end}{after}")
    partial.replace(into)
    print(f"wrote {into}")


def show(*, out: Path = Path("hands.png"), mano: Path | None = None, seed: int = 0) -> None:
    """Draw a sheet of poses and shapes of both hands.

    Args:
        out: Picture to write, PNG.
        mano: Folder of converted MANO files; the open hand if not given.
        seed: Of skins and random poses.
    """
    studio = _Studio(hand_assets.load_assets(mano))
    rng = np.random.default_rng(seed)
    poses = named_poses() | {
        f"bank {k + 1}": angles for k, angles in enumerate(sample_hand_angles(rng, RANDOM_POSES))
    }
    cells = [studio.three_views(angles, np.zeros(NUM_BETAS), rng) for angles in poses.values()]
    sheets = [grid(cells, COLUMNS, list(poses))]
    names = (
        [factor.name for factor in SHAPE_FACTORS] if mano is None else map(str, range(NUM_BETAS))
    )
    open_pose = poses["open"]
    skins = studio.skins(np.random.default_rng(seed))
    cells = [
        np.hstack(
            [
                studio.draw(Side.RIGHT, PALM, open_pose, step * np.eye(NUM_BETAS)[k], skins)
                for step in SHAPE_STEPS
            ]
        )
        for k in range(NUM_BETAS)
    ]
    captions = [f"betas {k}: {name}, -2 .. +2" for k, name in enumerate(names)]
    sheets.append(grid(cells, COLUMNS, captions))
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), np.vstack(sheets)[..., ::-1]):
        raise ValueError(f"cannot write '{out}': give a name that ends in .png")
    print(f"wrote {out}")


class _Studio:
    """Draws single hands on paper."""

    def __init__(self, assets: tuple[hand_assets.ManoAssets, hand_assets.ManoAssets]) -> None:
        self.model = HandModel(assets)
        self.axes = [JointAxes.from_assets(side) for side in assets]
        self.painters = [SkinModel(side, levels=2) for side in assets]
        self.rasterizer = Rasterizer(CELL, CELL)
        centre = (CELL - 1) / 2
        self.intrinsics = np.array(((FOCAL, 0, centre), (0, FOCAL, centre), (0, 0, 1)))

    def skins(self, rng: np.random.Generator) -> list[Skin]:
        """One person's two hands."""
        seed = int(rng.integers(2**31))
        return [painter.sample(np.random.default_rng(seed)) for painter in self.painters]

    def three_views(
        self, angles: Floats, betas: Floats, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Left hand's back, right hand's palm, right hand from the thumb's side."""
        skins = self.skins(rng)
        return np.hstack(
            [
                self.draw(Side.LEFT, BACK, angles, betas, skins),
                self.draw(Side.RIGHT, PALM, angles, betas, skins),
                self.draw(Side.RIGHT, THUMB_SIDE, angles, betas, skins),
            ]
        )

    def draw(
        self, side: Side, view: Floats, angles: Floats, betas: Floats, skins: list[Skin]
    ) -> NDArray[np.uint8]:
        """One hand in one cell."""
        if side is Side.LEFT:
            mirror = np.diag((-1.0, 1.0, 1.0))
            view = mirror @ view @ mirror
        pose = np.stack([rotations_from_angles(angles, axes) for axes in self.axes])
        state = HandState(
            global_orient=torch.eye(3).expand(2, 3, 3),
            hand_pose=torch.from_numpy(pose).float(),
            betas=torch.from_numpy(betas).float().expand(2, -1),
            transl=torch.zeros(2, 3),
        )
        geometry = self.model(state)
        middle = geometry.joints[side, [0, 9]].mean(0).numpy()
        vertices = (geometry.vertices[side].numpy() - middle) @ view.T + (0, 0.035, DISTANCE)
        surfaces = self.painters[side].surfaces(vertices, skins[side])
        paper = np.full((CELL, CELL, 3), PAPER, np.uint8)
        return self.rasterizer.render(surfaces, self.intrinsics, Lighting.studio(), paper).rgb
