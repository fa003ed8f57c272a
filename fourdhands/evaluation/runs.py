"""What an evaluation is made of: `eval.py` comes in here.

Checkpoint and data go in; a table, `metrics.json` and pictures come out.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from fourdhands import __version__
from fourdhands.data.collate import Collate, CropConfig, Window
from fourdhands.data.datamodule import DataConfig
from fourdhands.data.manifest import ShardSet, find_shards
from fourdhands.data.stream import read_lane
from fourdhands.evaluation.baselines import (
    MeanHand,
    MeanPosePredictor,
    estimate_mean_hand,
    neutral_hand,
)
from fourdhands.evaluation.benchmark import find_protocol
from fourdhands.evaluation.benchmark_runs import evaluate_benchmark
from fourdhands.evaluation.checkpoints import EvaluationConfig, Trained, load_prior
from fourdhands.evaluation.confidence import NEGATIVE_SHARE, ConfidenceScores, score_confidence
from fourdhands.evaluation.pictures import choose, draw_choices
from fourdhands.evaluation.provenance import (
    Provenance,
    hash_of_file,
    hash_of_plain_data,
    hash_of_shards,
    recorded_entries,
)
from fourdhands.evaluation.refined import RefiningPredictor
from fourdhands.evaluation.report import EvalReport, save_image
from fourdhands.evaluation.runner import evaluate
from fourdhands.export.checkpoint import weights_file
from fourdhands.export.predictor import HoldingPredictor, Predictor
from fourdhands.skeleton import JOINT_NAMES
from fourdhands.structures import ClipBatch

MEAN_POSE_CLIPS = 2000
"""Training clips that the mean pose is estimated from, a frame of each."""
CONFIDENCE_WINDOWS = 4000
"""Windows that the confidence is scored on, at most."""


def evaluate_command(
    config: EvaluationConfig,
    *,
    out: Path,
    data: tuple[Path, ...] | None = None,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    protocol: str | None = None,
    mano: Path | None = None,
    submission: Path | None = None,
    submission_list: Path | None = None,
) -> None:
    """Evaluate a checkpoint on labelled clips, or score a method by the rules of a benchmark.

    Args:
        config: How.
        out: Folder for metrics.json and pictures; with a protocol for report.html, benchmark.json
            and predictions.npz.
        data: Manifests, summaries or folders of shards to evaluate on; with a protocol also files
            like those of predictions that hold the truth. Predictions whose truth is hidden need
            none to become a submission.
        checkpoint: File that training has written, or a bundle.
        predictions: File of anybody's hands (docs/predictions.md), in place of a checkpoint.
        protocol: Name of the benchmark whose rules count; without one, our own metrics.
        mano: Folder that `fourdhands hands import` wrote: gives meshes where the truth has MANO
            parameters alone. A checkpoint brings its own, if this is not given; otherwise the open
            hand.
        submission: File to write for the benchmark's server (docs/submissions.md).
        submission_list: The server's list of images, for a submission that is written or read.

    Raises:
        ValueError: The configuration, the checkpoint or the data cannot be used.
        FileNotFoundError: A file is missing.
    """
    if (checkpoint is None) == (predictions is None):
        raise ValueError("give either --checkpoint or --predictions")
    if protocol is not None:
        evaluate_benchmark(
            config,
            find_protocol(protocol),
            data=data or (),
            out=out,
            checkpoint=checkpoint,
            predictions=predictions,
            mano=mano,
            submission=submission,
            submission_list=submission_list,
        )
    elif submission is not None:
        raise ValueError("a submission is to a benchmark: give --protocol NAME")
    elif checkpoint is None:
        raise ValueError("predictions are scored by a benchmark's rules: give --protocol NAME")
    elif not data:
        raise ValueError("give --data, the labelled clips to evaluate on")
    else:
        evaluate_checkpoint(config, checkpoint=checkpoint, data=data, out=out, mano=mano)


def evaluate_checkpoint(
    config: EvaluationConfig,
    *,
    checkpoint: Path,
    data: tuple[Path, ...],
    out: Path,
    mano: Path | None = None,
) -> None:
    """Evaluate a checkpoint: a table beside the mean pose's figures, metrics.json and pictures.

    Args:
        config: How.
        checkpoint: File that training has written, or a bundle.
        data: Manifests, summaries or folders of shards to evaluate on.
        out: Folder for metrics.json, errors.png and samples.png.
        mano: Folder of converted MANO files; the checkpoint's own if None.

    Raises:
        ValueError: The configuration, the checkpoint or the data cannot be used.
        FileNotFoundError: A file is missing.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
    trained = Trained.load(checkpoint, config, data, mano, side_by_side=True)
    predictor = trained.predictor
    shards = [shard for one in trained.sets for shard in one.shards]
    mean_hand, mean_pose_source = _mean_hand(config, trained.data, predictor)
    report = EvalReport(
        **evaluate(
            {"model": _answers(trained, config), "mean_pose": MeanPosePredictor(mean_hand)},
            trained.loader.eval_dataloader("test", target=trained.slot),
            predictor.hand_model,
            root=JOINT_NAMES.index(config.root),
            device=predictor.device,
            num_frames=_num_frames(shards),
            target=trained.slot,
        ),
        provenance=Provenance(
            checkpoint=str(trained.path),
            checkpoint_sha256=hash_of_file(weights_file(trained.path)),
            config_sha256=hash_of_plain_data(trained.run),
            data=", ".join(map(str, data)),
            data_sha256=hash_of_shards(shards),
            mean_pose=mean_pose_source,
            settings={"root": config.root, **trained.settings},
            version=__version__,
        ),
        confidence=_confidence(trained),
    )
    print(report.table())
    out.mkdir(parents=True, exist_ok=True)
    report.save_plots(out / "errors.png")
    if choices := choose(report.model, config.pictures):
        again = trained.loader.eval_dataloader("test", target=trained.slot)
        sheet = draw_choices(
            choices, predictor, again, predictor.hand_model, predictor.device, target=trained.slot
        )
        save_image(sheet, out / "samples.png")
    report.save_json(out / "metrics.json")
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.glob('*.*')))}")


def _answers(
    trained: Trained, config: EvaluationConfig
) -> Predictor | HoldingPredictor | RefiningPredictor:
    """What is asked for hands, window by window."""
    if config.refinement is not None:
        prior, window = load_prior(config), trained.window
        return RefiningPredictor(trained.predictor, config.refinement, prior, window)
    return trained.answers


def _confidence(trained: Trained) -> ConfidenceScores | None:
    """None where there is no 2D branch, or hands have no box of their own to move away."""
    predictor, loader = trained.predictor, trained.loader
    if predictor.network.config.joints_2d is None or predictor.crop.box == "holistic":
        return None
    batches = loader.eval_dataloader("test", NEGATIVE_SHARE)
    limit = -(-CONFIDENCE_WINDOWS // loader.config.batch_size)
    return score_confidence(predictor, itertools.islice(batches, limit))


def _num_frames(shards: list[Path]) -> int | None:
    """Frames of all shards, if their summaries say."""
    entries = recorded_entries(shards)
    if not entries.keys() >= set(shards):
        return None
    return sum(entries[shard].frames for shard in shards)


def _mean_hand(
    wanted: EvaluationConfig, data_config: DataConfig, predictor: Predictor
) -> tuple[MeanHand, str]:
    """The mean pose, and in words where it comes from."""
    sources = data_config.train if wanted.mean_pose is None else wanted.mean_pose
    try:
        sets = [find_shards(source, data_config.root) for source in sources]
    except FileNotFoundError:
        if wanted.mean_pose is not None:
            raise
        sets = []
    if not sets:
        print(
            f"the training data ({', '.join(map(str, sources))}) is not at hand: the mean pose is "
            "that of the hand model; say --mean_pose or --data_root to take it from labels",
            file=sys.stderr,
        )
        return neutral_hand(predictor.hand_model), "the hand model (no training data at hand)"
    batches = tqdm(_frames_of_many_clips(sets, predictor.crop), desc="mean pose", unit=" batches")
    mean = estimate_mean_hand(batches, predictor.hand_model)
    return mean, f"the labels of {', '.join(map(str, sources))}"


def _frames_of_many_clips(sets: Sequence[ShardSet], crop: CropConfig) -> Iterator[ClipBatch]:
    """Middle frames of clips from all over the sets: frames of one clip are much alike."""
    shards = [shard for one in sets for shard in one.shards]
    each = -(-MEAN_POSE_CLIPS // len(shards))
    windows = (
        Window(stored, (stored.num_frames // 2,))
        for shard in shards
        for stored in itertools.islice(read_lane([shard], 0, 1), each)
    )
    collate = Collate(1, crop)
    while batch := list(itertools.islice(windows, 64)):
        yield collate(batch)
