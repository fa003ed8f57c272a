"""The same weights, images and boxes through an import into our network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fourdhands.export.importers import HAMER, OMNIHANDS, import_weights
from fourdhands.export.predictor import Predictor, load_predictor
from fourdhands.geometry.camera import intrinsics_from_focal_length
from fourdhands.geometry.rotation import mirror_points
from fourdhands.models.network import NetworkConfig
from fourdhands.skeleton import JOINTS_FROM_MANO, NUM_MANO_JOINTS
from fourdhands.structures import Camera, ClipBatch
from tests.parity.numbers import boxes, images

FRAMES = {"hamer": 1, "omnihands": 9}
CLIPS = {"hamer": 2, "omnihands": 1}
IMAGE_SIZE = (640, 480)
Outputs = dict[str, Tensor]


def network_of(peer: str, *, slim: bool) -> NetworkConfig:
    """The preset, or two blocks of each kind of it."""
    config = HAMER if peer == "hamer" else OMNIHANDS
    if not slim:
        return config
    encoder = min(2, config.spatial.encoder_depth)
    return replace(
        config,
        backbone=replace(config.backbone, options={"patch_size": 16, "depth": 2}),
        spatial=replace(config.spatial, encoder_depth=encoder, decoder_depth=2),
        temporal=config.temporal and replace(config.temporal, depth=2),
    )


def scene(peer: str) -> tuple[Tensor, Tensor]:
    """uint8 images (B, T, S, 3, 256, 256) and their boxes (B, T, S, 4), corner and sides."""
    clips, frames = CLIPS[peer], FRAMES[peer]
    pictures = images(peer, clips * frames * 2).unflatten(0, (clips, frames, 2))
    return pictures, boxes(peer, clips * frames).unflatten(0, (clips, frames))


def batch_of(peer: str) -> ClipBatch:
    """What our network sees of it: 192 of the 256 columns."""
    pictures, squares = scene(peer)
    lead = squares.shape[:2]
    centre = squares[..., :2] + squares[..., 2:] / 2
    size = torch.tensor(IMAGE_SIZE, dtype=torch.float32).expand(*lead, 2)
    focal = torch.full(lead, 5000.0 / 256 * max(IMAGE_SIZE))
    camera = Camera(
        intrinsics_from_focal_length(focal, size), size, torch.eye(4).expand(*lead, 4, 4)
    )
    return ClipBatch(
        crops=pictures[..., 32:-32].contiguous(),
        bbox=torch.cat((centre, squares[..., 2:] * torch.tensor((0.75, 1.0))), -1),
        camera=camera,
        hand_present=torch.ones(*lead, 2, dtype=torch.bool),
        frame_valid=torch.ones(lead, dtype=torch.bool),
        times=torch.arange(lead[1]).expand(lead) / 6.0,
        labels=None,
    )


def imported(peer: str, weights: dict[str, Any], folder: Path, *, slim: bool) -> Predictor:
    """The weights as a file of theirs, imported and loaded."""
    file = folder / f"{peer}.pth"
    torch.save({"state_dict": weights}, file)
    report = import_weights(peer, file, folder / "bundle", network=network_of(peer, slim=slim))
    assert not report.faults(), report.faults()
    return load_predictor(folder / "bundle")


@torch.no_grad()
def outputs(peer: str, predictor: Predictor) -> Outputs:
    """What is compared: of the middle frame, each hand as its crop shows it, a right one.

    Returns:
        tokens (2, N, C) of the first two crops' backbone; vertices (B, S, 778, 3) and joints
        (B, S, 16, 3) in metres without translation; betas; crop_camera (s, t_x, t_y); and for
        OmniHands upsilon (B, 3), left minus right knuckle.
    """
    batch = batch_of(peer)
    network = predictor.network
    found = network(batch)
    middle = (slice(None), FRAMES[peer] // 2)
    # where it stands would cost digits: at random weights hands may be kilometres away
    hands = replace(found.hands, transl=torch.zeros_like(found.hands.transl))
    geometry = predictor.hand_model(hands)[middle]
    vertices, joints = geometry.vertices, geometry.joints
    mine = {
        "tokens": network.backbone.tokens(batch.crops.flatten(0, 2)[:2]),
        "vertices": torch.stack((vertices[:, 0], mirror_points(vertices[:, 1])), 1),
        "joints": torch.stack((joints[:, 0], mirror_points(joints[:, 1])), 1)[..., _REGRESSED, :],
        "betas": found.hands.betas[middle],
        "crop_camera": found.crop_camera[middle],
    }
    if peer == "omnihands":  # it regresses joints from the posed mesh, where MANO poses them
        regressor = torch.from_numpy(predictor.hand_model.assets[0].J_regressor)
        mine["joints"] = (regressor @ mine["vertices"])[..., _MANO_ORDER, :]
        mine["upsilon"] = found.upsilon[middle]
    return mine


_MANO_ORDER = [j for j in JOINTS_FROM_MANO if j < NUM_MANO_JOINTS]
_REGRESSED = [k for k in range(21) if k not in (4, 8, 12, 16, 20)]
"""Joints that are no fingertips: the peers take different vertices for those."""
assert len(_REGRESSED) == NUM_MANO_JOINTS
