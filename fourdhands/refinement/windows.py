"""Clips of any length: overlapping windows, each tied to the frames that the last one solved.

A window's first frames are fixed at what the window before came to, so velocities and
accelerations run on over the seam; its last frames are solved again by the next one, which sees
what follows. What all frames share (shape, focal length) is found first, on a few windows.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands.refinement.motion import Motion
from fourdhands.refinement.priors import RefinementPrior
from fourdhands.refinement.problem import Body, Evidence, Problem
from fourdhands.refinement.solver import Solution, solve
from fourdhands.refinement.stages import RefinementConfig, Stage
from fourdhands.refinement.state import SavedState

BOUNDARY: Final = 2
"""Frames of the window before that a window is tied to: as far as accelerations reach."""
ANCHORS: Final = 4
"""Windows that find what all frames of a long clip share."""
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


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of windows that cover a clip; the last one is cut or begins earlier."""
    if frames <= window:
        return [0]
    step = window - overlap
    return [*range(0, frames - window, step), frames - window]


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
    outcome = Outcome()
    frames = motion.wrist.shape[1]
    starts = window_starts(frames, config.window, config.overlap)
    stages = config.stages
    first, motion = saved.number("done"), saved.motion(motion) or motion
    if len(starts) == 1:
        problem = Problem(evidence, body)
        for number in range(first, len(stages)):
            motion = _run_stage(problem, motion, stages[number], prior, outcome, progress=progress)
            saved.save(motion, done=np.array(number + 1))
        return motion, outcome
    if first == 0:
        motion = _find_shared(body, evidence, motion, prior, config, outcome)
        saved.save(motion, done=np.array(1))
        first = 1
    stages = tuple(own for stage in stages if (own := _of_frames(stage)) is not None)
    if not stages:
        return motion, outcome
    bar = tqdm(starts, desc="refine", unit=" windows", leave=False, disable=not progress)
    for number, start in enumerate(bar):
        if number + 1 < first:
            continue
        stop = min(start + config.window, frames)
        piece = evidence.frames(start, stop)
        if number:
            piece = replace(piece, free=_free(piece.free))
        window = motion.frames(start, stop)
        problem = Problem(piece, body)
        for stage in stages:
            window = _run_stage(problem, window, stage, prior, outcome, progress=False)
        total = sum(float(v.mean()) for v in outcome.energies[stages[-1].name].values())
        bar.set_postfix(energy=f"{total:.4g}", refresh=False)
        motion = motion.with_frames(start, window)
        saved.save(motion, done=np.array(number + 2))
    return motion, outcome


def _run_stage(
    problem: Problem,
    motion: Motion,
    stage: Stage,
    prior: RefinementPrior | None,
    outcome: Outcome,
    *,
    progress: bool,
) -> Motion:
    if "latent" in stage.variables:
        if prior is None:
            raise ValueError(
                f"stage {stage.name!r} changes the latent of a motion prior; give one (--prior)"
            )
        evidence = problem.evidence
        times = torch.arange(motion.wrist.shape[1]).to(motion.wrist) / evidence.fps[:, None]
        with torch.no_grad():
            latent = prior.start(motion.pose, evidence.observed, times).to(motion.wrist)
        motion = replace(motion, latent=latent)
    solution = solve(problem, motion, stage, progress=progress)
    outcome.add(stage.name, solution)
    if solution.scale_deviation is not None:
        outcome.scale_deviation = solution.scale_deviation
    motion = solution.motion
    if motion.latent.shape[-1]:
        with torch.no_grad():
            pose = problem.pose(motion)
        motion = replace(motion, pose=pose, latent=motion.latent[..., :0])
    return motion


def _of_frames(stage: Stage) -> Stage | None:
    """The stage with what all frames share held; None if nothing is left to change."""
    variables = tuple(name for name in stage.variables if name not in SHARED)
    return replace(stage, variables=variables) if variables else None


def _find_shared(
    body: Body,
    evidence: Evidence,
    motion: Motion,
    prior: RefinementPrior | None,
    config: RefinementConfig,
    outcome: Outcome,
) -> Motion:
    """Shape, scale and focal length by the stages before the last, on windows all over the clip."""
    wanted = [stage for stage in config.stages if SHARED & set(stage.variables)]
    stages = [stage for stage in wanted if not stage.weights.penetration] or wanted[:1]
    if not stages:
        return motion
    frames, window = motion.wrist.shape[1], config.window
    starts = np.linspace(0, frames - window, min(ANCHORS, frames // window + 1)).astype(int)
    found, seen = [], []
    trial = Outcome()
    for start in starts.tolist():
        piece = evidence.frames(start, start + window)
        if not piece.observed.any(2).any(1).all():
            continue
        part = motion.frames(start, start + window)
        for stage in stages:
            part = _run_stage(Problem(piece, body), part, stage, prior, trial, progress=False)
        found.append(part)
        seen.append(piece.observed.sum(1).double())  # (B, S)
    if not found:
        return motion
    weight = torch.stack(seen)
    hands = weight / weight.sum(0).clamp_min(1e-9)
    clips = weight.sum(-1) / weight.sum((0, 2)).clamp_min(1e-9)
    betas = (torch.stack([part.betas for part in found]) * hands[..., None]).sum(0)
    focal = (torch.stack([part.log_focal for part in found]) * clips).sum(0)
    outcome.scale_deviation = evidence.scale_deviation
    # the scale's closed form has seen all frames, which no few windows have
    return replace(motion, betas=betas, log_focal=focal)


def _free(free: Tensor) -> Tensor:
    """The first frames of a window are those that the one before has solved."""
    own = free.clone()
    own[:, :BOUNDARY] = False
    return own
