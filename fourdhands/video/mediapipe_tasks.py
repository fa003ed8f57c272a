"""MediaPipe's newer interface, which takes its model from a file: `hand_landmarker.task`.

For those who have the file; `mediapipe_hands` needs none. It works with any MediaPipe.
"""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from fourdhands.errors import first_line
from fourdhands.skeleton import Side
from fourdhands.video.detect import Detection, Image
from fourdhands.video.mediapipe_hands import (
    MAX_HANDS,
    MIN_FOLLOW_SCORE,
    MIN_PALM_SCORE,
    detection_of,
    metres_of,
    pixels_of,
    quiet_native_logs,
)
from fourdhands.video.pairing import merge_duplicates

STEP: Final = 33
"""Milliseconds from frame to frame, as MediaPipe is told; what matters is that they increase."""


class TasksDetector:
    """Hands by MediaPipe Tasks with a model file.

    Args:
        model: the `.task` file.
        video: whether images are frames of a video, in which hands are followed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: MediaPipe is missing, or cannot use the file.
    """

    def __init__(self, model: Path, *, video: bool) -> None:
        if not model.is_file():
            raise FileNotFoundError(f"{model}: no such model file")
        self._model, self._video = model, video
        try:
            with quiet_native_logs():
                import mediapipe
                from mediapipe.tasks import python as tasks
        except ModuleNotFoundError:
            raise ValueError(
                "finding hands needs MediaPipe: `pip install -c constraints.txt -e '.[video]'`"
            ) from None
        self._mediapipe, self._tasks = mediapipe, tasks
        self._close: Callable[[], object] = lambda: None
        self.restart()

    def restart(self) -> None:
        """Forget the frames before, as after a cut."""
        vision = self._tasks.vision
        running = vision.RunningMode.VIDEO if self._video else vision.RunningMode.IMAGE
        options = vision.HandLandmarkerOptions(
            # the file's bytes: MediaPipe takes relative paths for its own folder's
            base_options=self._tasks.BaseOptions(model_asset_buffer=self._model.read_bytes()),
            running_mode=running,
            num_hands=MAX_HANDS,
            min_hand_detection_confidence=MIN_PALM_SCORE,
            min_tracking_confidence=MIN_FOLLOW_SCORE,
        )
        try:
            with quiet_native_logs():
                self._landmarker = vision.HandLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self._model}: not a model of MediaPipe's hands ({first_line(error)})"
            ) from None
        self._close()
        self._close = weakref.finalize(self, self._landmarker.close)
        self._time = 0

    def __call__(self, image: Image) -> list[Detection]:
        """Find the hands of the next frame, or of an image (H, W, 3), every hand once."""
        whole = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        with quiet_native_logs():
            if self._video:
                self._time += STEP
                answer = self._landmarker.detect_for_video(whole, self._time)
            else:
                answer = self._landmarker.detect(whole)
        found = [
            _hand(*parts, image)
            for parts in zip(
                answer.hand_landmarks, answer.hand_world_landmarks, answer.handedness, strict=True
            )
        ]
        return merge_duplicates([hand for hand in found if (hand.bbox[2:] > 0).all()])


def _hand(landmarks: Any, in_space: Any, handedness: Any, image: Image) -> Detection:
    height, width = image.shape[:2]
    category = handedness[0]
    # here labels are those of an ordinary picture, not of a mirrored selfie
    side = Side[category.category_name.upper()]
    joints_2d = pixels_of(landmarks, image.shape)
    return detection_of(side, category.score, joints_2d, (width, height), metres_of(in_space))
