"""Frames of a video file, a folder of images or one image, streamed at an even rate.

The first step of `fourdhands reconstruct`. A video is gone through more than once (finding hands,
predicting, drawing), so the same frames come each time and no more than one is held.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image as PillowImage

from fourdhands.video.detect import Image
from fourdhands.video.predict import read_photo

IMAGE_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FOLDER_FPS: Final = 30.0
MOST_PIXELS: Final = 1920 * 1920
"""Larger frames are halved until they are smaller: 4K tells nothing more of a hand."""
_FOCAL_35MM: Final = 41989  # EXIF: focal length in 35 mm film
_EXIF: Final = 0x8769
_FILM: Final = math.hypot(36, 24)  # millimetres


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        index: 0, 1, ... of those that are looked at.
        time: seconds in the video.
        image: (H, W, 3) RGB, upright.
    """

    index: int
    time: float
    image: Image


@dataclass
class Video:
    """Frames at an even rate; iterate over it as often as needed.

    Attributes:
        path: of the file or folder.
        image_size: width, height of the frames, upright.
        fps: frames a second.
        source_fps: frames a second of the source, on average.
        start: seconds.
        end: seconds; infinite for all.
        focal_length: pixels, if metadata tells; None if not.
        notes: what the user should know, known after the first pass.
    """

    path: Path
    image_size: tuple[int, int]
    fps: float
    source_fps: float
    start: float = 0.0
    end: float = math.inf
    focal_length: float | None = None
    notes: list[str] = field(default_factory=list)
    estimated_frames: int | None = None
    images: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        """Frame k shows what a player shows at `start + k / fps`."""
        source = _images(self.images) if self.images else self._decoded()
        source = self._within(source)
        step, wanted, index = 1 / self.fps, self.start, 0
        slack = min(step, 1 / self.source_fps) / 2
        shown: Image | None = None
        last = -math.inf
        for time, image in source:
            # all moments before this picture show the one before it; half a picture of slack, so
            # that a source of this very rate gives each of its pictures once
            while shown is not None and wanted < time - slack and wanted < self.end:
                yield Frame(index, wanted, shown)
                index += 1
                wanted = self.start + index * step
            shown, last = self._fitted(image), time
        while shown is not None and wanted <= last + slack and wanted < self.end:
            yield Frame(index, wanted, shown)
            index += 1
            wanted = self.start + index * step

    def _within(self, source: Iterator[tuple[float, Image]]) -> Iterator[tuple[float, Image]]:
        for time, image in source:
            if time >= self.end + 1 / self.fps:
                return
            if time >= self.start - 1 / self.fps:
                yield time, image

    def _fitted(self, image: Image) -> Image:
        if image.shape[1::-1] == self.image_size:
            return image
        resized = PillowImage.fromarray(image).resize(
            self.image_size, PillowImage.Resampling.BOX, reducing_gap=2.0
        )
        return np.asarray(resized)

    def _decoded(self) -> Iterator[tuple[float, Image]]:
        """Pictures of the file with their times; packets that are broken are passed over."""
        import av

        broken = 0
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            base = stream.time_base or Fraction(1, 90_000)
            zero = float((stream.start_time or 0) * base)
            if self.start > 1:
                container.seek(int((self.start - 0.5 + zero) / base), stream=stream)
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                    pictures = packet.decode()
                except StopIteration:
                    break
                except av.error.EOFError:
                    break
                except av.error.FFmpegError:
                    broken += 1
                    if broken > 10_000:
                        break
                    continue
                for picture in pictures:
                    if picture.pts is None:
                        continue
                    yield float(picture.pts * base) - zero, _upright(picture)
        if broken:
            self._note(
                f"{broken} parts of the file are broken; the picture before stands in their place"
            )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def open_video(
    path: Path, *, start: float = 0.0, end: float | None = None, fps: float | None = None
) -> Video:
    """Look at a video file, a folder of images or an image, and make ready to read it.

    Args:
        path: of it.
        start: seconds.
        end: seconds; None for all.
        fps: frames a second; None for the file's own (its mean rate if that varies), and 30 for
            images.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is no video, it has no frames, or the times make no sense.
    """
    _check_times(start, end, fps)
    until = math.inf if end is None else end
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such video or folder")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_images(path, start, until, fps)
    return _open_file(path, start, until, fps)


def _check_times(start: float, end: float | None, fps: float | None) -> None:
    if not 0 <= start < math.inf:
        raise ValueError(f"--start is {start}, it has to be 0 or more, in seconds")
    if end is not None and not start < end:
        raise ValueError(f"--end is {end}, it has to be later than --start, {start}, in seconds")
    if fps is not None and not 0 < fps <= 1000:
        raise ValueError(f"--fps is {fps}, it has to be above 0 and at most 1000")


def _open_images(path: Path, start: float, end: float, fps: float | None) -> Video:
    images = [path] if path.is_file() else _sorted_images(path)
    if not images:
        raise ValueError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    first = read_photo(images[0])
    size = _fit_size(first.shape[1], first.shape[0])
    rate = fps or FOLDER_FPS
    return Video(
        path, size, rate, FOLDER_FPS, start, end,
        focal_length=_focal_of_exif(images[0], size),
        estimated_frames=len(images), images=tuple(images),
    )  # fmt: skip


def _sorted_images(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]

    def natural(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", path.name)
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    return sorted((path for path in found if not path.name.startswith(".")), key=natural)


def _images(paths: Sequence[Path]) -> Iterator[tuple[float, Image]]:
    for k, path in enumerate(paths):
        yield k / FOLDER_FPS, read_photo(path)


def _open_file(path: Path, start: float, end: float, fps: float | None) -> Video:
    import av

    with _opened(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: has no video stream")
        stream = container.streams.video[0]
        first = None
        try:
            for packet in container.demux(stream):
                try:
                    pictures = packet.decode()
                except av.error.FFmpegError:
                    continue
                if pictures:
                    first = pictures[0]
                    break
        except av.error.FFmpegError:
            pass
        if first is None:
            raise ValueError(f"{path}: not one frame can be decoded")
        height, width = _upright(first).shape[:2]
        source_rate = _rate(stream)
        rate = fps or source_rate
        seconds = _duration(container, stream)
    if seconds is not None and start >= seconds:
        raise ValueError(f"--start is {start:g} s, {path} ends at {seconds:.2f} s")
    count = None if seconds is None else max(1, round((min(end, seconds) - start) * rate))
    size = _fit_size(width, height)
    return Video(path, size, rate, source_rate, start, end, estimated_frames=count)


def _opened(path: Path) -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise ValueError(
            "reading video needs PyAV: `pip install -c constraints.txt -e '.[video]'`, or give a "
            "folder of images"
        ) from None
    try:
        return av.open(str(path))
    except av.error.FFmpegError as error:
        reason = "it is empty" if path.stat().st_size == 0 else error.strerror
        raise ValueError(f"{path}: not a video that can be read ({reason})") from None


def _rate(stream: Any) -> float:
    """Mean rate; some files state nonsense, then the guessed one."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.1 <= float(rate) <= 1000:
            return float(rate)
    return 30.0


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration / 1e6) if container.duration else None


def _upright(picture: Any) -> Image:
    """RGB pixels, turned as the file's metadata says, pixels made square."""
    pixels: Image = picture.to_ndarray(format="rgb24")
    turns = round((picture.rotation or 0) / 90) % 4  # anticlockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _fit_size(width: int, height: int) -> tuple[int, int]:
    factor = 1
    while width * height / factor**2 > MOST_PIXELS:
        factor *= 2
    return round(width / factor), round(height / factor)


def _focal_of_exif(path: Path, size: tuple[int, int]) -> float | None:
    """Pixels, from the focal length in 35 mm film, by the diagonal."""
    with PillowImage.open(path) as image:
        film = image.getexif().get_ifd(_EXIF).get(_FOCAL_35MM)
    if not film or not 5 < float(film) < 2000:
        return None
    return float(film) / _FILM * math.hypot(*size)
