"""`fourdhands predict` as a user runs it, with boxes by hand and an untrained network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourdhands.cli.main import main
from fourdhands.models.network import TwoHandNetwork
from tests.unit.export.test_predictor import TINY, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    write_checkpoint(tmp_path / "net.ckpt", TwoHandNetwork(TINY))
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path


def predict(folder: Path, *photos: str, flags: tuple[str, ...] = ()) -> int:
    paths = [str(folder / photo) for photo in photos]
    options = ["--checkpoint", str(folder / "net.ckpt"), "--out", str(folder / "out")]
    return main(["predict", *paths, *options, *flags])


def test_writes_overlay_sheet_and_numbers(folder, capsys):
    boxes = ("--box", "10,20,40,50,right", "--box", "60,20,40,50,left", "--focal-length", "100")
    assert predict(folder, "photo.png", flags=boxes) == 0
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == ["photo.npz", "photo_overlay.png", "photo_sheet.png"]
    with np.load(folder / "out" / "photo.npz", allow_pickle=False) as file:
        assert file["present"].tolist() == [[True, True]]
        assert file["intrinsics"][0, 0] == 100
        assert np.isfinite(file["vertices"]).all()
    overlay = np.asarray(Image.open(folder / "out" / "photo_overlay.png"))
    assert overlay.shape == (90, 120, 3)
    assert (overlay != np.asarray(Image.open(folder / "photo.png"))).any()
    assert "right 1.00 + left 1.00" in capsys.readouterr().out


def test_boxes_may_begin_outside_and_photographs_may_follow(folder, capsys):
    options = ["--checkpoint", str(folder / "net.ckpt"), "--out", str(folder / "out")]
    boxes = ["--box", "-10,20,40,50,left", "--box", "60,20,40,50,right"]
    assert main(["predict", *options, *boxes, str(folder / "photo.png")]) == 0
    with np.load(folder / "out" / "photo.npz", allow_pickle=False) as file:
        assert file["detected_bbox"][0, 1].tolist() == [9.5, 44.5, 40, 50]


def test_bad_photographs_do_not_stop_the_others(folder, capsys, monkeypatch):
    class OneHand:
        def __call__(self, image):
            from fourdhands.video.detect import parse_box

            return [parse_box("10,20,40,50,left")] if image.any() else []

    monkeypatch.setattr("fourdhands.cli.predict.MediaPipeDetector", OneHand)
    (folder / "text.png").write_text("hello")
    Image.new("RGB", (50, 40)).save(folder / "empty.png")
    assert predict(folder, "text.png", "empty.png", "photo.png") == 1
    printed = capsys.readouterr()
    assert "text.png: not an image" in printed.err
    assert "empty.png: no hand found" in printed.err
    assert "2 of 3 photographs gave no result" in printed.err.splitlines()[-1]
    assert (folder / "out" / "photo_overlay.png").exists()
    assert predict(folder, "empty.png") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("photos", "flags", "message"),
    [
        (("photo.png",), ("--box", "1,2,3,right"), "box '1,2,3,right' is not x,y,w,h,side"),
        (("photo.png",), ("--box", "900,0,9,9,left"), "outside the image of 120 x 90 pixels"),
        (("photo.png",), ("--box", "1,2,3,4,left", "-5,6,7,8,right"), "-5,6,7,8,right"),
        (("5,6,7,8,right", "a.png"), ("--box", "1,2,3,4,left"), "give each box its own --box"),
        (("photo.png", "b.png"), ("--box", "1,2,3,4,left"), "--box belongs to one photograph"),
        (("photo.png", "sub/photo.jpg"), (), "2 photographs are named 'photo'"),
        (("photo.png",), ("--focal-length", "-1"), "it has to be positive"),
        (("none.png",), ("--box", "1,2,3,4,left"), "none.png: no such photograph"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, capsys, photos, flags, message):
    assert predict(folder, *photos, flags=flags) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not any((folder / "out").glob("*")) if (folder / "out").exists() else True
