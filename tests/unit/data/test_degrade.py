import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fourdhands.data.degrade import PixelChange, degrade, streaks

SIZE = (96, 72)


def change(clips: int = 1, seed: int = 0, **strengths: float) -> PixelChange:
    given = {"occlusion": 0.0, "blur": 0.0, "low_resolution": 0.0, "jpeg": 0.0} | strengths
    return PixelChange.draw([np.random.default_rng(seed + k) for k in range(clips)], **given)


def dot() -> NDArray[np.uint8]:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[46:50, 34:38] = 255
    return image


def moments(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (x, y) and covariance of the light."""
    light = image.mean(-1)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    points, weight = np.stack((x.ravel(), y.ravel())), light.ravel() / light.sum()
    centre = points @ weight
    return centre, (points - centre[:, None]) * weight @ (points - centre[:, None]).T


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)


def test_nothing_asked_nothing_changed() -> None:
    crop = noise()
    assert (degrade(crop, change(), 0, 0, (0.0, 0.0)) == crop).all()


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.5, -0.9])
def test_blur_is_a_streak_in_place(angle: float) -> None:
    streak = (20 * np.cos(angle), 20 * np.sin(angle))
    sharp, smeared = dot(), degrade(dot(), change(), 0, 0, streak)
    (before, _), (after, spread) = moments(sharp), moments(smeared)
    np.testing.assert_allclose(after, before, atol=0.6)
    long_axis = np.linalg.eigh(spread)[1][:, -1]
    assert abs(long_axis @ (np.cos(angle), np.sin(angle))) > 0.99
    assert np.sqrt(np.linalg.eigvalsh(spread)[-1]) == pytest.approx(20 / np.sqrt(12), rel=0.15)


def test_blur_follows_the_hand_as_each_crop_shows_it() -> None:
    drawn = change(clips=8, blur=0.2)
    assert 0 < (drawn.blur > 0).sum() < 8 and drawn.blur.max() <= 0.2
    bbox = torch.tensor([0.0, 0.0, 60.0, 80.0]).repeat(8, 3, 2, 1)
    bbox[..., 0] += torch.arange(3.0)[:, None] * 30
    bbox[..., 1] += torch.arange(3.0)[:, None] * 40
    found = streaks(drawn, bbox, SIZE, torch.tensor([False, True]))
    lengths = found.norm(dim=-1)
    torch.testing.assert_close(lengths, (drawn.blur * 96)[:, None, None].expand(8, 3, 2))
    moving = drawn.blur > 0
    # half a box to the right and half a box down, in a crop of 72 x 96; mirrored on the left
    expected = torch.tensor([[0.6, 0.8], [-0.6, 0.8]]).expand(int(moving.sum()), 3, 2, 2)
    torch.testing.assert_close(found[moving] / lengths[moving][..., None], expected)


def test_low_resolution_keeps_the_place() -> None:
    drawn = change(low_resolution=2.0, seed=3)
    drawn = PixelChange(**{**vars(drawn), "reduction": torch.tensor([4.0])})
    before, after = moments(dot()), moments(degrade(dot(), drawn, 0, 0, (0.0, 0.0)))
    np.testing.assert_allclose(after[0], before[0], atol=0.3)
    assert after[1].trace() > 2 * before[1].trace()


def test_a_patch_covers_its_place_and_nothing_else() -> None:
    drawn = change(occlusion=1.0)
    crop = noise()
    covered = degrade(crop, drawn, 0, 1, (0.0, 0.0))
    changed = (covered != crop).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    x, y, w, h = (drawn.patch[0, 1] * torch.tensor([72, 96, 72, 96])).tolist()
    expected = np.clip((x - w / 2, x + w / 2, y - h / 2, y + h / 2), 0, (72, 72, 96, 96))
    found = (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
    np.testing.assert_allclose(found, expected, atol=1.01)
    assert (degrade(crop, drawn, 0, 1, (0.0, 0.0)) == covered).all()
    assert (degrade(crop, change(occlusion=0.0), 0, 1, (0.0, 0.0)) == crop).all()


def test_jpg_loses_detail() -> None:
    crop, drawn = noise(), change(jpeg=1.0)
    worst = PixelChange(**{**vars(drawn), "jpeg_quality": torch.tensor([15.0])})
    difference = np.abs(degrade(crop, worst, 0, 0, (0.0, 0.0)).astype(int) - crop).mean()
    assert difference > 10
    qualities = change(clips=64, jpeg=1.0).jpeg_quality
    assert (qualities == 100).any() and qualities.min() < 50 and qualities.min() >= 15
