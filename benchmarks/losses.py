"""Time and peak memory of eq. 10 (closeness), ours against the naive form in the same run.

    python benchmarks/losses.py [--batch 16] [--repeats 5]

Each form runs forward and backward in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor

from fourdhands.hands.mano import HandModel
from fourdhands.structures import HandGeometry, HandState
from fourdhands.training.losses import LossConfig, close_pairs, mean_close_pair_difference


def naive(right_error: Tensor, left_error: Tensor, close: Tensor) -> Tensor:
    """The equation as printed: every pair's difference vector, B x 778 x 778 x 3."""
    difference = left_error[:, None, :, :] - right_error[:, :, None, :]
    squared = difference.square().sum(-1) * close
    return squared.sum((-2, -1)) / close.sum((-2, -1)).clamp_min(1)


FORMS = {"naive": naive, "ours": mean_close_pair_difference}


def interacting_hands(batch: int) -> HandGeometry:
    """Two open hands a few centimetres apart."""
    eye = torch.eye(3)
    state = HandState(
        global_orient=eye.expand(batch, 2, 3, 3),
        hand_pose=eye.expand(batch, 2, 15, 3, 3),
        betas=torch.zeros(batch, 2, 10),
        transl=torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.03, 0.5]]).expand(batch, 2, 3),
    )
    return HandModel()(state)


def measure(form: str, batch: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of forward and backward, and the growth of peak memory in MiB."""
    true = interacting_hands(batch)
    torch.manual_seed(0)
    errors = [torch.randn(batch, 778, 3, requires_grad=True) for _ in range(2)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = FORMS[form](*errors, close_pairs(true, LossConfig().alpha)).mean()
        value.backward()
        times.append(1e3 * (time.perf_counter() - start))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"ms": statistics.median(times), "MiB": (after - before) / 1024, "value": value.item()}


def main() -> None:
    """Measure both forms, each in its own process, and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--form", choices=FORMS, help="measure one form in this process")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.form, args.batch, args.repeats)))
        return
    rows = {}
    for form in FORMS:
        command = [sys.executable, __file__, "--form", form]
        command += ["--batch", str(args.batch), "--repeats", str(args.repeats)]
        rows[form] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        row = rows[form]
        print(f"{form:>6}: {row['ms']:8.1f} ms  {row['MiB']:8.1f} MiB  value {row['value']:.6f}")
    ratios = [rows["naive"][key] / rows["ours"][key] for key in ("ms", "MiB")]
    print(f"ours is {ratios[0]:.1f} times as fast and needs 1/{ratios[1]:.1f} of the memory")


if __name__ == "__main__":
    main()
