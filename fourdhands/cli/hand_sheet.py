"""The sheet of `fourdhands hands show`: both hands in gestures, poses of the bank, and shapes."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.hands.anatomy import (
    JointAxes,
    named_poses,
    rotations_from_angles,
    sample_hand_angles,
)
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.shapes import SHAPE_FACTORS
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.overlay import grid
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.skin import Complexion, Skin, SkinModel
from fourdhands.skeleton import NUM_BETAS, Side
from fourdhands.structures import HandState

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]

CELL: Final = 200  # pixels
DISTANCE: Final = 0.6  # metres from camera to hand
FOCAL: Final = 560.0  # pixels; a hand of 19 cm fills the cell
COLUMNS: Final = 4  # groups of three views
SHAPE_STEPS: Final = (-2.0, 0.0, 2.0)  # standard deviations
RANDOM_POSES: Final = 15
PAPER: Final = 236

# Rotations from MANO's frame to the camera: fingers up, and towards the viewer the palm, the back,
# and the thumb's side.
PALM: Final = np.array(((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
BACK: Final = Rotation.from_euler("y", 180, degrees=True).as_matrix() @ PALM
THUMB_SIDE: Final = Rotation.from_euler("xy", (-15, 65), degrees=True).as_matrix() @ PALM


def draw_sheet(assets: tuple[ManoAssets, ManoAssets], seed: int) -> Bytes:
    """Draw the sheet: gestures and poses in three views, then each shape direction.

    Args:
        assets: The hands.
        seed: Of skins and random poses.

    Returns:
        RGB image.
    """
    studio = HandStudio(assets)
    rng = np.random.default_rng(seed)
    named = named_poses()
    bank = sample_hand_angles(rng, RANDOM_POSES)
    poses = named | {f"bank {k + 1}": angles for k, angles in enumerate(bank)}
    views = [studio.three_views(angles, studio.skins(rng)) for angles in poses.values()]
    skins = studio.skins(np.random.default_rng(seed))
    steps = [step * betas for betas in np.eye(NUM_BETAS) for step in SHAPE_STEPS]
    drawn = [studio.draw(Side.RIGHT, PALM, named["open"], skins, betas) for betas in steps]
    width = len(SHAPE_STEPS)
    shapes = [np.hstack(drawn[k : k + width]) for k in range(0, len(drawn), width)]
    ours = assets[Side.RIGHT].source == "open"
    captions = [
        f"betas {k}" + (f": {factor.name}" if ours else "") + ", -2 .. +2"
        for k, factor in enumerate(SHAPE_FACTORS)
    ]
    return np.vstack([grid(views, COLUMNS, list(poses)), grid(shapes, COLUMNS, captions)])


class HandStudio:
    """Draws single hands on paper."""

    def __init__(self, assets: tuple[ManoAssets, ManoAssets]) -> None:
        self.model = HandModel(assets)
        self.axes = [JointAxes.from_assets(side) for side in assets]
        self.painters = [SkinModel(side, levels=2) for side in assets]
        self.rasterizer = Rasterizer(CELL, CELL)
        centre = (CELL - 1) / 2
        self.intrinsics = np.array(((FOCAL, 0, centre), (0, FOCAL, centre), (0, 0, 1)))

    def skins(self, rng: np.random.Generator) -> list[Skin]:
        """Both hands of one person."""
        person = Complexion.sample(rng)
        return [painter.sample(rng, person) for painter in self.painters]

    def three_views(self, angles: Floats, skins: list[Skin]) -> Bytes:
        """Left hand's back, right hand's palm, right hand from the thumb's side."""
        views = ((Side.LEFT, BACK), (Side.RIGHT, PALM), (Side.RIGHT, THUMB_SIDE))
        return np.hstack([self.draw(side, view, angles, skins) for side, view in views])

    def draw(
        self,
        side: Side,
        view: Floats,
        angles: Floats,
        skins: list[Skin],
        betas: Floats | None = None,
    ) -> Bytes:
        """One hand in one cell.

        Args:
            side: Which hand.
            view: (3, 3) from MANO's frame to the camera, for a right hand; mirrored for a left.
            angles: (15, 3) joint angles.
            skins: Of the two hands.
            betas: (10,) shape; the mean if not given.
        """
        if side is Side.LEFT:
            mirror = np.diag((-1.0, 1.0, 1.0))
            view = mirror @ view @ mirror
        pose = np.stack([rotations_from_angles(angles, axes) for axes in self.axes])
        shape = torch.zeros(NUM_BETAS) if betas is None else torch.from_numpy(betas).float()
        state = HandState(
            global_orient=torch.eye(3).expand(2, 3, 3),
            hand_pose=torch.from_numpy(pose).float(),
            betas=shape.expand(2, -1),
            transl=torch.zeros(2, 3),
        )
        geometry = self.model(state)
        middle = geometry.joints[side, [0, 9]].mean(0).numpy()
        vertices = (geometry.vertices[side].numpy() - middle) @ view.T + (0, 0.035, DISTANCE)
        surfaces = self.painters[side].surfaces(vertices, skins[side])
        paper = np.full((CELL, CELL, 3), PAPER, np.uint8)
        return self.rasterizer.render(surfaces, self.intrinsics, Lighting.studio(), paper).rgb
