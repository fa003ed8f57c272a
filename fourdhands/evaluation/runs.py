"""What an evaluation is made of: `eval.py` comes in here.

Checkpoint and data go in; a table, `metrics.json` and pictures come out.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from tqdm import tqdm

from fourdhands import __version__, config
from fourdhands.data.collate import Collate, CropConfig, Window
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.manifest import ShardSet, find_shards
from fourdhands.data.stream import read_lane
from fourdhands.evaluation.baselines import (
    MeanHand,
    MeanPosePredictor,
    estimate_mean_hand,
    neutral_hand,
)
from fourdhands.evaluation.benchmark import find_protocol, score
from fourdhands.evaluation.benchmark_report import BenchmarkReport
from fourdhands.evaluation.confidence import NEGATIVE_SHARE, ConfidenceScores, score_confidence
from fourdhands.evaluation.pictures import choose, draw_choices
from fourdhands.evaluation.predictions_file import load_samples, match, save_samples
from fourdhands.evaluation.protocols import Protocol
from fourdhands.evaluation.provenance import (
    Provenance,
    hash_of_file,
    hash_of_plain_data,
    hash_of_shards,
    recorded_entries,
)
from fourdhands.evaluation.report import EvalReport, save_image
from fourdhands.evaluation.runner import evaluate
from fourdhands.evaluation.sources import predictions_of, truth_of
from fourdhands.export.checkpoint import KEY, read_checkpoint, weights_file
from fourdhands.export.hub import find_source
from fourdhands.export.predictor import HoldingPredictor, Predictor, load_predictor
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import JOINT_NAMES
from fourdhands.structures import ClipBatch

T = TypeVar("T")

MEAN_POSE_CLIPS = 2000
"""Training clips that the mean pose is estimated from, a frame of each."""
CONFIDENCE_WINDOWS = 4000
"""Windows that the confidence is scored on, at most."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How a checkpoint is evaluated.

    Attributes:
        root: joint that root-relative errors and the vector between the hands refer to.
        num_frames: frames a window; null for as in training.
        gap: frames of the data from one frame of a window to the next (at `data.gap_fps` of the
            training, if that was given); null for as in training.
        mirrored_copy: whether a hand's mirrored copy stands for a hand that is absent, instead of
            nothing; null for only if all training was so.
        batch_size: windows a batch.
        num_workers: processes that decode.
        data_root: folder that manifests' shard patterns are relative to; null for as in training.
        mean_pose: manifests or folders whose labels the mean pose is estimated from; null for the
            data that the checkpoint was trained on, or MANO's mean where those are not at hand.
        device: where the network computes.
        hold: whether a hand that is not confident is held as it was in the nearest earlier frame
            of its window in which it was (DaHyF); wants windows of several frames.
        pictures: frames to draw of each kind: best, median, worst.
        any_count: whether a benchmark may be scored on other than its official number of images.
    """

    root: str = "wrist"
    num_frames: int | None = None
    gap: int | None = None
    mirrored_copy: bool | None = None
    batch_size: int = 16
    num_workers: int = 2
    data_root: Path | None = None
    mean_pose: tuple[Path, ...] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    hold: bool = False
    pictures: int = 3
    any_count: bool = False

    def __post_init__(self) -> None:
        """Check what the type does not say."""
        if self.root not in JOINT_NAMES:
            raise ValueError(f"root is '{self.root}'; joints are {', '.join(JOINT_NAMES)}")
        if self.pictures < 0:
            raise ValueError(f"pictures is {self.pictures}, it may not be negative")


def evaluate_command(
    config: EvaluationConfig,
    *,
    data: tuple[Path, ...],
    out: Path,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    protocol: str | None = None,
    mano: Path | None = None,
) -> None:
    """Evaluate a checkpoint on labelled clips, or score a method by the rules of a benchmark.

    Args:
        config: How.
        data: Manifests, summaries or folders of shards to evaluate on; with a protocol also files
            like those of predictions that hold the truth.
        out: Folder for metrics.json and pictures; with a protocol for benchmark.json and
            predictions.npz.
        checkpoint: File that training has written, or a bundle.
        predictions: File of anybody's hands (docs/predictions.md), in place of a checkpoint.
        protocol: Name of the benchmark whose rules count; without one, our own metrics.
        mano: Folder that `fourdhands hands import` wrote: gives meshes where the truth has MANO
            parameters alone. A checkpoint brings its own, if this is not given; otherwise the open
            hand.

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
            data=data,
            out=out,
            checkpoint=checkpoint,
            predictions=predictions,
            mano=mano,
        )
    elif checkpoint is None:
        raise ValueError("predictions are scored by a benchmark's rules: give --protocol NAME")
    else:
        evaluate_checkpoint(config, checkpoint=checkpoint, data=data, out=out, mano=mano)


def evaluate_benchmark(
    config: EvaluationConfig,
    protocol: Protocol,
    *,
    data: tuple[Path, ...],
    out: Path,
    checkpoint: Path | None,
    predictions: Path | None,
    mano: Path | None,
) -> None:
    """Score a method by the rules of a benchmark (see `evaluate_command`)."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
    files = [path for path in data if path.suffix == ".npz"]
    meshes = any(column.points == "vertices" for column in protocol.columns)
    if checkpoint is not None:
        if files:
            raise ValueError(f"{files[0]}: a checkpoint needs images; name a converted set")
        checkpoint = find_source(checkpoint)
        predictor = load_predictor(checkpoint, _device(config.device), mano=mano)
        run = read_checkpoint(checkpoint, mmap=True)[KEY]["run"]
        data_config = _data_config(config, run, data, checkpoint)
        loader = ClipDataModule(data_config, predictor.crop.size, predictor.hand_model.assets)
        sets, hand_model = loader.check("test"), predictor.hand_model
        found = predictions_of(predictor, loader.test_dataloader(), meshes=meshes)
        hashes = {str(checkpoint): hash_of_file(weights_file(checkpoint))}
    else:
        assert predictions is not None
        root = config.data_root or DataConfig().root
        sets = tuple(find_shards(path, root) for path in data if path not in files)
        hand_model = HandModel(load_assets(mano))
        found = load_samples(predictions)
        hashes = {str(predictions): hash_of_file(predictions)}
    true = truth_of([*files, *sets], hand_model)
    pair = match(found, true, str(checkpoint or predictions))
    figures = score(protocol, pair, any_count=config.any_count)
    hashes |= {str(path): hash_of_file(path) for path in files}
    hashes |= {one.name: hash_of_shards(list(one.shards)) for one in sets}
    method = str(checkpoint or predictions)
    report = BenchmarkReport(protocol, figures, len(pair), method, hashes)
    print(report.table())
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint is not None:
        save_samples(found, out / "predictions.npz")
    report.save_json(out / "benchmark.json")
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.glob('*.*')))}")


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
    checkpoint = find_source(checkpoint)
    predictor = load_predictor(checkpoint, _device(config.device), mano=mano)
    if config.hold:
        HoldingPredictor(predictor)  # says whether it can
    run = read_checkpoint(checkpoint, mmap=True)[KEY]["run"]
    data_config = _data_config(config, run, data, checkpoint)
    loader = ClipDataModule(data_config, predictor.crop.size, predictor.hand_model.assets)
    shards = [shard for one in loader.check("test") for shard in one.shards]
    mean_hand, mean_pose_source = _mean_hand(config, data_config, predictor)
    report = EvalReport(
        **evaluate(
            {
                "model": HoldingPredictor(predictor) if config.hold else predictor,
                "mean_pose": MeanPosePredictor(mean_hand),
            },
            loader.test_dataloader(),
            predictor.hand_model,
            root=JOINT_NAMES.index(config.root),
            device=predictor.device,
            num_frames=_num_frames(shards),
        ),
        provenance=Provenance(
            checkpoint=str(checkpoint),
            checkpoint_sha256=hash_of_file(weights_file(checkpoint)),
            config_sha256=hash_of_plain_data(run),
            data=", ".join(map(str, data)),
            data_sha256=hash_of_shards(shards),
            mean_pose=mean_pose_source,
            settings={
                "root": config.root,
                "num_frames": data_config.num_frames,
                "gap": data_config.gap,
                "hold": config.hold,
                "gap_fps": data_config.gap_fps,
                "mirrored_copy": data_config.mirrored_copy == 1,
            },
            version=__version__,
        ),
        confidence=_confidence(loader, predictor),
    )
    print(report.table())
    out.mkdir(parents=True, exist_ok=True)
    report.save_plots(out / "errors.png")
    if choices := choose(report.model, config.pictures):
        again = loader.test_dataloader()
        sheet = draw_choices(choices, predictor, again, predictor.hand_model, predictor.device)
        save_image(sheet, out / "samples.png")
    report.save_json(out / "metrics.json")
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.glob('*.*')))}")


def _confidence(loader: ClipDataModule, predictor: Predictor) -> ConfidenceScores | None:
    """None where there is no 2D branch, or hands have no box of their own to move away."""
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


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but no CUDA device is there; say cpu or auto")
    return name


def _data_config(
    wanted: EvaluationConfig, run: dict[str, Any], data: tuple[Path, ...], checkpoint: Path
) -> DataConfig:
    """The training's data configuration, turned to the data of this evaluation."""
    trained = config.from_dict(DataConfig, run["data"], source=f"{checkpoint}: data")

    def chosen(value: T | None, default: T) -> T:
        return default if value is None else value

    return replace(
        trained,
        test=data,
        root=chosen(wanted.data_root, trained.root),
        num_frames=chosen(wanted.num_frames, trained.num_frames),
        gap=chosen(wanted.gap, trained.gap),
        mirrored_copy=float(chosen(wanted.mirrored_copy, trained.mirrored_copy == 1)),
        batch_size=wanted.batch_size,
        num_workers=wanted.num_workers,
    )


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
