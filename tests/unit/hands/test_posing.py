import roma
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.hands.posing import HandSkeleton
from fourdhands.structures import HandState


def _random(count: int) -> tuple[HandState, HandModel, HandSkeleton]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    state = HandState(
        global_orient=roma.rotvec_to_rotmat(draw(count, 2, 3)),
        hand_pose=roma.rotvec_to_rotmat(0.4 * draw(count, 2, 15, 3)),
        betas=draw(count, 2, 10),
        transl=draw(count, 2, 3),
    )
    return state, HandModel.open().double(), HandSkeleton()


def test_the_same_joints_and_vertices_as_the_hand_model() -> None:
    state, model, skeleton = _random(4)
    wanted = model(state)
    wrist = model.roots(state)
    posed = skeleton(state.global_orient, wrist, state.hand_pose, state.betas)
    torch.testing.assert_close(posed.joints, wanted.joints, atol=1e-6, rtol=0)
    vertices = skeleton.vertices(posed, state.hand_pose, state.betas)
    torch.testing.assert_close(vertices, wanted.vertices, atol=1e-6, rtol=0)


def test_jacobians_are_those_of_differences() -> None:
    state, model, skeleton = _random(2)
    wrist = model.roots(state)
    posed = skeleton(state.global_orient, wrist, state.hand_pose, state.betas)
    jacobian = skeleton.motion_jacobian(posed)
    of_shape = skeleton.shape_jacobian(posed)

    def joints(step: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        turns = roma.rotvec_to_rotmat(torch.cat((step[:3], step[6:])).view(16, 3))
        return skeleton(
            state.global_orient @ turns[0],
            wrist + step[3:6],
            state.hand_pose @ turns[1:],
            state.betas + shape,
        ).joints

    zeros = torch.zeros(51).double(), torch.zeros(10).double()
    true, true_shape = torch.autograd.functional.jacobian(joints, zeros)
    tips = torch.zeros(21, dtype=torch.bool)
    tips[[4, 8, 12, 16, 20]] = True
    torch.testing.assert_close(jacobian[..., ~tips, :, :], true[..., ~tips, :, :])
    assert (jacobian - true).abs().max() < 0.006  # metres a radian, of skinned fingertips
    torch.testing.assert_close(of_shape, true_shape)
