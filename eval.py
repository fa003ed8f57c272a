"""Evaluate: `python eval.py --checkpoint runs/quickstart/last.ckpt --data TEST --out DIR`."""

import sys

from fourdhands.cli.main import Command, run

EVALUATE = Command(
    "Evaluate a checkpoint; yaml files and flags say how.",
    "fourdhands.evaluation.runs:evaluate_checkpoint",
)

if __name__ == "__main__":
    sys.exit(run("eval.py", EVALUATE))
