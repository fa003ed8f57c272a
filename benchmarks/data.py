"""Frames a second that one core reads, decodes, augments and crops, beside a plain loader.

    python benchmarks/data.py data/quickstart/train.json [--seconds 5] [--num-frames 3]

All rows read the same set in the same run and are counted in seconds of processor time. The plain
loader is what one writes first: it decodes every array of every sample, turns the whole image, cuts
each hand's crop out of that, and makes tensors sample by sample.
"""

import argparse
import io
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import webdataset

from fourdhands.data.augment import AugmentConfig
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.manifest import find_shards
from fourdhands.data.schema import ARRAYS

CROP_SIZE = (128, 96)
AUGMENT = AugmentConfig(mirror=0.5, rotation=30, scale=0.2, shift=0.1, brightness=0.2, tint=0.1)


def ours(config: DataConfig) -> Iterator[int]:
    """Numbers of frames, batch by batch."""
    for batch in ClipDataModule(config, CROP_SIZE).train_dataloader():
        yield int(batch.frame_valid.sum())


def plain(config: DataConfig) -> Iterator[int]:
    """The same work in the obvious way (boxes and images only; labels stay as they are)."""
    shards = find_shards(config.train[0], config.root).shards
    rng = np.random.default_rng(0)
    while True:
        samples = iter(webdataset.WebDataset([str(path) for path in shards], shardshuffle=False))
        while batch := [
            sample for _, sample in zip(range(config.batch_size), samples, strict=False)
        ]:
            clips = [plain_clip(sample, config, rng) for sample in batch]
            torch.utils.data.default_collate(clips)
            yield len(clips) * config.num_frames


def plain_clip(
    sample: dict[str, Any], config: DataConfig, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """One clip as float tensors."""
    arrays = {name: np.load(io.BytesIO(sample[f"{name}.npy"])) for name in ARRAYS}
    start = rng.integers(len(arrays["bbox"]) - (config.num_frames - 1) * config.gap)
    rows = [start + k * config.gap for k in range(config.num_frames)]
    angle, height, width = rng.uniform(-30, 30), *CROP_SIZE
    crops = np.zeros((len(rows), 2, 3, height, width), np.float32)
    for t, row in enumerate(rows):
        image = cv2.imdecode(np.frombuffer(sample[f"{row:03d}.jpg"], np.uint8), cv2.IMREAD_COLOR)
        size = image.shape[1::-1]
        turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1)
        image = cv2.warpAffine(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), turn, size)
        for side, (x, y, box_width, box_height) in enumerate(arrays["bbox"][row]):
            if box_width > 0:
                scale = width / (1.2 * max(box_width, box_height * width / height))
                affine = np.array(
                    [[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]]
                )
                crop = cv2.warpAffine(image, affine, (width, height))
                crop = crop[:, ::-1] if side else crop
                crops[t, side] = crop.transpose(2, 0, 1) * rng.uniform(0.8, 1.2)
    return {
        "crops": torch.from_numpy(crops),
        **{name: torch.from_numpy(array[rows]) for name, array in arrays.items()},
    }


def frames_per_second(counts: Iterator[int], seconds: float) -> float:
    """Frames per second of processor time, after a warm-up batch."""
    next(counts)
    start, frames = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        frames += next(counts)
    return frames / spent


def main() -> None:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set", type=Path, help="a set's summary (.json) or a folder of shards")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--num-frames", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    config = {
        "train": (arguments.set,),
        "num_frames": arguments.num_frames,
        "gap": 1,
        "num_workers": 0,
        "steps_per_epoch": 10**9,
    }
    rows = {
        "plain loader": plain(DataConfig(**config)),
        "fourdhands": ours(DataConfig(**config, augment=AUGMENT)),
        "fourdhands, no augmentation": ours(DataConfig(**config)),
    }
    print(f"{platform.machine()}, OpenCV {cv2.__version__}, one core, crops {CROP_SIZE}")
    for name, counts in rows.items():
        print(f"{name:28s} {frames_per_second(counts, arguments.seconds):7.0f} frames/s")


if __name__ == "__main__":
    main()
