"""From encoded windows of clips to a `ClipBatch`: labels, boxes, and crops cut from the jpgs.

Everything but the pixels is computed for the whole batch at once; every frame is decoded once and
every crop cut in one warp.
"""

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.data.augment import Annotations, Augmenter, ClipChange, compose, is_box
from fourdhands.data.copies import mirrored_copies
from fourdhands.data.degrade import degrade, streaks
from fourdhands.data.negatives import NegativeDraw, put_negatives
from fourdhands.data.schema import ARRAYS, BadSampleError, Clip, count_frames, decode_clip
from fourdhands.geometry.crop import crop_from_image, expand_bbox, side_mirrored, warp_crop
from fourdhands.structures import Camera, ClipBatch, ClipMeta, HandState, Labels

BoxKind = Literal["separate", "holistic"]

PADDING: Final = -1
"""Frame id of a frame that only fills up a window."""
_DECODE: Final = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # labels know nothing of EXIF
_END_OF_JPEG: Final = b"\xff\xd9"


class StoredClip:
    """A sample as read from its shard, and its labels, decoded when first asked for.

    The windows of a clip share the labels and what jpgs they have in common; none holds a jpg that
    it does not show (see `only`), so that a shuffle buffer keeps no more than it will serve.
    """

    def __init__(self, sample: Mapping[str, Any]):
        """Keep the members' bytes.

        Raises:
            BadSampleError: the sample holds no frames.
        """
        self.jpgs = {name: data for name, data in sample.items() if name.endswith(".jpg")}
        self._labels = _StoredLabels({**sample, **dict.fromkeys(self.jpgs, b"")})
        self.num_frames = count_frames(sample) or self.clip.num_frames

    def only(self, frames: Sequence[int]) -> "StoredClip":
        """The same clip with the jpgs of some frames."""
        names = [_jpg(index) for index in frames]
        part = copy(self)
        part.jpgs = {name: self.jpgs[name] for name in names if name in self.jpgs}
        return part

    @property
    def place(self) -> tuple[str, str]:
        """Shard and key, as a `BadSampleError` of this sample names them."""
        sample = self._labels.sample
        return str(sample.get("__url__", "")), str(sample["__key__"])

    @property
    def clip(self) -> Clip:
        """The checked clip; its frames are empty.

        Raises:
            BadSampleError: the sample breaks the schema.
        """
        return self._labels.clip

    def decode_frame(self, index: int) -> NDArray[np.uint8]:
        """Decode one frame, (H, W, 3) in OpenCV's channel order, blue first.

        Raises:
            BadSampleError: the jpg is broken, or not of the size that the clip states.
        """
        data = self.jpgs[_jpg(index)]
        image = None
        # OpenCV fills up a jpg that was cut off with grey, so the end mark is looked for here
        if _END_OF_JPEG in data[-64:]:
            with suppress(cv2.error):  # the header states more pixels than OpenCV will decode
                image = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
        if image is None:
            raise self._bad_frame(index, f"is a broken jpg of {len(data)} bytes")
        width, height = self.clip.image_size
        if image.shape != (height, width, 3):
            found = f"{image.shape[1]} x {image.shape[0]}"
            raise self._bad_frame(index, f"is {found} pixels, meta.json says {width} x {height}")
        return np.asarray(image, np.uint8)

    def _bad_frame(self, index: int, reason: str) -> BadSampleError:
        shard = str(self._labels.sample.get("__url__", ""))
        return BadSampleError(shard, self.clip.key, _jpg(index), f"{reason}; write the shard again")


class JoinedClip(StoredClip):
    """Clips of one recording that follow each other, as one of the name of the middle one."""

    def __init__(self, before: StoredClip | None, middle: StoredClip, after: StoredClip | None):
        """Join those that are there."""
        self._middle = middle
        self._parts = [part for part in (before, middle, after) if part is not None]
        starts = [0, *itertools.accumulate(part.num_frames for part in self._parts)]
        self._starts, self.num_frames = starts[:-1], starts[-1]
        first = 0 if before is None else before.num_frames
        self.own = range(first, first + middle.num_frames)
        """The frames of the middle one."""

    @property
    def place(self) -> tuple[str, str]:
        """The middle one's."""
        return self._middle.place

    @cached_property
    def clip(self) -> Clip:  # type: ignore[override]  # made once, as that of a single one is
        """Labels of all; see `StoredClip.clip`."""
        clips = [part.clip for part in self._parts]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(clip, name) for clip in clips]) for name in ARRAYS
        }
        ids = tuple(number for clip in clips for number in clip.frame_ids)
        return replace(self._middle.clip, frame_ids=ids, **arrays)

    def decode_frame(self, index: int) -> NDArray[np.uint8]:
        """See `StoredClip.decode_frame`."""
        part = bisect_right(self._starts, index) - 1
        return self._parts[part].decode_frame(index - self._starts[part])


def follows(first: StoredClip, second: StoredClip) -> bool:
    """Whether a clip goes on where another one of its recording ends."""
    one, two = first.clip, second.clip
    same = ("dataset", "sequence", "camera", "fps", "image_size")
    if any(getattr(one, name) != getattr(two, name) for name in same):
        return False
    steps = [b - a for clip in (one, two) for a, b in pairwise(clip.frame_ids)]
    return bool(steps) and 0 < two.frame_ids[0] - one.frame_ids[-1] <= min(steps)


class _StoredLabels:
    """A sample without its jpgs, decoded once for all windows of the clip."""

    def __init__(self, sample: Mapping[str, Any]):
        self.sample = sample

    @cached_property
    def clip(self) -> Clip:
        return decode_clip(self.sample)


def _jpg(index: int) -> str:
    return f"{index:03d}.jpg"


@dataclass(frozen=True)
class Window:
    """Up to T frames of one clip, `gap` apart; in training exactly T, a few of them repeated."""

    stored: StoredClip
    frames: tuple[int, ...]


@dataclass(frozen=True)
class CropConfig:
    """What a crop shows.

    Attributes:
        size: height, width in pixels.
        bbox_scale: margin around the tight box, as a factor of its size.
        box: 'separate', each hand's own box; 'holistic', one box around both hands in both slots.
    """

    size: tuple[int, int]
    bbox_scale: float
    box: BoxKind


class Collate:
    """Turns windows into a batch."""

    def __init__(self, num_frames: int, crop: CropConfig, augmenter: Augmenter | None = None):
        """Describe the batches.

        Args:
            num_frames: T; shorter windows are filled up with frames that are not valid.
            crop: what the crops show.
            augmenter: needed only where changes are passed.
        """
        self.num_frames, self.crop, self.augmenter = num_frames, crop, augmenter

    def __call__(
        self,
        windows: Sequence[Window],
        change: ClipChange | None = None,
        negatives: NegativeDraw | None = None,
        copied: Tensor | None = None,
    ) -> ClipBatch:
        """Make a batch.

        Args:
            windows: B of them.
            change: how each clip is augmented, or None for as it is.
            negatives: which hands give way to crops without a hand, or None for none.
            copied: (B,) bool, the clips in which an absent hand's place is filled by the mirrored
                copy of the other hand (see `data.copies`), or None for none.

        Raises:
            BadSampleError: a sample breaks the schema or a jpg is broken.
        """
        annotations, frame_valid, times = self._annotate(windows)
        if change is not None:
            assert self.augmenter is not None
            annotations = self.augmenter(change, annotations)
        if negatives is not None:
            height, width = self.crop.size
            complete = [window.stored.clip.all_hands_labelled for window in windows]
            annotations = put_negatives(
                negatives.only(torch.tensor(complete)),
                annotations,
                bbox_scale=self.crop.bbox_scale,
                aspect=width / height,
            )
        present = is_box(annotations.bbox) & frame_valid[..., None]
        copies = torch.zeros_like(present)
        if copied is not None:
            annotations, copies = mirrored_copies(copied, annotations, present)
        to_cut, present = present, present | copies
        bbox = crop_regions(annotations.bbox, present, annotations.camera.image_size, self.crop)
        affine = compose(
            crop_from_image(bbox, self.crop.size), annotations.image_from_stored[:, :, None]
        )
        crops = self._cut(windows, affine, to_cut, bbox, change)
        crops[copies] = crops.flip(2)[copies]
        return ClipBatch(
            crops=crops,
            bbox=bbox,
            camera=annotations.camera,
            hand_present=present,
            frame_valid=frame_valid,
            times=times,
            labels=annotations.labels,
            meta=tuple(self._meta(window) for window in windows),
        )

    def _annotate(self, windows: Sequence[Window]) -> tuple[Annotations, Tensor, Tensor]:
        """Stack what the clips say of their frames; also (B, T) which are valid, and seconds."""
        clips = [window.stored.clip for window in windows]
        # the last frame stands in for those beyond the end
        T = self.num_frames
        rows = [
            list(window.frames) + [window.frames[-1]] * (T - len(window.frames))
            for window in windows
        ]
        stacked = {
            name: torch.from_numpy(
                np.stack([getattr(clip, name)[row] for clip, row in zip(clips, rows, strict=True)])
            )
            for name in ARRAYS
        }
        lengths = torch.tensor([len(window.frames) for window in windows])
        frame_valid = torch.arange(T) < lengths[:, None]
        size = torch.tensor([clip.image_size for clip in clips], dtype=torch.float32)
        camera = Camera(
            intrinsics=stacked["intrinsics"],
            image_size=size[:, None].repeat(1, T, 1),
            cam_from_world=stacked["cam_from_world"],
        )
        labels = Labels(
            hands=HandState(
                *(stacked[n] for n in ("global_orient", "hand_pose", "betas", "transl"))
            ),
            hands_valid=stacked["hands_valid"] & frame_valid[..., None],
            betas_valid=stacked["betas_valid"] & frame_valid[..., None],
            roots_valid=stacked["roots_valid"] & frame_valid[..., None],
            joints=stacked["joints"],
            joints_valid=stacked["joints_valid"] & frame_valid[..., None, None],
            joints_2d=stacked["joints_2d"],
            joints_2d_valid=stacked["joints_2d_valid"] & frame_valid[..., None, None],
            is_hand=torch.ones_like(stacked["hands_valid"]),
        )
        identity = torch.eye(2, 3).expand(len(windows), T, 2, 3)
        fps = torch.tensor([clip.fps for clip in clips])
        times = torch.tensor(rows) / fps[:, None]
        return Annotations(camera, labels, stacked["bbox"], identity), frame_valid, times

    def _cut(
        self,
        windows: Sequence[Window],
        affine: Tensor,
        present: Tensor,
        bbox: Tensor,
        change: ClipChange | None,
    ) -> Tensor:
        """Decode, cut and change uint8 (B, T, S, 3, h, w); black where there is no hand."""
        crops = np.zeros((*present.shape, 3, *self.crop.size), np.uint8)
        affines = affine.double().numpy()
        if change is not None:
            smears = streaks(change.pixels, bbox, self.crop.size, side_mirrored(bbox)).tolist()
        tables = [None] * len(windows) if change is None else _color_tables(change.gain)
        first: dict[tuple[int, int], int] = {}  # where a frame is in its window, by clip and frame
        for b, t in present.any(-1).nonzero().tolist():
            frame = windows[b].frames[t]
            if (done := first.setdefault((b, frame), t)) != t:
                crops[b, t] = crops[b, done]
                continue
            image = windows[b].stored.decode_frame(frame)
            for s in present[b, t].nonzero()[:, 0].tolist():
                crop = warp_crop(image, affines[b, t, s], self.crop.size)
                if change is not None:
                    crop = degrade(crop, change.pixels, b, s, smears[b][t][s])
                if (table := tables[b]) is not None:
                    crop = np.asarray(cv2.LUT(crop, table), np.uint8)
                blue, green, red = cv2.split(crop)
                crops[b, t, s] = red, green, blue
        return torch.from_numpy(crops)

    def _meta(self, window: Window) -> ClipMeta:
        meta = window.stored.clip.meta
        ids = [meta.frame_ids[k] for k in window.frames]
        ids += [PADDING] * (self.num_frames - len(ids))
        return replace(meta, frame_ids=tuple(ids))


def crop_regions(bbox: Tensor, present: Tensor, image_size: Tensor, crop: CropConfig) -> Tensor:
    """What the crops of tight boxes show.

    Args:
        bbox: (..., S, 4) tight boxes.
        present: (..., S) where there is a hand.
        image_size: (..., 2) width, height.
        crop: margin and shape.

    Returns:
        (..., S, 4) regions, the whole image where there is no hand.
    """
    if crop.box == "holistic":
        bbox = _union(bbox, present)[..., None, :].expand(bbox.shape)
    height, width = crop.size
    region = expand_bbox(bbox, scale=crop.bbox_scale, aspect=width / height)
    size = image_size[..., None, :].expand(*bbox.shape[:-1], 2)
    return torch.where(present[..., None], region, torch.cat(((size - 1) / 2, size), -1))


def _union(bbox: Tensor, present: Tensor) -> Tensor:
    """Box (..., 4) around the boxes (..., S, 4) that are present; anything where none is."""
    half = bbox[..., 2:] / 2
    infinity = torch.tensor(torch.inf)
    low = torch.where(present[..., None], bbox[..., :2] - half, infinity).amin(-2)
    high = torch.where(present[..., None], bbox[..., :2] + half, -infinity).amax(-2)
    return torch.cat(((low + high) / 2, high - low), -1)


def _color_tables(gain: Tensor) -> list[NDArray[np.uint8] | None]:
    """Tables (1, 256, 3) for OpenCV, blue first, that multiply the channels; None for no change."""
    levels = torch.arange(256.0)[None, None, :, None] * gain.flip(-1)[:, None, None]
    tables = levels.round().clamp(0, 255).to(torch.uint8).numpy()
    return [table if (row != 1).any() else None for table, row in zip(tables, gain, strict=True)]
