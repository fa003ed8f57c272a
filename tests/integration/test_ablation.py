"""The ablation benchmark: its tables from made-up results, and runs that are stopped and go on."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import ablation
from fourdhands import config
from fourdhands.data.datamodule import DataConfig
from fourdhands.evaluation.metrics import METRICS
from fourdhands.training.runs import ReconstructionRun, TrainerConfig
from tests.helpers.clips import random_clip, write_set
from tests.helpers.runs import stop_at, tiny_network

VARIANTS = ("seq", "ldm_simcc_confidence")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def result(variant: str, seed: int, value: float | None) -> ablation.Result:
    return {
        "name": f"{variant}-{seed}",
        "figures": dict.fromkeys(METRICS, value),
        "mean_pose": dict.fromkeys(METRICS, 100.0),
        "clips_seen": 9600,
        "frames_a_clip": 1,
    }


def test_tables_show_mean_and_spread_beside_the_papers_figures() -> None:
    found = {"baseline": [result("baseline", k, 10.0 + k) for k in (0, 1, 2)]}
    found |= {"gdm": [result("gdm", 0, None)], "gdm_heatmap": []}
    table = ablation.TABLES["dahyf"]
    lines = ablation.table_lines(table, table.choose(list(found)), found).splitlines()
    assert "DaHyF, table 4" in lines[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[2], *lines[4:])]
    assert len({len(row) for row in rows}) == 1
    assert rows[0][1:6] == [
        *("PA-MPJPE (mm)", "MPJPE (mm)", "2D EPE, projected (px)", "2D EPE, direct (px)"),
        "Orientation error (deg)",
    ]
    assert rows[0][6:10] == [f"paper: {METRICS[key].name}" for key in table.metrics[:4]]
    ours = ["11.00 ± 1.00"] * 5
    assert rows[1] == ["Baseline", *ours, "8.91", "18.14", "7.37", "-", "9,600 x 1", "3"]
    assert rows[2][:7] == ["+GDM", *["-"] * 5, "8.83"]
    assert rows[3] == ["+GDM + Heatmap", *["-"] * 5, "8.40", "17.30", "6.80", "8.10", "-", "0"]
    assert rows[4][:6] == ["mean pose, looks at nothing", *["100.00"] * 5]


def test_every_overlay_is_a_row() -> None:
    for table in ablation.TABLES.values():
        overlays = {path.stem for path in table.overlays.glob("*.yaml")}
        assert {row.variant for row in table.rows} == overlays
        assert {len(row.paper) for row in table.rows} <= {len(table.metrics), 4}


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """A command line for two variants, a tiny recipe and a handful of clips."""
    rng = np.random.default_rng(0)
    for name in ("train", "val", "test"):
        clips = [random_clip(rng, key=f"{name}{k}", num_frames=4) for k in range(4)]
        write_set(tmp_path / "data", [clips[:2], clips[2:]], name)
    recipe = ReconstructionRun(
        network=tiny_network(),
        data=DataConfig(batch_size=2, num_workers=0, shuffle_buffer=2),
        trainer=TrainerConfig(accelerator="cpu", max_minutes=1),
    )
    config.save(recipe, tmp_path / "tiny.yaml")
    flags = ["--data", str(tmp_path / "data"), "--recipe", str(tmp_path / "tiny.yaml")]
    flags += ["--out", str(tmp_path / "out"), "--seeds", "4", "--variants", *VARIANTS]
    return flags


def test_a_stopped_benchmark_goes_on_and_counts_each_run_once(
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_at(patched, 1, signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            ablation.main([*line, "--steps", "2"])
    assert left.value.code == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().err
    assert not list(out.glob("*.json"))

    ablation.main([*line, "--steps", "2"])
    printed = capsys.readouterr().out
    assert (out / "seq-4" / "log" / "from-000001").is_dir()  # it went on
    assert not list(out.rglob("*.ckpt"))
    assert (out / "tables.md").read_text().strip() == printed.strip()
    results = [json.loads((out / f"{name}-4.json").read_text()) for name in VARIANTS]
    assert [one["frames_a_clip"] for one in results] == [3, 1]
    assert [one["run"]["data"]["gap"] for one in results] == [1, DataConfig().gap]
    assert {one["clips_seen"] for one in results} == {4}
    plain = json.loads((out / "tables.json").read_text())
    row: dict[str, Any] = plain["tables"]["dahyf"]["ldm_simcc_confidence"]
    assert row["figures"]["mpjpe_mm"] == [pytest.approx(results[1]["figures"]["mpjpe_mm"], 1e-4)]
    assert f"| +LDM + SJCP + L_c | {row['figures']['pa_mpjpe_mm'][0]:.2f} |" in printed

    monkeypatch.setattr(ablation, "train_and_evaluate", None)  # there is nothing left to do
    ablation.main([*line, "--steps", "2"])
    assert capsys.readouterr().out == printed
    with pytest.raises(SystemExit) as left:
        ablation.main([*line, "--steps", "3"])
    assert left.value.code == 1
    assert (
        "trainer.max_steps is 2 there and 3 here; choose another --out" in capsys.readouterr().err
    )


def test_help_names_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ablation.main(["--help"])
    words = capsys.readouterr().out.replace(",", " ").split()
    assert {row.variant for table in ablation.TABLES.values() for row in table.rows} <= set(words)
