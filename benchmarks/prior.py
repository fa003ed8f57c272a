"""The motion prior's cost inside a refinement: decoding, and decoding with MANO, loss and backward.

    python benchmarks/prior.py [--checkpoint runs/motion_prior/last.ckpt] [--repeats 20]

Two hands, 128 and 1,024 frames. Each case runs in a process of its own, so that its peak memory is
its own. HMP's released code takes 235 CPU-ms a stage-2 iteration of 128 frames and two hands (its
own measurement conditions: one thread, synthetic weights, the same kind of machine).
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.models.motion_prior.encoder import EncoderConfig
from fourdhands.models.motion_prior.field import FieldConfig
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.models.motion_prior.time_base import window_starts
from fourdhands.models.motion_prior.vae import MotionPriorConfig
from fourdhands.structures import HandState

RELEASED = 235.0  # CPU-ms
FRAMES = (128, 1024)
PRESETS = {
    "compact": MotionPriorConfig(),
    "hmp": MotionPriorConfig(
        latent=1024,
        coordinates="rotations",
        encoder=EncoderConfig(512, 8, 8, 8),
        field=FieldConfig("sinusoids", width=1024, depth=8),
    ),
}
CASES = ("decode", "step")


def measure(preset: str, case: str, frames: int, repeats: int, checkpoint: Path | None) -> dict:
    """Median wall and CPU milliseconds of one case, and the growth of peak memory in MiB."""
    torch.manual_seed(0)
    prior = load_motion_prior(checkpoint) if checkpoint else MotionPrior(PRESETS[preset])
    prior.requires_grad_(False)
    model = HandModel.open()
    times = torch.arange(frames) / 30
    starts = window_starts(times, prior.span, prior.hop)
    z = torch.randn(1, 2, len(starts), prior.config.latent, requires_grad=case == "step")
    free = {
        "global_orient": torch.zeros(1, frames, 2, 6),
        "betas": torch.zeros(1, 1, 2, 10),
        "transl": torch.zeros(1, frames, 2, 3),
    }
    free["global_orient"][..., 0] = free["global_orient"][..., 4] = 1
    for value in free.values():
        value.requires_grad_(case == "step")
    wanted = torch.zeros(1, frames, 2, 21, 2)
    optimiser = torch.optim.Adam([z, *free.values()], lr=0.0)

    def step() -> Tensor:
        from fourdhands.geometry.rotation import matrix_from_6d

        poses = prior.decode(z, times, starts=starts)
        state = HandState(
            matrix_from_6d(free["global_orient"]),
            poses,
            free["betas"].expand(1, frames, 2, 10),
            free["transl"] + torch.tensor((0.0, 0.0, 0.5)),
        )
        joints = model(state).joints
        pixels = joints[..., :2] / joints[..., 2:]
        residual = (pixels - wanted).square().sum(-1)
        loss = (residual / (1 + residual)).sum() + prior.negative_log_likelihood(z).sum()
        smooth = joints.diff(dim=1).diff(dim=1).square().sum()
        optimiser.zero_grad()
        (loss + smooth).backward()
        optimiser.step()
        return loss

    @torch.no_grad()
    def decode() -> Tensor:
        return prior.decode(z, times, starts=starts)

    run = step if case == "step" else decode
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "ms": statistics.median(walls),
        "least ms": min(walls),
        "CPU-ms": statistics.median(cpus),
        "least CPU-ms": min(cpus),
        "process MiB": peak / 1024,
        "growth MiB": (peak - before) / 1024,
    }


def main() -> None:
    """Measure all cases, print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prior/speed.json"))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["compact"])
    parser.add_argument("--one", nargs=3, metavar=("PRESET", "CASE", "FRAMES"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        preset, case, frames = args.one
        found = measure(preset, case, int(frames), args.repeats, args.checkpoint)
        print(json.dumps(found))
        return
    rows = {}
    for preset in args.presets:
        for case in CASES:
            for frames in FRAMES:
                command = [sys.executable, __file__, "--one", preset, case, str(frames)]
                command += ["--repeats", str(args.repeats), "--threads", str(args.threads)]
                if args.checkpoint and preset == "compact":
                    command += ["--checkpoint", str(args.checkpoint)]
                output = subprocess.run(command, check=True, capture_output=True).stdout
                row = rows[f"{preset}, {case}, {frames} frames"] = json.loads(output)
                print(
                    f"{preset:8} {case:7} {frames:5} frames: {row['ms']:7.1f} ms "
                    f"{row['CPU-ms']:7.1f} CPU-ms {row['process MiB']:6.0f} MiB"
                )
    step = rows[f"{args.presets[0]}, step, {FRAMES[0]} frames"]["CPU-ms"]
    print(f"released HMP: {RELEASED:.0f} CPU-ms for 128 frames; {RELEASED / step:.1f} times ours")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as partial:
        partial.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
