"""`fourdhands refine`: smooth, physical hands in the world from a file of predictions."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fourdhands.evaluation.predictions_file import load_samples, save_samples
from fourdhands.evaluation.refined import SequenceRun, refined_samples, sequences_of
from fourdhands.evaluation.samples import HandSamples
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.files import replacing
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.camera_motion import CameraMotion, Format, read_camera
from fourdhands.refinement.clip import RefinedClip
from fourdhands.refinement.stages import RefinementConfig


def refine(
    predictions: tuple[Path, ...],
    config: RefinementConfig,
    *,
    out: Path,
    camera: Path | None = None,
    camera_format: Format | None = None,
    metric: bool = False,
    prior: Path | None = None,
    mano: Path | None = None,
    focal_length: float | None = None,
) -> None:
    """Refine hands over time.

    Writes refined.npz (the same images as files of predictions hold them) and refinement.json
    (scale, energies, notes). Stopped, the same command goes on where it was.

    Args:
        predictions: Files of hands with MANO parameters (docs/predictions.md); of several, each
            hand of each frame comes from the first that has it.
        config: How.
        out: Folder for the results.
        camera: Trajectory of the camera: TUM, KITTI, COLMAP (text), DROID-SLAM, DPVO, npz. Without
            one, the file's own cameras, which stand still by default.
        camera_format: Of the trajectory, if its name and numbers do not tell.
        metric: Whether the trajectory's unit is the metre; its scale is found if not.
        prior: Checkpoint of `train.py motion-prior`.
        mano: Folder that `fourdhands hands import` wrote; the open hand if not given.
        focal_length: In pixels, where the files have no intrinsics.

    Raises:
        ValueError: Something cannot be used.
        FileNotFoundError: A file is missing.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
    if focal_length is not None and not 0 < focal_length < math.inf:
        raise ValueError(f"--focal_length is {focal_length}, it has to be positive, in pixels")
    sources = [load_samples(path) for path in predictions]
    if focal_length is not None:
        sources = [_with_focal_length(samples, focal_length) for samples in sources]
    runs = sequences_of(sources[0])
    if camera is not None and len(runs) > 1:
        raise ValueError(
            f"{predictions[0]} holds {len(runs)} sequences, a trajectory belongs to one; refine "
            "them one by one"
        )
    hand_model = HandModel(load_assets(mano))
    motion_prior = None if prior is None else load_motion_prior(prior)

    def trajectory(run: SequenceRun) -> CameraMotion:
        assert camera is not None
        return read_camera(camera, run.frames, fps=run.fps, format=camera_format, metric=metric)

    refined, results = refined_samples(
        sources,
        hand_model,
        config,
        prior=motion_prior,
        camera=None if camera is None else trajectory,
        state=out / "state",
    )
    out.mkdir(parents=True, exist_ok=True)
    save_samples(refined, out / "refined.npz")
    with replacing(out / "refinement.json") as partial:
        partial.write_text(json.dumps([_report(result) for result in results], indent=2) + "\n")
    for result in results:
        print(_describe(result))
    print(f"written to {out}: refined.npz, refinement.json")


def _with_focal_length(samples: HandSamples, focal_length: float) -> HandSamples:
    """The principal point is the middle of what the pixels span, for want of an image's size."""
    pixels = samples.joints_2d[samples.joints_2d_valid]
    if samples.intrinsics is not None:
        matrices = samples.intrinsics.clone()
    elif len(pixels):
        matrices = torch.eye(3).repeat(len(samples), 1, 1)
        valid = samples.joints_2d_valid & samples.joints_valid
        joints = samples.joints[valid]
        offset = samples.joints_2d[valid] - focal_length * joints[:, :2] / joints[:, 2:]
        matrices[:, :2, 2] = offset.median(0).values.float()
    else:
        raise ValueError("--focal_length: the file has no joints_2d that tell the image's middle")
    matrices[:, 0, 0] = matrices[:, 1, 1] = focal_length
    return replace(samples, intrinsics=matrices)


def _report(result: RefinedClip) -> dict[str, Any]:
    return {
        "world_scale": result.world_scale.tolist(),
        "world_scale_deviation": [
            None if math.isinf(value) else value for value in result.world_scale_deviation.tolist()
        ],
        "static_camera": result.static.tolist(),
        "diverged": result.diverged.tolist(),
        "completed_hands": result.completed.sum((1, 2)).tolist(),
        "energies": dict(result.energies),
        "notes": list(result.notes),
    }


def _describe(result: RefinedClip) -> str:
    clips, frames = result.completed.shape[:2]
    words = [f"{clips} x {frames} frames, {int(result.completed.sum())} hands completed"]
    for scale, deviation, static in zip(
        result.world_scale.tolist(),
        result.world_scale_deviation.tolist(),
        result.static.tolist(),
        strict=True,
    ):
        if clips == 1:
            sure = "not known" if math.isinf(deviation) else f"{100 * deviation:.1f} %"
            words.append("static camera" if static else f"world scale {scale:.4g} m ({sure})")
    return "; ".join([*words, *result.notes])
