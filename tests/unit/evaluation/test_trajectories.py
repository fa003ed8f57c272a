"""Errors in the world and along time against slow loops, and what alignment takes away."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from fourdhands.evaluation.alignments import Compared, absolute, accelerations, in_image
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.statistics import Largest, PooledMean
from fourdhands.evaluation.trajectories import aligned_in_world, along_path, in_world
from tests.helpers.samples import random_pair, without

Floats = NDArray[np.float64]
G = partial(aligned_in_world, frames=2)
GA = partial(aligned_in_world, frames=None)


def moving(seed: int, count: int = 40) -> Pair:
    """Two noisy hands before two cameras that move, in sequences with gaps."""
    rng = np.random.default_rng(seed)
    pair = without(random_pair(seed, count), seed=seed)
    frame = pair.true.frame + 5 * (pair.true.frame >= 7) + (pair.true.frame >= 29)

    def under_way(samples: HandSamples) -> HandSamples:
        return replace(samples, cam_from_world=random_motions(rng, count), frame=frame)

    return Pair(under_way(pair.predicted), under_way(pair.true))


def random_motions(rng: np.random.Generator, count: int) -> Tensor:
    motion = torch.eye(4).double().repeat(count, 1, 1)
    motion[:, :3, :3] = torch.from_numpy(
        Rotation.from_rotvec(rng.normal(0, 0.3, (count, 3))).as_matrix()
    )
    motion[:, :3, 3] = torch.from_numpy(rng.normal(0, 0.3, (count, 3)))
    return motion


def mean(compared: Compared) -> float:
    statistic = PooledMean()
    statistic.update(compared)
    return float(statistic.compute())


# ---- slow programs -------------------------------------------------------------------------------


def world(samples: HandSamples) -> Floats:
    found = np.empty(samples.joints.shape)
    for n in range(len(samples)):
        world_from_cam = np.linalg.inv(samples.cam_from_world[n].numpy())
        for s in range(2):
            for j in range(21):
                point = np.append(samples.joints[n, s, j].numpy(), 1)
                found[n, s, j] = (world_from_cam @ point)[:3]
    return found


def similarity(source: Floats, target: Floats, *, scaled: bool) -> Callable[[Floats], Floats]:
    """The best motion of points (M, 3) onto others, by scipy's rotation."""
    a, b = source - source.mean(0), target - target.mean(0)
    turn = Rotation.align_vectors(b, a)[0].as_matrix()
    scale = np.sum(b * (a @ turn.T)) / np.sum(a * a) if scaled else 1.0
    return lambda points: scale * (points - source.mean(0)) @ turn.T + target.mean(0)


def runs(samples: HandSamples) -> list[list[int]]:
    found: list[list[int]] = []
    for n in range(len(samples)):
        follows = (
            n > 0
            and samples.sequence[n] == samples.sequence[n - 1]
            and samples.frame[n] == samples.frame[n - 1] + 1
        )
        found = [*found[:-1], [*found[-1], n]] if follows else [*found, [n]]
    return found


def slow(
    pair: Pair, *, frames: int | None, length: int, scaled: bool, together: bool
) -> list[float]:
    predicted, true, valid = world(pair.predicted), world(pair.true), pair.true.joints_valid.numpy()
    errors: list[float] = []
    for run in runs(pair.true):
        for start in range(0, len(run), length):
            chunk = run[start : start + length]
            for sides in [[0, 1]] if together else [[0], [1]]:
                p, t, v = (x[chunk][:, sides] for x in (predicted, true, valid))
                labelled = [k for k in range(len(chunk)) if v[k].any()][:frames]
                mask = v[labelled]
                if mask.sum() >= 3:
                    move = similarity(p[labelled][mask], t[labelled][mask], scaled=scaled)
                    errors += np.linalg.norm(move(p[v]) - t[v], axis=-1).tolist()
    return errors


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("frames", "length"), [(2, 6), (None, 6), (1, 100), (2, 2)])
def test_alignment_in_the_world(
    frames: int | None, length: int, scaled: bool, together: bool
) -> None:
    pair = moving(1)
    how = {"frames": frames, "length": length, "scaled": scaled, "together": together}
    found = aligned_in_world(pair, "joints", **how)  # type: ignore[arg-type]
    expected = slow(pair, **how)  # type: ignore[arg-type]
    assert int(found.valid.sum()) == len(expected)
    assert mean(found) == pytest.approx(np.mean(expected), rel=1e-9)


def test_tracks_along_their_paths() -> None:
    pair, shares = moving(2), []
    predicted, true = world(pair.predicted)[:, :, 0], world(pair.true)[:, :, 0]
    for number in pair.true.sequence.unique():
        for s in range(2):
            there = (pair.true.sequence == number) & pair.true.joints_valid[:, s, 0]
            p, t = predicted[there.numpy(), s], true[there.numpy(), s]
            path = sum(np.linalg.norm(t[k + 1] - t[k]) for k in range(len(t) - 1))
            error = np.linalg.norm(similarity(p, t, scaled=False)(p) - t, axis=-1)
            shares += (error / path).tolist()
    assert mean(along_path(pair)) == pytest.approx(np.mean(shares), rel=1e-9)


def test_accelerations_in_their_frames_and_units() -> None:
    pair = moving(3)
    for of, points in ((in_world, world), (absolute, lambda samples: samples.joints.numpy())):
        gap = points(pair.predicted) - points(pair.true)
        errors = [
            np.linalg.norm(gap[a, s, j] - 2 * gap[b, s, j] + gap[c, s, j])
            for run in runs(pair.true)
            for a, b, c in zip(run, run[1:], run[2:], strict=False)
            for s in range(2)
            for j in range(21)
            if pair.true.joints_valid[[a, b, c], s, j].all()
        ]
        found = mean(accelerations(pair, "joints", of=of, per_frame=True))
        assert found == pytest.approx(np.mean(errors), rel=1e-9)
        seconds = mean(accelerations(pair, "joints", of=of))
        assert seconds == pytest.approx(900 * found, rel=1e-12)  # 1 mm/frame^2 is 0.9 m/s^2


# ---- laws ----------------------------------------------------------------------------------------


def rms(compared: Compared) -> float:
    return float(compared.errors.square().sum() / compared.valid.sum()) ** 0.5


@pytest.mark.parametrize("seed", range(5))
def test_all_frames_align_best_in_the_root_mean_square(seed: int) -> None:
    pair = moving(seed)
    for together in (True, False):
        how = {"length": 9, "together": together}
        first, every = G(pair, "joints", **how), GA(pair, "joints", **how)
        both = first.valid & every.valid
        first, every = (Compared(c.predicted, c.true, both) for c in (first, every))
        assert rms(every) <= rms(first) and mean(every) <= rms(first)
        assert rms(every) < rms(in_world(pair, "joints"))
        rigid = GA(pair, "joints", scaled=False, **how)
        assert rms(every) <= rms(Compared(rigid.predicted, rigid.true, both))


def test_of_mean_distances_that_need_not_hold() -> None:
    """One joint far off in one frame: least squares move all the others to meet it."""
    true = resting(20)
    joints = true.joints.clone()
    joints[10, 0, 4] += 1
    pair = Pair(replace(true, joints=joints), true)
    assert mean(G(pair, "joints")) < mean(GA(pair, "joints"))
    assert rms(G(pair, "joints")) > rms(GA(pair, "joints"))


def test_short_chunks_are_aligned_by_all_they_have() -> None:
    pair = moving(4)
    for length in (1, 2):
        assert mean(G(pair, "joints", length=length)) == pytest.approx(
            mean(GA(pair, "joints", length=length)), rel=1e-12
        )
    with_all = mean(G(pair, "joints", frames=7, length=7))
    assert with_all == pytest.approx(mean(GA(pair, "joints", length=7)), rel=1e-12)


def in_another_world(samples: HandSamples, seed: int, scale: float) -> HandSamples:
    """The same video by a method whose world lies elsewhere, and has another unit."""
    world_from_other = random_motions(np.random.default_rng(seed), 1)
    cameras = samples.cam_from_world @ world_from_other
    cameras[:, :3, 3] *= scale
    return replace(samples, joints=scale * samples.joints, cam_from_world=cameras)


def test_where_the_world_lies_does_not_matter() -> None:
    pair = moving(5)
    elsewhere = Pair(in_another_world(pair.predicted, 0, 1.0), pair.true)
    larger = Pair(in_another_world(pair.predicted, 0, 1.7), pair.true)
    for align in (G, GA, partial(GA, together=False), partial(G, scaled=False), along_path):
        before = mean(align(pair, "joints"))
        assert mean(align(elsewhere, "joints")) == pytest.approx(before, rel=1e-9)
        rigid = align is along_path or "scaled" in getattr(align, "keywords", {})
        same = mean(align(larger, "joints")) == pytest.approx(before, rel=1e-9)
        assert same != rigid
    right = Pair(in_another_world(pair.true, 1, 1.7), pair.true)
    assert mean(G(right, "joints")) < 1e-12 and mean(GA(right, "joints")) < 1e-12
    assert mean(along_path(Pair(in_another_world(pair.true, 1, 1.0), pair.true))) < 1e-12


def test_a_mirrored_world_is_wrong() -> None:
    pair = moving(6)
    mirror = torch.diag(torch.tensor((-1.0, 1, 1, 1))).double()
    mirrored = replace(
        pair.true,
        joints=pair.true.joints * mirror.diagonal()[:3],
        cam_from_world=mirror @ pair.true.cam_from_world @ mirror,
    )
    assert mean(GA(Pair(mirrored, pair.true), "joints")) > 0.01


def resting(count: int) -> HandSamples:
    """A hand that rests in the world while the camera moves to the right, 1 cm a frame."""
    samples = random_pair(7, 1).true.take(torch.zeros(count, dtype=torch.int64))
    cameras = torch.eye(4).double().repeat(count, 1, 1)
    cameras[:, 0, 3] = -0.01 * torch.arange(count).double()
    joints = samples.joints + cameras[:, None, None, :3, 3]
    names = tuple(map(str, range(count)))
    return replace(
        samples, joints=joints, cam_from_world=cameras, frame=torch.arange(count), names=names
    )


def test_a_camera_that_moves() -> None:
    true = resting(11)
    points = in_world(Pair(true, true), "joints").true
    assert (points - points[:1]).abs().max() < 1e-15
    assert along_path(Pair(true, true)).valid.sum() == 0  # a wrist at rest has no path
    still = replace(true, cam_from_world=torch.eye(4).double().repeat(11, 1, 1))
    found = G(Pair(still, true), "joints", frames=1)
    expected = 0.01 * torch.arange(11).double()[:, None, None]  # it seems to walk to the left
    torch.testing.assert_close(found.errors, expected.expand_as(found.errors))
    back = along_path(Pair(true, still))  # the true path is 10 cm, the predicted wrist rests
    assert back.valid.all()
    assert mean(back) == pytest.approx(np.abs(np.arange(11) - 5).mean() / 10, rel=1e-9)


def test_single_frames_and_hands_that_nobody_labelled() -> None:
    pair = moving(8, 1)
    found = G(pair, "joints")
    assert found.valid.sum() == pair.true.joints_valid.sum()
    assert along_path(pair).valid.sum() == 0
    nothing = torch.zeros_like(pair.true.joints_valid)
    blind = Pair(pair.predicted, replace(pair.true, joints_valid=nothing))
    for align in (G, GA, along_path):
        assert np.isnan(mean(align(blind, "joints")))


def test_whole_sequences_come_together() -> None:
    pair = moving(9)
    for size in (1, 15, 1000):
        pieces = list(pair.trajectories(size))
        assert sum(map(len, pieces)) == len(pair)
        assert all(len(piece) >= size for piece in pieces[:-1])
        sequences = [set(piece.true.sequence.tolist()) for piece in pieces]
        assert len(set.union(*sequences)) == sum(map(len, sequences))
        assert not any(piece.true.vertices.numel() for piece in pieces)


def test_pixels_and_the_largest() -> None:
    true = random_pair(10, 3).true
    moved = true.joints_2d + torch.tensor((3.0, -4.0))
    valid = torch.ones_like(true.joints_2d_valid)
    valid[0, 0] = False
    pair = Pair(
        replace(true, joints_2d=moved, joints_2d_valid=valid), replace(true, joints_2d_valid=valid)
    )
    found = in_image(pair)
    assert mean(found) == 5 and found.valid.sum() == valid.sum()
    parts = [Largest() for _ in range(3)]
    for k, part in enumerate(parts):
        part.update(in_image(pair.take(torch.tensor([k]))))
    parts[1].update(Compared(found.predicted * 9, found.true, torch.zeros_like(found.valid)))
    for part in parts[1:]:
        parts[0].merge_state(part)
    assert float(parts[0].compute()) == 5
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert Largest().compute().isnan()
