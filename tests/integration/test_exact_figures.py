"""Figures do not depend on how many processes have shared the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.clips import random_clip, write_set

REPOSITORY = Path(__file__).parents[2]


def test_one_two_and_three_processes_measure_the_same(tmp_path: Path) -> None:
    """Also where they get unequal shares, or one of them nothing."""
    rng = np.random.default_rng(0)
    folders = [tmp_path / "unequal", tmp_path / "few"]
    for folder, shards in zip(folders, ((4, 2, 1), (2,)), strict=True):
        clips = [
            [random_clip(rng, key=f"clip-{s}-{k}", num_frames=5 + k) for k in range(count)]
            for s, count in enumerate(shards)
        ]
        write_set(folder, clips)
    figures = []
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.helpers.validate", str(processes), out, *folders],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # sums depend on the number of threads
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        figures.append(json.loads(out.read_text()))
    alone = figures[0]
    for one in alone:
        assert np.isfinite([v for name, v in one.items() if "direct" not in name]).all()
    assert alone[0] != alone[1]
    for shared in figures[1:]:
        for one, other in zip(shared, alone, strict=True):
            assert one == pytest.approx(other, rel=1e-12, abs=0, nan_ok=True)
