"""Linear systems of trajectories: blocks of frames, each tied to the next two.

Solved exactly, in time and memory linear in the number of frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BandedSystem:
    """Symmetric matrices of N trajectories with n unknowns a frame.

    Attributes:
        diagonal: (N, T, n, n).
        next: (N, T, n, n) blocks (t, t + 1); the last one is not looked at.
        after: (N, T, n, n) blocks (t, t + 2); the last two are not looked at.
    """

    diagonal: Tensor
    next: Tensor
    after: Tensor

    @classmethod
    def zeros(cls, count: int, frames: int, size: int, like: Tensor) -> "BandedSystem":
        """All zero."""
        return cls(*(like.new_zeros(count, frames, size, size) for _ in range(3)))

    def only(self, columns: Tensor, free: Tensor) -> "BandedSystem":
        """Keep some unknowns, and tie others to zero.

        Args:
            columns: indices of the unknowns that stay.
            free: (N, T) bool; frames that are not free get the identity.
        """
        free_next, free_after = torch.zeros_like(free), torch.zeros_like(free)
        free_next[:, :-1] = free[:, :-1] & free[:, 1:]
        free_after[:, :-2] = free[:, :-2] & free[:, 2:]

        def cut(blocks: Tensor, where: Tensor, other: Tensor | float) -> Tensor:
            kept = blocks[..., columns[:, None], columns]
            return torch.where(where[..., None, None], kept, other)

        identity = torch.eye(len(columns)).to(self.diagonal)
        return BandedSystem(
            cut(self.diagonal, free, identity),
            cut(self.next, free_next, 0.0),
            cut(self.after, free_after, 0.0),
        )

    def damped(self, damping: Tensor) -> "BandedSystem":
        """Levenberg and Marquardt's: the diagonal grows by a factor 1 + (N,)."""
        scale = self.diagonal.diagonal(dim1=-2, dim2=-1)
        floor = 1e-9 * scale.amax((1, 2), keepdim=True) + 1e-12
        more = damping[:, None, None] * scale + floor
        return BandedSystem(self.diagonal + torch.diag_embed(more), self.next, self.after)

    def solve(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for (N, T, n, k) right-hand sides.

        Returns:
            (N, T, n, k), and (N,) bool: False where the matrix is not positive definite.
        """
        count, frames, size, columns = right.shape
        pairs = -(-frames // 2)
        diagonal, off, right = self._paired(right, pairs)
        factors: list[Tensor] = []
        links: list[Tensor] = []
        partial: list[Tensor] = []
        good = torch.ones(count, dtype=torch.bool, device=right.device)
        for i in range(pairs):
            block, side = diagonal[:, i], right[:, i]
            if i:
                block = block - links[-1].mT @ links[-1]
                side = side - links[-1].mT @ partial[-1]
            factor, info = torch.linalg.cholesky_ex(block)
            good = good & (info == 0)
            factors.append(factor)
            both = torch.cat((off[:, i], side), -1) if i + 1 < pairs else side
            solved = torch.linalg.solve_triangular(factor, both, upper=False)
            links.append(solved[..., : 2 * size] if i + 1 < pairs else solved[..., :0])
            partial.append(solved[..., -columns:])
        found = [partial[-1]]
        for i in reversed(range(pairs)):
            side = partial[i] - (links[i] @ found[-1] if i + 1 < pairs else 0)
            value = torch.linalg.solve_triangular(factors[i].mT, side, upper=True)
            found.append(value)
        stacked = torch.stack(found[:0:-1], 1)
        return stacked.unflatten(2, (2, size)).flatten(1, 2)[:, :frames], good

    def _paired(self, right: Tensor, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two frames as one, which leaves ties between neighbours alone."""
        count, frames, size, columns = right.shape

        def padded(blocks: Tensor, used: int) -> Tensor:
            whole = blocks.new_zeros(count, 2 * pairs + 2, *blocks.shape[2:])
            whole[:, :used] = blocks[:, :used]
            return whole

        own = padded(self.diagonal, frames)
        own[:, frames:] = torch.eye(size).to(own)
        step, jump = padded(self.next, frames - 1), padded(self.after, max(frames - 2, 0))
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        diagonal = own.new_zeros(count, pairs, 2 * size, 2 * size)
        diagonal[..., :size, :size] = own[:, first]
        diagonal[..., size:, size:] = own[:, second]
        diagonal[..., :size, size:] = step[:, first]
        diagonal[..., size:, :size] = step[:, first].mT
        off = torch.zeros_like(diagonal)
        off[..., :size, :size] = jump[:, first]
        off[..., size:, :size] = step[:, second]
        off[..., size:, size:] = jump[:, second]
        sides = right.new_zeros(count, 2 * pairs, size, columns)
        sides[:, :frames] = right
        return diagonal, off, sides.unflatten(1, (pairs, 2)).flatten(2, 3)
