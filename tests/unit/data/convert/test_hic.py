"""HIC: meshes from PLY files, text and binary; a missing mesh is a missing hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourdhands.data.convert.sources import read_ply
from fourdhands.skeleton import Side
from tests.helpers.official import (
    MANO,
    Floats,
    FrameName,
    TrueHand,
    assert_converted,
    assert_dots,
    convert,
    pixels,
    stored,
    true_hand,
    write_picture,
)

SIZE = (640, 480)
K = np.array([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
ONLY_RIGHT, NO_HAND, NO_MESH, OUTSIDE = 3, 4, 6, 7
Truth = dict[FrameName, list[TrueHand]]


def write_ply(path: Path, vertices: Floats, *, text: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "ascii" if text else "binary_little_endian"
    lines = [
        *("ply", f"format {kind} 1.0", "comment of a program", f"element vertex {len(vertices)}"),
        *("property float x", "property float y", "property float z", "property uchar red"),
        *("element face 1", "property list uchar int vertex_indices", "end_header", ""),
    ]
    header = "\n".join(lines).encode()
    if text:
        body = "".join(f"{x:.7f} {y:.7f} {z:.7f} 200\n" for x, y, z in vertices) + "3 0 1 2\n"
        path.write_bytes(header + body.encode())
    else:
        table = np.zeros(len(vertices), [("xyz", "<f4", 3), ("red", "u1")])
        table["xyz"], table["red"] = vertices, 200
        face = np.array([3], "u1").tobytes() + np.array([0, 1, 2], "<i4").tobytes()
        path.write_bytes(header + table.tobytes() + face)


def write_hic(root: Path) -> Truth:
    rng = np.random.default_rng(7)
    images, annotations = [], []
    truth: Truth = {}
    for frame in (0, 1, ONLY_RIGHT, NO_HAND, NO_MESH, OUTSIDE):
        hands: list[TrueHand] = []
        paths: dict[str, str | None] = {}
        for side, x in ((Side.RIGHT, -0.1), (Side.LEFT, 0.1)):
            name = f"{side.name.lower()}_mano_path"
            mesh = f"IJCV16_MANO/01/{frame:06d}_{side.name.lower()}.ply"
            paths[name] = mesh
            if frame == NO_HAND or (frame, side) == (ONLY_RIGHT, Side.LEFT):
                paths[name] = None
                continue
            hand = true_hand(rng, side, K, centre=(x, 0.0, 0.6))
            joints = MANO.joints_of_mesh(side, hand.vertices)
            hands.append(replace(hand, joints=joints, joints_2d=pixels(joints, K)))
            if frame == OUTSIDE:
                paths[name] = "../elsewhere.ply"
            elif frame != NO_MESH:
                write_ply(root / mesh, hand.vertices, text=side is Side.LEFT)
        image = f"01/rgb/{frame:06d}.png"
        write_picture(root / image, SIZE, hands)
        images.append({"id": 50 + frame, "file_name": image, "width": 640, "height": 480})
        annotations.append(
            {"id": frame, "image_id": 50 + frame, "hand_type": "interacting", **paths}
        )
        if frame not in (NO_HAND, NO_MESH, OUTSIDE):
            truth["01/rgb", "0", frame] = hands
    content = {"images": images[::-1], "annotations": annotations}
    (root / "HIC.json").write_text(json.dumps(content))
    return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_hic(tmp_path / "raw")
    convert("hic", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "test", truth, meshes=False)
    assert_dots(tmp_path / "out", "test", truth)
    frames = stored(tmp_path / "out", "test")
    for name, hands in truth.items():
        clip, place = frames[name]
        assert clip.vertices is not None and not clip.all_hands_labelled
        assert clip.hands_shown is not None and clip.hands_shown.all()
        for hand in hands:
            assert clip.vertices_valid[place, hand.side]
            assert np.abs(clip.vertices[place, hand.side] - hand.vertices).max() < 1e-5
    report = json.loads((tmp_path / "out" / "test-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "no hand is labelled": 1,
        "a file is missing": 1,
        "a file name leads out of the data set's folder": 1,
    }


def test_a_bad_entry_costs_nobody_else(tmp_path: Path) -> None:
    truth = write_hic(tmp_path / "raw")
    listing = json.loads((tmp_path / "raw" / "HIC.json").read_text())
    listing["images"] += [{"id": 0}, None, {"id": 1, "file_name": "01/rgb/000001.jpg"}]
    listing["annotations"] += [{"id": 9}, None]
    (tmp_path / "raw" / "HIC.json").write_text(json.dumps(listing))
    convert("hic", tmp_path / "raw", tmp_path / "out")
    assert set(stored(tmp_path / "out", "test")) == set(truth)


@pytest.mark.parametrize(
    "content",
    [
        b"solid",
        b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1\n2\n",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999999\nproperty float x\n"
        b"property float y\nproperty float z\nend_header\n0000",
        b"ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n",
        b"ply\nend_header\n",
    ],
)
def test_damaged_meshes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mesh.ply"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a PLY file"):
        read_ply(path)
