"""The model card of a bundle, made from the run: its data, its figures, its licences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fourdhands import __version__
from fourdhands.data.manifest import Manifest
from fourdhands.export.bundle import read_json
from fourdhands.models.motion_prior.vae import MotionPriorConfig

FREE: Final = ("MIT", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
HAND_TAGS: Final = ("hand-pose-estimation", "3d-hand-reconstruction")
_COLUMNS: Final = ("model", "mean_pose")
_RATIO: Final = "ratio "


def write_card(
    name: str,
    run: Mapping[str, Any],
    *,
    parameters: int,
    step: int | None,
    weights: str,
    metrics: Path | None,
    sha256: str,
) -> str:
    """Write the card.

    Args:
        name: of the model.
        run: the run's whole configuration.
        parameters: of the network.
        step: how many optimizer steps it has learned.
        weights: which of a checkpoint's weights these are.
        metrics: `metrics.json` of `eval.py`, if there is one.
        sha256: of the checkpoint's file.

    Raises:
        ValueError: the metrics or a manifest cannot be read.
    """
    network, sets = run["network"], _sets(run)
    licences = {one.licence if one else "unknown" for _, one in sets}
    if run.get("mano") is not None:
        licences.add("MANO (https://mano.is.tue.mpg.de/license.html)")
    free = licences <= set(FREE)
    size = "x".join(map(str, network["crop_size"]))
    parts = [p for p in ("direction", "relation", "joints_2d", "temporal") if network.get(p)]
    return page(
        name,
        licence=licences.pop().lower() if free and len(licences) == 1 else "other",
        tags=(*HAND_TAGS, "mano"),
        pipeline="keypoint-detection",
        about=(
            "Both hands in 3D from crops of photographs or video: rotations, shape, place in the",
            f"camera's frame, 21 joints. Made by fourdhands {__version__}.",
            "",
            f"- network: `{network['backbone']['name']}`, crops of {size} (height x width), "
            f"{', '.join(parts) or 'no further parts'}; {parameters:,} parameters",
            f"- weights: {weights}{_steps(step)}",
            f"- hand model: {'the open hand' if run.get('mano') is None else 'MANO, not included'}",
            "",
            "    import fourdhands",
            '    predictor = fourdhands.load_predictor("FOLDER or hub id")',
            "",
            "Inputs, boxes, cameras, joint order, units: `config.json` and docs/export.md.",
        ),
        sections={
            "Trained on": _data_lines(sets),
            "Figures": _metric_lines(metrics, sha256),
            "Licence": _licence_lines(sets, run.get("mano") is not None, free),
        },
    )


def write_prior_card(
    name: str,
    network: MotionPriorConfig,
    run: Mapping[str, Any],
    *,
    parameters: int,
    step: int | None,
    weights: str,
    metrics: Path | None,
    sha256: str,
) -> str:
    """Write the card of a motion prior; see `write_card`.

    Raises:
        ValueError: the metrics or a manifest cannot be read.
    """
    sets = _sets(run)
    free = all(one is not None and one.licence in FREE for _, one in sets)
    generated = bool(run) and not sets
    return page(
        name,
        licence="mit" if generated else "other",
        tags=("hand-motion", "motion-prior", "mano"),
        about=(
            "A prior of finger motion (HMP): fills gaps, draws motion, says how likely it is.",
            f"Made by fourdhands {__version__}.",
            "",
            f"- network: z of {network.latent}, field of {network.field.kind}, "
            f"{network.coordinates}; windows of {network.frames} frames at {network.fps:g} a "
            f"second; {parameters:,} parameters",
            f"- weights: {weights}{_steps(step)}",
            "- hand model: none in here; rotations are MANO's",
            "",
            "    import fourdhands",
            '    prior = fourdhands.load_motion_prior("FOLDER or hub id")',
            "",
            "Poses, times, masks: `config.json` and docs/motion_prior.md.",
        ),
        sections={
            "Trained on": ["Finger motion that fourdhands generates itself; no recordings."]
            if generated
            else _data_lines(sets),
            "Figures": _prior_lines(metrics, sha256),
            "Licence": ["It was trained on motion that its program generates: MIT."]
            if generated
            else _licence_lines(sets, False, free),
        },
    )


def page(
    name: str,
    *,
    licence: str,
    tags: Sequence[str],
    about: Sequence[str],
    sections: Mapping[str, Sequence[str]],
    pipeline: str | None = None,
) -> str:
    """A card as the hub reads it: facts for its search, then markdown.

    Args:
        name: of the model.
        licence: the hub's name of it.
        tags: to be found by.
        about: lines that say what it is.
        sections: lines by heading.
        pipeline: the hub's name of the task.
    """
    lines = ["---", "library_name: fourdhands", f"license: {licence}"]
    lines += [f"pipeline_tag: {pipeline}"] if pipeline else []
    lines += [f"tags: [{', '.join(tags)}]", "---", "", f"# {name}", "", *about, ""]
    for heading, content in sections.items():
        lines += [f"## {heading}", "", *content, ""]
    return "\n".join(lines)


def _steps(step: int | None) -> str:
    return f"; {step:,} steps" if isinstance(step, int) else ""


def _prior_lines(path: Path | None, sha256: str) -> list[str]:
    """Errors on hidden frames beside slerp's, from `metrics.json` of `motion evaluate`."""
    if path is None:
        return ["None on record; `fourdhands motion evaluate` writes them."]
    report = read_json(path)
    try:
        table, source = report["30 fps"], str(report["checkpoint_sha256"])
        other = "" if source == sha256 else f", of another checkpoint ({source[:12]})"
        spans = [span for span in next(iter(table.values())) if not span.startswith(_RATIO)]
        lines = [
            f"{report['unit']}, 30 frames a second, gaps of{other}:",
            "",
            f"| | {' | '.join(spans)} |",
            f"|---{'|---' * len(spans)}|",
        ]
        for method, row in table.items():
            lines.append(f"| {method} | {' | '.join(f'{row[span]:.2f}' for span in spans)} |")
    except (LookupError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise ValueError(
            f"{path}: no metrics.json of `fourdhands motion evaluate` ({error!r})"
        ) from error
    return lines


def _sets(run: Mapping[str, Any]) -> list[tuple[Path, Manifest | None]]:
    """What a run was trained on, and its manifest where there is one."""
    data = run.get("data")
    named = data.get("train") if isinstance(data, Mapping) else None
    paths = [Path(str(path)) for path in named] if isinstance(named, list | tuple) else []
    return [
        (path, Manifest.load(path) if path.suffix == ".yaml" and path.is_file() else None)
        for path in paths
    ]


def _data_lines(sets: Sequence[tuple[Path, Manifest | None]]) -> list[str]:
    if not sets:
        return ["Not on record."]
    lines = ["| data | split | licence | source |", "|---|---|---|---|"]
    for path, one in sets:
        row = (one.title or one.name, one.split, one.licence, one.source) if one else ()
        lines.append(f"| {' | '.join(row) if row else f'{path.name} | | not on record |'} |")
    cited = [f"- {one.citation}" for _, one in sets if one and one.citation]
    return [*lines, *(["", "To be cited:", "", *cited] if cited else [])]


def _metric_lines(path: Path | None, sha256: str) -> list[str]:
    if path is None:
        return ["None on record; `eval.py` writes them."]
    report = read_json(path)
    try:
        source, metrics = report["provenance"], report["metrics"]
        same = source["checkpoint_sha256"] == sha256
        other = "" if same else f", of another checkpoint ({source['checkpoint_sha256'][:12]})"
        lines = [
            f"On {source['data']} (sha256 {source['data_sha256'][:12]}), {report['clips']} clips"
            f"{other}:",
            "",
            "| | model | mean pose |",
            "|---|---|---|",
        ]
        for metric in metrics.values():
            values = [metric.get(column, {}).get("value") for column in _COLUMNS]
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            lines.append(f"| {metric['name']} ({metric['unit']}) | {' | '.join(cells)} |")
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no metrics.json of eval.py ({error!r})") from error
    return lines


def _licence_lines(
    sets: Sequence[tuple[Path, Manifest | None]], mano: bool, free: bool
) -> list[str]:
    """What the data's licences mean for the weights; the last word is theirs."""
    if free and sets:
        return ["Everything that it was trained on may be used freely, with attribution."]
    lines = ["The weights carry what the licences of their data ask for, research use only mostly:"]
    lines += [f"- {one.name}: {one.licence}" for _, one in sets if one and one.licence not in FREE]
    lines += [f"- {path.name}: not on record" for path, one in sets if one is None]
    if mano:
        lines.append("- MANO: its own licence; none of its arrays is in this folder")
    return lines if len(lines) > 1 else ["Not on record."]
