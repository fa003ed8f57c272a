"""What scoring a method on a benchmark is made of: `eval.py --protocol` comes in here.

Hands come from a checkpoint or a file, the truth from converted sets or files; figures, a report
and a file for the benchmark's server go out.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from fourdhands.data.datamodule import DataConfig
from fourdhands.data.manifest import ShardSet, find_shards
from fourdhands.evaluation.alignments import detections
from fourdhands.evaluation.benchmark import measure
from fourdhands.evaluation.benchmark_page import write_report
from fourdhands.evaluation.benchmark_report import BenchmarkReport
from fourdhands.evaluation.checkpoints import EvaluationConfig, Trained, load_prior
from fourdhands.evaluation.predictions_file import match, save_samples
from fourdhands.evaluation.protocols import Protocol
from fourdhands.evaluation.provenance import hash_of_file, hash_of_plain_data, hashes_of_data
from fourdhands.evaluation.refined import refined_samples
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.sources import predictions_of, require_split, truth_of
from fourdhands.evaluation.submissions.door import (
    Target,
    is_hidden,
    load_predictions,
    write_submission,
)
from fourdhands.export.checkpoint import weights_file
from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.hands.mano import HandModel, joints_of_mesh

HANDS: Final = "predictions.npz"
"""File of a checkpoint's hands."""


class Method(ABC):
    """Who answers for the hands of a benchmark.

    Attributes:
        path: of the file that the answers come from, directly or by a network.
        sets: converted sets among the data.
        hand_model: of the meshes.
    """

    path: Path
    sets: Sequence[ShardSet]
    hand_model: HandModel

    @property
    @abstractmethod
    def regressor_of(self) -> tuple[ManoAssets, ManoAssets] | None:
        """The hand model that predicted meshes are of; None if nobody has said."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """For the report."""

    @abstractmethod
    def hands(self, protocol: Protocol, true: HandSamples | None) -> HandSamples:
        """The answers, in any order."""

    @abstractmethod
    def hashes(self, out: Path) -> dict[str, dict[str, str]]:
        """sha256 by kind and path; `out` holds what was written."""


@dataclass(frozen=True)
class AskedCheckpoint(Method):
    """A network looks at the images."""

    trained: Trained

    @property
    def path(self) -> Path:  # type: ignore[override]
        """Of the checkpoint."""
        return self.trained.path

    @property
    def sets(self) -> Sequence[ShardSet]:  # type: ignore[override]
        """With the images."""
        return self.trained.sets

    @property
    def hand_model(self) -> HandModel:  # type: ignore[override]
        """That it was trained with."""
        return self.trained.predictor.hand_model

    @property
    def regressor_of(self) -> tuple[ManoAssets, ManoAssets]:
        """Its own."""
        return self.hand_model.assets

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of its windows."""
        return self.trained.settings

    def hands(self, protocol: Protocol, true: HandSamples | None) -> HandSamples:
        """Predict all frames."""
        trained = self.trained
        batches = trained.loader.eval_dataloader("test", target=trained.slot)
        return predictions_of(
            trained.answers,
            batches,
            meshes=protocol.wants_meshes,
            target=trained.slot,
            direct=trained.refined,
        )

    def hashes(self, out: Path) -> dict[str, dict[str, str]]:
        """Of the checkpoint, its configuration and the hands that were written."""
        return {
            "checkpoint": {str(self.path): hash_of_file(weights_file(self.path))},
            "config": {f"in {self.path}": hash_of_plain_data(self.trained.run)},
            "predictions": {str(out / HANDS): hash_of_file(out / HANDS)},
        }


@dataclass(frozen=True)
class PredictionsFile(Method):
    """Anybody's hands, or a file for the benchmark's server.

    Attributes:
        path: of the file.
        sets: converted sets among the data.
        mano: folder of the hand model; None for the open hand.
        submission_list: the server's list of images, if the file needs one.
        any_count: whether there may be other than the official number of images.
    """

    path: Path
    sets: Sequence[ShardSet]
    mano: Path | None
    submission_list: Path | None
    any_count: bool

    @cached_property
    def hand_model(self) -> HandModel:  # type: ignore[override]
        """The folder's, or the open hand."""
        return HandModel(load_assets(self.mano))

    @property
    def regressor_of(self) -> tuple[ManoAssets, ManoAssets] | None:
        """The folder's, if one was named."""
        return None if self.mano is None else self.hand_model.assets

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hand model."""
        return {"mano": str(self.mano or "open hand")}

    def hands(self, protocol: Protocol, true: HandSamples | None) -> HandSamples:
        """Read the file."""
        return load_predictions(
            self.path,
            protocol.name,
            () if true is None else true.names,
            self.hand_model.assets,
            self.submission_list,
            any_count=self.any_count,
        )

    def hashes(self, out: Path) -> dict[str, dict[str, str]]:
        """Of the file."""
        return {"predictions": {str(self.path): hash_of_file(self.path)}}


def evaluate_benchmark(
    config: EvaluationConfig,
    protocol: Protocol,
    *,
    data: tuple[Path, ...],
    out: Path,
    checkpoint: Path | None,
    predictions: Path | None,
    mano: Path | None,
    submission: Path | None,
    submission_list: Path | None,
) -> None:
    """Score a method by the rules of a benchmark, and write what its server takes.

    Args: see `evaluate_command`.

    Raises:
        ValueError: the configuration, the method's file or the data cannot be used.
        FileNotFoundError: a file is missing.
    """
    target = None if submission is None else Target(protocol.name, submission, submission_list)
    if not data and (checkpoint is not None or target is None):
        raise ValueError("give --data: images for a checkpoint, or the truth of predictions")
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
    files = [path for path in data if path.suffix == ".npz"]
    method: Method
    if checkpoint is not None:
        if files:
            raise ValueError(f"{files[0]}: a checkpoint needs images; name a converted set")
        method = AskedCheckpoint(Trained.load(checkpoint, config, data, mano))
    else:
        assert predictions is not None
        root = config.data_root or DataConfig().root
        sets = [find_shards(path, root) for path in data if path not in files]
        method = PredictionsFile(predictions, sets, mano, submission_list, config.any_count)
    true = truth_of([*files, *method.sets], method.hand_model) if data else None
    hidden = true is None or is_hidden(true)
    if hidden and target is None:
        raise ValueError("the truth is hidden: --submission FILE writes what the server takes")
    if not hidden and not config.any_count:
        require_split(protocol, method.sets)
    if true is not None and not protocol.wants_meshes:
        true = true.without_meshes()  # nobody has to have predicted what nobody compares
    found = method.hands(protocol, true)
    if config.refinement is not None:
        meshes = protocol.wants_meshes or found.vertices.shape[2] > 0
        found, results = refined_samples(
            [found],
            method.hand_model,
            config.refinement,
            prior=load_prior(config),
            meshes=meshes,
        )
        for note in sorted({note for result in results for note in result.notes}):
            print(note, file=sys.stderr)
    if true is not None:
        finds = any(column.alignment is detections for column in protocol.columns)
        pair = match(found, true, str(method.path), may_miss=finds)
        pair = replace(pair, closed_faces=method.hand_model.closed_faces.cpu())
    if not hidden:
        protocol, regressor = _with_regressor(protocol, pair, method.regressor_of)
        metrics = measure(protocol, pair, any_count=config.any_count, joints_of_mesh=regressor)
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint is not None:
        save_samples(found, out / HANDS)
    if target is not None:
        assets = method.hand_model.assets
        print("\n".join(write_submission(target, found, assets, any_count=config.any_count)), "\n")
    if not hidden:
        shards = [shard for one in method.sets for shard in one.shards]
        report = BenchmarkReport.of(
            metrics,
            pair.true,
            method=str(method.path),
            hashes=method.hashes(out) | hashes_of_data(data, shards),
            settings={**method.settings, "any_count": config.any_count},
        )
        write_report(report, pair, method.sets, method.hand_model, out, pictures=config.pictures)
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.glob('*.*')))}")


def _with_regressor(
    protocol: Protocol, pair: Pair, assets: tuple[ManoAssets, ManoAssets] | None
) -> tuple[Protocol, Tensor | None]:
    """What makes joints of meshes where the protocol wants them; else its note says that none does.

    Args:
        protocol: the rules.
        pair: what is compared.
        assets: hand model that the meshes are of; None if nobody has named it.
    """
    if protocol.tips is None:
        return protocol, None
    both = min(part.vertices.shape[2] for part in (pair.predicted, pair.true)) > 0
    if both and assets is not None:
        return protocol, joints_of_mesh(assets, protocol.tips)
    why = "--mano names no hand model" if both else "there are no meshes"
    note = f"joints and wrists are those given, not regressed from meshes: {why}"
    told = "; ".join(filter(None, (protocol.note, note)))
    return replace(protocol, tips=None, note=told), None
