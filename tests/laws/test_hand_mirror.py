"""The open hand's left is its right in the mirror: for every pose, shape and place."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fourdhands.geometry.rotation import mirror_hands, mirror_points
from fourdhands.hands.anatomy import JointAxes, rotations_from_angles, sample_hand_angles
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import Side
from fourdhands.structures import HandState

COUNT = 32


def test_mirrored_parameters_make_mirrored_hands() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.6, (COUNT * 2 * 16, 3))
    rotations = torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix()).float()
    rotations = rotations.reshape(COUNT, 2, 16, 3, 3)
    state = HandState(
        global_orient=rotations[:, :, 0],
        hand_pose=rotations[:, :, 1:],
        betas=torch.from_numpy(rng.normal(size=(COUNT, 2, 10))).float(),
        transl=torch.from_numpy(rng.normal(size=(COUNT, 2, 3))).float(),
    )
    swapped = mirror_hands(state).map(lambda tensor: tensor.flip(1))
    model = HandModel.open()
    seen, mirrored = model(state), model(swapped)
    for name in ("joints", "vertices"):
        expected = mirror_points(getattr(seen, name)).flip(1)
        torch.testing.assert_close(getattr(mirrored, name), expected, atol=1e-6, rtol=0)


def test_the_same_angles_make_mirrored_poses() -> None:
    model = HandModel.open()
    axes = [JointAxes.from_assets(side) for side in model.assets]
    angles = sample_hand_angles(np.random.default_rng(1), COUNT)
    pose = np.stack([rotations_from_angles(angles, side) for side in axes], axis=1)
    identity = torch.eye(3).expand(COUNT, 2, 3, 3)
    nothing = torch.zeros(COUNT, 2, 10)
    state = HandState(identity, torch.from_numpy(pose).float(), nothing, nothing[..., :3])
    vertices = model(state).vertices
    expected = mirror_points(vertices[:, Side.RIGHT])
    torch.testing.assert_close(vertices[:, Side.LEFT], expected, atol=1e-6, rtol=0)
