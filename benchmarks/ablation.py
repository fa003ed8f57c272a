"""The ablations of 4DHands (table 5) and DaHyF (table 4) on rendered scenes, beside the papers'.

    python benchmarks/ablation.py [--data data/quickstart] [--steps 2600] [--seeds 0 1 2]
    python benchmarks/ablation.py --data data/wide_angle --tables dahyf --out runs/wide_angle \
        --variants gdm_simcc_confidence ldm_simcc_confidence

Every row is one recipe (the default run without its time limit) under the row's overlay, trained
for the same number of steps with the same seeds on the train split of a set that `fourdhands
synthesize` has made, and scored on its test split, last weights, by what `eval.py` calls. All rows
see as many clips a step; +Seq alone sees several frames of each. The two baselines are one run.

A finished run leaves `OUT/VARIANT-SEED.json`, and what it printed, its log and its evaluation in
`OUT/VARIANT-SEED/`, without its checkpoints unless `--keep` is given. The same command again goes
on where it was stopped, in the middle of a run too. `OUT/tables.md` and `OUT/tables.json` are up to
date after each run.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from fourdhands import config
from fourdhands.cli.main import one_line
from fourdhands.data.manifest import find_shards
from fourdhands.data.shards import SetSummary
from fourdhands.evaluation.metrics import METRICS
from fourdhands.evaluation.runs import EvaluationConfig, evaluate_checkpoint
from fourdhands.export.checkpoint import differences, read_checkpoint
from fourdhands.files import replacing
from fourdhands.training.callbacks import BEST, LAST
from fourdhands.training.runs import ReconstructionRun, train_reconstruction

CONFIGS: Final = Path(__file__).parents[1] / "configs"
SEQUENCE: Final = 3
"""Frames of a clip where there is temporal fusion."""
CHECKPOINT_STEPS: Final = 100
"""A killed run loses no more than these."""


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Attributes:
        name: as printed.
        variant: name of its overlay.
        paper: the paper's figures, for as many of the table's metrics; None where it has none.
    """

    name: str
    variant: str
    paper: tuple[float | None, ...]


@dataclass(frozen=True)
class Table:
    """A paper's table.

    Attributes:
        title: what it shows.
        overlays: folder of its rows.
        metrics: its columns; those that the paper does not have come last.
        rows: from the simplest on.
    """

    title: str
    overlays: Path
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]

    def choose(self, variants: Sequence[str]) -> list[Row]:
        """The rows of some variants."""
        return [row for row in self.rows if row.variant in variants]


TABLES: Final = {
    "4dhands": Table(
        "4DHands, table 5 (the paper: InterHand2.6M)",
        CONFIGS / "reconstruction" / "ablation" / "4dhands",
        ("mpjpe_mm", "mpvpe_mm", "mrrpe_mm"),
        (
            Row("Baseline", "baseline", (10.94, 11.35, 137.53)),
            Row("+Cross H", "cross_h", (8.78, 9.01, 28.65)),
            Row("+Cross S w/o RAT", "without_rat", (7.81, 8.00, 25.81)),
            Row("+Cross S", "cross_s", (7.69, 7.92, 24.79)),
            Row("+Cross S + Seq", "seq", (7.37, 7.58, 24.48)),
        ),
    ),
    "dahyf": Table(
        "DaHyF, table 4 (the paper: FreiHAND)",
        CONFIGS / "reconstruction" / "ablation" / "dahyf",
        ("pa_mpjpe_mm", "mpjpe_mm", "epe_2d_px", "epe_2d_direct_px", "orientation_error_deg"),
        (
            Row("Baseline", "baseline", (8.91, 18.14, 7.37, None)),
            Row("+GDM", "gdm", (8.83, 17.83, 7.01, None)),
            Row("+GDM + Heatmap", "gdm_heatmap", (8.40, 17.30, 6.80, 8.10)),
            Row("+GDM + Heatmap + L_c", "gdm_heatmap_confidence", (8.20, 16.99, 6.33, 7.36)),
            Row("+GDM + SJCP + L_c", "gdm_simcc_confidence", (8.02, 16.11, 6.17, 6.95)),
            Row("+LDM + SJCP + L_c", "ldm_simcc_confidence", (9.59, 22.7, 10.03, 9.06)),
            Row(
                "+GDM + SJCP + PE + L_c",
                "gdm_simcc_encoding_confidence",
                (7.88, 15.95, 6.05, 7.83),
            ),
        ),
    ),
}

Result = dict[str, Any]
"""What a finished run leaves; see `measure`."""


@dataclass(frozen=True)
class Budget:
    """What all runs have in common.

    Attributes:
        recipe: below the overlays.
        data: folder of a rendered set.
        steps: of the optimizer.
        out: where everything goes.
    """

    recipe: Path
    data: Path
    steps: int
    out: Path

    def split(self, name: str) -> Path:
        """The summary of a split."""
        return self.data / f"{name}.json"

    def plan(self, overlay: Path) -> ReconstructionRun:
        """The run of a variant, for any seed.

        Raises:
            ValueError: the clips are too short for +Seq.
        """
        run = config.load(ReconstructionRun, self.recipe, overlay)
        data = replace(run.data, train=(self.split("train"),), val=(self.split("val"),), test=())
        if run.network.temporal is not None:
            gap = (self._frames_a_clip() - 1) // (SEQUENCE - 1)
            data = replace(data, num_frames=SEQUENCE, gap=min(data.gap, gap))
        warmup_steps = min(run.optimizer.warmup_steps, self.steps // 10)
        trainer = replace(
            run.trainer,
            max_steps=self.steps,
            max_minutes=None,
            val_every_steps=self.steps,
            checkpoint_every_steps=CHECKPOINT_STEPS,
            pictures=0,
        )
        optimizer = replace(run.optimizer, warmup_steps=warmup_steps)
        out = self.out / overlay.stem
        return replace(run, data=data, optimizer=optimizer, trainer=trainer, out=out)

    def _frames_a_clip(self) -> int:
        shards = SetSummary.load(self.split("train")).shards
        frames = min(shard.frames // shard.clips for shard in shards)
        if frames < SEQUENCE:
            raise ValueError(
                f"{self.split('train')}: its clips have {frames} frames, +Seq needs {SEQUENCE}; "
                "name other --variants or make another set"
            )
        return frames


# ---- one run -------------------------------------------------------------------------------------


def seeded(run: ReconstructionRun, seed: int) -> ReconstructionRun:
    """A planned run with a seed: of its weights, and of the order and changes of its data."""
    return replace(
        run,
        data=replace(run.data, seed=seed),
        trainer=replace(run.trainer, seed=seed),
        out=run.out.with_name(f"{run.out.name}-{seed}"),
    )


def measure(run: ReconstructionRun, test: Path, keep: bool) -> Result:
    """Train and score, or go on with it; nothing is done where the result is there already.

    Args:
        run: as planned.
        test: what to score on.
        keep: whether the checkpoints stay.

    Raises:
        ValueError: the folder holds another run.
    """
    path = run.out.with_suffix(".json")
    if path.is_file():
        result: Result = json.loads(path.read_text())
        require_same(result["run"], run, path)
        return result
    if (run.out / "config.yaml").is_file():
        begun = config.load(ReconstructionRun, run.out / "config.yaml")
        require_same(config.to_dict(begun), run, run.out)
    run.out.mkdir(parents=True, exist_ok=True)
    with (
        (run.out / "output.txt").open("a") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        report = train_and_evaluate(run, test)
    data = run.data
    result = {
        "name": run.out.name,
        "figures": {key: metric["model"]["value"] for key, metric in report["metrics"].items()},
        "mean_pose": {
            key: metric["mean_pose"]["value"] for key, metric in report["metrics"].items()
        },
        "clips_seen": run.trainer.max_steps * run.trainer.accumulate * data.batch_size,
        "frames_a_clip": data.num_frames,
        "test_frames": report["frames"],
        "test_sha256": report["provenance"]["data_sha256"],
        "run": config.to_dict(run),
    }
    write(path, json.dumps(result, indent=1) + "\n")
    for name in () if keep else (LAST, BEST):
        (run.out / name).unlink(missing_ok=True)
    return result


def train_and_evaluate(run: ReconstructionRun, test: Path) -> dict[str, Any]:
    """The steps that are missing, and `metrics.json`."""
    last = run.out / LAST
    done = read_checkpoint(last, mmap=True)["global_step"] if last.is_file() else 0
    if done < run.trainer.max_steps:
        train_reconstruction(replace(run, resume=last if done else None))
    how = replace(config.load(EvaluationConfig, CONFIGS / "evaluation" / "scenes.yaml"), pictures=0)
    out = run.out / "eval"
    evaluate_checkpoint(how, checkpoint=last, data=(test,), out=out)
    report: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return report


def require_same(stored: Mapping[str, Any], run: ReconstructionRun, where: Path) -> None:
    """Refuse to go on with, or to count, a run of another kind.

    Raises:
        ValueError: it is, with the first difference.
    """
    # what the configuration did not know when that was stored has its default
    begun = config.to_dict(config.from_dict(ReconstructionRun, stored, source=str(where)))
    for part in ("network", "data", "loss", "optimizer", "trainer"):
        for phrase in differences(begun, config.to_dict(run), part):
            raise ValueError(f"{where}: of another run: {phrase}; choose another --out")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


# ---- tables --------------------------------------------------------------------------------------


def table_lines(table: Table, rows: Sequence[Row], results: Mapping[str, list[Result]]) -> str:
    """A table in markdown: mean and deviation over the seeds, and the paper's figures."""
    ours = [f"{METRICS[key].name} ({METRICS[key].unit})" for key in table.metrics]
    papers = [METRICS[key].name for key in table.metrics[: len(rows[0].paper)]]
    header = ["", *ours, *(f"paper: {name}" for name in papers), "clips x frames seen", "seeds"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        found = results[row.variant]
        cells = [mean_and_spread(values_of(found, "figures", key)) for key in table.metrics]
        cells += ["-" if figure is None else f"{figure:.2f}" for figure in row.paper]
        seen = {f"{one['clips_seen']:,} x {one['frames_a_clip']}" for one in found}
        lines.append([row.name, *cells, *(seen or {"-"}), str(len(found))])
    first = next((results[row.variant][:1] for row in rows if results[row.variant]), [])
    constant = [mean_and_spread(values_of(first, "mean_pose", key)) for key in table.metrics]
    lines.append(["mean pose, looks at nothing", *constant, *[""] * (len(papers) + 2)])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {table.title}\n\n{body}\n"


def values_of(results: Sequence[Result], kind: str, key: str) -> list[float]:
    """A figure of all runs that have it."""
    return [round(one[kind][key], 4) for one in results if one[kind][key] is not None]


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def summary(
    budget: Budget, chosen: Mapping[str, Sequence[Row]], results: Mapping[str, list[Result]]
) -> dict[str, Any]:
    """Everything in the tables as plain data, with what it was measured on."""
    runs = [one for found in results.values() for one in found]

    def figures(name: str, row: Row) -> dict[str, Any]:
        found, metrics = results[row.variant], TABLES[name].metrics
        return {
            "runs": [one["name"] for one in found],
            "figures": {key: values_of(found, "figures", key) for key in metrics},
            "paper": dict(zip(metrics, row.paper, strict=False)),
        }

    return {
        "steps": budget.steps,
        "recipe": budget.recipe.name,
        "data": budget.data.name,
        "test_frames": sorted({one["test_frames"] for one in runs}),
        "test_sha256": sorted({one["test_sha256"] for one in runs}),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "torch": torch.__version__,
        "tables": {
            name: {row.variant: figures(name, row) for row in rows} for name, rows in chosen.items()
        },
    }


def report(
    budget: Budget, chosen: Mapping[str, Sequence[Row]], results: Mapping[str, list[Result]]
) -> str:
    """Write `tables.md` and `tables.json`; returns the former.

    Raises:
        ValueError: the results are of different data.
    """
    plain = summary(budget, chosen, results)
    if len(plain["test_sha256"]) > 1:
        raise ValueError(f"{budget.out}: its results are of different test data; choose another")
    parts = [table_lines(TABLES[name], rows, results) for name, rows in chosen.items()]
    parts.append(
        f"{budget.steps:,} steps of {budget.recipe.name} on {budget.data.name}, scored on "
        f"{', '.join(map(str, plain['test_frames']))} frames; mean ± standard deviation over the "
        "seeds.\n"
    )
    text = "\n".join(parts)
    write(budget.out / "tables.md", text)
    write(budget.out / "tables.json", json.dumps(plain, indent=1) + "\n")
    return text


# ---- all runs ------------------------------------------------------------------------------------


def ablate(
    budget: Budget, tables: Sequence[str], variants: Sequence[str], seeds: Sequence[int], keep: bool
) -> str:
    """Measure what is missing, one seed of all variants after the other.

    Returns:
        The tables.
    """
    for split in ("train", "val", "test"):
        find_shards(budget.split(split), Path())
    chosen = {name: rows for name in tables if (rows := TABLES[name].choose(variants))}
    if not chosen:
        raise ValueError(f"none of the variants is a row of {', '.join(tables)}; name others")
    plans = {
        row.variant: budget.plan(TABLES[name].overlays / f"{row.variant}.yaml")
        for name, rows in chosen.items()
        for row in rows
    }
    runs = [(variant, seeded(plan, seed)) for seed in seeds for variant, plan in plans.items()]
    budget.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Result]] = {variant: [] for variant in plans}
    text = ""
    with tqdm(runs, desc="ablation", unit=" runs", smoothing=0, file=sys.stderr) as progress:
        for variant, run in progress:
            progress.set_postfix_str(run.out.name)
            results[variant].append(measure(run, budget.split("test"), keep))
            text = report(budget, chosen, results)
    return text


def main(args: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    names = list(dict.fromkeys(row.variant for table in TABLES.values() for row in table.rows))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"), help="rendered set")
    parser.add_argument("--steps", type=int, help="of every run; the recipe's if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=names,
        default=names,
        metavar="VARIANT",
        help=", ".join(names),
    )
    parser.add_argument(
        "--recipe", type=Path, default=CONFIGS / "quickstart.yaml", help="below the overlays"
    )
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of finished runs")
    options = parser.parse_args(args)
    try:
        recipe = config.load(ReconstructionRun, options.recipe)
        steps = recipe.trainer.max_steps if options.steps is None else options.steps
        budget = Budget(options.recipe, options.data, steps, options.out)
        print(ablate(budget, options.tables, options.variants, options.seeds, options.keep))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {one_line(error)}\n")
    except (SystemExit, KeyboardInterrupt) as stop:
        print("\nstopped; the same command goes on", file=sys.stderr)
        raise SystemExit(getattr(stop, "code", 130)) from None


if __name__ == "__main__":
    main()
