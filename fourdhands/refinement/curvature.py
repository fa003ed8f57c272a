"""Gauss-Newton's second derivatives of a stage's energy, by blocks of frames.

Gradients are automatic and exact; these only say how far to step. Robust terms count with their
present weights; between the hands and the camera, and across penetrating hands, the blocks are
doubled instead of coupled, which bounds the true curvature from above.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fourdhands.hands.posing import NUM_MOTIONS, HandSkeleton, PosedSkeleton
from fourdhands.refinement.banded import BandedSystem
from fourdhands.refinement.motion import Motion, turning
from fourdhands.refinement.penetration import DEEP, MILLIMETRE
from fourdhands.refinement.problem import Near, Problem, View
from fourdhands.refinement.stages import Stage
from fourdhands.refinement.terms import robust_weight, sight_weighted
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES

ORIENTATION, WRIST, POSE = slice(0, 3), slice(3, 6), slice(6, NUM_MOTIONS)
NUM_SHARED = NUM_SIDES * NUM_BETAS + 2
SCALE, FOCAL = NUM_SHARED - 2, NUM_SHARED - 1


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of B clips.

    Attributes:
        hands: chains (B * S), 51 unknowns a frame.
        camera: chains (B), 6 unknowns a frame.
        mixed: (B * S, T, 51, 22) hands by what is shared: betas of both, scale, focal length.
        shared: (B, 22, 22).
    """

    hands: BandedSystem
    camera: BandedSystem
    mixed: Tensor
    shared: Tensor


@torch.no_grad()
def curvature(problem: Problem, motion: Motion, stage: Stage, near: Near | None) -> Curvature:
    """All blocks of a stage's energy at a motion."""
    B, T = motion.wrist.shape[:2]
    view = problem.view(motion)
    body, weights, evidence = problem.body, stage.weights, problem.evidence
    jacobian = body.skeleton.motion_jacobian(view.skeleton)  # (B, T, S, 21, 3, 51)
    diagonal = motion.wrist.new_zeros(B, T, NUM_SIDES, NUM_MOTIONS, NUM_MOTIONS)
    parts = _Parts(problem, motion, stage, view, jacobian, diagonal)
    chain = BandedSystem.zeros(B * NUM_SIDES, T, NUM_MOTIONS, motion.wrist)
    _smoothness(parts, chain)
    mixed = motion.wrist.new_zeros(B, T, NUM_SIDES, NUM_MOTIONS, NUM_SHARED)
    shared = motion.wrist.new_zeros(B, NUM_SHARED, NUM_SHARED)
    camera = BandedSystem.zeros(B, T, 6, motion.wrist)
    _data(parts, mixed, shared, camera)
    _priors(parts, shared)
    _camera(parts, camera)
    if near is not None and weights.penetration > 0 and len(near.contacts):
        _penetration(parts, near)
    chain.diagonal.add_(diagonal.transpose(1, 2).flatten(0, 1))
    present = evidence.present.to(motion.wrist).sum(-1).clamp_min(1)
    shared.diagonal(dim1=-2, dim2=-1).add_(1e-9 / present[:, None])
    return Curvature(chain, camera, mixed.transpose(1, 2).flatten(0, 1), shared)


@dataclass(frozen=True)
class _Parts:
    problem: Problem
    motion: Motion
    stage: Stage
    view: View
    jacobian: Tensor
    diagonal: Tensor  # (B, T, S, 51, 51), grows

    def weight(self, name: str, dimensions: int = 0) -> Tensor:
        """Of a term in each clip, (B, 1, ...) with so many ones."""
        return self.problem.weight(self.stage, name)[(...,) + (None,) * dimensions]

    @property
    def doubled(self) -> float:
        """Hands and camera share the reprojection."""
        return 2.0 if "camera" in self.stage.variables else 1.0


def _smoothness(parts: _Parts, chain: BandedSystem) -> None:
    """Velocity, acceleration and turning speed: the only terms that tie frames together."""
    weights, evidence = parts.stage.weights, parts.problem.evidence
    fps, T = evidence.fps, parts.motion.wrist.shape[1]
    hands = evidence.share * T  # (B, 1, S)
    first, second = _stencils(T, parts.motion.wrist)
    speed = 2 * parts.weight("velocity") * fps**2 / max(T - 1, 1) / NUM_JOINTS
    jerk = 2 * parts.weight("acceleration") * fps**4 / max(T - 2, 1) / NUM_JOINTS
    flat = parts.jacobian.flatten(3, 4)  # (B, T, S, 63, 51)
    for offset, blocks in enumerate((chain.diagonal, chain.next, chain.after)):
        if offset >= T:
            continue
        factor = speed[:, None] * first[offset] + jerk[:, None] * second[offset]  # (B, T - offset)
        product = flat[:, : T - offset].mT @ flat[:, offset:]
        product = product * (factor[:, :, None] * hands)[..., None, None]
        blocks[:, : T - offset] += product.transpose(1, 2).flatten(0, 1)
    if weights.turning_speed and T > 1:
        rate = 2 * parts.weight("turning_speed") * fps**2 / (T - 1)
        turn = parts.motion.orientation[:, :-1].mT @ parts.motion.orientation[:, 1:]
        steps = (rate[:, None] * first[0])[:, :, None] * hands
        parts.diagonal[..., ORIENTATION, ORIENTATION] += steps[..., None, None] * torch.eye(3).to(
            turn
        )
        tied = -(rate[:, None, None] * hands)[..., None, None] * turn
        chain.next[:, : T - 1, ORIENTATION, ORIENTATION] += tied.transpose(1, 2).flatten(0, 1)


def _stencils(frames: int, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Bands of D^T D for first and second differences over frames."""
    result = []
    for kernel in ((-1.0, 1.0), (1.0, -2.0, 1.0)):
        rows = max(frames - len(kernel) + 1, 0)
        bands = [like.new_zeros(max(frames - k, 0)) for k in range(3)]
        for i, a in enumerate(kernel):
            for j in range(i, len(kernel)):
                bands[j - i][i : i + rows] += a * kernel[j]
        result.append(bands)
    return result[0], result[1]


def _data(parts: _Parts, mixed: Tensor, shared: Tensor, camera: BandedSystem) -> None:
    """Reprojection and closeness to the estimate."""
    weights, kernels = parts.stage.weights, parts.stage.kernels
    evidence, motion, view = parts.problem.evidence, parts.motion, parts.view
    diagonal, data = parts.diagonal, evidence.data_share
    identity = torch.eye(3).to(motion.wrist)
    if weights.reprojection:
        _reprojection(parts, mixed, shared, camera)
    if weights.orientation:
        turned = view.rotation[:, :, None] @ motion.orientation
        squared = turning(evidence.orientation, turned).square().sum(-1)
        factor = 2 * weights.orientation * parts.doubled * data
        factor = factor * robust_weight(squared, kernels.orientation)
        diagonal[..., ORIENTATION, ORIENTATION] += factor[..., None, None] * identity
    if weights.translation:
        sight = sight_weighted(identity, evidence.wrist[..., None, :], kernels.depth_weight)
        residual = sight_weighted(view.wrist - evidence.wrist, evidence.wrist, kernels.depth_weight)
        pull = robust_weight(residual.square().sum(-1), kernels.translation)
        factor = 2 * weights.translation * data * pull
        metric = factor[..., None, None] * sight @ sight
        rotation = view.rotation[:, :, None]
        toward = metric @ rotation
        diagonal[..., WRIST, WRIST] += parts.doubled * rotation.mT @ toward
        moved = _scale_motion(parts)[:, :, None, :, None]  # (B, T, 1, 3, 1)
        mixed[..., WRIST, SCALE : SCALE + 1] += toward.mT @ moved
        shared[:, SCALE, SCALE] += (moved.mT @ metric @ moved).sum((1, 2))[:, 0, 0]
    if weights.pose:
        squared = turning(evidence.pose, view.pose).square().sum(-1)
        factor = 2 * weights.pose / 15 * data[..., None] * robust_weight(squared, kernels.pose)
        _add_to_diagonal(diagonal, factor)
    if weights.completion:
        unseen = evidence.share * ~evidence.observed
        _add_to_diagonal(
            diagonal,
            2
            * parts.weight("completion", 3)
            / 15
            * unseen[..., None]
            * evidence.completion_precision,
        )


def _add_to_diagonal(diagonal: Tensor, factor: Tensor) -> None:
    """(B, T, S, 15) on the fingers' unknowns."""
    diagonal.diagonal(dim1=-2, dim2=-1)[..., POSE] += factor.repeat_interleave(3, -1)


def _scale_motion(parts: _Parts) -> Tensor:
    """How camera-frame points move with the logarithm of the scale, (B, T, 3)."""
    scale = parts.motion.log_scale.exp()[:, None, None]
    return scale * parts.problem.evidence.camera_translation


def _reprojection(parts: _Parts, mixed: Tensor, shared: Tensor, camera: BandedSystem) -> None:
    evidence, view = parts.problem.evidence, parts.view
    depth = view.joints[..., 2].clamp_min(1e-3)
    residual = (view.projected - evidence.joints_2d) / evidence.size[..., None, None]
    pull = robust_weight(residual.square().sum(-1), parts.stage.kernels.reprojection)
    share = (evidence.share * evidence.observed)[..., None]
    factor = 2 * parts.stage.weights.reprojection / NUM_JOINTS * share
    factor = factor * evidence.joints_2d_confidence * pull  # (B, T, S, J)
    root = factor.sqrt()[..., None, None] / evidence.size[..., None, None, None]
    focal = view.intrinsics[:, :2, :2]
    offset = view.projected - view.intrinsics[:, None, None, None, :2, 2]  # (B, T, S, J, 2)
    onto = torch.cat((focal[:, None, None, None].expand(*offset.shape, 2), -offset[..., None]), -1)
    onto = onto / depth[..., None, None] * root  # (B, T, S, J, 2, 3), pixels a metre, weighted
    world = onto @ view.rotation[:, :, None, None]
    hand = (world @ parts.jacobian).flatten(3, 4)  # (B, T, S, 42, 51)
    parts.diagonal.add_(parts.doubled * hand.mT @ hand)
    shape = (world @ parts.problem.body.skeleton.shape_jacobian(view.skeleton)).flatten(3, 4)
    scale = (onto @ _scale_motion(parts)[:, :, None, None, :, None]).flatten(3, 4)
    zoom = (offset[..., None] * root).flatten(3, 4)
    for side in range(NUM_SIDES):
        own = torch.cat((shape[:, :, side], scale[:, :, side], zoom[:, :, side]), -1)
        start = side * NUM_BETAS
        columns = [*range(start, start + NUM_BETAS), SCALE, FOCAL]
        block = mixed[:, :, side]
        block[..., columns] += hand[:, :, side].mT @ own
        square = (own.mT @ own).sum(1)
        index = torch.tensor(columns, device=own.device)
        shared[:, index[:, None], index] += square
    if "camera" in parts.stage.variables:
        arms = view.joints - view.translation[:, :, None, None]
        seen = torch.cat((_turned(onto, arms), onto), -1).flatten(3, 4)
        camera.diagonal.add_(2 * (seen.mT @ seen).sum(2))


def _turned(onto: Tensor, arms: Tensor) -> Tensor:
    """Rows (..., 2, 3) times -[arm]: how projections move with a turn from the left."""
    return torch.linalg.cross(arms[..., None, :].expand_as(onto), onto)


def _priors(parts: _Parts, shared: Tensor) -> None:
    """Terms of one frame, or of what is shared, that look at no data."""
    weights, kernels = parts.stage.weights, parts.stage.kernels
    evidence, body = parts.problem.evidence, parts.problem.body
    share, diagonal, view = evidence.share, parts.diagonal, parts.view
    if weights.joint_angles:
        excess = body.anatomy.excess(view.pose, kernels.angle_margin)
        rows = body.anatomy.angle_jacobian(view.pose) * (excess != 0)[..., None]
        factor = 2 * parts.weight("joint_angles", 2) / 45 * share
        blocks = rows.mT @ rows * factor[..., None, None, None]
        fingers = diagonal[..., POSE, POSE].unflatten(-1, (15, 3)).unflatten(-3, (15, 3))
        torch.diagonal(fingers, dim1=-4, dim2=-2).add_(blocks.movedim(-3, -1))
    if weights.pose_likelihood:
        precision = body.pose_whitening.mT @ body.pose_whitening
        factor = parts.weight("pose_likelihood", 2) / 45 * share
        diagonal[..., POSE, POSE] += factor[..., None, None] * precision
    hands = share[:, 0] * parts.motion.wrist.shape[1]  # (B, S), sums to one
    names = ("shape", "shape_estimate", "bone_lengths", "palm_shape")
    own = 2 * torch.stack([parts.weight(name, 1) for name in names]).sum(0)
    betas = shared.diagonal(dim1=-2, dim2=-1)
    betas[:, : NUM_SIDES * NUM_BETAS] += own * hands.repeat_interleave(NUM_BETAS, -1)
    if weights.shape_symmetry:
        both = evidence.present.all(-1).to(hands)[:, None, None]
        tie = torch.eye(NUM_BETAS).to(hands) * 2
        sign = torch.tensor(((1.0, -1.0), (-1.0, 1.0))).to(hands)
        size = NUM_SIDES * NUM_BETAS
        shared[:, :size, :size] += parts.weight("shape_symmetry", 2) * both * torch.kron(sign, tie)
    betas[:, SCALE] += weights.scale / evidence.scale_deviation**2
    betas[:, FOCAL] += weights.focal / kernels.focal_deviation**2


def _camera(parts: _Parts, camera: BandedSystem) -> None:
    weights, fps = parts.stage.weights, parts.problem.evidence.fps
    T = parts.motion.wrist.shape[1]
    lever = parts.stage.kernels.camera_lever
    units = torch.tensor([lever**2] * 3 + [1.0] * 3).to(parts.motion.wrist)
    camera.diagonal.add_(torch.diag(2 * weights.camera / T * units))
    if weights.orientation:
        data = 4 * weights.orientation * parts.problem.evidence.data_share.sum(-1)
        camera.diagonal.diagonal(dim1=-2, dim2=-1)[..., :3] += data[..., None]
    _, second = _stencils(T, parts.motion.wrist)
    jerk = 2 * parts.weight("camera_smoothness") * fps**4 / max(T - 2, 1)
    for offset, blocks in enumerate((camera.diagonal, camera.next, camera.after)):
        if offset < T:
            factor = jerk[:, None] * second[offset]
            blocks[:, : T - offset] += factor[..., None, None] * torch.diag(units)


def _penetration(parts: _Parts, near: Near) -> None:
    """One row a contact and hand, added to the hand's own block."""
    problem, contacts, skeleton = parts.problem, near.contacts, parts.view.skeleton
    vertices = problem.vertices(parts.view, parts.motion, near.clip, near.frame)
    depth = contacts.depths(vertices) + parts.stage.kernels.penetration_margin
    share = problem.contact_share(near)[contacts.hand]
    factor = 2 * parts.weight("penetration")[near.clip][contacts.hand]
    factor = factor * share * contacts.area / NUM_SIDES
    factor = factor / (1 + (depth / DEEP).square()).sqrt()
    factor = 2 * factor * (depth > 0) / MILLIMETRE**2  # doubled: the hands are not coupled
    corner = contacts.corners.gather(-1, contacts.barycentric.argmax(-1, keepdim=True))[:, 0]
    ends = ((contacts.side, contacts.vertex), (1 - contacts.side, corner))
    clip, frame = near.clip[contacts.hand], near.frame[contacts.hand]
    for side, vertex in ends:
        points = vertices[contacts.hand, side, vertex]
        posed = PosedSkeleton(
            points,
            skeleton.rotations[clip, frame, side],
            skeleton.origins[clip, frame, side],
            points,
        )
        rows = _vertex_rows(problem.body.skeleton, posed, points, side, vertex, contacts.direction)
        gives_way = problem.gives_way(near)[contacts.hand, side]
        rows = rows * (factor * gives_way).sqrt()[:, None]
        _add_rows(parts.diagonal, rows, clip, frame, side)


def _vertex_rows(
    skeleton: HandSkeleton,
    posed: PosedSkeleton,
    points: Tensor,
    side: Tensor,
    vertex: Tensor,
    direction: Tensor,
) -> Tensor:
    jacobian = skeleton.vertex_jacobian(posed, points, torch.stack((side, vertex), -1))
    return (direction[:, None] @ jacobian)[:, 0]


def _add_rows(diagonal: Tensor, rows: Tensor, clip: Tensor, frame: Tensor, side: Tensor) -> None:
    """Add outer products of K rows to the blocks of their hands, hand by hand."""
    _, T, S = diagonal.shape[:3]
    key = (clip * T + frame) * S + side
    order = key.argsort(stable=True)
    hands, counts = torch.unique_consecutive(key[order], return_counts=True)
    start = counts.cumsum(0) - counts
    number = torch.repeat_interleave(torch.arange(len(hands), device=key.device), counts)
    place = torch.arange(len(key), device=key.device) - start[number]
    padded = rows.new_zeros(len(hands), int(counts.max()), rows.shape[-1])
    padded[number, place] = rows[order]
    diagonal.view(-1, *diagonal.shape[3:]).index_add_(0, hands, padded.mT @ padded)
