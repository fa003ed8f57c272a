"""Results in the layout of Dyn-HaMR's `*_world_results.npz`, for programs that read those.

There a left hand is the mirror image, in the world's x, of a right one: joints are
flip_x(MANO_right(root_orient, pose, betas) + trans).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.video.phases import write_npz
from fourdhands.video.results import VideoHands

_MIRROR = np.diag((-1.0, 1.0, 1.0))


def write_world_results(hands: VideoHands, path: Path) -> None:
    """Write world_results.npz: B tracks, one a hand that is ever seen, over all T frames.

    Where a track is not valid, it is held as it was; `vis_mask` tells. Rotations are axis-angle of
    absolute fingers, metres, cameras from the world.
    """
    tracks = [
        (g, side) for g in range(len(hands.valid)) for side in Side if hands.valid[g, :, side].any()
    ]
    T = hands.num_frames
    arrays: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("trans", "root_orient", "pose_body", "betas", "is_right", "vis_mask")
    }
    for g, side in tracks:
        valid = hands.valid[g, :, side]
        held = _held_index(valid)
        root = hands.global_orient_in_world[g, held, side].astype(np.float64)
        pose = hands.hand_pose[g, held, side].astype(np.float64)
        transl = hands.transl_in_world[g, held, side].astype(np.float64)
        if side is Side.LEFT:
            root, pose = _MIRROR @ root @ _MIRROR, _MIRROR @ pose @ _MIRROR
            transl = transl * (-1.0, 1.0, 1.0)
        arrays["trans"].append(transl)
        arrays["root_orient"].append(Rotation.from_matrix(root).as_rotvec())
        vectors = Rotation.from_matrix(pose.reshape(-1, 3, 3)).as_rotvec()
        arrays["pose_body"].append(vectors.reshape(T, 15, 3))
        arrays["betas"].append(hands.betas[g, valid, side].mean(0))
        arrays["is_right"].append(np.full(T, NUM_SIDES - 1 - int(side), np.float32))
        arrays["vis_mask"].append(valid.astype(np.float32))
    B = len(tracks)
    poses = np.asarray(hands.cam_from_world, np.float32)
    K = hands.intrinsics
    stacked = {name: np.stack(values).astype(np.float32) for name, values in arrays.items()}
    stacked["latent_pose"] = stacked["pose_body"]
    stacked["init_body_pose"] = stacked["pose_body"]
    stacked["world_scale"] = np.ones((1, 1), np.float32)
    stacked["cam_R"] = np.repeat(poses[None, :, :3, :3], B, 0)
    stacked["cam_t"] = np.repeat(poses[None, :, :3, 3], B, 0)
    stacked["intrins"] = np.array((K[0, 0], K[1, 1], K[0, 2], K[1, 2]), np.float32)
    write_npz(path, stacked)


def _held_index(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    frames = np.flatnonzero(valid)
    last = np.searchsorted(frames, np.arange(len(valid)), side="right") - 1
    return frames[np.maximum(last, 0)]
