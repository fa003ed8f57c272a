"""How a checkpoint is evaluated, and the checkpoint beside the data that it is asked about."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import torch

from fourdhands import config
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.manifest import ShardSet
from fourdhands.export.checkpoint import KEY, read_checkpoint
from fourdhands.export.hub import find_source
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.export.predictor import HoldingPredictor, Predictor, load_predictor
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.skeleton import JOINT_NAMES

T = TypeVar("T")

REFINED_FRAMES: Final = 16
"""Frames of a window that is refined, unless it is said how many."""


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
        refinement: how hands are refined before they are scored (`configs/refinement/`); null for
            not at all. A protocol sees whole sequences, a checkpoint's own metrics windows: of
            `num_frames`, or as many of training's side by side as make 16 frames; a network of
            single images takes 16 consecutive frames.
        prior: checkpoint of a motion prior for the refinement.
        pictures: frames to draw of each kind: best, median, worst.
        any_count: whether a benchmark may be scored on other data than its own, and on other than
            its official number of images.
        target: slot of a window, from 0, in which every frame is predicted, each in a window of its
            own, as in streams and papers: 'centre' or a number. Where a recording ends its last
            frames are repeated. Null for windows that share out the frames.
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
    refinement: RefinementConfig | None = None
    prior: Path | None = None
    pictures: int = 3
    any_count: bool = False
    target: Literal["centre"] | int | None = None

    def __post_init__(self) -> None:
        """Check what the type does not say."""
        if self.root not in JOINT_NAMES:
            raise ValueError(f"root is '{self.root}'; joints are {', '.join(JOINT_NAMES)}")
        if self.prior is not None and self.refinement is None:
            raise ValueError("prior is for the refinement; say --refinement, too")
        if self.hold and self.refinement is not None:
            raise ValueError("hold and refinement: a hand is held or refined; choose one")
        if self.pictures < 0:
            raise ValueError(f"pictures is {self.pictures}, it may not be negative")


@dataclass(frozen=True)
class Trained:
    """A checkpoint beside the data of an evaluation.

    Attributes:
        path: of the checkpoint.
        predictor: its network and hand model.
        run: the configuration that it was trained with.
        data: the same of data, turned to the data of this evaluation.
        loader: of `data.test`.
        sets: what `loader` reads.
        window: frames that the network sees at a time.
        slot: of windows in which every frame is predicted; None for windows that share out frames.
        hold: whether hands that are not confident are held.
        refined: whether hands are refined before they are scored.
    """

    path: Path
    predictor: Predictor
    run: dict[str, Any]
    data: DataConfig
    loader: ClipDataModule
    sets: tuple[ShardSet, ...]
    window: int
    slot: int | None
    hold: bool
    refined: bool

    @classmethod
    def load(
        cls,
        path: Path,
        wanted: EvaluationConfig,
        data: tuple[Path, ...],
        mano: Path | None,
        *,
        side_by_side: bool = False,
    ) -> "Trained":
        """Read the checkpoint, a bundle or a name on the hub, and look whether the data are there.

        Args:
            path: Of the checkpoint.
            wanted: How to evaluate.
            data: What to evaluate on.
            mano: Folder of the hand model; None for the checkpoint's own.
            side_by_side: Whether windows may be several of the network's, for refinement.

        Raises:
            ValueError: The configuration, the checkpoint or the data cannot be used.
            FileNotFoundError: A file is missing.
        """
        path = find_source(path)
        predictor = load_predictor(path, _device(wanted.device), mano=mano)
        if wanted.hold:
            HoldingPredictor(predictor)  # says whether it can
        run = read_checkpoint(path, mmap=True)[KEY]["run"]
        chosen = _data_config(wanted, run, data, path)
        window = chosen.num_frames
        free = wanted.num_frames is None and wanted.target is None
        if side_by_side and wanted.refinement is not None and free:
            gap = 1 if window == 1 and wanted.gap is None else chosen.gap
            frames = window * -(-REFINED_FRAMES // window)
            chosen = replace(chosen, num_frames=frames, gap=gap)
        loader = ClipDataModule(chosen, predictor.crop.size, predictor.hand_model.assets)
        sets = loader.check("test")
        slot = _slot(wanted, chosen.num_frames)
        refined = wanted.refinement is not None
        return cls(path, predictor, run, chosen, loader, sets, window, slot, wanted.hold, refined)

    @property
    def answers(self) -> Predictor | HoldingPredictor:
        """What is asked for hands, before they are refined."""
        return HoldingPredictor(self.predictor) if self.hold else self.predictor

    @property
    def settings(self) -> dict[str, Any]:
        """Of windows and hands, as reports tell them."""
        names = ("num_frames", "gap", "gap_fps")
        return {
            **{name: getattr(self.data, name) for name in names},
            "mirrored_copy": self.data.mirrored_copy == 1,
            "hold": self.hold,
            "refined": self.refined,
            "target": self.slot,
        }


def load_prior(wanted: EvaluationConfig) -> MotionPrior | None:
    """The motion prior that refinement asks, if one is named."""
    return None if wanted.prior is None else load_motion_prior(wanted.prior)


def _slot(wanted: EvaluationConfig, num_frames: int) -> int | None:
    """The target's slot in windows of so many frames."""
    slot = num_frames // 2 if wanted.target == "centre" else wanted.target
    if slot is not None and not 0 <= slot < num_frames:
        raise ValueError(
            f"target is {slot}, a window's slots are 0 to {num_frames - 1}; say another, or more "
            "--num_frames"
        )
    return slot


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
