"""Draw how validation errors fall over the steps of some runs, from their CSV logs.

For example: `python benchmarks/learning_curve.py runs/quickstart runs/long --out curve.png`.
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt

FIGURES = {"val/mpjpe_mm": "MPJPE", "val/mrrpe_mm": "MRRPE", "val/pa_mpjpe_mm": "PA-MPJPE"}


def validation_curve(run: Path, figure: str) -> tuple[list[int], list[float]]:
    """Steps and values of a figure in all logs of a run.

    Raises:
        FileNotFoundError: the run has no CSV log.
    """
    logs = sorted(run.glob("log/*/metrics.csv"))
    if not logs:
        raise FileNotFoundError(f"{run}: no log/*/metrics.csv; train with --logger csv")
    values = {}
    for log in logs:
        with log.open(newline="") as file:
            values |= {
                int(row["step"]) + 1: float(row[figure])
                for row in csv.DictReader(file)
                if row[figure]
            }
    return sorted(values), [values[step] for step in sorted(values)]


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    figure, panels = plt.subplots(1, len(FIGURES), figsize=(9, 2.8), layout="constrained")
    for panel, (column, name) in zip(panels, FIGURES.items(), strict=True):
        for run in arguments.runs:
            panel.plot(*validation_curve(run, column), marker=".", label=run.name)
        panel.set(title=f"{name} (mm), validation", xlabel="steps")
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
        panel.grid(alpha=0.3)
    panels[0].legend()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=80)


if __name__ == "__main__":
    main()
