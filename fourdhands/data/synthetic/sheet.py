"""A contact sheet of a rendered set: clips with their skeletons, to see at a glance."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.data.schema import Clip, decode_clip
from fourdhands.data.shards import frames_and_labels, read_samples
from fourdhands.files import replacing
from fourdhands.rendering.overlay import draw_skeleton, grid

FRAMES_SHOWN = 3


def contact_sheet(shard: Path, clips: int = 12, columns: int = 2) -> NDArray[np.uint8]:
    """Draw the first clips of a shard, a few frames of each side by side: (H, W, 3) uint8 RGB."""
    samples = islice(read_samples(shard, frames_and_labels), clips)
    shown = [decode_clip(sample) for sample in samples]
    return grid(
        [np.concatenate(_annotated(clip), axis=1) for clip in shown],
        columns=columns,
        captions=[clip.sequence for clip in shown],
    )


def write_contact_sheet(shard: Path, path: Path) -> None:
    """Write the contact sheet of a shard as PNG."""
    sheet = contact_sheet(shard)
    encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    with replacing(path) as partial:
        partial.write_bytes(encoded.tobytes())


def _annotated(clip: Clip) -> list[NDArray[np.uint8]]:
    chosen = np.linspace(0, clip.num_frames - 1, min(FRAMES_SHOWN, clip.num_frames)).astype(int)
    pictures = []
    for frame in chosen:
        bgr = cv2.imdecode(np.frombuffer(clip.frames[frame], np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)
        pictures.append(draw_skeleton(rgb, clip.joints_2d[frame], clip.hands_valid[frame]))
    return pictures
