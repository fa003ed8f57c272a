"""`fourdhands synthesize` as users run it: any number of workers, killed, resumed, refused."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from fourdhands.cli.main import main
from fourdhands.data.shards import ShardWriter
from fourdhands.data.synthetic.appearance import AppearanceConfig
from fourdhands.data.synthetic.background import BackgroundConfig
from fourdhands.data.synthetic.config import SceneConfig
from fourdhands.data.synthetic.generate import ClipGenerator
from fourdhands.data.synthetic.synthesize import SplitConfig, SplitsConfig, SynthesizeConfig

SCENE = {"image_size": [96, 72], "background": {"textures": 10}, "appearance": {"people": 2}}
SPLITS = {
    "train": {"clips": 12, "num_frames": 2, "fps": 6.0},
    "val": None,
    "test": {"clips": 3, "num_frames": 3, "fps": 10.0},
}


def command(folder: Path, *flags: str) -> list[str]:
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump({"scene": SCENE, "splits": SPLITS, "shard_clips": 2}))
    base = [sys.executable, "-m", "fourdhands", "synthesize", "--config", str(config)]
    return [*base, "--out", str(folder / "out"), *flags]


def children(pid: int) -> list[int]:
    return [int(k) for k in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_killed_and_resumed_with_other_workers_gives_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(tmp_path, "--workers", "2"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: list(out.glob("*.tar")) or process.poll() is not None)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, workers)), 30)  # nobody is left behind
    finished = sorted(out.glob("*.tar"))
    assert 0 < len(finished) < 8

    resumed = subprocess.run(
        command(tmp_path, "--workers", "1"), capture_output=True, text=True, timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "frames/s" in resumed.stderr
    assert not list(out.glob("*partial*"))
    assert (out / "train-sheet.png").stat().st_size > 10_000

    torch.set_num_threads(1)
    config = SynthesizeConfig(
        splits=SplitsConfig(SplitConfig(12, 2, 6.0), None, SplitConfig(3, 3, 10.0)), shard_clips=2
    )
    expected = reference(tmp_path / "reference", config)
    assert {p.name: p.read_bytes() for p in out.glob("*.tar")} == expected

    assert main([*command(tmp_path)[3:], "--seed", "9"]) == 1  # not the seed that is there
    assert "seed = 0, not 9" in capsys.readouterr().err


def reference(folder: Path, config: SynthesizeConfig) -> dict[str, bytes]:
    """The same shards, one clip after the other in this process."""
    scene = SceneConfig(
        image_size=(96, 72),
        background=BackgroundConfig(textures=10),
        appearance=AppearanceConfig(people=2),
    )
    shards = {}
    for number, (name, split) in enumerate(
        (("train", config.splits.train), ("val", None), ("test", config.splits.test))
    ):
        if split is None:
            continue
        generator = ClipGenerator(
            scene,
            num_frames=split.num_frames,
            fps=split.fps,
            dataset=f"synthetic-{name}-{config.seed}",
            seed=(config.seed, number),
        )
        count = -(-split.clips // config.shard_clips)
        writer = ShardWriter(folder, name, num_shards=count, recipe={})
        writer.start()
        for shard in reversed(writer.pending()):
            start = shard * config.shard_clips
            stop = min(start + config.shard_clips, split.clips)
            writer.write(shard, [generator.clip(index) for index in range(start, stop)])
            shards[writer.path(shard).name] = writer.path(shard).read_bytes()
    return shards


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--scene.image_siz", "[96, 72]", "did you mean '--scene.image_size'?"),
        ("--scene.num_frames", "3", "did you mean '--splits.train.num_frames' or"),
        ("--splits.val.clps", "3", "did you mean '--splits.val.clips'?"),
        ("--splits.val.clips", "0", "clips is 0: a split needs at least 1"),
        ("--seed", "-1", "seed is -1"),
        ("--scene.background.folder", "/nowhere/at/all", "/nowhere/at/all"),
        ("--scene.mano", "/nowhere/at/all", "/nowhere/at/all"),
        ("--workers", "0", "workers"),
    ],
)
def test_mistakes_cost_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str, message: str
) -> None:
    assert main(command(tmp_path, flag, value)[3:]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()
