"""Video files, odd and ordinary, and folders of images as frames at an even rate."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdhands.video.frames import open_video

av = pytest.importorskip("av")


def write_video(path: Path, levels, *, times=None, size=(64, 48), fps=10) -> Path:
    """Grey frames, the left half brighter; times in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "5", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k, level in enumerate(levels):
            image = np.full((size[1], size[0], 3), level, np.uint8)
            image[:, : size[0] // 2] = min(level + 40, 255)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(1000 * (k / fps if times is None else times[k]))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(video) -> list[int]:
    return [round(int(frame.image[5, -5].mean()), -1) for frame in video]


def test_frames_come_once_each_and_again_the_same(tmp_path):
    video = open_video(write_video(tmp_path / "a.mp4", range(20, 200, 20)))
    assert video.fps == 10 and video.image_size == (64, 48)
    assert levels(video) == list(range(20, 200, 20))
    assert levels(video) == list(range(20, 200, 20))
    assert [frame.time for frame in video] == pytest.approx(np.arange(9) / 10)


def test_span_and_rate(tmp_path):
    path = write_video(tmp_path / "a.mp4", range(20, 220, 20))
    assert levels(open_video(path, start=0.3, end=0.6)) == [80, 100, 120]
    assert levels(open_video(path, fps=5)) == [20, 60, 100, 140, 180]
    assert levels(open_video(path, fps=20))[:6] == [20, 20, 40, 40, 60, 60]


def test_uneven_times_become_even(tmp_path):
    times = (0.0, 0.1, 0.5, 0.6)
    path = write_video(tmp_path / "a.mp4", (20, 60, 100, 140), times=times)
    assert levels(open_video(path, fps=10)) == [20, 60, 60, 60, 60, 100, 140]


def test_portrait_of_a_phone_is_turned_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", [100] * 4)
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4
    at += 4 + (32 if data[at] else 20) + 16
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    video = open_video(path)
    image = next(iter(video)).image
    assert video.image_size == (48, 64) and image.shape == (64, 48, 3)
    assert image[10].mean() > image[-10].mean() + 20  # the left side is up after a right turn


def test_a_broken_middle_is_passed_over_and_told(tmp_path):
    rng = np.random.default_rng(0)
    path = write_video(tmp_path / "a.mp4", rng.integers(20, 220, 60), size=(320, 240))
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 8
    middle = start + (len(data) - start) // 3
    data[middle : middle + 600] = rng.bytes(600)
    path.write_bytes(data)
    video = open_video(path)
    assert len(list(video)) >= 50


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mp4: not a video"):
        open_video(path)


def test_images_in_natural_order_and_large_ones_smaller(tmp_path):
    for number, level in ((10, 100), (9, 50), (1, 10)):
        Image.fromarray(np.full((2400, 3200, 3), level, np.uint8)).save(tmp_path / f"f{number}.png")
    video = open_video(tmp_path)
    assert [int(frame.image.mean()) for frame in video] == [10, 50, 100]
    assert video.image_size == (1600, 1200)
    with pytest.raises(ValueError, match="--end"):
        open_video(tmp_path, start=2, end=1)
    with pytest.raises(FileNotFoundError):
        open_video(tmp_path / "none.mp4")
