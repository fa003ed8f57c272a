"""eval.py's door for anybody's predictions, and for checkpoints by a benchmark's rules."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval import EVALUATE
from fourdhands.cli.main import run
from fourdhands.evaluation.benchmark_report import number
from fourdhands.evaluation.predictions_file import load_samples, save_samples
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.hands.mano import HandModel
from fourdhands.structures import HandState
from tests.helpers.official import convert
from tests.helpers.samples import random_pair
from tests.unit.data.convert.test_freihand import write_freihand


def evaluate(*words: object) -> int:
    return run("eval.py", EVALUATE, [str(word) for word in words])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    pair = random_pair(0, sides=1)
    paths = tmp_path / "predictions.npz", tmp_path / "truth.npz"
    for path, samples in zip(paths, (pair.predicted, pair.true), strict=True):
        save_samples(samples, path)
    return paths


def test_a_file_is_scored_whatever_its_order(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, truth = files
    flags = ("--protocol", "freihand", "--any_count", "true", "--data", truth)
    assert evaluate("--predictions", predictions, *flags, "--out", tmp_path / "a") == 0
    assert "xyz, Procrustes, mean (cm)" in capsys.readouterr().out
    with np.load(predictions) as file:
        arrays = dict(file)
    order = np.random.default_rng(0).permutation(len(arrays["names"]))
    mixed = {k: v if v.shape == () else v[order] for k, v in arrays.items()}
    np.savez(tmp_path / "mixed.npz", **mixed)
    assert evaluate("--predictions", tmp_path / "mixed.npz", *flags, "--out", tmp_path / "b") == 0
    first, second = (
        json.loads((tmp_path / name / "benchmark.json").read_text()) for name in ("a", "b")
    )
    assert first["figures"] == second["figures"] and first["images"] == 13
    assert first["hashes"].keys() == {"predictions", "truth"}
    assert list(first["hashes"]["truth"]) == [str(truth)]
    assert first["hashes"]["predictions"] != second["hashes"]["predictions"]
    page = (tmp_path / "a" / "report.html").read_text()
    for column in PROTOCOLS["freihand"].columns:
        assert f"<td>{column.name}</td>" in page
        assert f">{number(first['figures'][column.key], 4)}</td>" in page
    assert page.count("data:image/jpeg;base64,") == 9 and "DaHyF, table 1" in page


def test_protocols_of_joints_need_no_meshes(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, truth = files
    with np.load(predictions) as file:
        np.savez(predictions, **{k: v for k, v in file.items() if not k.startswith("vertices")})
    flags = ("--data", truth, "--any_count", "true", "--out", tmp_path / "out")
    assert evaluate("--predictions", predictions, "--protocol", "dexycb", *flags) == 0
    assert evaluate("--predictions", predictions, "--protocol", "freihand", *flags) == 1
    assert "vertices are labelled that have no prediction" in capsys.readouterr().err


def spoil_nan(arrays: dict[str, np.ndarray]) -> None:
    arrays["joints"][2, 0, 3, 1] = np.nan


def spoil_missing_image(arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        arrays[name] = array if array.shape == () else array[:-1]


def spoil_missing_hand(arrays: dict[str, np.ndarray]) -> None:
    arrays["joints_valid"][4] = False


def spoil_shape(arrays: dict[str, np.ndarray]) -> None:
    arrays["joints"] = arrays["joints"][:, 0]


def spoil_unknown(arrays: dict[str, np.ndarray]) -> None:
    arrays["poses"] = np.zeros(3)


def spoil_twice(arrays: dict[str, np.ndarray]) -> None:
    arrays["names"][1] = arrays["names"][0]


def spoil_camera(arrays: dict[str, np.ndarray]) -> None:
    arrays["cam_from_world"][3, :3, :3] *= 2


def spoil_objects(arrays: dict[str, np.ndarray]) -> None:
    arrays["names"] = np.array([{"run": "me"}], dtype=object)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_nan, "joints of image 2 are not finite"),
        (spoil_missing_image, "1 images have no prediction, as 'sequence/0/12'"),
        (spoil_missing_hand, "joints are labelled that have no prediction, as of 'sequence/0/4'"),
        (spoil_shape, "joints is float64 (13, 21, 3)"),
        (spoil_unknown, "unknown array 'poses'"),
        (spoil_twice, "a name stands twice"),
        (spoil_camera, "cam_from_world of image 3 is no rigid motion"),
        (spoil_objects, "not a readable npz file"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    files: tuple[Path, Path], tmp_path: Path, spoil, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, truth = files
    with np.load(predictions) as file:
        arrays = dict(file)
    spoil(arrays)
    np.savez(predictions, **arrays)
    flags = ("--protocol", "freihand", "--any_count", "true", "--data", truth)
    assert evaluate("--predictions", predictions, *flags, "--out", tmp_path / "out") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_flags_that_do_not_go_together(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, truth = files
    end = ("--data", truth, "--out", tmp_path / "out")
    for flags, said in (
        ((), "either --checkpoint or --predictions"),
        (("--predictions", predictions), "give --protocol NAME"),
        (("--predictions", predictions, "--protocol", "freihandd"), "there is no 'freihandd'"),
        (("--predictions", predictions, "--protocol", "freihand"), "has 3,960 images, here are 13"),
    ):
        assert evaluate(*flags, *end) == 1
        assert said in capsys.readouterr().err


def test_the_truth_may_be_a_converted_set(tmp_path: Path) -> None:
    """The true hands themselves, as somebody's predictions, are right."""
    truth = write_freihand(tmp_path / "raw")
    convert("freihand", tmp_path / "raw", tmp_path / "shards")
    names = [f"{sequence}/{camera}/{frame}" for sequence, camera, frame in truth]
    right = [hands[0] for hands in truth.values()]
    nothing = np.zeros((len(names), 1, 21, 3))
    valid = np.repeat(np.array([[[True], [False]]]), 21, 2).repeat(len(names), 0)
    joints = np.concatenate((np.stack([hand.joints for hand in right])[:, None], nothing), 1)
    meshes = np.stack([hand.vertices for hand in right])[:, None]
    np.savez(
        tmp_path / "mine.npz",
        format_version=np.array(1),
        names=np.array(names),
        joints=joints,
        joints_valid=valid,
        vertices=np.concatenate((meshes, np.zeros_like(meshes)), 1),
        vertices_valid=valid[..., 0],
    )
    flags = ("--protocol", "freihand", "--any_count", "true", "--out", tmp_path / "out")
    data = ("--data", tmp_path / "shards" / "train.json")
    assert evaluate("--predictions", tmp_path / "mine.npz", *data, *flags) == 0
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert found["figures"]["xyz_mean_cm"] < 1e-4 and found["figures"]["mesh_f5"] == 1
    assert found["hashes"].keys() == {"predictions", "summaries", "shards"}


def test_files_survive(files: tuple[Path, Path], tmp_path: Path) -> None:
    samples = load_samples(files[0])
    save_samples(samples, tmp_path / "again.npz")
    again = load_samples(tmp_path / "again.npz")
    assert again.names == samples.names
    for name in ("joints", "joints_valid", "vertices", "handedness", "frame", "fps"):
        assert (getattr(again, name) == getattr(samples, name)).all(), name
    same = again.sequence[:, None] == again.sequence
    assert (same == (samples.sequence[:, None] == samples.sequence)).all()
    assert replace(again, names=()).names == ()


def test_hands_in_each_other_are_measured_by_the_models_faces(tmp_path: Path) -> None:
    true = random_pair(1).true
    rest = torch.zeros(13, 2, 3)
    turns = torch.eye(3).expand(13, 2, 16, 3, 3)
    state = HandState(turns[:, :, 0], turns[:, :, 1:], torch.zeros(13, 2, 10), rest)
    vertices = HandModel.open()(state).vertices
    vertices = vertices - vertices.mean(2, keepdim=True)  # palms in each other
    save_samples(replace(true, vertices=vertices), tmp_path / "mine.npz")
    save_samples(replace(true, vertices=vertices[:, :, :0]), tmp_path / "truth.npz")
    flags = ("--protocol", "interaction", "--data", tmp_path / "truth.npz", "--out", tmp_path)
    assert evaluate("--predictions", tmp_path / "mine.npz", *flags) == 0
    figures = json.loads((tmp_path / "benchmark.json").read_text())["figures"]
    assert 5 < figures["penetration_depth_mm"] < 20
    assert figures["penetration_depth_largest_mm"] == figures["penetration_depth_mm"]
    assert 50 < figures["penetration_volume_cm3"] < 400
