"""What holds for every motion prior, trained or not: mirror, time, rate, nothing seen."""

import pytest
import torch

from fourdhands.geometry.rotation import geodesic_distance, mirror_rotation
from fourdhands.models.motion_prior.prior import BOTH, MotionPrior, join
from fourdhands.skeleton import Side
from tests.helpers.motion import linear_prior, small_data


@pytest.fixture(scope="module")
def prior() -> MotionPrior:
    return linear_prior()


def clip(frames: int = 128, count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Poses (B, T, S, 15, 3, 3) of true hands, masks with gaps, times."""
    data = small_data()
    parts = [data.draw_pairs(count, torch.Generator().manual_seed(k)) for k in range(3)]
    poses = torch.cat([p.rotations for p in parts if p is not None], dim=1)[:, :frames].clone()
    poses[:, :, Side.LEFT] = mirror_rotation(poses[:, :, Side.LEFT])
    mask = torch.ones(poses.shape[:3], dtype=torch.bool)
    mask[:, 40:60, 0] = mask[:, 70:90, 1] = mask[1, :15, 0] = False
    return poses, mask, torch.arange(frames) / 30


def test_mirror_in_mirror_out(prior: MotionPrior) -> None:
    """Hands swapped and mirrored are completed, and drawn, swapped and mirrored."""
    poses, mask, times = clip()
    swapped = mirror_rotation(poses).flip(2)
    for joint in (False, True):
        prior.coupling.fill_(0.5)
        there = prior.complete(poses, mask, times, joint=joint)
        back = prior.complete(swapped, mask.flip(2), times, joint=joint)
        torch.testing.assert_close(mirror_rotation(back).flip(2), there, atol=2e-5, rtol=0)
    z = torch.randn(2, 2, prior.config.latent, generator=torch.Generator().manual_seed(0))
    right = prior.decode(z[:, :1], times, (Side.RIGHT,))
    left = prior.decode(z[:, :1], times, (Side.LEFT,))
    torch.testing.assert_close(mirror_rotation(left), right)


def test_the_clock_does_not_matter(prior: MotionPrior) -> None:
    poses, mask, times = clip(300)
    now = prior.complete(poses, mask, times.double())
    later = prior.complete(poses, mask, times.double() + 1000)
    torch.testing.assert_close(now, later, atol=1e-4, rtol=0)


def test_a_mask_that_comes_later_shifts_the_completion(prior: MotionPrior) -> None:
    """Motion and mask a window's hop later: the same completion, a hop later."""
    poses, mask, times = clip(300)
    mask[:] = True
    mask[:, 150:170] = False
    hop = prior.config.frames // 2
    later = prior.complete(poses[:, :236], mask[:, :236], times[:236])
    sooner = prior.complete(poses[:, hop:236], mask[:, hop:236], times[: 236 - hop])
    # what lies in windows that see the same frames
    torch.testing.assert_close(
        later[:, 130:230], sooner[:, 130 - hop : 230 - hop], atol=1e-4, rtol=0
    )


def test_corrections_move_along_with_what_was_seen(prior: MotionPrior) -> None:
    """Inside one window: the encoder knows differences of time only."""
    poses, _, _ = clip()
    values = prior.vae.coordinates.read(poses[:, :, 0]) - prior.vae.centre
    still = values[:, 30:31]
    seen = torch.ones(2, 128, dtype=torch.bool)
    seen[:, 50:66] = False
    values[:, :30] = values[:, 30:31]
    values[:, 90:] = values[:, 89:90]
    first, _ = prior.vae.encoder.complete(values, seen)
    shift = 2 * prior.config.encoder.patch
    moved = torch.cat([still.expand(-1, shift, -1), values[:, :-shift]], dim=1)
    second, _ = prior.vae.encoder.complete(moved, seen.roll(shift, 1))
    # the windows' ends differ, so not to the bit
    change = (first[:, 45:70] - second[:, 45 + shift : 70 + shift]).abs().max()
    assert change < 0.02 * (first[:, 45:70] - values[:, 45:70]).abs().max() + 0.02


@pytest.mark.parametrize("frames", [60, 128, 300])
def test_sixty_frames_a_second_hold_those_of_thirty(prior: MotionPrior, frames: int) -> None:
    times = torch.arange(frames, dtype=torch.float64) / 30
    fine = torch.arange(2 * frames, dtype=torch.float64) / 60
    slow = prior.sample(2, times, generator=torch.Generator().manual_seed(0))
    starts = torch.arange(8, dtype=torch.float64) * prior.hop
    z = torch.randn(2, 2, 8, prior.config.latent, generator=torch.Generator().manual_seed(0))
    coarse = prior.decode(z, times, starts=starts)
    dense = prior.decode(z, fine, starts=starts)
    torch.testing.assert_close(dense[:, ::2], coarse, atol=1e-5, rtol=0)
    assert slow.shape == (2, frames, 2, 15, 3, 3)


def test_nothing_seen_gives_the_prior(prior: MotionPrior) -> None:
    poses, mask, times = clip()
    latent = prior.encode(poses, torch.zeros_like(mask), times)
    assert (latent.mean == 0).all() and (latent.log_variance == 0).all()
    found = prior.complete(poses, torch.zeros_like(mask), times)
    torch.testing.assert_close(found, prior.decode(torch.zeros_like(latent.mean), times))


def test_samples_of_nothing_seen_spread_like_the_data(prior: MotionPrior) -> None:
    data = small_data().draw(300, torch.Generator().manual_seed(5)).rotations[:, :, 0]
    times = prior.vae.grid
    poses = data[:, :, None]
    unseen = torch.zeros(poses.shape[:3], dtype=torch.bool)
    latent = prior.encode(poses, unseen, times, (Side.RIGHT,))
    z = latent.draw(torch.Generator().manual_seed(0))
    drawn = prior.decode(z, times, (Side.RIGHT,))[:, :, 0]
    read = prior.vae.coordinates.read
    ratio = read(drawn).std((0, 1)) / read(data).std((0, 1))
    bends = ratio.unflatten(0, (15, 3))[:, 0]
    assert 0.75 < bends.mean() < 1.25


def test_what_nobody_saw_has_no_influence(prior: MotionPrior) -> None:
    poses, mask, times = clip(200)
    other = torch.where(mask[..., None, None, None], poses, torch.eye(3))
    torch.testing.assert_close(
        prior.complete(poses, mask, times), prior.complete(other, mask, times)
    )


def test_observed_frames_stay_and_nothing_jumps(prior: MotionPrior) -> None:
    poses, mask, times = clip(256)
    found = prior.complete(poses, mask, times)
    torch.testing.assert_close(found[mask], poses[mask])
    steps = geodesic_distance(found[:, 1:], found[:, :-1]).amax(-1)
    true = geodesic_distance(poses[:, 1:], poses[:, :-1]).amax(-1)
    inside = ~mask[:, 1:] | ~mask[:, :-1]
    assert steps[inside].max() < true.max() + 0.05


def test_windows_pass_into_each_other(prior: MotionPrior) -> None:
    """Where one window ends, the long decode is the other's alone; between, it has no step."""
    z = torch.randn(1, 1, 3, prior.config.latent, generator=torch.Generator().manual_seed(0))
    starts = torch.arange(3) * prior.hop
    fine = torch.arange(0, float(starts[-1]) + prior.span, 0.002)
    long = prior.decode(z, fine, (Side.RIGHT,), starts)
    step = geodesic_distance(long[:, 1:], long[:, :-1])
    assert step.max() < 0.1  # 50 rad/s
    alone = prior.decode(z[:, :, :1], fine[fine < starts[1]], (Side.RIGHT,))
    torch.testing.assert_close(long[:, : alone.shape[1]], alone)


def test_latent_optimisation_explains_what_was_seen(prior: MotionPrior) -> None:
    poses, mask, times = clip(128)
    plain = prior.complete(poses, mask, times, keep=False)
    moved = prior.complete(poses, mask, times, keep=False, method="optimise")
    error = [geodesic_distance(x, poses).square()[mask].mean() for x in (plain, moved)]
    assert error[1] < 0.99 * error[0]


def test_an_unseen_hand_follows_the_other(prior: MotionPrior) -> None:
    poses, mask, times = clip()
    mask[:] = True
    mask[:, :, Side.LEFT] = False
    prior.coupling.fill_(0.95)
    found = prior.complete(poses, mask, times, joint=True)
    follows = geodesic_distance(found[:, :, Side.LEFT], mirror_rotation(poses[:, :, Side.RIGHT]))
    apart = prior.complete(poses, mask, times)
    rests = geodesic_distance(apart[:, :, Side.LEFT], mirror_rotation(poses[:, :, Side.RIGHT]))
    assert follows.mean() < 0.5 * rests.mean()
    with pytest.raises(ValueError, match="right and a left"):
        prior.complete(poses, mask, times, (Side.RIGHT, Side.RIGHT), joint=True)


def test_what_fits_is_told() -> None:
    prior = linear_prior()
    poses, mask, times = clip()
    with pytest.raises(ValueError, match="do not fit"):
        prior.encode(poses, mask[:, :5], times)
    broken = poses.clone()
    broken[0, 3] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        prior.encode(broken, mask, times)
    with pytest.raises(ValueError, match="ascend"):
        prior.encode(poses, mask, times.flip(0))
    with pytest.raises(ValueError, match="names 1"):
        prior.encode(poses, mask, times, (Side.RIGHT,))
    with pytest.raises(ValueError, match="windows from"):
        prior.decode(torch.zeros(1, 2, 48), torch.tensor([9.0]))
    assert BOTH == (Side.RIGHT, Side.LEFT)
    torch.testing.assert_close(join(poses, poses, mask), poses, atol=1e-5, rtol=0)
