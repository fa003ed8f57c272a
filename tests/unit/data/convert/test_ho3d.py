"""HO3D: OpenGL's camera, MANO's joint order, poses with their mean; evaluation hides its hands."""

import io
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from fourdhands.data.convert.conventions import OPENCV_FROM_OPENGL, Floats
from fourdhands.data.convert.ho3d import Ho3dV2
from fourdhands.skeleton import Side
from tests.helpers.official import (
    FrameName,
    TrueHand,
    assert_converted,
    camera,
    convert,
    skipped,
    stored_clips,
    true_hand,
    write_picture,
)

SIZE = (320, 240)
K = camera(SIZE)
# Common joints by HO3D's order, written down apart from the table that the converter reads.
HO3D_FROM_COMMON = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
Truth = dict[FrameName, list[TrueHand]]


def opengl(points: Floats) -> Floats:
    return points * (1, -1, -1)


def parameters(hand: TrueHand) -> tuple[Floats, Floats]:
    """Pose (48,) and translation (3,) in OpenGL's frame."""
    orient, transl = hand.parameters_in(OPENCV_FROM_OPENGL, np.zeros(3))
    return np.concatenate((cv2.Rodrigues(orient)[0][:, 0], hand.finger_pose)), transl


def joints(hand: TrueHand) -> Floats:
    return opengl(hand.joints)[HO3D_FROM_COMMON]


def train_meta(hand: TrueHand) -> dict[str, Any]:
    pose, transl = parameters(hand)
    return {
        "camMat": K,
        "handPose": pose,
        "handTrans": transl,
        "handBeta": hand.betas,
        "handJoints3D": joints(hand),
        "objName": "021_bleach_cleanser",
        "objRot": np.zeros((3, 1)),
        "handVertIntersec": np.zeros(778, bool),
    }


def evaluation_meta(hand: TrueHand) -> dict[str, Any]:
    return {
        "camMat": K,
        "handBoundingBox": [100, 60, 180, 150],
        "handJoints3D": joints(hand)[0],
        "objName": "010_potted_meat_can",
    }


def write_frame(
    root: Path, folder: str, name: str, meta: dict[str, Any], hands: list[TrueHand], ending: str
) -> None:
    sequence, stem = name.split("/")
    write_picture(root / folder / sequence / "rgb" / f"{stem}.{ending}", SIZE, hands)
    path = root / folder / sequence / "meta" / f"{stem}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(meta))


class Python2Pickler(pickle._Pickler):
    """As Python 2 writes: texts, and the bytes of arrays, are strings of bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(content: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def write_train(root: Path, ending: str) -> Truth:
    """Two cameras of one sequence, one with a hole, and a sequence of one camera."""
    rng = np.random.default_rng(1)
    truth: Truth = {}
    names = ["ABF11/0000", "ABF10/0000", "ABF10/0001", "ABF10/0004", "SM2/0007", "SM2/0008"]
    for name in names:
        hand = true_hand(rng, Side.RIGHT, K)
        write_frame(root, "train", name, train_meta(hand), [hand], ending)
        sequence, number = name.split("/")
        split = ("ABF1", sequence[-1]) if sequence.startswith("ABF") else ("SM2", "")
        truth[(*split, int(number))] = [hand]
    (root / "train.txt").write_text("\n".join(names) + "\n")
    return truth


@pytest.mark.parametrize(("version", "ending"), [("v2", "png"), ("v3", "jpg")])
def test_conversion_keeps_the_hands(tmp_path: Path, version: str, ending: str) -> None:
    truth = write_train(tmp_path / "raw", ending)
    convert(f"HO3D_{version}", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "train", truth)
    clips = stored_clips(tmp_path / "out", "train")
    assert [(c.sequence, c.camera, c.frame_ids) for c in clips] == [
        ("ABF1", "0", (0, 1)),
        ("ABF1", "0", (4,)),
        ("ABF1", "1", (0,)),
        ("SM2", "", (7, 8)),
    ]
    assert {(c.dataset, c.fps) for c in clips} == {(f"ho3d_{version}", 30.0)}
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert not report["skipped"]
    assert report["residuals"]["right hand: the mesh misses the 3D joints"] < 0.1


def test_bad_frames_leave_the_others_alone(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_train(root, "jpg")
    rng = np.random.default_rng(2)
    hand = true_hand(rng, Side.RIGHT, K)
    good = train_meta(hand)
    nothing = dict.fromkeys(good) | {"camMat": K}
    for k, meta in enumerate((nothing, {"camMat": K}, good, good)):
        write_frame(root, "train", f"SM2/{9 + k:04d}", meta, [hand], "jpg")
    (root / "train" / "SM2" / "rgb" / "0011.jpg").write_bytes(b"no image")
    (root / "train" / "SM2" / "meta" / "0012.pkl").write_bytes(pickle.dumps(print))
    with (root / "train.txt").open("a") as file:
        file.write("SM2/0009\nSM2/0010\nSM2/0011\nSM2/0012\nSM2/0013\n../../SM2/0001\nSM2/0007\n")
    convert("ho3d_v3", root, out)
    assert_converted(out, "train", truth)
    assert skipped(out, "train") == {
        "a file is missing": 1,
        "a line of the list is not SEQUENCE/NUMBER": 1,
        "no hand is labelled": 1,
        "the field 'handJoints3D' is missing": 1,
        "the image is broken": 1,
        "the labels cannot be read": 1,
    }


def write_evaluation(root: Path) -> list[TrueHand]:
    rng = np.random.default_rng(3)
    hands = [true_hand(rng, Side.RIGHT, K) for _ in range(4)]
    names = [
        "SM1/0002",
        "AP10/0000",
        "SM1/0000",
        "AP10/0001",
    ]  # published labels come in this order
    for name, hand in zip(names, hands, strict=True):
        write_frame(root, "evaluation", name, evaluation_meta(hand), [hand], "png")
    (root / "evaluation.txt").write_text("\n".join(names))
    return hands


def test_hidden_hands_have_their_wrist_and_box(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    hands = write_evaluation(root)
    convert("ho3d_v2", root, out)
    clips = stored_clips(out, "test")
    assert [(c.sequence, c.camera, c.frame_ids) for c in clips] == [
        ("AP1", "0", (0, 1)),
        ("SM1", "", (0,)),
        ("SM1", "", (2,)),
    ]
    for clip, hand in zip(clips, (hands[1], hands[2], hands[0]), strict=True):
        assert clip.joints_valid[0, 0].nonzero()[0].tolist() == [0] and not clip.hands_valid.any()
        assert np.abs(clip.joints[0, 0, 0] - hand.joints[0]).max() < 1e-5
        assert np.abs(clip.joints_2d[0, 0, 0] - hand.joints_2d[0]).max() < 0.5
        assert clip.bbox[0, 0].tolist() == [140, 105, 80, 90] and not clip.bbox[0, 1].any()


def test_published_hands_take_the_place_of_hidden_ones(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    hands = write_evaluation(root)
    xyz = [joints(hand) for hand in hands]
    xyz[1] = opengl(xyz[1])  # in a frame that is not the pickle's
    xyz[3] = opengl(hands[3].joints)  # in the common order, which is not HO3D's
    (root / "evaluation_xyz.json").write_text(json.dumps([x.tolist() for x in xyz]))
    verts = [opengl(hand.vertices).tolist() for hand in hands]
    (root / "evaluation_verts.json").write_text(json.dumps(verts))
    convert("ho3d_v2", root, out)
    truth = {("SM1", "", 2): [hands[0]], ("SM1", "", 0): [hands[2]]}
    assert_converted(out, "test", truth, meshes=False)
    for clip, hand in zip(stored_clips(out, "test"), (hands[2], hands[0]), strict=True):
        assert clip.vertices is not None and clip.vertices_valid[0, 0]
        assert np.abs(clip.vertices[0, 0] - hand.vertices).max() < 1e-5
    assert skipped(out, "test") == {
        "the published joints are not those of the mesh": 1,
        "the published wrist is not where the pickle has it": 1,
    }


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation_xyz.json").write_text("[[0, 0, 0]]")
    (tmp_path / "evaluation.txt").write_text("SM1/0000\nSM1/0001\n")
    with pytest.raises(ValueError, match=r"evaluation_xyz.json: not a list of 2 entries"):
        list(Ho3dV2(tmp_path).recordings("test"))
    (tmp_path / "evaluation.txt").write_text("\n".join(f"SM1/{k:04d}" for k in range(20137)))
    with pytest.raises(ValueError, match=r"are those of ho3d_v3, not of ho3d_v2"):
        list(Ho3dV2(tmp_path).recordings("test"))
    with pytest.raises(FileNotFoundError, match=r"train.txt does not exist"):
        list(Ho3dV2(tmp_path).recordings("train"))
