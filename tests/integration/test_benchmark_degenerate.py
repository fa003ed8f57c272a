"""Strange hands through eval.py's door: figures that are defined, or one line that says why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import EVALUATE
from fourdhands.cli.main import run
from fourdhands.evaluation.predictions_file import save_samples
from tests.helpers.samples import random_pair

Arrays = dict[str, Any]
Change = Callable[[Arrays, Arrays], None]
"""Of predictions and truth."""


def evaluate(
    folder: Path, protocol: str, change: Change, capsys: pytest.CaptureFixture[str]
) -> dict[str, float | None] | str:
    """The figures, or the line of error."""
    pair = random_pair(0, 8, sides=1 if protocol in ("ho3d_v2", "freihand", "dexycb") else 2)
    files: list[Arrays] = []
    for name, samples in (("predictions", pair.predicted), ("truth", pair.true)):
        save_samples(samples, folder / f"{name}.npz")
        with np.load(folder / f"{name}.npz") as file:
            files.append(dict(file))
    change(files[0], files[1])
    for name, arrays in zip(("predictions", "truth"), files, strict=True):
        np.savez(folder / f"{name}.npz", **arrays)
    flags = ["--protocol", protocol, "--any_count", "true", "--out", str(folder / "out")]
    flags += ["--predictions", str(folder / "predictions.npz")]
    code = run("eval.py", EVALUATE, [*flags, "--data", str(folder / "truth.npz")])
    said = capsys.readouterr()
    if code:
        written = said.err.replace("\r", "\n").split("\n")
        lines = [line for line in written if line.strip() and "it/s" not in line]
        assert len(lines) == 1 and "Traceback" not in said.err, said.err
        assert not (folder / "out").exists()
        return lines[0]
    report = json.loads((folder / "out" / "benchmark.json").read_text())
    figures: dict[str, float | None] = report["figures"]
    return figures


def zeros(predicted: Arrays, true: Arrays) -> None:
    for name in ("joints", "vertices"):
        predicted[name] = np.zeros_like(predicted[name])


def mirrored(predicted: Arrays, true: Arrays) -> None:
    for name in ("joints", "vertices"):
        predicted[name] = true[name] * (-1, 1, 1)


def one_frame(predicted: Arrays, true: Arrays) -> None:
    for arrays in (predicted, true):
        for name, array in arrays.items():
            arrays[name] = array if array.ndim == 0 else array[:1]


def frames_apart(predicted: Arrays, true: Arrays) -> None:
    true["frame"] = 7 * true["frame"]


def keep_joints(*kept: int) -> Change:
    def apply(predicted: Arrays, true: Arrays) -> None:
        mask = np.isin(np.arange(21), kept)
        true["joints_valid"] = true["joints_valid"] & mask
        true["joints"] = np.where(true["joints_valid"][..., None], true["joints"], 0)
        true["vertices_valid"] &= bool(kept)

    return apply


def nothing_of_one_image(predicted: Arrays, true: Arrays) -> None:
    for name in ("joints_valid", "vertices_valid"):
        true[name][3] = False


def no_meshes(predicted: Arrays, true: Arrays) -> None:
    for name in ("vertices", "vertices_valid"):
        del true[name]


def some_meshes(predicted: Arrays, true: Arrays) -> None:
    true["vertices_valid"][2] = False


def meshes_for_no_hand(predicted: Arrays, true: Arrays) -> None:
    predicted["vertices_valid"][:] = False


def partly_predicted(predicted: Arrays, true: Arrays) -> None:
    predicted["joints_valid"][5, :, 20] = False


def odd_names(predicted: Arrays, true: Arrays) -> None:
    names = ["", " ", "a\nb", "../x", "<b>&", "x\u202e", "日本", "x" * 5000]
    for arrays in (predicted, true):
        arrays["names"] = np.array(names)


def nearly_flat(predicted: Arrays, true: Arrays) -> None:
    predicted["joints"][..., 2] = 0.5
    predicted["vertices"][..., 2] = 0.5


def huge(predicted: Arrays, true: Arrays) -> None:
    predicted["joints"][1] *= 1e5
    predicted["vertices"][1] *= 1e5


@pytest.mark.parametrize(
    ("protocol", "change", "expected"),
    [
        ("ho3d_v2", zeros, {}),  # as HO3D's program: aligned, a point is the centre of the hand
        ("interhand26m", zeros, "MPJPE, all (mm) cannot be told: a prediction that counts comes"),
        ("interhand26m_intaghand", zeros, {}),
        ("arctic", zeros, {}),
        ("freihand", mirrored, {"xyz_procrustes_auc": 1 - 0.5 / 99}),
        ("freihand", nearly_flat, {}),
        ("freihand", huge, {}),
        ("freihand", odd_names, {}),
        ("arctic", one_frame, {"acceleration_error_m_per_s2": None}),
        ("h2o_world", one_frame, {"acceleration_error_m_per_s2": None, "rte_percent": None}),
        ("arctic", frames_apart, {"acceleration_error_m_per_s2": None}),
        ("ho3d_v2", keep_joints(0), "of the right hand in 'sequence/0/0' only 1 of 21 joints are"),
        ("dexycb", keep_joints(0), "DexYCB S0 counts hands whole"),
        ("interhand26m_interwild", keep_joints(0), {"mpjpe_mm": 0.0}),  # wrists, to themselves
        ("interhand26m_interwild", keep_joints(5), {"mpjpe_mm": None, "mrrpe_mm": None}),
        ("h2o", keep_joints(), "the truth has no label of anything that H2O counts"),
        ("ho3d_v2", nothing_of_one_image, "HO3D v2 has a hand in every image; 'sequence/0/3' has"),
        ("dexycb", nothing_of_one_image, {}),
        ("ho3d_v2", no_meshes, {"mesh_mean_cm": None, "mesh_f5": None, "mesh_aligned_auc": None}),
        ("ho3d_v2", some_meshes, "of the right hand in 'sequence/0/2' joints or mesh are labelled"),
        ("ho3d_v2", meshes_for_no_hand, "vertices are labelled that have no prediction"),
        ("arctic", partly_predicted, "joints are labelled that have no prediction"),
    ],
)
def test_strange_hands(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    change: Change,
    expected: dict[str, float | None] | str,
) -> None:
    found = evaluate(tmp_path, protocol, change, capsys)
    if isinstance(expected, str):
        assert isinstance(found, str) and expected in found
        return
    assert isinstance(found, dict), found
    none = {key for key, value in expected.items() if value is None}
    assert {key for key, value in found.items() if value is None} >= none
    for key, value in found.items():
        if expected.get(key) is not None:
            assert value == pytest.approx(expected[key], abs=1e-9), key
        assert value is None or np.isfinite(value), key
