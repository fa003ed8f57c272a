"""`fourdhands export` and `fourdhands import-weights`: checkpoints for others, and from others."""

import functools
import tempfile
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from fourdhands import config
from fourdhands.export.bundle import write_manifest
from fourdhands.export.checkpoint import MOTION_PRIOR, kind_of
from fourdhands.export.graph_files import Format, check_graphs, write_graphs
from fourdhands.export.graphs import Precision, frame_inputs
from fourdhands.export.hub import find_source, push_bundle
from fourdhands.export.importers import Source, import_weights
from fourdhands.export.motion_prior import export_motion_prior
from fourdhands.export.predictor import Predictor
from fourdhands.export.publish import Weights, export_bundle
from fourdhands.models.network import NetworkConfig
from fourdhands.video.mediapipe_hands import MediaPipeDetector
from fourdhands.video.pairing import pair_hands
from fourdhands.video.predict import make_batch, read_photo


def export(
    checkpoint: str,
    *,
    out: Path,
    weights: Weights = "saved",
    open_hand: bool = False,
    metrics: Path | None = None,
    name: str | None = None,
    mano: Path | None = None,
    graphs: tuple[str, ...] = (),
    precision: tuple[str, ...] = (),
    mesh: bool = False,
    photos: tuple[str, ...] = (),
    push: str | None = None,
    public: bool = False,
) -> None:
    """Write a checkpoint as a bundle: weights, configuration, model card, manifest.

    Args:
        checkpoint: Of training, a network's or a motion prior's, or a bundle (a folder, or
            owner/name on the hub).
        out: Folder of the bundle.
        weights: average is the moving average (EMA), trained the weights that training goes on
            with, saved what the checkpoint gives: the average, if the run had one.
        open_hand: Put the open hand into the bundle.
        metrics: File metrics.json of eval.py (of a prior: of `fourdhands motion evaluate`) for the
            card; that of the run's folder eval if not given.
        name: Of the model, for the card.
        mano: Folder that `fourdhands hands import` wrote, if the run's is not where it was.
        graphs: Write the network's graphs, too, as onnx or pt2; once for each.
        precision: Of the graphs, fp32 (the default), fp16, bf16 (pt2) or int8 (onnx); once for
            each.
        mesh: Let the graphs give joints and vertices of the open hand.
        photos: Photographs of hands to measure the graphs' errors with; noise if not given.
        push: Name on the Hugging Face hub, owner/name, to put the bundle at.
        public: Let everybody see what is pushed.

    Raises:
        ValueError: The checkpoint or the folder cannot be used.
        OSError: A file cannot be read or written, or the hub refuses.
    """
    formats: tuple[Format, ...] = _among(graphs, get_args(Format), "graphs")
    precisions: tuple[Precision, ...] = _among(precision, get_args(Precision), "precision")
    path = find_source(checkpoint)
    if kind_of(path) == MOTION_PRIOR:
        of_networks = {"graphs": graphs, "precision": precision, "mesh": mesh, "photos": photos}
        of_networks |= {"open_hand": open_hand, "mano": mano}
        if given := [flag for flag, value in of_networks.items() if value]:
            raise ValueError(f"--{given[0]}: {path} is a motion prior, it has no hand model")
        export_motion_prior(path, out, weights=weights, metrics=metrics, name=name)
        _publish(out, push, public=public)
        return
    wanted: dict[str, Any] = {
        "formats": formats,
        "precisions": precisions or ("fp32",),
        "mesh": mesh,
    }
    predictor = export_bundle(
        path,
        out,
        weights=weights,
        open_hand=open_hand,
        metrics=metrics,
        name=name,
        mano=mano,
        check=functools.partial(check_graphs, **wanted) if formats else None,
    )
    if formats:
        _write_graphs(predictor, out, tuple(map(Path, photos)), **wanted)
    _publish(out, push, public=public)


def _write_graphs(predictor: Predictor, out: Path, photos: tuple[Path, ...], **wanted: Any) -> None:
    """All graphs or none into the bundle, and how far their hands are from the network's."""
    frames = _frames(predictor, photos) if photos else None
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        try:
            summary = write_graphs(predictor, Path(folder), frames=frames, **wanted)
        except ValueError as error:
            raise ValueError(f"{error}; the bundle in {out} is there, without graphs") from error
        for file in Path(folder).iterdir():
            file.replace(out / file.name)
    write_manifest(out)
    for name, facts in summary["files"].items():
        apart = facts["joints_mm"]
        print(
            f"{name}: joints {apart['mean']:.4f} mm from the network's own on average, "
            f"{apart['largest']:.4f} mm at most"
        )


def _publish(out: Path, push: str | None, *, public: bool) -> None:
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    print(f"written to {out}: {', '.join(files)}")
    if push is not None:
        print(push_bundle(out, push, private=not public))


def _among(words: tuple[str, ...], known: tuple[str, ...], flag: str) -> tuple[Any, ...]:
    if wrong := [word for word in words if word not in known]:
        raise ValueError(f"--{flag}: expected one of {', '.join(known)}, got {wrong[0]!r}")
    return words


def _frames(predictor: Predictor, photos: tuple[Path, ...]) -> dict[str, Tensor]:
    """The hands in photographs as inputs of the frame graph."""
    detector = MediaPipeDetector()
    found = []
    for path in photos:
        image = read_photo(path)
        if pairs := pair_hands(detector(image)):
            found.append(make_batch(image, pairs, predictor.crop))
    if not found:
        raise ValueError(f"photos: no hand found in {', '.join(map(str, photos))}")
    return frame_inputs(found)


def import_foreign(
    file: Path,
    *,
    from_: Source,
    out: Path,
    network: Path | None = None,
    mano: Path | None = None,
    partial: bool = False,
) -> None:
    """Convert the weights of HaMeR, OmniHands, ViTPose, MAE or timm; nothing of them is executed.

    Args:
        file: Checkpoint, state dict or safetensors.
        from_: Whose weights they are.
        out: Folder of the bundle.
        network: Yaml file of the network that they are for, as in configs/model; the released one
            if not given.
        mano: Folder that `fourdhands hands import` wrote; the open hand if not given.
        partial: Take what fits, tell the rest.

    Raises:
        ValueError: The file is refused, or its tensors are not those of the network.
        OSError: A file is missing or cannot be read.
    """
    wanted = None if network is None else config.load(NetworkConfig, network)
    report = import_weights(from_, file, out, network=wanted, mano=mano, partial=partial)
    for fault in report.faults():
        print(f"left out or kept as initialized: {fault}")
    print(f"{len(report.used)} tensors written to {out}")
