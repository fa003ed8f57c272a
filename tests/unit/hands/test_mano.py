from pathlib import Path

import numpy as np
import pytest
import smplx
import torch
from scipy.spatial.transform import Rotation

from fourdhands.hands.assets import FILE_NAMES, load_assets, save_assets
from fourdhands.hands.mano import WRIST_CAP, HandModel
from fourdhands.hands.open_hand.correctives import enclosed_volume
from fourdhands.skeleton import FINGERTIP_VERTICES, JOINTS_FROM_MANO, Side
from fourdhands.structures import HandState


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.open()


def random_state(*leading: int, seed: int = 0) -> HandState:
    rng = np.random.default_rng(seed)

    def rotations(*shape: int) -> torch.Tensor:
        vectors = rng.normal(0, 0.4, (int(np.prod(shape)), 3))
        return (
            torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix())
            .float()
            .reshape(*shape, 3, 3)
        )

    return HandState(
        global_orient=rotations(*leading, 2),
        hand_pose=rotations(*leading, 2, 15),
        betas=torch.from_numpy(rng.normal(size=(*leading, 2, 10))).float(),
        transl=torch.from_numpy(rng.normal(size=(*leading, 2, 3))).float(),
    )


@pytest.mark.parametrize("side", list(Side))
def test_unmodified_smplx_agrees(tmp_path: Path, model: HandModel, side: Side) -> None:
    save_assets(load_assets(), tmp_path)
    layer = smplx.MANOLayer(
        str(tmp_path), is_rhand=side is Side.RIGHT, ext="npz", use_pca=False, flat_hand_mean=True
    )
    state = random_state(5)
    theirs = layer(
        global_orient=state.global_orient[:, side, None],
        hand_pose=state.hand_pose[:, side],
        betas=state.betas[:, side],
        transl=state.transl[:, side],
    )
    ours = model(state)
    torch.testing.assert_close(ours.vertices[:, side], theirs.vertices)
    order = torch.tensor(JOINTS_FROM_MANO)
    joints = torch.cat([theirs.joints, theirs.vertices[:, list(FINGERTIP_VERTICES)]], dim=1)
    torch.testing.assert_close(ours.joints[:, side], joints[:, order])


def test_pca_interface_of_smplx_loads_the_files(tmp_path: Path) -> None:
    save_assets(load_assets(), tmp_path)
    for name in FILE_NAMES.values():
        hand = smplx.create(
            str(tmp_path / name), "mano", ext="npz", use_pca=True, num_pca_comps=6, batch_size=2
        )
        output = hand(hand_pose=torch.zeros(2, 6))
        assert output.vertices.shape == (2, 778, 3) and torch.isfinite(output.vertices).all()


def test_identity_is_the_template(model: HandModel) -> None:
    identity = torch.eye(3)
    state = HandState(
        identity.expand(2, 3, 3),
        identity.expand(2, 15, 3, 3),
        torch.zeros(2, 10),
        torch.zeros(2, 3),
    )
    geometry = model(state)
    for side, hand in enumerate(model.assets):
        np.testing.assert_allclose(geometry.vertices[side], hand.v_template, atol=1e-7)
        np.testing.assert_allclose(geometry.joints[side, 0], hand.joints[0], atol=1e-6)


def test_leading_dimensions_are_free(model: HandModel) -> None:
    state = random_state(2, 3)
    together = model(state)
    assert together.joints.shape == (2, 3, 2, 21, 3) and together.vertices.shape == (
        2,
        3,
        2,
        778,
        3,
    )
    one = model(state[1, 2])
    torch.testing.assert_close(one.vertices, together.vertices[1, 2])


def test_rigid_motion_about_the_wrist(model: HandModel) -> None:
    state = random_state(4)
    turn = random_state(4, seed=1).global_orient
    flat = model(
        HandState(torch.eye(3).expand_as(turn), state.hand_pose, state.betas, 0 * state.transl)
    )
    turned = model(HandState(turn, state.hand_pose, state.betas, state.transl))
    wrist = flat.joints[..., :1, :]
    expected = (flat.vertices - wrist) @ turn.mT + wrist + state.transl[..., None, :]
    torch.testing.assert_close(turned.vertices, expected, atol=1e-6, rtol=0)


def test_half_precision_does_not_reach_the_skin(model: HandModel) -> None:
    state = random_state(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(state)
    torch.testing.assert_close(mixed.vertices, model(state).vertices)


def test_gradients_reach_every_parameter(model: HandModel) -> None:
    state = random_state(1).map(lambda tensor: tensor.requires_grad_())
    model(state).joints.square().sum().backward()
    for tensor in (state.global_orient, state.hand_pose, state.betas, state.transl):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_nothing_of_the_model_enters_checkpoints(model: HandModel) -> None:
    assert not model.state_dict() and not list(model.parameters())


def test_building_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    HandModel.open()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("side", list(Side))
def test_the_wrist_closes_to_a_watertight_mesh(model: HandModel, side: Side) -> None:
    faces = model.closed_faces[side].numpy()
    assert len(faces) == 1538 + len(WRIST_CAP)
    half_edges = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    there, back = (np.unique(edges, axis=0) for edges in (half_edges, half_edges[:, ::-1]))
    assert len(there) == len(half_edges)
    np.testing.assert_array_equal(there, back)
    assert enclosed_volume(model.assets[side].v_template.astype(float), faces) > 3e-4  # outwards


def test_regressor_and_weights_are_convex(model: HandModel) -> None:
    for hand in model.assets:
        for rows in (hand.J_regressor, hand.weights):
            assert (rows >= 0).all()
            np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
        assert ((hand.weights > 0).sum(1) <= 4).all()


def test_mean_pose_is_a_rotation(model: HandModel) -> None:
    product = model.mean_pose @ model.mean_pose.mT
    torch.testing.assert_close(product, torch.eye(3).expand_as(product), atol=1e-6, rtol=0)
