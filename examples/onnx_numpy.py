"""Hands in a photograph from ONNX graphs, by numpy, onnxruntime and Pillow, without this package.

python onnx_numpy.py BUNDLE PHOTO OUT.png --box X Y W H right --box X Y W H left  (tight, in pixels)
BUNDLE is what `fourdhands export CKPT --out BUNDLE --graphs onnx --mesh` wrote.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def cut(image, box, size, mirrored):
    """The box (centre, size) as uint8 (3, h, w), averaged first; black outside the image."""
    k = max(1, int(box[2] / size[1]))
    low, high = (box[:2] + 0.5 - box[2:] / 2) / k, (box[:2] + 0.5 + box[2:] / 2) / k
    crop = image.reduce(k).transform(size[::-1], Image.EXTENT, (*low, *high), Image.BILINEAR)
    return np.asarray(ImageOps.mirror(crop) if mirrored else crop).transpose(2, 0, 1)


def run(graph, inputs):
    """A graph's outputs by name."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})
    return {one.name: value for one, value in zip(session.get_outputs(), found, strict=True)}


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("paths", nargs=3, type=Path, metavar="BUNDLE PHOTO OUT.png")
parser.add_argument("--box", nargs=5, action="append", required=True)
given = parser.parse_args()
bundle, photo, out = given.paths
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
crop = json.loads((bundle / "graphs.json").read_text())["preprocessing"]["crop"]
(wide, high), (h, w) = image.size, crop["size"]
bbox, crops = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 3, h, w), np.uint8)
for *numbers, name in given.box:
    (left, top, x, y), side = map(float, numbers), ("right", "left").index(name)
    grown = crop["bbox_scale"] * max(x, y * w / h)  # one side grows to the crop's aspect
    bbox[0, side] = left + (x - 1) / 2, top + (y - 1) / 2, grown, grown * h / w
    crops[0, side] = cut(image, bbox[0, side], (h, w), mirrored=name == "left")
f = np.hypot(wide, high)  # where the focal length is not known
K = np.array([[f, 0, (wide - 1) / 2], [0, f, (high - 1) / 2], [0, 0, 1]], np.float32)
places = {"bbox": bbox, "hand_visible": bbox[..., 2] > 0, "intrinsics": K[None]}
places["image_size"] = np.array([[wide, high]], np.float32)
frame = run(bundle / "frame.onnx", {"crops": crops} | places)  # once for every frame
window = places | frame | {"times": np.zeros(1, np.float32)}  # of one frame; (1, T, ...) for more
hands = run(bundle / "window.onnx", {key: value[:, None] for key, value in window.items()})
draw = ImageDraw.Draw(image)
for side in np.flatnonzero(bbox[0, :, 2]):
    mesh, joints = (hands[key][0, 0, side] for key in ("vertices", "joints"))
    print(("right", "left")[side], "wrist at", joints[0].round(3), "metres")
    mesh, joints = ((p @ K.T)[:, :2] / p[:, 2:] for p in (mesh, joints))
    draw.point([tuple(p) for p in mesh], ("coral", "deepskyblue")[side])
    for finger in joints[1:].reshape(5, 4, 2):
        draw.line([tuple(p) for p in (joints[0], *finger)], ("coral", "deepskyblue")[side], 3)
image.save(out)
