"""The benchmark of the data: every row, with a small stand-in for HaMeR's checkout."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import data
from tests.helpers.clips import random_clip, write_set

REPOSITORY = Path(__file__).parents[2]
LOADER = """
import numpy as np
import webdataset
from yacs.config import CfgNode
from skimage.filters import gaussian


class ImageDataset:
    @staticmethod
    def load_tars_as_webdataset(cfg: CfgNode, urls, train, resampled=False):
        assert cfg.MODEL.IMAGE_SIZE == 256 and cfg.DATASETS.get("FILTER_NUM_KP", 0) == 4
        assert train and resampled
        hands = webdataset.WebDataset(urls, resampled=True).decode("rgb8")
        return hands.map(lambda item: {"img": np.zeros((3, 256, 256), np.float32)})
"""
SETTINGS = {
    "experiment/default.yaml": "# @package _global_\nDATASETS: {BETAS_REG: True}",
    "experiment/hamer_vit_transformer.yaml": "MODEL: {IMAGE_SIZE: 256}",
    "data_filtering/low1.yaml": "DATASETS: {FILTER_NUM_KP: 4}",
}


def write_checkout(root: Path, loader: str) -> Path:
    """The files of a checkout that the benchmark touches."""
    package = root / "hamer" / "datasets"
    package.mkdir(parents=True)
    (package / "image_dataset.py").write_text(loader)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    for name, text in SETTINGS.items():
        path = root / "hamer" / "configs_hydra" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    write_set(folder, [[random_clip(rng, key=str(k), num_frames=2) for k in range(3)]])
    return folder / "set.json"


def flags(summary: Path, checkout: Path) -> list[str]:
    images = ["--images", "8", "--seconds", "0.01", "--buffer", "16"]
    return [str(summary), *images, "--hamer", str(checkout)]


def test_rows_and_ratios(summary: Path, tmp_path: Path) -> None:
    """In a process that holds nothing: what tests have freed would be taken before new memory."""
    small = (
        "import sys; from benchmarks import data; data.WIDTHS = (200, 300); data.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", small, *flags(summary, write_checkout(tmp_path, LOADER))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    out = done.stdout
    assert "8 images" in out
    rows = {m[1].strip(): (float(m[3]), float(m[4])) for m in re.finditer(ROW, out)}
    assert list(rows) == ["plain loader", "fourdhands", "fourdhands, HaMeR's buffer", "HaMeR"]
    assert all(speed > 0 for speed, _ in rows.values())
    # sixteen decoded crops of 256 x 256 x 3 floats, which is 12 MiB, against as many small jpgs
    assert rows["HaMeR"][1] > 9 > rows["fourdhands, HaMeR's buffer"][1]
    assert "times HaMeR's speed in 1/" in out


ROW = re.compile(r"^(\D.{27}) +(\d+) +(\d+) +(-?\d+)$", re.MULTILINE)


def test_what_hinders_hamers_loader_is_said_in_one_line(summary: Path, tmp_path: Path) -> None:
    lacking = write_checkout(tmp_path / "lacking", "import a_package_that_is_not_there")
    with pytest.raises(SystemExit, match="package 'a_package_that_is_not_there' is missing"):
        data.main(flags(summary, lacking))
    with pytest.raises(SystemExit, match="has to name a checkout of HaMeR"):
        data.main(flags(summary, tmp_path))
