"""A contact sheet of a set of shards: its clips with their labels, to see at a glance."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.data.schema import Clip, decode_clip
from fourdhands.data.shards import frames_and_labels, read_samples
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import draw_hands, draw_skeleton, grid
from fourdhands.structures import HandState

Picture = NDArray[np.uint8]

CLIPS = 12
FRAMES_SHOWN = 3
LONGEST_SIDE = 480
"""Pixels of a picture: frames of real cameras are larger than a sheet needs."""


def write_contact_sheet(
    shards: Sequence[Path], path: Path, hand_model: HandModel | None = None
) -> None:
    """Write a PNG of clips from all over a set, a few frames of each side by side.

    Args:
        shards: of the set.
        path: the picture.
        hand_model: that the labels' parameters belong to: a second row of each clip shows the
            hands that they give; None leaves it out.
    """
    clips = list(_clips(shards))
    sheet = grid(
        [_pictures(clip, hand_model) for clip in clips],
        columns=2,
        captions=[_ascii(f"{clip.sequence} {clip.camera}") for clip in clips],
    )
    encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    with replacing(path) as partial:
        partial.write_bytes(encoded.tobytes())


def _clips(shards: Sequence[Path]) -> Iterator[Clip]:
    chosen = np.linspace(0, len(shards) - 1, min(CLIPS, len(shards))).round().astype(int)
    each = -(-CLIPS // len(chosen))
    samples = (s for k in chosen for s in islice(read_samples(shards[k], frames_and_labels), each))
    yield from map(decode_clip, islice(samples, CLIPS))


def _pictures(clip: Clip, hand_model: HandModel | None) -> Picture:
    chosen = np.linspace(0, clip.num_frames - 1, min(FRAMES_SHOWN, clip.num_frames)).astype(int)
    columns = []
    for frame in chosen:
        bgr = cv2.imdecode(np.frombuffer(clip.frames[frame], np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        scale = min(1.0, LONGEST_SIDE / max(bgr.shape[:2]))
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        # pixel centres lie at integers
        joints_2d = (clip.joints_2d[frame] + 0.5) * scale - 0.5
        column = [draw_skeleton(rgb, joints_2d, clip.joints_2d_valid[frame])]
        if hand_model is not None:
            column.append(_with_hands(rgb, clip, frame, scale, hand_model))
        columns.append(np.concatenate(column, axis=0))
    return np.concatenate(columns, axis=1)


def _with_hands(
    rgb: Picture, clip: Clip, frame: int, scale: float, hand_model: HandModel
) -> Picture:
    names = ("global_orient", "hand_pose", "betas", "transl")
    hands = HandState(*(torch.tensor(getattr(clip, name)[frame]) for name in names))
    with torch.no_grad():
        vertices = hand_model(hands[None]).vertices[0].numpy()
    own = clip.vertices_valid[frame]
    if clip.vertices is not None:
        vertices = np.where(own[:, None, None], clip.vertices[frame], vertices)
    there = (own | clip.betas_valid[frame]) & clip.roots_valid[frame]
    there &= vertices[..., 2].min(-1) > 0.01
    K = clip.intrinsics[frame].copy()
    K[:2, 2] += 0.5
    K[:2] *= scale
    K[:2, 2] -= 0.5
    return draw_hands(rgb, vertices, there, K)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
