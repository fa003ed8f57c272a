"""Clips of any length, in windows: first each for itself, to find what they share; then in a chain.

The first pass runs the early stages on pieces of the clip, each with its own shape, scale and focal
length. What is left of a piece's energy once its frames are solved is a quadratic of those, and the
minimum of the pieces' sum is what holds for the whole clip. The second pass runs the other stages
on overlapping windows, whose first frames are fixed at what the window before came to, so that
velocities and accelerations run on over the seam; its last frames are solved again by the next one,
which sees what follows. Windows are cut where hands are seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands.refinement.curvature import SCALE
from fourdhands.refinement.initial import Gaps
from fourdhands.refinement.motion import Motion
from fourdhands.refinement.priors import REFINED_NOISE, RefinementPrior, completed
from fourdhands.refinement.problem import Body, Evidence, Problem
from fourdhands.refinement.solver import Solution, scale_deviation, solve
from fourdhands.refinement.stages import RefinementConfig, Stage
from fourdhands.refinement.state import SavedState
from fourdhands.skeleton import NUM_BETAS

BOUNDARY: Final = 2
"""Frames of the window before that a window is tied to: as far as accelerations reach."""
SAVES: Final = 20
"""Of each pass; writing the whole motion after every window would not be linear in frames."""
SHARED: Final = frozenset({"betas", "scale", "focal"})


@dataclass
class Outcome:
    """What the stages of all windows came to.

    Attributes:
        energies: by stage and term, (B,) means over windows.
        diverged: (B,).
        scale_deviation: (B,) of the logarithm; None if no stage knows.
        iterations: of all windows and stages.
    """

    energies: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    diverged: Tensor | None = None
    scale_deviation: Tensor | None = None
    iterations: int = 0
    _windows: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, solution: Solution) -> None:
        """Count a stage of a window."""
        seen = self._windows.get(name, 0)
        mean = self.energies.setdefault(name, {})
        for term, value in solution.energies.items():
            mean[term] = (mean.get(term, torch.zeros_like(value)) * seen + value) / (seen + 1)
        self._windows[name] = seen + 1
        broken = solution.diverged
        self.diverged = broken if self.diverged is None else self.diverged | broken
        self.iterations += solution.iterations


def window_starts(observed: Tensor, window: int, overlap: int) -> list[int]:
    """First frames of windows that cover a clip; each ends `overlap` frames after the next's start.

    Args:
        observed: (B, T, S) bool; of the places where a window may be cut, the one is taken whose
            frames show most hands, the latest of several.
        window: frames at most.
        overlap: frames that two windows have in common.
    """
    frames = observed.shape[1]
    seen = observed.sum((0, 2)).double()
    follow = seen.unfold(0, overlap, 1).sum(-1) if frames > overlap else seen
    starts = [0]
    while frames - starts[-1] > window:
        high = starts[-1] + window - overlap
        low = min(starts[-1] + max(window // 2 - overlap, window // 4), high)
        places = follow[low : high + 1].flip(0)
        starts.append(high - int(places.argmax()))
    return starts


def solve_all(
    body: Body,
    evidence: Evidence,
    motion: Motion,
    prior: RefinementPrior | None,
    config: RefinementConfig,
    saved: SavedState,
    *,
    progress: bool,
) -> tuple[Motion, Outcome]:
    """Run all stages over all windows."""
    motion = saved.motion(motion) or motion
    run = _Run(body, evidence, prior, config, saved, Outcome(), progress)
    if motion.wrist.shape[1] > config.window:
        return run.chain(motion), run.outcome
    evidence = run.remembered()
    for number in range(saved.number("done"), len(config.stages)):
        stage = config.stages[number]
        if stage.complete:
            evidence, motion = run.completed(motion)
        motion, known = run.stage(evidence, motion, stage, progress=progress)
        run.know(known)
        saved.save(motion, done=np.array(number + 1))
    return motion, run.outcome


@dataclass(frozen=True)
class _Run:
    """What windows have in common."""

    body: Body
    evidence: Evidence
    prior: RefinementPrior | None
    config: RefinementConfig
    saved: SavedState
    outcome: Outcome
    progress: bool

    def know(self, information: Tensor | None) -> None:
        """Note how well the scale is known, if that is."""
        if information is None:
            return
        found = scale_deviation(information, self.evidence.observed.sum((1, 2)))
        if found is not None:
            self.outcome.scale_deviation = found

    def completed(self, motion: Motion) -> tuple[Evidence, Motion]:
        """Fill the fingers of gaps anew, now that the frames around them are less noisy."""
        filler = self.prior if self.config.completion == "prior" else None
        evidence = self.evidence
        noise = REFINED_NOISE * evidence.noise.sqrt()
        found, precision = completed(motion.pose, evidence.observed, evidence.fps, filler, noise)
        self.saved.keep(completion=found.cpu().numpy(), precision=precision.cpu().numpy())
        evidence = self.remembered()
        return evidence, replace(motion, pose=evidence.filled(motion.pose))

    def remembered(self) -> Evidence:
        """What is known, with the last completion."""
        arrays, like = self.saved.arrays, self.evidence.completion
        if "completion" not in arrays:
            return self.evidence
        found, precision = (
            torch.from_numpy(arrays[name]).to(like) for name in ("completion", "precision")
        )
        return replace(self.evidence, completion=found, completion_precision=precision)

    def stage(
        self, evidence: Evidence, motion: Motion, stage: Stage, *, progress: bool = False
    ) -> tuple[Motion, Tensor | None]:
        """One stage of one window; and what it knows of what frames share."""
        problem = Problem(evidence, self.body)
        if "latent" in stage.variables:
            if self.prior is None:
                raise ValueError(
                    f"stage {stage.name!r} changes the latent of a motion prior; give one (--prior)"
                )
            times = torch.arange(motion.wrist.shape[1]).to(motion.wrist) / evidence.fps[:, None]
            with torch.no_grad():
                latent = self.prior.start(motion.pose, evidence.observed, times)
            motion = replace(motion, latent=latent.to(motion.wrist))
        solution = solve(problem, motion, stage, progress=progress)
        self.outcome.add(stage.name, solution)
        motion = solution.motion
        if motion.latent.shape[-1]:
            with torch.no_grad():
                pose = problem.pose(motion)
            motion = replace(motion, pose=pose, latent=motion.latent[..., :0])
        return motion, solution.information

    def chain(self, motion: Motion) -> Motion:
        """Both passes over a long clip."""
        frames, overlap = motion.wrist.shape[1], self.config.overlap
        starts = window_starts(self.evidence.observed, self.config.window, overlap)
        early, late = _split(self.config.stages)
        done = self.saved.number("done")
        motion = motion.map(Tensor.clone)
        if done < len(starts):
            motion = self._find_shared(motion, early, list(pairwise([*starts, frames])))
            if any(stage.complete for stage in late):
                _, motion = self.completed(motion)
            self.saved.save(motion, done=np.array(len(starts)))
        evidence = self.remembered()
        count = len(starts) if late else 0
        for number in self._numbers(late, max(done - len(starts), 0), count):
            start = starts[number]
            stop = frames if number + 1 == len(starts) else starts[number + 1] + overlap
            piece = evidence.frames(start, stop)
            free = _free(piece, fixed=BOUNDARY if number else 0, ahead=overlap * (stop < frames))
            piece, window = replace(piece, free=free), motion.frames(start, stop)
            for stage in late:
                window, _ = self.stage(piece, window, stage)
            motion.put_frames(start, window)
            if _worth_saving(number, len(starts)):
                self.saved.save(motion, done=np.array(len(starts) + number + 1))
        if early[-1].optimizer == "gauss_newton":
            self.know(torch.from_numpy(self.saved.arrays["known"]).to(motion.wrist).sum(0))
        return motion

    def _find_shared(
        self, motion: Motion, stages: tuple[Stage, ...], pieces: list[tuple[int, int]]
    ) -> Motion:
        """Solve pieces one by one, and make them agree on what all frames share."""
        arrays, frames = self.saved.arrays, motion.wrist.shape[1]
        values = [torch.from_numpy(value).to(motion.wrist) for value in arrays.get("values", ())]
        known = [torch.from_numpy(value).to(motion.wrist) for value in arrays.get("known", ())]
        for number in self._numbers(stages, len(values), len(pieces)):
            start, stop = pieces[number]
            piece, part = self.evidence.frames(start, stop), motion.frames(start, stop)
            total = torch.zeros_like(_by_sight(piece, stages))
            for stage in stages:
                part, found = self.stage(piece, part, stage)
                found = _by_sight(piece, (stage,)) if found is None else found
                total = _newer(found, total)
            motion.put_frames(start, part)
            values.append(part.shared)
            known.append(total * (stop - start) / frames)
            self.saved.keep(
                values=torch.stack(values).cpu().numpy(), known=torch.stack(known).cpu().numpy()
            )
            if _worth_saving(number, len(pieces)):
                self.saved.save(motion, done=np.array(number + 1))
        agreed = fused(torch.stack(values), torch.stack(known))
        low, high = self.evidence.scale_bounds.unbind(-1)
        agreed[:, SCALE] = agreed[:, SCALE].clamp(low, high)
        for (start, stop), value in zip(pieces, values, strict=True):
            # hands stay where the camera sees them, whatever the world's scale
            part = motion.with_shared(value).frames(start, stop)
            problem = Problem(self.evidence.frames(start, stop), self.body)
            motion.put_frames(start, problem.rescaled(part, agreed[:, SCALE]))
        gaps = Gaps.of(self.evidence.observed)
        return replace(
            motion.with_shared(agreed),
            wrist=gaps.fill(motion.wrist),
            orientation=gaps.fill_rotations(motion.orientation),
        )

    def _numbers(self, stages: tuple[Stage, ...], done: int, count: int) -> Iterator[int]:
        """Numbers of windows to do, with a bar that shows the energy."""
        name = ", ".join(stage.name for stage in stages)
        bar = tqdm(
            range(done, count),
            desc=name,
            unit=" windows",
            initial=done,
            total=count,
            leave=False,
            disable=not self.progress,
        )
        for number in bar:
            yield number
            energies = self.outcome.energies[stages[-1].name].values()
            total = sum(float(value.mean()) for value in energies)
            bar.set_postfix(energy=f"{total:.4g}", refresh=False)


def _worth_saving(number: int, count: int) -> bool:
    """Now and then: to write the whole motion after each window would not be linear in frames."""
    return (number + 1) % -(-count // SAVES) == 0 and number + 1 < count


def _split(stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Stages that find what is shared, without contact; and those of the chain, which hold it."""
    count = next((k for k, stage in enumerate(stages) if stage.weights.penetration), len(stages))
    early, late = stages[: max(count, 1)], stages[count:] or stages[-1:]
    held = []
    for stage in late:
        variables = tuple(name for name in stage.variables if name not in SHARED)
        if variables:
            held.append(replace(stage, variables=variables))
    return early, tuple(held)


def fused(values: Tensor, known: Tensor) -> Tensor:
    """The minimum of a sum of quadratics: x = (sum L_k)^-1 sum L_k x_k.

    Args:
        values: (K, B, 22) minima x_k.
        known: (K, B, 22, 22) second derivatives L_k, zero where a window knows nothing.

    Returns:
        (B, 22), the mean of what nobody knows.
    """
    mean, total = values.mean(0), known.sum(0)
    least = 1e-9 * total.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True) + 1e-12
    total = total + torch.diag_embed(least.expand_as(mean))
    off = (known @ (values - mean)[..., None]).sum(0)
    return mean + torch.linalg.solve(total, off)[..., 0]


def _newer(found: Tensor, before: Tensor) -> Tensor:
    """What the last stage knows, and what an earlier one knew of what the last held."""
    held = found.diagonal(dim1=-2, dim2=-1) == 0
    return found + before * (held[..., :, None] & held[..., None, :])


def _by_sight(evidence: Evidence, stages: tuple[Stage, ...]) -> Tensor:
    """(B, 22, 22) where curvature is not known: what is seen of the hands counts alike."""
    names = {name for stage in stages for name in stage.variables}
    seen = evidence.observed.double().mean(1)  # (B, S)
    both = seen.mean(-1, keepdim=True)
    parts = (
        seen.repeat_interleave(NUM_BETAS, -1) * ("betas" in names),
        both * ("scale" in names),
        both * ("focal" in names),
    )
    return torch.diag_embed(torch.cat(parts, -1))


def _free(evidence: Evidence, fixed: int, ahead: int) -> Tensor:
    """(B, T, S) what a window may change.

    Its first frames are those that the window before has solved; and of a hand that is not seen in
    the last ones nobody here knows where it goes: there it stays on the way across the gap.
    """
    free = evidence.free.clone()
    free[:, :fixed] = False
    if ahead:
        free[:, -ahead:] &= evidence.observed[:, -ahead:].any(1, keepdim=True)
    return free
