"""Evaluate: `python eval.py --checkpoint runs/quickstart/last.ckpt --data TEST --out DIR`.

By a benchmark's rules, anybody's hands too: `--predictions FILE --protocol NAME --data TRUTH`.
"""

import sys

from fourdhands.cli.main import Command, run

EVALUATE = Command(
    "Evaluate a checkpoint or predictions; yaml files and flags say how.",
    "fourdhands.evaluation.runs:evaluate_command",
)

if __name__ == "__main__":
    sys.exit(run("eval.py", EVALUATE))
