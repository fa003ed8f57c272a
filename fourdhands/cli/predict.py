"""`fourdhands predict`: the hands in photographs."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from fourdhands.cli.main import one_line
from fourdhands.export.predictor import load_predictor
from fourdhands.files import replacing
from fourdhands.skeleton import Side
from fourdhands.video.detect import BoxDetector, Detector, Image, parse_box
from fourdhands.video.mediapipe_hands import MediaPipeDetector
from fourdhands.video.pictures import draw_overlay, draw_sheet
from fourdhands.video.predict import PhotoHands, predict_photo, read_photo


def predict(
    photos: tuple[Path, ...],
    *,
    checkpoint: Path,
    out: Path,
    box: tuple[str, ...] = (),
    focal_length: float | None = None,
    mano: Path | None = None,
) -> None:
    """Reconstruct the hands in photographs.

    For each NAME.jpg writes NAME_overlay.png, NAME_sheet.png (what was found, cropped and
    predicted) and NAME.npz. A photograph that cannot be read or shows no hand is reported; the
    others are done all the same, and the exit status is 1.

    Args:
        photos: Images.
        checkpoint: Of `train.py reconstruction`, or a bundle: a folder, or owner/name on the hub.
        out: Folder for the results.
        box: A hand of the photograph as x,y,w,h,side (top left corner and size in pixels, right or
            left), instead of looking for hands; once for each hand.
        focal_length: In pixels; sqrt(width^2 + height^2) if not given.
        mano: Folder that `fourdhands hands import` wrote; the checkpoint's own if not given.

    Raises:
        ValueError: An argument makes no sense, the checkpoint cannot be used, or a photograph gave
            no result.
        OSError: A file cannot be read or written.
    """
    _check(photos, box, focal_length)
    boxes = tuple(parse_box(text) for text in box)
    predictor = load_predictor(checkpoint, mano=mano)
    detector: Detector = BoxDetector(boxes) if boxes else MediaPipeDetector()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
    failures = 0
    for path in tqdm(photos, desc="predicting", unit="photo", disable=len(photos) == 1):
        try:
            image = read_photo(path)
            hands = predict_photo(image, detector, predictor, focal_length)
            if hands is None:
                raise ValueError(f"{path}: no hand found; give boxes by --box x,y,w,h,side")
        except (ValueError, OSError) as error:
            if len(photos) == 1:
                raise
            failures += 1
            tqdm.write(f"failed: {one_line(error)}", file=sys.stderr)
            continue
        out.mkdir(parents=True, exist_ok=True)
        overlay = out / f"{path.stem}_overlay.png"
        _write(overlay, _png(draw_overlay(image, hands)))
        found = "given boxes" if boxes else "detected hands"
        sheet = draw_sheet(image, hands, predictor.crop.size, found)
        _write(out / f"{path.stem}_sheet.png", _png(sheet))
        _write(out / f"{path.stem}.npz", hands.to_bytes())
        tqdm.write(f"{path}: {_describe(hands)}; {overlay}")
    if failures:
        raise ValueError(f"{failures} of {len(photos)} photographs gave no result, see above")


def _check(photos: Sequence[Path], box: Sequence[str], focal_length: float | None) -> None:
    """Refuse arguments that make no sense together, before anything is loaded."""
    if box and (more := [path for path in photos if _is_box(path)]):
        raise ValueError(f"'{more[0]}' is a box, not a photograph: give each box its own --box")
    if box and len(photos) > 1:
        raise ValueError(f"--box belongs to one photograph, {len(photos)} are given")
    if focal_length is not None and not 0 < focal_length < math.inf:
        raise ValueError(f"--focal_length is {focal_length}, it has to be positive, in pixels")
    stems = Counter(path.stem for path in photos)
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} photographs are named '{stem}', their results would collide")


def _is_box(path: Path) -> bool:
    try:
        parse_box(path.name)
    except ValueError:
        return False
    return True


def _describe(hands: PhotoHands) -> str:
    """The pairs in words: `right 0.99 + left 0.92, right 0.97; confidence 0.90 + 0.80, 0.77`."""

    def pairs(value: Callable[[int, Side], str]) -> str:
        return ", ".join(
            " + ".join(value(g, side) for side in Side if present[side])
            for g, present in enumerate(hands.present)
        )

    found = pairs(lambda g, side: f"{side.name.lower()} {hands.score[g, side]:.2f}")
    if np.isnan(hands.confidence).any():
        return found
    return f"{found}; confidence {pairs(lambda g, side: f'{hands.confidence[g, side]:.2f}')}"


def _png(image: Image) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)
