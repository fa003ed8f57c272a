"""One photograph to the hands in it: detect, pair, crop, predict. Read `predict_photo` first.

Pictures of the result are drawn in `video.pictures`; `cli.predict` runs both over files.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError
from torch import Tensor

from fourdhands.data.collate import CropConfig, crop_regions
from fourdhands.export.predictor import Predictor
from fourdhands.geometry.camera import (
    default_intrinsics,
    intrinsics_from_focal_length,
    project,
)
from fourdhands.geometry.crop import crop_affine, mirror_bbox, points_at_places, warp_crop
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import Camera, ClipBatch
from fourdhands.video.detect import Detector, Image
from fourdhands.video.pairing import HandPair, pair_hands

Array = NDArray[Any]


@dataclass(frozen=True)
class PhotoHands:
    """The hands of one photograph, and what `NAME.npz` holds under the same names.

    G pairs of hands that were predicted together; S = 2 sides, 0 right and 1 left. Metres in the
    camera frame (x right, y down, z forward), pixels of the upright photograph with pixel centres
    at integers, rotations as matrices. Entries of hands that are not `present` are zero.

    Attributes:
        image_size: (2,) width, height.
        intrinsics: (3, 3), given or assumed.
        present: (G, S) bool.
        score: (G, S) of the detection, 0 to 1.
        confidence: (G, S) of the prediction, -1 to 1 (DaHyF); NaN without a 2D branch.
        confidence_threshold: () above it a hand is confident; NaN if not calibrated.
        detected_bbox: (G, S, 4) tight box of the detection: centre x, y and size x, y.
        bbox: (G, S, 4) region that was shown to the network.
        global_orient: (G, S, 3, 3).
        hand_pose: (G, S, 15, 3, 3) finger rotations, MANO's mean pose included.
        betas: (G, S, 10).
        transl: (G, S, 3).
        joints: (G, S, 21, 3).
        joints_2d: (G, S, 21, 2) projections of `joints`.
        direct_joints_2d: (G, S, 21, 2) what the 2D branch says; NaN without one.
        vertices: (G, S, 778, 3).
        crop_camera: (G, S, 3) weak perspective (s, t_x, t_y) of the crop, mirrored for left hands.
        upsilon: (G, 3) left wrist minus right wrist as the network's own head sees it.
        faces: (S, 1538, 3) triangles of the vertices.
    """

    image_size: Array
    intrinsics: Array
    present: Array
    score: Array
    confidence: Array
    confidence_threshold: Array
    detected_bbox: Array
    bbox: Array
    global_orient: Array
    hand_pose: Array
    betas: Array
    transl: Array
    joints: Array
    joints_2d: Array
    direct_joints_2d: Array
    vertices: Array
    crop_camera: Array
    upsilon: Array
    faces: Array

    def to_bytes(self) -> bytes:
        """A compressed npz file of all attributes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        return buffer.getvalue()


def read_photo(path: Path) -> Image:
    """Read a photograph upright, as its EXIF orientation says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image that can be read, or it is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such photograph")
    try:
        with PillowImage.open(path) as photo:
            return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image of a known format") from None
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise ValueError(f"{path}: broken image ({error})") from error


@torch.inference_mode()
def predict_photo(
    image: Image,
    detector: Detector,
    predictor: Predictor,
    focal_length: float | None = None,
) -> PhotoHands | None:
    """Reconstruct the hands of a photograph.

    Args:
        image: (H, W, 3) RGB.
        detector: finds the hands.
        predictor: turns their crops into hands.
        focal_length: pixels; None assumes sqrt(width^2 + height^2).

    Returns:
        The hands, or None if the detector finds none.
    """
    pairs = pair_hands(detector(image))
    if not pairs:
        return None
    batch = make_batch(image, pairs, predictor.crop, focal_length)
    predictions = predictor(batch)
    geometry = predictor.hand_model(predictions.hands)
    intrinsics = batch.camera.intrinsics
    joints_2d = project(geometry.joints, intrinsics.to(geometry.joints)[..., None, :, :])
    confidence = predictor.confidence(predictions, geometry, batch)
    logits = predictions.joint_logits
    unknown = torch.full_like(joints_2d, torch.nan)
    direct = points_at_places(logits.joints(), batch.bbox.to(joints_2d)) if logits else unknown
    present = batch.hand_present[:, 0].numpy()

    def numpy(tensor: Tensor) -> Array:
        """(G, T=1, S, ...) to (G, S, ...), zeros where there is no hand."""
        array = tensor[:, 0].cpu().numpy()
        return array * present.reshape(*present.shape, *[1] * (array.ndim - 2))

    return PhotoHands(
        image_size=batch.camera.image_size[0, 0].numpy(),
        intrinsics=intrinsics[0, 0].numpy(),
        present=present,
        score=np.array(
            [[hand.score if hand else 0 for hand in pair] for pair in pairs], np.float32
        ),
        confidence=numpy(unknown[..., 0, 0] if confidence is None else confidence),
        confidence_threshold=np.array(predictor.confidence_threshold, np.float32),
        detected_bbox=_detected_bbox(pairs).numpy(),
        bbox=numpy(batch.bbox),
        **{name: numpy(value) for name, value in vars(predictions.hands).items()},
        joints=numpy(geometry.joints),
        joints_2d=numpy(joints_2d),
        direct_joints_2d=numpy(direct),
        vertices=numpy(geometry.vertices),
        crop_camera=numpy(predictions.crop_camera),
        upsilon=predictions.upsilon[:, 0].cpu().numpy() * present.all(1)[:, None],
        faces=predictor.hand_model.faces.cpu().numpy(),
    )


def make_batch(
    image: Image, pairs: Sequence[HandPair], crop: CropConfig, focal_length: float | None = None
) -> ClipBatch:
    """Crops of every pair of hands as a clip of one frame.

    Args:
        image: (H, W, 3) RGB.
        pairs: G of them.
        crop: what the network was trained on.
        focal_length: pixels; None assumes sqrt(width^2 + height^2).
    """
    height, width = image.shape[:2]
    image_size = torch.tensor((width, height), dtype=torch.float32)
    intrinsics = (
        default_intrinsics(image_size)
        if focal_length is None
        else intrinsics_from_focal_length(torch.tensor(focal_length), image_size)
    )
    present = torch.tensor([[hand is not None for hand in pair] for pair in pairs])
    bbox = crop_regions(_detected_bbox(pairs), present, image_size, crop)
    G = len(pairs)
    crops = np.zeros((G, NUM_SIDES, *crop.size, 3), np.uint8)
    for g, side in present.nonzero().tolist():
        crops[g, side] = cut_crop(image, bbox[g, side], Side(side), crop.size)
    return ClipBatch(
        crops=torch.from_numpy(crops).movedim(-1, -3).contiguous()[:, None],
        bbox=bbox[:, None],
        camera=Camera(
            intrinsics=intrinsics.expand(G, 1, 3, 3),
            image_size=image_size.expand(G, 1, 2),
            cam_from_world=torch.eye(4).expand(G, 1, 4, 4),
        ),
        hand_present=present[:, None],
        frame_valid=torch.ones(G, 1, dtype=torch.bool),
        times=torch.zeros(G, 1),
        labels=None,
    )


def cut_crop(image: Image, bbox: Tensor, side: Side, crop_size: tuple[int, int]) -> Image:
    """Cut the region (4,) of a hand, (h, w, 3); left hands are mirrored.

    The image is mirrored first and cut then: so the mirrored photograph with its sides swapped
    gives the same crops to the bit.
    """
    if side is Side.LEFT:
        image = np.ascontiguousarray(image[:, ::-1])
        bbox = mirror_bbox(bbox, image.shape[1])
    affine = crop_affine(bbox, crop_size, mirrored=torch.tensor(False))
    return warp_crop(image, affine.double().numpy(), crop_size)


def _detected_bbox(pairs: Sequence[HandPair]) -> Tensor:
    """(G, S, 4) tight boxes, zeros where there is no hand."""
    nothing = np.zeros(4, np.float32)
    boxes = [[hand.bbox if hand else nothing for hand in pair] for pair in pairs]
    return torch.from_numpy(np.array(boxes))
