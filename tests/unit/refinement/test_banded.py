import pytest
import torch

from fourdhands.refinement.banded import BandedSystem


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8])
def test_solves_like_a_dense_matrix(frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    count, size = 2, 3
    rows = torch.randn(count, frames, 5, 3 * size, generator=generator, dtype=torch.float64)
    dense = torch.eye(frames * size).double().repeat(count, 1, 1)
    for t in range(frames):  # each row of residuals sees three frames
        wide = torch.zeros(count, 5, (frames + 2) * size).double()
        wide[..., t * size : (t + 3) * size] = rows[:, t]
        wide = wide[..., : frames * size]
        dense += wide.mT @ wide
    blocks = dense.view(count, frames, size, frames, size).transpose(2, 3)
    bands = []
    for k in range(3):
        band = torch.zeros(count, frames, size, size).double()
        for t in range(frames - k):
            band[:, t] = blocks[:, t, t + k]
        bands.append(band)
    right = torch.randn(count, frames, size, 4, generator=generator, dtype=torch.float64)
    found, good = BandedSystem(*bands).solve(right)
    wanted = torch.linalg.solve(dense, right.flatten(1, 2))
    assert good.all()
    torch.testing.assert_close(found.flatten(1, 2), wanted)
