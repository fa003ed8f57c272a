"""Files for servers: their order, axes, units and joints, written down here apart from the code."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
import yaml

from fourdhands.cli.main import main
from fourdhands.data.convert.conventions import Floats, Mano, MeshParameters
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions import Context, find_submission
from fourdhands.evaluation.submissions.door import check_submission, load_predictions
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import Side
from fourdhands.structures import HandState
from tests.helpers.samples import random_truth

HO3D_FROM_COMMON = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
ASSETS = load_assets()
MODEL = HandModel(ASSETS)
SERIALS = (
    *("836212060125", "839512060362", "840412060917", "841412060263"),
    *("932122060857", "932122060861", "932122061900", "932122062010"),
)


def context(images: Path | None = None, *, any_count: bool = True) -> Context:
    return Context(ASSETS, images, any_count)


def posed(rng: np.random.Generator, names: list[str]) -> HandSamples:
    """The open hand about half a metre away, the right one to the left, fingers a little bent."""
    count = len(names)
    mean = torch.stack([torch.from_numpy(side.hands_mean).view(15, 3) for side in ASSETS])
    bend = torch.from_numpy(rng.normal(0, 0.15, (count, 2, 15, 3)))
    place = np.array([[-0.1, 0.0, 0.6], [0.1, 0.02, 0.65]]) + rng.normal(0, 0.02, (count, 2, 3))
    state = HandState(
        roma.rotvec_to_rotmat(torch.from_numpy(rng.normal(0, 1.0, (count, 2, 3)))),
        roma.rotvec_to_rotmat(mean + bend),
        torch.from_numpy(rng.normal(0, 0.7, (count, 2, 10))),
        torch.from_numpy(place),
    )
    with torch.no_grad():
        made = MODEL(state)
    return replace(
        random_truth(rng, count),
        joints=made.joints,
        vertices=made.vertices,
        names=tuple(names),
        hands=state,
    )


def shuffled(samples: HandSamples, seed: int = 0) -> HandSamples:
    order = np.random.default_rng(seed).permutation(len(samples))
    return samples.take(torch.from_numpy(order))


def content_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["pred.json"]
        return json.loads(archive.read("pred.json"))


# ---- HO3D, FreiHAND ------------------------------------------------------------------------------

LINES = ["SM1/0007", "ABF11/0000", "ABF10/0003", "ABF10/0000", "MPM10/0012"]
NAMES = ["SM1//7", "ABF1/1/0", "ABF1/0/3", "ABF1/0/0", "MPM1/0/12"]


@pytest.fixture
def ho3d(tmp_path: Path) -> tuple[HandSamples, Path]:
    images = tmp_path / "evaluation.txt"
    images.write_text("\n".join(LINES) + "\n")
    return posed(np.random.default_rng(0), NAMES), images


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_ho3d_has_evaluation_txts_order_and_opengl(
    ho3d: tuple[HandSamples, Path], tmp_path: Path, precision: torch.dtype
) -> None:
    samples, images = ho3d
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 1e-4, samples.joints.shape))
    samples = replace(
        samples,
        joints=(samples.joints + noise).to(precision),
        vertices=samples.vertices.to(precision),
    )
    path = tmp_path / "pred.zip"
    find_submission("ho3d_v2").write(shuffled(samples), path, context(images))
    joints, vertices = content_of(path)
    for k in range(len(LINES)):
        for j, common in enumerate(HO3D_FROM_COMMON):
            x, y, z = samples.joints[k, 0, common].tolist()
            assert np.array_equal(
                np.array(joints[k][j], np.float32), np.array((x, -y, -z), np.float32)
            )
            if precision == torch.float64:
                assert joints[k][j] == [x, -y, -z]
        x, y, z = samples.vertices[k, 0, 744].double().tolist()
        assert vertices[k][744] == pytest.approx([x, -y, -z], rel=0, abs=1e-9)


def test_what_was_written_comes_back(ho3d: tuple[HandSamples, Path], tmp_path: Path) -> None:
    """By names, also those of somebody else's truth."""
    samples, images = ho3d
    samples = replace(samples, joints=samples.joints.double(), vertices=samples.vertices.double())
    path = tmp_path / "pred.zip"
    find_submission("ho3d_v2").write(samples, path, context(images))
    for names in (NAMES, LINES, ()):
        again = load_predictions(path, "ho3d_v2", names, ASSETS, images, any_count=True)
        assert again.names == tuple(names or NAMES)
        assert (again.joints[:, 0] == samples.joints[:, 0]).all()
        assert (again.vertices[:, 0] == samples.vertices[:, 0]).all()
        assert again.joints_valid[:, 0].all() and not again.joints_valid[:, 1].any()


def test_freihand_goes_by_numbers(tmp_path: Path) -> None:
    samples = posed(np.random.default_rng(2), [f"{k:08d}/0/{k}" for k in range(4)])
    path = tmp_path / "pred.zip"
    find_submission("freihand").write(shuffled(samples), path, context())
    joints, vertices = content_of(path)
    assert np.allclose(joints, samples.joints[:, 0], rtol=0, atol=1e-9)
    assert np.allclose(vertices, samples.vertices[:, 0], rtol=0, atol=1e-9)


def without_last(samples: HandSamples) -> HandSamples:
    return samples.take(torch.arange(len(samples) - 1))


def twice(samples: HandSamples) -> HandSamples:
    return replace(samples, names=(*NAMES[:4], "ABF10/0000"))


def one_more(samples: HandSamples) -> HandSamples:
    more = samples.take(torch.tensor([*range(len(samples)), 0]))
    return replace(more, names=(*NAMES, "SM1//8"))


def no_mesh(samples: HandSamples) -> HandSamples:
    valid = samples.vertices_valid.clone()
    valid[3] = False
    return replace(samples, vertices_valid=valid)


def not_finite(samples: HandSamples) -> HandSamples:
    joints = samples.joints.clone()
    joints[2, 0, 4, 1] = torch.nan
    return replace(samples, joints=joints)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_last, "1 of the 5 images of .*evaluation.txt have no prediction, as 'MPM1/0/12'"),
        (one_more, "1 predictions are of images that .*evaluation.txt lacks, as 'SM1//8'"),
        (twice, "has another name, too"),
        (no_mesh, "no right hand with all joints and a mesh, as 'ABF1/0/0'"),
        (not_finite, "not finite, as 'ABF1/0/3'"),
    ],
)
def test_what_is_missing_is_named(
    ho3d: tuple[HandSamples, Path],
    tmp_path: Path,
    spoil: Callable[[HandSamples], HandSamples],
    said: str,
) -> None:
    samples, images = ho3d
    with pytest.raises(ValueError, match=said):
        find_submission("ho3d_v2").write(spoil(samples), tmp_path / "pred.zip", context(images))
    assert not (tmp_path / "pred.zip").exists()


def test_a_list_and_the_official_number_are_wanted(
    ho3d: tuple[HandSamples, Path], tmp_path: Path
) -> None:
    samples, images = ho3d
    kind, path = find_submission("ho3d_v2"), tmp_path / "pred.zip"
    with pytest.raises(ValueError, match=r"submission_list has to be HO3D's evaluation\.txt"):
        kind.write(samples, path, context())
    with pytest.raises(ValueError, match="has 5 images, HO3D v2 has 11524"):
        kind.write(samples, path, context(images, any_count=False))
    images.write_text("\n".join((*LINES, LINES[0])))
    with pytest.raises(ValueError, match="twice"):
        kind.write(samples, path, context(images))
    with pytest.raises(ValueError, match="no submissions to 'hic'"):
        find_submission("hic")


# ---- DexYCB --------------------------------------------------------------------------------------


def test_dexycb_has_millimetres_of_the_hand_that_is_shown(tmp_path: Path) -> None:
    names = [f"S/C/{k}" for k in (3, 0, 1)]
    samples = posed(np.random.default_rng(3), names)
    sure = torch.tensor([[1.0, 0.0], [0.2, 0.7], [1.0, 0.0]])
    samples = replace(samples, handedness=sure, joints=samples.joints.double())
    images, path = tmp_path / "list.txt", tmp_path / "results.txt"
    images.write_text("5 S/C/0\n9 S/C/color_000001.jpg\n20 S/C/3\n")
    kind = find_submission("dexycb")
    kind.write(samples, path, context(images))
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert [len(row) for row in rows] == [64] * 3
    for row, number, image, side in zip(rows, (5, 9, 20), (1, 2, 0), (1, 0, 0), strict=True):
        assert int(row[0]) == number
        wanted = (samples.joints[image, side] * 1000).flatten().tolist()
        assert [float(word) for word in row[1:]] == wanted
    again = load_predictions(path, "dexycb", names, ASSETS, images, any_count=True)
    assert again.names == ("S/C/0", "S/C/1", "S/C/3")
    assert torch.allclose(again.joints[0, 1], samples.joints[1, 1], rtol=1e-14, atol=0)
    images.write_text("S/C/0\nS/C/1\nS/C/2\nS/C/3\n")
    with pytest.raises(ValueError, match="have no prediction, as 'S/C/2'"):
        kind.write(samples, path, context(images))
    both = replace(samples, handedness=torch.ones(3, 2))
    images.write_text("S/C/0\nS/C/1\nS/C/3\n")
    with pytest.raises(ValueError, match="two hands of equal handedness"):
        kind.write(both, path, context(images))


def test_dexycb_counts_all_images_of_the_split(tmp_path: Path) -> None:
    """Sequence, then camera, then frame; images without a hand have a number alone."""
    subject = "20200820-subject-03"
    sequences = [f"{subject}/20200820_{k:06d}" for k in range(100)]
    for k, sequence in enumerate(sequences):
        folder = tmp_path / "dexycb" / sequence
        folder.mkdir(parents=True)
        frames = {4: 3, 9: 2}.get(k, 0)
        (folder / "meta.yml").write_text(yaml.safe_dump({"num_frames": frames}))
        for serial in SERIALS:
            (folder / serial).mkdir()
            for frame in range(frames):
                labels = np.full((1, 21, 3), -1.0 if frame == 0 else 0.5)
                np.savez(folder / serial / f"labels_{frame:06d}.npz", joint_3d=labels)
    (tmp_path / "dexycb" / "20200709-subject-01").mkdir()
    wanted = {}
    number = 0
    for k, frames in ((4, 3), (9, 2)):
        for serial in SERIALS:
            for frame in range(frames):
                if frame:
                    wanted[f"{sequences[k]}/{serial}/{frame}"] = number
                number += 1
    samples = posed(np.random.default_rng(4), list(wanted))
    samples = replace(samples, handedness=torch.tensor([[1.0, 0.0]]).repeat(len(samples), 1))
    kind, path = find_submission("dexycb"), tmp_path / "results.txt"
    kind.write(shuffled(samples), path, context(tmp_path / "dexycb"))
    assert [int(line.split(",")[0]) for line in path.read_text().splitlines()] == list(
        wanted.values()
    )
    assert not check_submission(path, kind, context(tmp_path / "dexycb"))[0]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    said = check_submission(path, kind, context(tmp_path / "dexycb"))[0]
    assert said and f"1 images are missing, as 39, '{list(wanted)[-1]}'" in said[0]
    with pytest.raises(ValueError, match=f"as '{list(wanted)[-1]}'"):
        kind.write(without_last(samples), path, context(tmp_path / "dexycb"))


# ---- ARCTIC, H2O ---------------------------------------------------------------------------------


def arctic_names(first: int = 10, count: int = 2) -> list[str]:
    numbers = range(first, first + count)
    return [f"s03/box_use_01/{view}/{n}" for view in range(1, 9) for n in numbers]


def test_arctics_server_poses_our_hands(tmp_path: Path) -> None:
    """MANO adds its mean to the axis-angles of the matrices; its left hand is the released one."""
    names = arctic_names()
    samples = posed(np.random.default_rng(5), names)
    assert samples.hands is not None
    betas = samples.hands.betas.clone()
    betas[:, Side.LEFT] = 0.0  # in between the two left hands only the mean shape is the same
    hands = replace(samples.hands, betas=betas)
    with torch.no_grad():
        made = MODEL(hands)
    samples = replace(samples, hands=hands, joints=made.joints, vertices=made.vertices)
    path, mano = tmp_path / "pose.zip", Mano()
    kind = find_submission("arctic")
    kind.write(shuffled(samples), path, context())
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        assert len(members) == 8 * 10
        for view in range(1, 9):
            place = f"pose_p1_test/eval/s03_box_use_01_{view}"
            found = {
                name.rpartition("/")[2]: torch.load(
                    io.BytesIO(archive.read(name)), weights_only=True
                )
                for name in members
                if name.startswith(place)
            }
            images = found["meta_info.imgname.pt"]
            end = f"cropped_images/s03/box_use_01/{view}/00011.jpg"
            assert len(images) == 2 and images[1] == f"./data/arctic_data/data/{end}"
            assert found["pred.object.radian.pt"].shape == (2,)
            for side, letter in ((Side.RIGHT, "r"), (Side.LEFT, "l")):
                for k in range(2):
                    pose, beta, move = (
                        found[f"pred.mano.{name}.{letter}.pt"][k]
                        for name in ("pose", "beta", "cam_t")
                    )
                    assert pose.dtype == beta.dtype == move.dtype == torch.float32
                    angles = roma.rotmat_to_rotvec(pose[1:].double()).flatten().numpy()
                    theirs = mano.geometry(
                        side,
                        MeshParameters(
                            pose[0].double().numpy(),
                            mano.hand_pose(side, angles, mean_included=False),
                            beta.double().numpy(),
                            move.double().numpy(),
                        ),
                        released=True,
                    )
                    own = samples.vertices[names.index(f"s03/box_use_01/{view}/{10 + k}"), side]
                    assert np.abs(theirs.vertices - own.numpy()).max() < 2e-6
    again = load_predictions(path, "arctic", names, ASSETS, None, any_count=True)
    ordered = again.take(torch.tensor([again.names.index(name) for name in names]))
    assert (ordered.joints - samples.joints).abs().max() < 2e-6


def test_left_shapes_come_as_near_as_the_released_hand_can(tmp_path: Path) -> None:
    samples = posed(np.random.default_rng(6), arctic_names())
    path = tmp_path / "pose.zip"
    find_submission("arctic").write(samples, path, context())
    again = load_predictions(path, "arctic", samples.names, ASSETS, None, any_count=True)
    assert again.names == samples.names
    off = (again.vertices - samples.vertices).norm(dim=-1).mean((0, 2))
    assert off[0] < 1e-6 and off[1] < 2e-3
    assert (again.joints - samples.joints)[:, :, 0].abs().max() < 1e-6  # wrists


def test_arctic_leaves_no_holes(tmp_path: Path) -> None:
    kind, path = find_submission("arctic"), tmp_path / "pose.zip"
    for names, said in (
        (arctic_names()[:-1], "1 images of s03/box_use_01/8 are missing, as s03/box_use_01/8/11"),
        (arctic_names(first=11), "as s03/box_use_01/1/10"),
        (arctic_names(first=9, count=3), "s03/box_use_01/1/9 is none of the server's images"),
        ([*arctic_names(), "s03/box_use_01/0/10"], "not of one task"),
        (["box_use_01/1/10"], "no image of ARCTIC"),
    ):
        with pytest.raises(ValueError, match=said):
            kind.write(posed(np.random.default_rng(7), names), path, context())
    samples = posed(np.random.default_rng(7), arctic_names())
    with pytest.raises(ValueError, match="wants MANO parameters"):
        kind.write(replace(samples, hands=None), path, context())
    protocol = tmp_path / "protocol_p1.json"
    protocol.write_text(json.dumps({"test": ["s03/box_use_01", "s03/mixer_use_02"]}))
    with pytest.raises(ValueError, match=r"s03/mixer_use_02/1 of .*p1.json is missing"):
        kind.write(samples, path, context(protocol))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_arctics_tensors_execute_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, good, bad = find_submission("arctic"), tmp_path / "good.zip", tmp_path / "bad.zip"
    kind.write(posed(np.random.default_rng(8), arctic_names()), good, context())
    evil = io.BytesIO()
    torch.save(Evil(), evil)
    place = "pose_p1_test/eval/s03_box_use_01_1/preds/pred.object.rot.pt"
    for data in (pickle.dumps(Evil()), evil.getvalue(), b"nothing"):
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
            for name in old.namelist():
                new.writestr(name, data if name == place else old.read(name))
        said = check_submission(bad, kind, context())[0]
        assert len(said) == 1 and f"{place} is not readable" in said[0]
    assert not (tmp_path / "executed").exists()


def test_h2o_has_the_left_hand_first(tmp_path: Path) -> None:
    names = [f"subject4/h1/0/cam4/{k}" for k in (4, 5)] + ["subject4/k2/3/cam4/0"]
    samples = posed(np.random.default_rng(9), names)
    path = tmp_path / "hands.zip"
    kind = find_submission("h2o")
    assert "NOT confirmed" in kind.note
    kind.write(shuffled(samples), path, context())
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("hand_poses.json"))
    assert content.keys() == {"modality", "subject4/h1/0", "subject4/k2/3"}
    values = content["subject4/h1/0"]["000005.txt"]
    assert np.allclose(values[:63], samples.joints[1, Side.LEFT].flatten())
    assert np.allclose(values[63:], samples.joints[1, Side.RIGHT].flatten())
    again = load_predictions(path, "h2o", names, ASSETS, None, any_count=True)
    k = again.names.index(names[1])
    assert (again.joints[k] == samples.joints[1].double()).all()
    assert not check_submission(path, kind, context())[0]


# ---- the checker ---------------------------------------------------------------------------------

Points = tuple[Floats, Floats]


def good(joints: Floats, vertices: Floats) -> Points:
    return joints, vertices


def in_millimetres(joints: Floats, vertices: Floats) -> Points:
    return joints * 1000, vertices * 1000


def in_opencv(joints: Floats, vertices: Floats) -> Points:
    return joints * (1, -1, -1), vertices * (1, -1, -1)


def relative(joints: Floats, vertices: Floats) -> Points:
    return joints - joints[:, :1], vertices - joints[:, :1]


def joints_alone_relative(joints: Floats, vertices: Floats) -> Points:
    return joints, vertices - joints[:, :1]


def mirrored(joints: Floats, vertices: Floats) -> Points:
    return joints * (-1, 1, 1), vertices * (-1, 1, 1)


def in_common_order(joints: Floats, vertices: Floats) -> Points:
    return joints[:, np.argsort(HO3D_FROM_COMMON)], vertices


def with_nan(joints: Floats, vertices: Floats) -> Points:
    joints[2, 3, 1] = np.nan
    return joints, vertices


def all_zero(joints: Floats, vertices: Floats) -> Points:
    return joints * 0, vertices * 0


def one_behind(joints: Floats, vertices: Floats) -> Points:
    joints[3] *= (1, 1, -1)
    vertices[3] *= (1, 1, -1)
    return joints, vertices


def too_few_joints(joints: Floats, vertices: Floats) -> Points:
    return joints[:, :20], vertices


def too_few_images(joints: Floats, vertices: Floats) -> Points:
    return joints[:-1], vertices[:-1]


def too_many_images(joints: Floats, vertices: Floats) -> Points:
    return np.concatenate((joints, joints)), vertices


def fewer_meshes(joints: Floats, vertices: Floats) -> Points:
    return joints, vertices[:-1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (good, None),
        (in_millimetres, "look like millimetres"),
        (in_opencv, "behind the camera: the axes look like the other ones"),
        (relative, "wrists are at the origin"),
        (joints_alone_relative, "5 of 5 images have vertices far from their joints"),
        (mirrored, "the right hands look mirrored"),
        (in_common_order, "look to be in the common order"),
        (with_nan, "1 of 5 images have values that are not finite, as number 2"),
        (all_zero, "5 of 5 images have hands whose joints are all in one point"),
        (one_behind, "1 of 5 images have hands behind the camera, as number 3"),
        (too_few_joints, "image 0 has 20 joints, it has to have 21"),
        (too_few_images, "has 4 images, .*evaluation.txt has 5"),
        (too_many_images, "joints of more than 5 images"),
        (fewer_meshes, "joints of 5 images, vertices of 4"),
    ],
)
def test_the_checker_tells(
    ho3d: tuple[HandSamples, Path],
    tmp_path: Path,
    spoil: Callable[[Floats, Floats], Points],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples, images = ho3d
    joints = samples.joints[:, 0].double().numpy()[:, HO3D_FROM_COMMON] * (1.0, -1.0, -1.0)
    vertices = samples.vertices[:, 0].double().numpy() * (1.0, -1.0, -1.0)
    path = tmp_path / "pred.zip"
    content = [points.tolist() for points in spoil(joints, vertices)]
    zipped(path, {"pred.json": json.dumps(content).encode()})
    words = ("submission", "check", path, "--benchmark", "ho3d_v2", "--list", images)
    status = main([*map(str, words), "--any_count"])
    out = capsys.readouterr().out
    if said is None:
        assert status == 0 and "5 images, joints and meshes; mean depth 0.6" in out
        assert "wrong" not in out
    else:
        wrong = [line for line in out.splitlines() if line.startswith("wrong: ")]
        assert status == 1 and len(wrong) == 1, out
        assert re.search(said, wrong[0]), out


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HAND = json.dumps([[0.0, 0.0, 0.5]] * 21)
MESH = json.dumps([[0.0, 0.0, 0.5]] * 778)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a/pred.json": b"[]"}, r"lies in a folder, 'a/pred.json': zip it flat \(zip -j\)"),
        ({"pred.json": b"[]", "../../x": b""}, "leads elsewhere"),
        ({"pred.json": b"[]", "notes.txt": b""}, "holds more than pred.json, as 'notes.txt'"),
        ({"mine.json": b"[]"}, "has no pred.json; it holds 'mine.json'"),
        ({"pred.json": b"[" * 3_000_000}, "joints of image 0 are broken"),
        ({"pred.json": b" " * 50_000_000}, "a million blanks"),
        ({"pred.json": b"[[" + b"9" * 50_000_000}, "are no list of points"),
        ({"pred.json": f"[[{HAND}], [{MESH}], []]".encode()}, "more than two lists"),
        ({"pred.json": f"[[{HAND}], [{MESH}]] x".encode()}, "something follows"),
        ({"pred.json": f"[[{HAND}, {HAND[:300]}".encode()}, "joints of image 1 are broken"),
        ({"pred.json": f"[[{HAND[:-1]}, [0, 1]]".encode()}, "22 joints"),
        ({"pred.json": HAND.replace("0.5", '"1"', 1).encode().join((b"[[", b"]]"))}, "numbers"),
        ({"pred.json": b"\xff\xfe"}, "not a readable zip"),
    ],
)
def test_hostile_zips_do_no_harm(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    path = tmp_path / "pred.zip"
    zipped(path, members)
    with pytest.raises(ValueError, match=said):
        find_submission("freihand").read(path, context())


def test_other_files_are_no_zips(tmp_path: Path) -> None:
    path = tmp_path / "pred.zip"
    path.write_text("[[], []]")
    with pytest.raises(ValueError, match="not a readable zip"):
        find_submission("freihand").read(path, context())
    with pytest.raises(FileNotFoundError):
        find_submission("freihand").read(tmp_path / "none.zip", context())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,1,2\n", "line 1 has 3 fields"),
        ("0" + ",1" * 63 + "\n0" + ",1" * 63 + "\n", "image 0 twice"),
        ("x" + ",1" * 63 + "\n", "line 1 is not a number and 63 coordinates"),
        ("-1" + ",1" * 63 + "\n", "-1 cannot be"),
        ("0" + ",0.1" * 62 + ",0.3\n", "metres taken for millimetres"),
        ("0" + ",nan" * 63 + "\n", "not finite"),
        ("1" * 10_000, "line 1 has 1 fields"),
        ("", "there are no images"),
    ],
)
def test_wrong_lines_of_dexycb(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "results.txt"
    path.write_text(text)
    wrong, _ = check_submission(path, find_submission("dexycb"), context())
    assert len(wrong) == 1 and said in wrong[0]
