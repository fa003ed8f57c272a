"""Draw docs/images/export.png: boxes, crops, joints and graphs, for docs/export.md.

python docs/images/export.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from fourdhands.geometry.camera import default_intrinsics, project
from fourdhands.geometry.crop import bbox_around, expand_bbox
from fourdhands.geometry.rotation import matrix_from_axis_angle, mirror_rotation
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import draw_hands, draw_skeleton
from fourdhands.skeleton import Side
from fourdhands.structures import HandState
from fourdhands.video.predict import cut_crop

COLOURS = {Side.RIGHT: "#c8543a", Side.LEFT: "#3a70c8"}
SIZE = (640, 400)
CROP = (128, 96)
INK = "#282c34"


def hands() -> HandState:
    """Both hands upright, palms to the camera, the left one nearer."""
    turn = matrix_from_axis_angle(torch.tensor([0.0, 0.0, 1.45]))
    facing = matrix_from_axis_angle(torch.tensor([0.0, 1.15, 0.0])) @ turn
    curl = matrix_from_axis_angle(torch.tensor([0.0, 0.0, 0.22])).expand(15, 3, 3)
    return HandState(
        global_orient=torch.stack((facing, mirror_rotation(facing))),
        hand_pose=torch.stack((curl, mirror_rotation(curl))),
        betas=torch.zeros(2, 10),
        transl=torch.tensor([[-0.21, 0.06, 0.66], [0.2, 0.07, 0.56]]),
    )


def main() -> None:
    """Draw."""
    model, state = HandModel.open(), hands()
    geometry = model(state)
    K = default_intrinsics(torch.tensor(SIZE, dtype=torch.float32))
    shade = np.linspace(205, 235, SIZE[1])[:, None, None]
    blank = np.broadcast_to(shade, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    image = draw_hands(blank, geometry.vertices.numpy(), (True, True), K.numpy(), opacity=1.0)
    joints = project(geometry.joints, K)
    outline = project(geometry.vertices, K)
    tight = bbox_around(outline, torch.ones(outline.shape[:-1], dtype=torch.bool))
    boxes = expand_bbox(tight, scale=1.2, aspect=CROP[1] / CROP[0])

    figure = plt.figure(figsize=(13, 7.6), facecolor="white")
    grid = figure.add_gridspec(2, 4, height_ratios=(1.25, 1), hspace=0.16, wspace=0.12,
                               left=0.02, right=0.985, top=0.945, bottom=0.02)  # fmt: skip
    whole = figure.add_subplot(grid[0, :2])
    whole.imshow(image)
    for side in Side:
        for box, style in ((tight[side], ":"), (boxes[side], "-")):
            x, y, w, h = box.tolist()
            corner = (x - w / 2, y - h / 2)
            whole.add_patch(Rectangle(corner, w, h, fill=False, ls=style, lw=2, ec=COLOURS[side]))
        x, y, w, h = boxes[side].tolist()
        whole.plot(x, y, "+", color=COLOURS[side], ms=12, mew=2)
        whole.text(x, y - h / 2 + 4, f"{side.value} {side.name.lower()}", ha="center", va="top",
                   color=COLOURS[side], fontsize=12, weight="bold")  # fmt: skip
    whole.set_xlim(-30, SIZE[0] + 10)
    whole.set_ylim(SIZE[1] + 10, -30)
    arrow = {"arrowstyle": "<-"}
    whole.annotate("x", (-15, -15), (75, -15), arrowprops=arrow, va="center")
    whole.annotate("y", (-15, -15), (-15, 80), arrowprops=arrow, ha="center")
    whole.set_title("image, pixel centres at integers: tight boxes (dotted) and what is cropped",
                    fontsize=11)  # fmt: skip
    whole.axis("off")
    for side, place, words in ((Side.RIGHT, 2, "as it is"), (Side.LEFT, 3, "mirrored")):
        axes = figure.add_subplot(grid[0, place])
        axes.imshow(cut_crop(image, boxes[side], side, CROP))
        axes.set_title(f"crops[{side.value}], the {side.name.lower()} hand's, {words}", fontsize=11,
                       color=COLOURS[side])  # fmt: skip
        axes.set_xticks([0, CROP[1] - 1])
        axes.set_yticks([0, CROP[0] - 1])
    _joints(figure.add_subplot(grid[1, 0]), image, joints)
    _flow(figure.add_subplot(grid[1, 1:]))
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=80)
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _joints(axes: plt.Axes, image: np.ndarray, joints: torch.Tensor) -> None:
    """The order of the 21 joints."""
    points = joints[Side.RIGHT].numpy()
    both = joints.numpy()
    axes.imshow(draw_skeleton(image, both, (True, False)))
    low, high = points.min(0) - 28, points.max(0) + 28
    for k, (x, y) in enumerate(points):
        tip = k % 4 == 0
        axes.text(x + (6 if tip else 4), y - (8 if tip else 0), str(k), fontsize=8, color=INK,
                  weight="bold", ha="left", va="center")  # fmt: skip
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_title("wrist, thumb to little, base to tip", fontsize=11)
    axes.axis("off")


def _flow(axes: plt.Axes) -> None:
    """Frames through both graphs."""
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 4)
    axes.axis("off")

    def box(x: float, y: float, w: float, h: float, text: str, colour: str) -> None:
        style = "round,pad=0.02,rounding_size=0.12"
        axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, fc=colour, ec=INK))
        axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=10, color=INK)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.5})

    for k in range(3):
        y = 0.35 + 1.15 * k
        name = ("newest frame", "...", "oldest frame")[k]
        box(0.1, y, 2.0, 0.8, f"{name}\ncrops, boxes, camera", "#f2f2ee")
        box(2.75, y, 1.45, 0.8, "frame graph", "#dfe8d8")
        box(4.85, y, 1.3, 0.8, "features\n(kept)", "#f2f2ee")
        arrow((2.12, y + 0.4), (2.73, y + 0.4))
        arrow((4.22, y + 0.4), (4.83, y + 0.4))
        arrow((6.17, y + 0.4), (6.83, 1.9))
    box(6.85, 1.35, 1.3, 1.1, "window\ngraph", "#dfe8d8")
    arrow((8.17, 1.9), (8.6, 1.9))
    box(8.62, 0.75, 1.33, 2.3, "both hands\nof every frame,\nmetres in the\ncamera's frame\n"
        "(x right, y down,\nz forward)", "#f2f2ee")  # fmt: skip
    axes.set_title("a stream computes the frame graph once for each frame", fontsize=11)


if __name__ == "__main__":
    main()
