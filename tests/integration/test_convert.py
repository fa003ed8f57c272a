"""The convert command as its users meet it: stopped, given rubbish, run twice."""

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourdhands.cli.main import main
from fourdhands.data.convert import run
from tests.unit.data.convert.test_freihand import VERSIONS, write_freihand

IMAGES = 4
_ONE_FRAME_SHARDS = (
    "import sys; from fourdhands.data.convert import run; run.SHARD_FRAMES = 1; "
    "from fourdhands.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("download") / "raw"
    write_freihand(root, IMAGES)
    return root


def command(root: Path, out: Path, workers: int = 1) -> list[str]:
    flags = ["--root", str(root), "--out", str(out), "--workers", str(workers)]
    return ["convert", "freihand", *flags]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_and_run_again_as_if_never_killed(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SHARD_FRAMES", 1)
    assert main(command(download, tmp_path / "whole")) == 0
    whole = contents(tmp_path / "whole")
    assert sum(name.endswith(".tar") for name in whole) == VERSIONS * IMAGES

    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", _ONE_FRAME_SHARDS, *command(download, out, workers=2)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(out.glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(out) != whole
    # killed while it noted what a shard leaves out, which the clock hardly ever hits
    (out / "..train-000002.skipped.json.1.partial").touch()
    assert main(command(download, out)) == 0
    assert contents(out) == whole
    # and once more: nothing is touched
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main(command(download, out)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    # a shard that got lost comes back
    (out / "train-000003.tar").unlink()
    assert main(command(download, out)) == 0
    assert contents(out) == whole


def test_another_download_is_refused(download: Path, tmp_path: Path, capfd: Any) -> None:
    assert main(command(download, tmp_path / "out")) == 0
    before = contents(tmp_path / "out")
    other = shutil.copytree(download, tmp_path / "other")
    (other / "training" / "rgb" / "00000001.jpg").unlink()
    assert main(command(other, tmp_path / "out")) == 1
    assert "plan_sha256" in capfd.readouterr().err
    assert contents(tmp_path / "out") == before


def test_wrong_conventions_stop_with_the_residual(
    download: Path, tmp_path: Path, capfd: Any
) -> None:
    root = shutil.copytree(download, tmp_path / "raw")
    path = root / "training_mano.json"
    entries = json.loads(path.read_text())
    for entry in entries:
        entry[0][:3] = [angle + 0.8 for angle in entry[0][:3]]
    path.write_text(json.dumps(entries))
    assert main(command(root, tmp_path / "out")) == 1
    error = capfd.readouterr().err
    assert "the mesh misses the" in error and "% of the hand's size" in error
    assert not list((tmp_path / "out").glob("*"))


# ---- rubbish -------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, Path], None]


def truncate(rng: random.Random, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def flip(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 20))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))


def remove(rng: random.Random, path: Path) -> None:
    path.unlink()


def empty(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def spoil_values(rng: random.Random, path: Path) -> None:
    """Put rubbish somewhere into a tree of JSON values."""
    if path.suffix != ".json":
        return truncate(rng, path)
    content = copy.deepcopy(json.loads(path.read_text()))
    place = content
    for _ in range(rng.randrange(3)):
        inner = place[rng.randrange(len(place))]
        if not isinstance(inner, list):
            break
        place = inner
    rubbish = [None, float("nan"), 1e30, -1e300, [], "text", {}, [[1, 2], [3]], True, 10**400]
    place[rng.randrange(len(place))] = rng.choice(rubbish)
    if rng.random() < 0.2:
        del place[rng.randrange(len(place)) :]
    path.write_text(json.dumps(content))


MUTATIONS: tuple[Mutation, ...] = (truncate, flip, remove, empty, spoil_values, spoil_values)


@pytest.mark.parametrize("seed", range(40))
def test_rubbish_is_left_out_or_named(
    download: Path, tmp_path: Path, seed: int, capfd: Any
) -> None:
    """Whatever is done to one file: no traceback, no frame from another file lost or changed."""
    rng = random.Random(seed)
    root = shutil.copytree(download, tmp_path / "raw")
    path = rng.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    rng.choice(MUTATIONS)(rng, path)
    status = main(command(root, tmp_path / "out"))
    captured = capfd.readouterr()
    if status:
        last = captured.err.strip().splitlines()[-1]
        assert "fourdhands: error: " in last and "Traceback" not in captured.err
        assert not list((tmp_path / "out").glob("*.tar"))
        return
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    left_out = sum(entry["frames"] for entry in report["skipped"].values())
    gone = path.suffix == ".jpg" and not path.exists()
    assert report["frames"] + left_out + gone == VERSIONS * IMAGES
    # a broken picture costs one frame, a broken entry the versions of its image
    assert left_out <= (VERSIONS if path.suffix == ".json" else 1)
