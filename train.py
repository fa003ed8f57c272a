"""Train: `python train.py reconstruction --config configs/quickstart.yaml`."""

import sys

from fourdhands.cli.main import Command, run

TRAIN = Command(
    "Train a model; yaml files and flags say how.",
    {
        "reconstruction": Command(
            "The two-hand network (4DHands).", "fourdhands.training.runs:train_reconstruction"
        ),
        "motion-prior": Command(
            "The hand-motion prior (HMP).", "fourdhands.training.motion_prior:train_motion_prior"
        ),
    },
)

if __name__ == "__main__":
    sys.exit(run("train.py", TRAIN))
