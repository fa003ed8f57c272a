"""MediaPipe's newer interface finds what the older one finds, with the same networks."""

from pathlib import Path

import numpy as np
import pytest

from fourdhands.skeleton import Side
from fourdhands.video.mediapipe_hands import ALL_LOOKS, MediaPipeDetector
from fourdhands.video.mediapipe_tasks import TasksDetector
from tests.helpers.open_palm import draw_open_palm

mediapipe = pytest.importorskip("mediapipe")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model file of the networks in MediaPipe's wheel."""
    writers = pytest.importorskip("mediapipe.tasks.python.metadata.metadata_writers")
    from mediapipe.tasks.python.metadata.metadata_writers import (
        metadata_writer,
        model_asset_bundle_utils,
    )

    assert writers
    networks = {}
    for name, file in (
        ("hand_detector", "palm_detection/palm_detection_full.tflite"),
        ("hand_landmarks_detector", "hand_landmark/hand_landmark_full.tflite"),
    ):
        path = Path(mediapipe.__file__).parent / "modules" / file
        if not path.is_file():
            pytest.skip("this MediaPipe carries no networks")
        writer = metadata_writer.MetadataWriter.create(bytearray(path.read_bytes()))
        writer.add_general_info(name, name)
        writer.add_image_input([0.0], [255.0])  # pixels go in as 0 to 1
        networks[f"{name}.tflite"] = bytes(writer.populate()[0])
    file = tmp_path_factory.mktemp("tasks") / "hands.task"
    model_asset_bundle_utils.create_model_asset_bundle(networks, str(file))
    return file


@pytest.mark.parametrize("video", [False, True])
def test_the_same_hand_on_the_same_side(model, video):
    palm = draw_open_palm().image
    detector, other = TasksDetector(model, video=video), MediaPipeDetector(ALL_LOOKS[:1])
    for image, side in ((palm, Side.RIGHT), (np.ascontiguousarray(palm[:, ::-1]), Side.LEFT)):
        detector.restart()
        (hand,), (expected,) = detector(image), other(image)
        assert hand.side is expected.side is side
        size = expected.bbox[2:].max()
        off = np.linalg.norm(hand.joints_2d - expected.joints_2d, axis=-1)
        assert off.mean() < 0.05 * size
        assert np.linalg.norm(hand.joints_3d - expected.joints_3d, axis=-1).mean() < 0.01
