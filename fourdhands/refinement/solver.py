"""Run the stages: Gauss-Newton with step control over whole trajectories, Adam, or L-BFGS.

Whatever happens, a stage returns the best motion it has seen of each clip, and says if it failed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands.refinement.banded import BandedSystem
from fourdhands.refinement.curvature import NUM_SHARED, POSE, SCALE, curvature
from fourdhands.refinement.motion import Motion, Step
from fourdhands.refinement.problem import Near, Problem
from fourdhands.refinement.stages import Stage
from fourdhands.skeleton import NUM_BETAS, NUM_SIDES

FIRST_DAMPING: Final = 1e-4
LEAST_DAMPING: Final = 1e-9
MOST_DAMPING: Final = 1e6
ATTEMPTS: Final = 8  # step lengths that are tried at one place
LOOK_EVERY: Final = 10  # iterations of a first-order optimiser between two looks for penetration
GRADIENT_LIMIT: Final = 5.0  # norm to which Adam's gradients are clipped, as HMP does

Progress = Callable[[dict[str, Tensor]], None]


@dataclass(frozen=True)
class Solution:
    """What a stage came to.

    Attributes:
        motion: the best that was seen.
        energies: weighted terms there, (B,) each.
        diverged: (B,) bool, whether energies ceased to be finite or only rose.
        information: (B, 22, 22) second derivatives of the energy by what all frames share, all
            else solved for; zero where it is held, None where the optimiser does not know.
        iterations: that were made.
    """

    motion: Motion
    energies: dict[str, Tensor]
    diverged: Tensor
    information: Tensor | None = None
    iterations: int = 0


def solve(problem: Problem, motion: Motion, stage: Stage, *, progress: bool = False) -> Solution:
    """Run a stage.

    Args:
        problem: the clips.
        motion: where to start.
        stage: what to do.
        progress: whether to show a bar with the energies.
    """
    run = {"gauss_newton": _gauss_newton, "adam": _adam, "lbfgs": _lbfgs}[stage.optimizer]
    bar = tqdm(total=stage.iterations, desc=stage.name, leave=False, disable=not progress)

    def show(energies: dict[str, Tensor]) -> None:
        largest = sorted(energies.items(), key=lambda pair: -float(pair[1].sum()))[:4]
        words = {name: f"{float(value.mean()):.3g}" for name, value in largest}
        words["total"] = f"{float(_total(energies).mean()):.4g}"
        bar.set_postfix(words, refresh=False)
        bar.update()

    with bar:
        return run(problem, motion, stage, show)


def _total(energies: dict[str, Tensor]) -> Tensor:
    return torch.stack(tuple(energies.values())).sum(0)


# ---- Gauss-Newton --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Masks:
    """Which unknowns a stage may change."""

    columns: Tensor  # of the hands' 51
    hands: Tensor  # (B * S, T) bool
    camera: Tensor  # (B, T) bool
    shared: Tensor  # (B, 22) bool

    @classmethod
    def of(cls, problem: Problem, stage: Stage) -> "_Masks":
        evidence = problem.evidence
        B, T, S = evidence.observed.shape
        device = evidence.observed.device
        names = {
            "orientation": range(3),
            "wrist": range(3, 6),
            "pose": range(POSE.start, POSE.stop),
        }
        columns = [k for name, ks in names.items() if name in stage.variables for k in ks]
        hands = evidence.free.mT & evidence.present[..., None]
        betas = evidence.present.repeat_interleave(NUM_BETAS, -1) & ("betas" in stage.variables)
        others = torch.tensor([n in stage.variables for n in ("scale", "focal")], device=device)
        return cls(
            columns=torch.tensor(columns, device=device, dtype=torch.int64),
            hands=hands.reshape(B * S, T),
            camera=evidence.free.any(-1) & ("camera" in stage.variables),
            shared=torch.cat((betas, others.expand(B, 2)), -1),
        )


def _gauss_newton(problem: Problem, motion: Motion, stage: Stage, show: Progress) -> Solution:
    """Levenberg and Marquardt, each clip with its own damping."""
    masks = _Masks.of(problem, stage)
    clips = len(motion.wrist)
    damping = motion.wrist.new_full((clips,), FIRST_DAMPING)
    done = torch.zeros(clips, dtype=torch.bool, device=motion.wrist.device)
    stuck = done.clone()
    system, count = None, 0
    while count < stage.iterations and not done.all():
        count += 1
        near = problem.near(motion) if stage.weights.penetration > 0 else None
        energy, gradient, energies = _slopes(problem, motion, stage, near)
        system = _System.at(problem, motion, stage, near, gradient, masks)
        show(energies)
        if not energy.isfinite().all():
            stuck = stuck | ~energy.isfinite()
            done = done | stuck
        waiting = ~done
        for _ in range(ATTEMPTS):
            step, good = system.step(damping, motion)
            trial = _bounded(motion.moved(step), problem)
            with torch.no_grad():
                reached = _total(problem.energies(trial, stage, near))
            better = good & reached.isfinite() & (reached <= energy) & waiting
            gain = (energy - reached) / energy.abs().clamp_min(1e-30)
            motion = trial.chosen(better, motion)
            done = done | (better & (gain < stage.tolerance))
            waiting = waiting & ~better
            damping = torch.where(better, damping / 5, damping)
            damping = torch.where(waiting, damping * 10, damping)
            damping = damping.clamp(LEAST_DAMPING, MOST_DAMPING)
            if not waiting.any():
                break
        done = done | waiting  # no step helps: this is the end of the road
    near = problem.near(motion) if stage.weights.penetration > 0 else None
    with torch.no_grad():
        energies = problem.energies(motion, stage, near)
    information = None if system is None else system.information()
    return Solution(motion, energies, stuck, information, count)


def _slopes(
    problem: Problem, motion: Motion, stage: Stage, near: Near | None
) -> tuple[Tensor, Step, dict[str, Tensor]]:
    """Energy (B,), its gradient by every unknown, and its terms."""
    with torch.enable_grad():
        step = Step.zero(motion).map(lambda values: values.requires_grad_())
        energies = problem.energies(motion.moved(step), stage, near)
        total = _total(energies)
        leaves = tuple(vars(step).values())
        slopes = torch.autograd.grad(total.sum(), leaves, allow_unused=True)
    filled = [
        torch.zeros_like(leaf) if slope is None else slope
        for leaf, slope in zip(leaves, slopes, strict=True)
    ]
    found = {name: value.detach() for name, value in energies.items()}
    return total.detach(), Step(*filled), found


@dataclass(frozen=True)
class _System:
    """The linear system of one place; solved for several dampings."""

    hands: BandedSystem
    camera: BandedSystem
    mixed: Tensor  # (B * S, T, n, 22)
    shared: Tensor  # (B, 22, 22)
    hands_slope: Tensor  # (B * S, T, n)
    camera_slope: Tensor  # (B, T, 6)
    shared_slope: Tensor  # (B, 22)
    masks: _Masks

    @classmethod
    def at(
        cls,
        problem: Problem,
        motion: Motion,
        stage: Stage,
        near: Near | None,
        gradient: Step,
        masks: _Masks,
    ) -> "_System":
        found = curvature(problem, motion, stage, near)
        free, shared = masks.hands[..., None], masks.shared
        slope = torch.cat((gradient.orientation, gradient.wrist, gradient.pose.flatten(-2)), -1)
        slope = slope.transpose(1, 2).flatten(0, 1)[..., masks.columns]
        keep = shared[:, :, None] & shared[:, None]
        identity = torch.eye(NUM_SHARED).to(found.shared)
        mixed = found.mixed[:, :, masks.columns]
        mixed = mixed * (free[..., None] & shared.repeat_interleave(NUM_SIDES, 0)[:, None, None])
        slope_of_shared = torch.cat(
            (gradient.betas.flatten(1), gradient.scale[:, None], gradient.focal[:, None]), -1
        )
        return cls(
            hands=found.hands.only(masks.columns, masks.hands),
            camera=found.camera.only(torch.arange(6, device=slope.device), masks.camera),
            mixed=mixed,
            shared=torch.where(keep, found.shared, identity),
            hands_slope=slope * free,
            camera_slope=gradient.camera * masks.camera[..., None],
            shared_slope=slope_of_shared * shared,
            masks=masks,
        )

    def step(self, damping: Tensor, motion: Motion) -> tuple[Step, Tensor]:
        """The step that a damping (B,) allows, and (B,) whether there is one."""
        clips = len(damping)
        each = damping.repeat_interleave(NUM_SIDES)
        eye = torch.eye(NUM_SHARED).to(self.shared)
        more = self.shared * eye * damping[:, None, None] + 1e-12 * eye
        shared, good = self.shared + more, torch.ones_like(damping, dtype=torch.bool)
        slope = self.shared_slope
        if len(self.masks.columns):
            right = torch.cat((self.hands_slope[..., None], self.mixed), -1)
            solved, fine = self.hands.damped(each).solve(right)
            good = good & fine.view(clips, NUM_SIDES).all(-1)
            over = (self.mixed.flatten(1, 2).mT @ solved.flatten(1, 2)).view(
                clips, NUM_SIDES, NUM_SHARED, -1
            )
            slope = slope - over[..., 0].sum(1)
            shared = shared - over[..., 1:].sum(1)
        factor, info = torch.linalg.cholesky_ex(shared)
        good = good & (info == 0)
        change = -torch.cholesky_solve(slope[..., None], factor)[..., 0]
        step = Step.zero(motion)
        if len(self.masks.columns):
            back = change.repeat_interleave(NUM_SIDES, 0)[:, None, :, None]
            moved = -(solved[..., :1] + solved[..., 1:] @ back)[..., 0]
            step = self._spread(step, moved, clips)
        if self.masks.camera.any():
            turned, fine = self.camera.damped(damping).solve(self.camera_slope[..., None])
            good = good & fine
            step = replace(step, camera=-turned[..., 0])
        size = NUM_SIDES * NUM_BETAS
        step = replace(
            step,
            betas=change[:, :size].unflatten(1, (NUM_SIDES, NUM_BETAS)),
            scale=change[:, size],
            focal=change[:, size + 1],
        )
        return step.map(lambda values: values.nan_to_num(0.0, 0.0, 0.0)), good

    def _spread(self, step: Step, moved: Tensor, clips: int) -> Step:
        whole = moved.new_zeros(*moved.shape[:-1], POSE.stop)
        whole[..., self.masks.columns] = moved
        whole = whole.unflatten(0, (clips, NUM_SIDES)).transpose(1, 2)
        return replace(
            step,
            orientation=whole[..., :3],
            wrist=whole[..., 3:6],
            pose=whole[..., POSE].unflatten(-1, (15, 3)),
        )

    def information(self) -> Tensor:
        """(B, 22, 22) of what is shared, hands solved for; zero where it is held."""
        clips = len(self.shared)
        free = self.masks.shared
        left = self.shared * (free[:, :, None] & free[:, None])
        if len(self.masks.columns):
            damping = self.shared.new_full((clips * NUM_SIDES,), 1e-9)
            solved, _ = self.hands.damped(damping).solve(self.mixed)
            over = self.mixed.flatten(1, 2).mT @ solved.flatten(1, 2)
            left = left - over.unflatten(0, (clips, NUM_SIDES)).sum(1)
        return (left + left.mT) / 2


def scale_deviation(information: Tensor, count: Tensor) -> Tensor | None:
    """Standard deviation (B,) of the logarithm of the scale, all else free; None if it was held.

    Args:
        information: (B, 22, 22), of an energy that is a mean over hands and frames.
        count: (B,) hands in frames: this many of the energy are one log likelihood.
    """
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    if not (diagonal[:, SCALE] > 0).all():
        return None
    held = torch.diag_embed((diagonal <= 0).to(information) + 1e-12)
    variance = torch.linalg.inv(information + held)[:, SCALE, SCALE]
    return (variance / count.clamp_min(1)).clamp_min(0).sqrt()


def _bounded(motion: Motion, problem: Problem) -> Motion:
    low, high = problem.evidence.scale_bounds.unbind(-1)
    return replace(motion, log_scale=motion.log_scale.clamp(low, high))


# ---- first order ---------------------------------------------------------------------------------


class _Best:
    """The best motion seen of each clip."""

    def __init__(self, motion: Motion, energy: Tensor) -> None:
        self.motion, self.energy = motion, energy
        self.first = energy

    def see(self, motion: Motion, energy: Tensor) -> None:
        better = energy.isfinite() & ~(energy >= self.energy)
        self.motion = motion.chosen(better, self.motion)
        self.energy = torch.where(better, energy, self.energy)

    def solution(self, problem: Problem, stage: Stage, broken: Tensor, count: int) -> Solution:
        near = problem.near(self.motion) if stage.weights.penetration > 0 else None
        with torch.no_grad():
            energies = problem.energies(self.motion, stage, near)
        return Solution(self.motion, energies, broken, None, count)


def _active(problem: Problem, stage: Stage, motion: Motion) -> tuple[Step, dict[str, Tensor]]:
    """A step of zeros, and the parts of it that a stage changes, as leaves."""
    step = Step.zero(motion)
    names: list[str] = [name for name in stage.variables if getattr(step, name).numel()]
    leaves: dict[str, Tensor] = {
        name: getattr(step, name).clone().requires_grad_() for name in names
    }
    return step, leaves


def _masked(problem: Problem, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Frames that are fixed and absent hands do not move."""
    evidence = problem.evidence
    hands = evidence.free & evidence.present[:, None]
    masks = {"orientation": hands, "wrist": hands, "pose": hands}
    masks |= {"camera": evidence.free.any(-1)}
    masks |= {"betas": evidence.present, "latent": evidence.present}

    def masked(name: str, value: Tensor) -> Tensor:
        if name not in masks:
            return value
        mask = masks[name]
        return value * mask[(...,) + (None,) * (value.dim() - mask.dim())]

    return {name: masked(name, value) for name, value in values.items()}


@torch.enable_grad()
def _adam(problem: Problem, motion: Motion, stage: Stage, show: Progress) -> Solution:
    """Adam with a stepwise decay and clipped gradients (HMP, Dyn-HaMR III)."""
    step, leaves = _active(problem, stage, motion)
    optimizer = torch.optim.Adam(leaves.values(), lr=stage.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, stage.decay_every, stage.decay)
    best: _Best | None = None
    near: Near | None = None
    broken = torch.zeros(len(motion.wrist), dtype=torch.bool, device=motion.wrist.device)
    number = 0
    for number in range(1, stage.iterations + 1):
        now = _bounded(motion.moved(replace(step, **_masked(problem, leaves))), problem)
        if stage.weights.penetration > 0 and (number - 1) % LOOK_EVERY == 0:
            near = problem.near(now.detach())
        energies = problem.energies(now, stage, near)
        total = _total(energies)
        broken = broken | ~total.isfinite()
        seen = total.detach()
        if best is None:
            best = _Best(now.detach(), seen)
        best.see(now.detach(), seen)
        show({name: value.detach() for name, value in energies.items()})
        if broken.all():
            break
        optimizer.zero_grad()
        torch.where(broken, 0.0, total).sum().backward()
        for leaf in leaves.values():
            if leaf.grad is not None:
                leaf.grad.nan_to_num_(0.0, 0.0, 0.0)
        torch.nn.utils.clip_grad_norm_(leaves.values(), GRADIENT_LIMIT)
        optimizer.step()
        schedule.step()
    assert best is not None
    return best.solution(problem, stage, broken, number)


@torch.enable_grad()
def _lbfgs(problem: Problem, motion: Motion, stage: Stage, show: Progress) -> Solution:
    """L-BFGS with strong Wolfe line searches (Dyn-HaMR II); clips are searched together."""
    step, leaves = _active(problem, stage, motion)
    optimizer = torch.optim.LBFGS(
        list(leaves.values()),
        lr=stage.learning_rate,
        max_iter=20,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    best: list[_Best] = []
    near = problem.near(motion) if stage.weights.penetration > 0 else None
    broken = torch.zeros(len(motion.wrist), dtype=torch.bool, device=motion.wrist.device)

    def current() -> Motion:
        return _bounded(motion.moved(replace(step, **_masked(problem, leaves))), problem)

    def closure() -> Tensor:
        optimizer.zero_grad()
        now = current()
        total = _total(problem.energies(now, stage, near))
        if not best:
            best.append(_Best(now.detach(), total.detach()))
        best[0].see(now.detach(), total.detach())
        total.sum().backward()
        return total.sum().detach()

    last, count = float("inf"), 0
    for count in range(1, stage.iterations + 1):  # noqa: B007
        value = float(optimizer.step(closure))
        with torch.no_grad():
            now = current()
            if stage.weights.penetration > 0:
                near = problem.near(now)
                best.clear()  # other contacts, another energy
                optimizer.state.clear()
            energies = problem.energies(now, stage, near)
            if not best:
                best.append(_Best(now, _total(energies)))
        show(energies)
        if not torch.isfinite(torch.tensor(value)):
            broken[:] = True
            break
        if abs(last - value) <= stage.tolerance * 1e-2 * abs(value):
            break
        last = value
    return best[0].solution(problem, stage, broken, count)
