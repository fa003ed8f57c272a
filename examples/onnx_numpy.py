"""Hands from the ONNX graphs, by numpy and onnxruntime alone: without fourdhands, without torch.

    python examples/onnx_numpy.py BUNDLE PHOTO --box X Y W H SIDE [--box ...]

BUNDLE: `fourdhands export CKPT --out BUNDLE --graphs onnx --mesh`. PHOTO: .npy (H, W, 3) RGB, or
a picture if Pillow is there. Boxes: top left corner, size and side (right, left); one a side.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime


def cut(image, box, size, mirrored, fine=4):
    """Region box (centre, size) as (3, h, w): the mean of fine x fine bilinear samples."""
    steps = [(np.arange(n * fine) + 0.5) / (n * fine) - 0.5 for n in size[::-1]]
    x, y = box[0] + box[2] * steps[0], box[1] + box[3] * steps[1]
    padded = np.pad(image.astype(np.float32), ((1, 1), (1, 1), (0, 0)))  # black outside
    x = np.clip((x[::-1] if mirrored else x) + 1, 0, padded.shape[1] - 1.001)
    y = np.clip(y + 1, 0, padded.shape[0] - 1.001)
    u, v = (x % 1)[:, None], (y % 1)[:, None, None]
    rows = [padded[y.astype(int) + k] for k in (0, 1)]
    rows = [r[:, x.astype(int)] * (1 - u) + r[:, x.astype(int) + 1] * u for r in rows]
    samples = (rows[0] * (1 - v) + rows[1] * v).reshape(size[0], fine, size[1], fine, 3)
    return samples.mean((1, 3)).round().astype(np.uint8).transpose(2, 0, 1)


def run(graph, inputs):
    """A graph's outputs by name."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})
    return {one.name: value for one, value in zip(session.get_outputs(), found, strict=True)}


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("bundle", type=Path)
parser.add_argument("photo", type=Path)
parser.add_argument("--box", nargs=5, action="append", required=True)
given = parser.parse_args()
if given.photo.suffix == ".npy":
    image = np.load(given.photo)
else:
    from PIL import Image

    image = np.asarray(Image.open(given.photo).convert("RGB"))
crop = json.loads((given.bundle / "graphs.json").read_text())["preprocessing"]["crop"]
height, width = crop["size"]
bbox, visible = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2), bool)
crops = np.zeros((1, 2, 3, height, width), np.uint8)
for *numbers, name in given.box:
    (left, top, w, h), side = map(float, numbers), ("right", "left").index(name)
    grown = max(w, h * width / height) * crop["bbox_scale"]  # one side grows to the crop's aspect
    bbox[0, side] = left + (w - 1) / 2, top + (h - 1) / 2, grown, grown * height / width
    crops[0, side] = cut(image, bbox[0, side], (height, width), mirrored=name == "left")
    visible[0, side] = True
x, y = image.shape[1], image.shape[0]
focal = np.hypot(x, y)  # not known: the diagonal
camera = np.array([[focal, 0, (x - 1) / 2], [0, focal, (y - 1) / 2], [0, 0, 1]], np.float32)
places = {"bbox": bbox, "hand_visible": visible, "intrinsics": camera[None]}
places["image_size"] = np.array([[x, y]], np.float32)
found = run(given.bundle / "frame.onnx", {"crops": crops} | places)  # keep this for every frame
window = {"features": found["features"], "times": np.zeros(1, np.float32)} | places
hands = run(given.bundle / "window.onnx", {name: value[:, None] for name, value in window.items()})
for side in np.flatnonzero(visible[0]):
    print(("right", "left")[side], "stands at", hands["transl"][0, 0, side].round(3), "metres")
    for joint in hands["joints"][0, 0, side] if "joints" in hands else ():
        print("  joint at pixel", ((camera @ joint)[:2] / joint[2]).round(1))
