"""Refinement against interpolation, simpler priors, the papers' stages, and itself without parts.

    python benchmarks/refinement.py --prior runs/motion_prior/best.ckpt

Seeded clips of two hands that move and touch under static, smooth and jerky cameras, with errors
like a network's (`fourdhands.refinement.simulated`). Errors are of frames in which the hand was
observed; completed ones are scored apart, against SLERP between the true poses at gaps' ends.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import roma
import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands import config as configuration
from fourdhands.data.motion.source import MotionDataConfig, load_motion
from fourdhands.data.motion.synthesize import MotionSetConfig, MotionSplits, generate_clip
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.trajectories import aligned_in_world, in_world
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.files import replacing
from fourdhands.geometry.alignment import procrustes_align
from fourdhands.geometry.meshes import depths, shared_volumes
from fourdhands.hands.mano import HandModel
from fourdhands.hands.posing import HandSkeleton
from fourdhands.models.motion_prior.baselines import GmmPrior, PcaPrior
from fourdhands.refinement.biomechanics import Anatomy
from fourdhands.refinement.clip import ObservedClip
from fourdhands.refinement.initial import Gaps
from fourdhands.refinement.refine import refine
from fourdhands.refinement.simulated import CameraKind, SimulatedClip, simulate
from fourdhands.refinement.stages import RefinementConfig, Stage
from fourdhands.structures import HandState

CAMERAS: tuple[CameraKind, ...] = ("static", "smooth", "jerky")
CONFIDENCE = 0.5
COLUMNS = {
    "G-MPJPE": "mm", "GA-MPJPE": "mm", "MPJPE": "mm", "PA-MPJPE": "mm", "acceleration": "m/s^2",
    "scale": "%", "depth": "mm", "volume": "cm^3", "limits": "% of hands", "gap MPJPE": "mm",
    "gap SLERP": "mm", "gap fingers": "mm", "gap fingers SLERP": "mm", "gap GA-MPJPE": "mm",
    "gap SLERP GA": "mm", "CPU": "s",
}  # fmt: skip
MODEL = HandModel.open()
SKELETON = HandSkeleton(MODEL.assets)
ANATOMY = Anatomy.from_assets(MODEL.assets)


@dataclass(frozen=True)
class Result:
    """Hands over time: camera frame, (T, S, ...)."""

    hands: HandState
    joints: Tensor
    cam_from_world: Tensor
    scale: float
    seconds: float


Method = Callable[[SimulatedClip], Result]


def as_input(clip: SimulatedClip) -> Result:
    """The network's hands, the trajectory as if it were metric."""
    hands = clip.observed.hands[0]
    with torch.no_grad():
        joints = MODEL(hands.map(Tensor.float)).joints.double()
    poses = torch.from_numpy(clip.camera.cam_from_world)
    return Result(hands, joints, poses, 1.0, 0.0)


def refined(config: RefinementConfig, prior: Any = None) -> Method:
    """Ours or a paper's."""

    def run(clip: SimulatedClip) -> Result:
        start = time.process_time()
        found = refine(clip.observed, clip.camera, prior, config, assets=MODEL.assets)
        seconds = time.process_time() - start
        return Result(
            found.hands[0],
            found.joints[0],
            found.cam_from_world[0],
            float(found.world_scale[0]),
            seconds,
        )

    return run


def slerped(clip: SimulatedClip) -> Result:
    """The network's hands where it is sure, spherical interpolation elsewhere."""
    start = time.process_time()
    given = as_input(clip)
    wrist = given.joints[:, :, 0]
    gaps = Gaps.of(_seen(clip)[None])
    rotation, shift = given.cam_from_world[:, None, :3, :3], given.cam_from_world[:, None, :3, 3]
    orientation = gaps.fill_rotations((rotation.mT @ given.hands.global_orient)[None])[0]
    place = gaps.fill(((wrist - shift)[..., None, :] @ rotation)[..., 0, :][None])[0]
    pose = gaps.fill_rotations(given.hands.hand_pose[None])[0]
    betas = gaps.fill(given.hands.betas[None].double())[0]
    orientation = rotation @ orientation
    place = (rotation @ place[..., None])[..., 0] + shift
    joints = SKELETON(orientation, place, pose, betas).joints
    rest = SKELETON.rest_joints(betas)[..., 0, :]
    hands = HandState(orientation, pose, betas, place - rest)
    seconds = time.process_time() - start
    return Result(hands, joints, given.cam_from_world, 1.0, seconds)


def _seen(clip: SimulatedClip) -> Tensor:
    """(T, S): the frames in which a method may look at the hand."""
    return clip.observed.observed[0] & (clip.observed.confidence[0] >= CONFIDENCE)


def score(clip: SimulatedClip, result: Result) -> dict[str, float]:
    """All columns of one clip."""
    seen = _seen(clip)
    truth = _samples(clip.true_joints[0], torch.from_numpy(clip.true_cam_from_world), clip)
    own = _samples(result.joints, result.cam_from_world, clip)

    def paired(valid: Tensor) -> Pair:
        mask = valid[..., None].expand(-1, -1, 21)
        return Pair(replace(own, joints_valid=mask), replace(truth, joints_valid=mask))

    pair, everything = paired(seen), paired(torch.ones_like(seen))
    figures = {
        "G-MPJPE": _mean(aligned_in_world(pair, "joints", length=10**9)),
        "GA-MPJPE": _mean(aligned_in_world(pair, "joints", frames=None, length=10**9)),
    }
    relative, true = (x - x[:, :, :1] for x in (result.joints, clip.true_joints[0]))
    errors = (relative - true).norm(dim=-1)
    aligned = procrustes_align(relative, true)
    rate = float(clip.observed.fps[0]) ** 2
    follow = seen[2:] & seen[1:-1] & seen[:-2]
    shaking = (relative - true).diff(n=2, dim=0).norm(dim=-1) * rate
    figures |= {
        "MPJPE": _in(errors, seen) * 1e3,
        "PA-MPJPE": _in((aligned - true).norm(dim=-1), seen) * 1e3,
        "acceleration": _in(shaking, follow),
    }
    moves = clip.camera.source != "static camera"
    figures["scale"] = 100 * abs(np.log(result.scale / clip.true_scale)) if moves else np.nan
    figures |= _contact(result.hands, seen.all(1))
    beyond = ANATOMY.excess(result.hands.hand_pose.double()).abs() > np.radians(1)
    figures["limits"] = 100 * float(beyond.flatten(-2).any(-1)[seen].double().mean())
    reference, pose = _true_slerp(clip, seen)
    world = aligned_in_world(everything, "joints", frames=None, length=10**9)
    slerp_pair = replace(everything, predicted=replace(own, joints=reference))
    slerp_pair = replace(
        slerp_pair, predicted=replace(slerp_pair.predicted, cam_from_world=truth.cam_from_world)
    )
    figures |= {
        "gap MPJPE": _in(errors, ~seen) * 1e3,
        "gap SLERP": _in(((reference - reference[:, :, :1]) - true).norm(dim=-1), ~seen) * 1e3,
        "gap fingers": _in(_finger_errors(clip, result.hands.hand_pose), ~seen) * 1e3,
        "gap fingers SLERP": _in(_finger_errors(clip, pose), ~seen) * 1e3,
        "gap GA-MPJPE": _in((world.predicted - world.true).norm(dim=-1), ~seen) * 1e3,
        "gap SLERP GA": _in(_distance(in_world(slerp_pair, "joints")), ~seen) * 1e3,
        "CPU": result.seconds,
    }
    return {name: float(value) for name, value in figures.items()}


def _distance(compared: Any) -> Tensor:
    return (compared.predicted - compared.true).norm(dim=-1)


def _mean(compared: Any) -> float:
    return float(_distance(compared)[compared.valid].mean()) * 1e3


def _in(values: Tensor, where: Tensor) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def _contact(hands: HandState, both: Tensor) -> dict[str, float]:
    """Deepest vertex and shared volume, means over frames that show both hands."""
    with torch.no_grad():
        meshes = MODEL(hands[both].map(Tensor.float)).vertices.double().numpy()
    right, left = np.ascontiguousarray(meshes[:, 0]), np.ascontiguousarray(meshes[:, 1])
    faces = MODEL.closed_faces.numpy()
    deep = np.maximum(depths(right, left, faces[1]).max(1), depths(left, right, faces[0]).max(1))
    volume = shared_volumes(right, faces[0], left, faces[1])
    return {"depth": float(deep.mean()) * 1e3, "volume": float(volume.mean()) * 1e6}


def _finger_errors(clip: SimulatedClip, pose: Tensor) -> Tensor:
    """Distances (T, S, J) of joints to the true ones, wrists laid on each other."""

    def joints(pose: Tensor) -> Tensor:
        wrist = torch.eye(3).double().expand(*pose.shape[:2], 3, 3)
        betas = clip.true_hands.betas[0].double()
        return SKELETON(wrist, torch.zeros_like(betas[..., :3]), pose.double(), betas).joints

    return (joints(pose) - joints(clip.true_hands.hand_pose[0])).norm(dim=-1)


def _true_slerp(clip: SimulatedClip, seen: Tensor) -> tuple[Tensor, Tensor]:
    """SLERP between the true poses at the ends of each gap, in the world.

    Returns:
        Joints (T, S, J, 3) in the camera's frame, and fingers (T, S, 15, 3, 3).
    """
    poses = torch.from_numpy(clip.true_cam_from_world)
    rotation, shift = poses[:, None, :3, :3], poses[:, None, :3, 3]
    gaps = Gaps.of(seen[None])
    wrist = ((clip.true_joints[0, :, :, 0] - shift)[..., None, :] @ rotation)[..., 0, :]
    orientation = gaps.fill_rotations((rotation.mT @ clip.true_hands.global_orient[0])[None])[0]
    place = gaps.fill(wrist[None])[0]
    pose = gaps.fill_rotations(clip.true_hands.hand_pose)[0]
    joints = SKELETON(orientation, place, pose, clip.true_hands.betas[0].double()).joints
    return joints @ rotation.mT + shift[:, :, None], pose


def _samples(joints: Tensor, poses: Tensor, clip: SimulatedClip) -> HandSamples:
    frames = len(joints)
    valid = torch.ones(joints.shape[:-1], dtype=torch.bool)
    return HandSamples(
        joints=joints,
        joints_valid=valid,
        vertices=joints[:, :, :0],
        vertices_valid=valid[..., 0] & False,
        joints_2d=joints[..., :2],
        joints_2d_valid=valid,
        handedness=torch.ones(frames, 2),
        sequence=torch.zeros(frames, dtype=torch.int64),
        frame=torch.arange(frames),
        fps=clip.observed.fps.expand(frames),
        cam_from_world=poses.double(),
        area=torch.zeros(frames),
        names=tuple(map(str, range(frames))),
    )


def without(config: RefinementConfig, *terms: str) -> RefinementConfig:
    """The configuration with some weights zero."""

    def cut(stage: Stage) -> Stage:
        return replace(stage, weights=replace(stage.weights, **dict.fromkeys(terms, 0.0)))

    return replace(config, stages=tuple(cut(stage) for stage in config.stages))


def methods(prior: Any, generated: Tensor | None, folder: Path) -> dict[str, Method]:
    """The table's rows."""
    ours = RefinementConfig(confidence=CONFIDENCE)
    second = replace(ours, stages=ours.stages[:2])
    third = replace(ours, stages=ours.stages[2:])
    rows: dict[str, Method] = {"input": as_input, "SLERP": slerped}
    rows["smoothing only"] = refined(
        without(replace(second, completion="slerp"), "pose_likelihood", "completion")
    )
    if prior is not None and generated is not None:
        coordinates, poses = prior.vae.coordinates, generated[:, ::8].flatten(0, 1)
        rows["PCA"] = refined(ours, PcaPrior(coordinates, generated, prior.config.fps))
        rows["GMM"] = refined(ours, GmmPrior(coordinates, poses))
    if prior is not None:
        for name in ("hmp", "dynhamr"):
            paper = configuration.load(RefinementConfig, folder / f"{name}.yaml")
            paper = replace(paper, confidence=CONFIDENCE)
            row = {"hmp": "HMP", "dynhamr": "Dyn-HaMR"}[name]
            early = tuple(stage for stage in paper.stages if "latent" not in stage.variables)
            rows[f"{row} w/o latent"] = refined(replace(paper, stages=early), prior)
            rows[row] = refined(paper, prior)
    rows |= {
        "stage II": refined(replace(second, completion="slerp")),
        "full": refined(ours, prior),
        "w/o stage III": refined(second, prior),
        "w/o stage II": refined(third, prior),
        "w/o biomechanics": refined(
            without(ours, "joint_angles", "bone_lengths", "palm_shape"), prior
        ),
        "w/o penetration": refined(without(ours, "penetration"), prior),
        "w/o generative completion": refined(replace(ours, completion="slerp"), prior),
    }
    return rows


def generated_windows(prior: Any, count: int) -> Tensor:
    """Finger motion for PCA and GMM to learn from: the generator's, as the prior's."""
    splits = MotionSplits(train=60, val=2)
    data = load_motion(
        MotionDataConfig(generated=MotionSetConfig(splits=splits)),
        "train",
        frames=prior.config.frames,
        fps=prior.config.fps,
    )
    drawn = data.draw(count, torch.Generator().manual_seed(0))
    windows: Tensor = drawn.rotations[:, :, 0]
    return windows


def lifelike(seed: int, frames: int) -> Tensor:
    """Fingers (T, S, 15, 3, 3) of the motion generator, of clips no prior has seen."""
    clip = generate_clip(MotionSetConfig(), "test", seed)
    start = int(np.random.default_rng(seed).integers(0, len(clip.hand_pose) - frames + 1))
    vectors = torch.from_numpy(clip.hand_pose[start : start + frames]).double()
    return roma.rotvec_to_rotmat(vectors)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Means over clips; the scale's error is a median."""
    lines = ["| | " + " | ".join(f"{name} ({unit})" for name, unit in COLUMNS.items()) + " |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 1))
    for name, clips in rows.items():
        cells = []
        for column in COLUMNS:
            values = np.array([clip[column] for clip in clips])
            values = values[np.isfinite(values)]
            value = np.median(values) if column == "scale" else values.mean() if len(values) else 0
            cells.append(f"{value:.3g}" if len(values) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lengths(frames: list[int], prior: Any) -> list[dict[str, float]]:
    """Speed and memory of long clips."""
    found = []
    for count in frames:
        clip = _long_clip(count)
        start = time.perf_counter()
        result = refined(RefinementConfig(confidence=CONFIDENCE), prior)(clip)
        figures = score(clip, result)
        found.append(
            {
                "frames": count,
                "seconds": time.perf_counter() - start,
                "CPU": result.seconds,
                "CPU a frame (ms)": 1e3 * result.seconds / count,
                "peak memory (MB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                "GA-MPJPE": figures["GA-MPJPE"],
                "scale": figures["scale"],
            }
        )
        print(found[-1], flush=True)
    return found


def _long_clip(frames: int) -> SimulatedClip:
    """One clip of 300 frames, there and back, so that hands and camera never jump; or its start."""
    base = simulate(7, 300, "smooth", model=MODEL)
    length = base.observed.num_frames
    cycle = torch.cat((torch.arange(length), torch.arange(length - 2, 0, -1)))
    index = cycle.repeat(-(-frames // len(cycle)))[:frames]
    observed = base.observed
    shared = {"intrinsics": observed.intrinsics, "fps": observed.fps}
    taken = {k: v[:, index] for k, v in vars(observed).items() if k not in shared} | shared
    return replace(
        base,
        observed=ObservedClip(**taken),
        camera=replace(base.camera, cam_from_world=base.camera.cam_from_world[index.numpy()]),
        true_hands=base.true_hands[:, index],
        true_joints=base.true_joints[:, index],
        true_cam_from_world=base.true_cam_from_world[index.numpy()],
    )


def draw(path: Path, prior: Any) -> None:
    """Wrists in the world from above, of a clip of each camera: truth, input, refined."""
    ours = refined(RefinementConfig(confidence=CONFIDENCE), prior)
    figure, axes = plt.subplots(1, len(CAMERAS), figsize=(12, 4.2), layout="constrained")
    for axis, camera in zip(axes, CAMERAS, strict=True):
        clip = simulate(2, 128, camera, model=MODEL)
        seen = _seen(clip)
        truth = _samples(clip.true_joints[0], torch.from_numpy(clip.true_cam_from_world), clip)
        for result, style, label in (
            (as_input(clip), {"color": "0.7", "lw": 0.6}, "input"),
            (ours(clip), {"color": "tab:red", "lw": 1.2}, "refined"),
        ):
            own = _samples(result.joints, result.cam_from_world, clip)
            world = aligned_in_world(Pair(own, truth), "joints", frames=None, length=10**9)
            for side in range(2):
                wrist = world.predicted[:, side, 0].clone()
                if label == "input":
                    wrist[~seen[:, side]] = torch.nan
                axis.plot(*wrist[:, (0, 2)].T, **style, label=label if side == 0 else None)
        for side in range(2):
            wrist = world.true[:, side, 0]
            axis.plot(*wrist[:, (0, 2)].T, "k--", lw=0.9, label="truth" if side == 0 else None)
        spread = world.true[:, :, 0].flatten(0, 1)[:, (0, 2)]
        low, high = spread.amin(0) - 0.05, spread.amax(0) + 0.05
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title=f"{camera} camera")
        axis.set(xlabel="x (m)", ylabel="z (m)", aspect="equal")
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", type=Path, help="checkpoint of train.py motion-prior")
    parser.add_argument("--clips", type=int, default=4, help="of each camera")
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument(
        "--fingers",
        choices=("scenes", "generated"),
        default="scenes",
        help="random poses in contact, or the motion that priors learn from, hands apart",
    )
    parser.add_argument("--lengths", type=int, nargs="*", default=[])
    parser.add_argument("--picture", type=Path, help="draw wrists from above, and nothing else")
    parser.add_argument("--rows", nargs="*", default=None, help="only these")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/refinement"))
    options = parser.parse_args()
    prior = None if options.prior is None else load_motion_prior(options.prior)
    if options.picture is not None:
        draw(options.picture, prior)
        return
    learnt = options.clips > 0 and (options.rows is None or {"PCA", "GMM"} & set(options.rows))
    generated = generated_windows(prior, 600) if prior is not None and learnt else None
    folder = Path(__file__).parents[1] / "configs" / "refinement"
    chosen = methods(prior, generated, folder)
    if options.rows is not None:
        chosen = {name: chosen[name] for name in options.rows}
    scored: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    # clip by clip through all cameras: stopped early, the table is one of fewer clips
    pairs = [(seed, camera) for seed in range(options.clips) for camera in CAMERAS]
    for seed, camera in tqdm(pairs, desc="clips", disable=not pairs):
        fingers = lifelike(seed, options.frames) if options.fingers == "generated" else None
        clip = simulate(seed, options.frames, camera, model=MODEL, fingers=fingers)
        for name, method in chosen.items():
            scored[name].append(score(clip, method(clip)))
        write(options.out, "clips", options.frames, scored)
        with replacing(options.out / "table.md") as partial:
            partial.write_text(table(scored) + "\n")
    if pairs:
        print(table(scored))
    if options.lengths:
        write(options.out, "lengths", 0, lengths(options.lengths, prior))


def write(folder: Path, name: str, frames: int, figures: Any) -> None:
    """Figures and the hardware they are of."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "frames": frames,
        name: figures,
    }
    with replacing(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
