"""Does the confidence tell hands from other crops, on rendered scenes and on real pictures?

For example: `python benchmarks/confidence.py --checkpoint runs/quickstart/last.ckpt --data
data_manifests/quickstart_test.yaml --real photo.jpg video.mp4 --out confidence.png`. Hands of real
pictures are what the detector finds (extra `video`), the rest are random boxes away from them.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib import pyplot as plt
from tqdm import tqdm

from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.negatives import NegativeDraw, boxes_without_hands
from fourdhands.evaluation.confidence import NEGATIVE_SHARE, ConfidenceScores, score_confidence
from fourdhands.export.predictor import Predictor, load_predictor
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import ClipBatch
from fourdhands.video.detect import Detection, Image
from fourdhands.video.mediapipe_hands import MediaPipeDetector
from fourdhands.video.pairing import HandPair, pair_hands
from fourdhands.video.predict import make_batch, read_photo

VIDEOS = {".mp4", ".mov", ".avi", ".mkv"}
VIDEO_STRIDE = 10
BOXES = 8
"""Boxes without a hand in each picture."""


def pictures(path: Path) -> Iterator[Image]:
    """The photograph, or every tenth frame of the video, RGB.

    Raises:
        ValueError: it is neither.
    """
    if path.suffix.lower() not in VIDEOS:
        yield read_photo(path)
        return
    video, number = cv2.VideoCapture(str(path)), 0
    while video.grab():
        if number % VIDEO_STRIDE == 0:
            yield np.asarray(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8)
        number += 1
    if number == 0:
        raise ValueError(f"{path}: not a video that can be read")


def without_hands(image: Image, pairs: list[HandPair], predictor: Predictor) -> list[HandPair]:
    """Random boxes away from every detected hand."""
    found = [hand.bbox for pair in pairs for hand in pair if hand]
    rng = np.random.default_rng(image.size % 65521)
    places = NegativeDraw.draw(1.0, [rng] * (BOXES // NUM_SIDES)).places.flatten(0, 1)[None]
    height, width = predictor.crop.size
    boxes, free = boxes_without_hands(
        places,
        torch.from_numpy(np.array(found))[None, None],
        torch.tensor([image.shape[1::-1]]),
        bbox_scale=predictor.crop.bbox_scale,
        aspect=width / height,
    )
    kept = boxes[0][free[0]].numpy()
    return [
        (Detection(Side.RIGHT, right, 1.0), Detection(Side.LEFT, left, 1.0))
        for right, left in zip(kept[::2], kept[1::2], strict=False)
    ]


def confidences(batch: ClipBatch, predictor: Predictor) -> np.ndarray:
    """Of all hands of a batch."""
    predictions = predictor(batch)
    geometry = predictor.hand_model(predictions.hands)
    values = predictor.confidence(predictions, geometry, batch)
    assert values is not None
    return np.asarray(values[batch.hand_visible])


def score_pictures(paths: list[Path], predictor: Predictor) -> ConfidenceScores | None:
    """Hands that the detector finds against boxes away from them; None if it finds none."""
    detector = MediaPipeDetector()
    hands, others = [], []
    for path in paths:
        for image in tqdm(pictures(path), desc=path.name, unit=" pictures"):
            if not (pairs := pair_hands(detector(image))):
                continue
            hands.append(confidences(make_batch(image, pairs, predictor.crop), predictor))
            if elsewhere := without_hands(image, pairs, predictor):
                others.append(confidences(make_batch(image, elsewhere, predictor.crop), predictor))
    if not hands or not others:
        return None
    return ConfidenceScores(
        np.concatenate(hands), np.concatenate(others), predictor.confidence_threshold
    )


def main() -> None:
    """Score, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--real", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.checkpoint)
    config = DataConfig(test=(arguments.data,), root=arguments.root, num_frames=1, gap=1)
    loader = ClipDataModule(config, predictor.crop.size, predictor.hand_model.assets)
    rendered = score_confidence(predictor, loader.eval_dataloader("test", NEGATIVE_SHARE))
    assert rendered is not None
    scores = {"Rendered": rendered}
    videos = [path for path in arguments.real if path.suffix.lower() in VIDEOS]
    photos = [path for path in arguments.real if path not in videos]
    for name, paths in (("Photographs", photos), ("Video", videos)):
        if real := score_pictures(paths, predictor):
            scores[name] = real
    figure, panels = plt.subplots(
        1, len(scores), figsize=(4.2 * len(scores), 3.2), layout="constrained", squeeze=False
    )
    for panel, (name, one) in zip(panels[0], scores.items(), strict=True):
        one.draw(panel, name)
        print(f"{name}: {one.line()}; means {one.hands.mean():.2f} and {one.others.mean():.2f}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=80)


if __name__ == "__main__":
    main()
