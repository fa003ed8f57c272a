"""`fourdhands reconstruct`: a video to hands over time."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fourdhands.export.hub import find_source
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.export.predictor import Predictor, load_predictor
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.video.dynhamr import write_world_results
from fourdhands.video.frames import Video, open_video
from fourdhands.video.given_hands import GivenHands
from fourdhands.video.gltf import write_glb
from fourdhands.video.mediapipe_hands import FollowingDetector, MediaPipeDetector
from fourdhands.video.mediapipe_tasks import TasksDetector
from fourdhands.video.overlay import write_overlay, write_photo, write_world
from fourdhands.video.phases import PhaseCache, Stopwatch, key_of, key_of_file
from fourdhands.video.reconstruct import Job, MakeDetector, reconstruct_video
from fourdhands.video.results import VideoHands
from fourdhands.video.search import EachFrame
from fourdhands.video.solve_camera import camera_of_file, solve_camera
from fourdhands.video.solved_camera import CameraSolver
from fourdhands.video.summary import write_summary

FREE_SPACE = 50_000_000
"""Bytes that a run wants at least."""


def reconstruct(
    video: Path,
    config: RefinementConfig,
    *,
    out: Path,
    checkpoint: Path | None = None,
    detector: str = "mediapipe",
    camera: str = "static",
    focal_length: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    people: Literal["one", "all"] = "one",
    refine: bool = True,
    prior: Path | None = None,
    mano: Path | None = None,
    world_results: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Reconstruct the hands of a video.

    Writes hands.npz (docs/reconstruct.md), overlay.mp4, world.mp4 if the camera moves, hands.glb
    and summary.html. Stopped, the same command goes on where it was; `fourdhands view` shows the
    result.

    Args:
        video: A video file, a folder of images, or an image.
        config: How hands are refined.
        out: Folder for the results.
        checkpoint: Of `train.py reconstruction`, or a bundle: a folder, or owner/name on the hub;
            without one, hands follow the detector alone.
        detector: mediapipe, the model file of MediaPipe's newer interface (.task), or a file of
            hands (.csv, docs/reconstruct.md).
        camera: static, solve, or a file of its motion (formats: docs/reconstruct.md).
        focal_length: In pixels of the upright frames; by default from metadata or the solver, else
            the frames' diagonal.
        start: Seconds.
        end: Seconds; the video's end if not given.
        fps: Frames a second; the video's own if not given.
        people: The person whose hands show most, or all.
        refine: Whether to refine over time; --no-refine leaves hands as each frame shows them.
        prior: Checkpoint of `train.py motion-prior`, or a bundle, for what is not seen.
        mano: Folder that `fourdhands hands import` wrote; the checkpoint's hand if not given.
        world_results: Write world_results.npz as Dyn-HaMR does, too.
        device: Where the network computes.

    Raises:
        ValueError: Something cannot be used, or the video shows no hand.
        OSError: A file cannot be read or written.
    """
    if focal_length is not None and not 0 < focal_length < math.inf:
        raise ValueError(f"--focal_length is {focal_length}, it has to be positive, in pixels")
    source = open_video(video, start=start, end=end, fps=fps)
    photo = len(source.images) == 1
    if photo:
        refine, people = False, "all"  # there is no time to refine over
    make_detector, detector_key = _detector(detector, photo=photo, crowd=people == "all")
    solver, camera_key = _camera(camera)
    predictor, predictor_key = _predictor(checkpoint, mano, device)
    assets = load_assets(mano) if predictor is None else predictor.hand_model.assets
    model = HandModel(assets).eval()  # one of its own: the predictor's may be on a GPU
    prior = None if prior is None else find_source(prior)
    motion_prior = None if prior is None else load_motion_prior(prior)
    _check_out(out)
    job = Job(
        video=source,
        video_key=key_of(key_of_file(video), start, end, source.fps, source.image_size),
        cache=PhaseCache(out / "cache"),
        make_detector=make_detector,
        detector_key=detector_key,
        predictor=predictor,
        predictor_key=predictor_key,
        hand_model=model,
        focal_length=focal_length,
        camera=solver,
        camera_key=camera_key,
        camera_may_err=camera == "solve",
        all_people=people == "all",
        refinement=config if refine else None,
        prior=motion_prior,
        prior_key="" if prior is None else key_of_file(prior),
    )
    with _disk_errors(out):
        hands = reconstruct_video(job)
        written = _write(hands, source, model, out, job.watch, world_results=world_results)
        write_summary(hands, source.path.name, job.watch, written, out / "summary.html")
    for note in hands.notes:
        print(f"note: {note}")
    print(_describe(hands))
    print(job.watch)
    print(f"written to {out}: {', '.join([*written, 'summary.html'])}")


def _detector(word: str, *, photo: bool, crowd: bool) -> tuple[MakeDetector, str]:
    if word == "mediapipe":
        if photo:
            return lambda: EachFrame(MediaPipeDetector()), "mediapipe 3"
        return lambda: FollowingDetector(crowd=crowd), f"mediapipe 3{' crowd' * crowd}"
    path = Path(word)
    kinds: dict[str, MakeDetector] = {
        ".csv": lambda: GivenHands(path),
        ".task": lambda: TasksDetector(path, video=not photo),
    }
    if path.suffix.lower() not in kinds:
        raise ValueError(
            f"--detector {word}: say mediapipe, or a file that ends in {' or '.join(kinds)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"--detector {word}: no such file")
    return kinds[path.suffix.lower()], key_of_file(path)


def _camera(word: str) -> tuple[CameraSolver | None, str]:
    if word == "static":
        return None, "static"
    if word == "solve":
        return solve_camera, "solve"
    path = Path(word)
    if not path.exists():
        raise FileNotFoundError(
            f"--camera {word}: no such file; say static, solve, or the file of a camera's motion"
        )
    return camera_of_file(path), key_of_file(path)


def _predictor(
    checkpoint: Path | None, mano: Path | None, device: Literal["auto", "cpu", "cuda"]
) -> tuple[Predictor | None, str]:
    if checkpoint is None:
        return None, ""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no GPU that can be used")
    checkpoint = find_source(checkpoint)
    predictor = load_predictor(checkpoint, device, mano=mano)
    return predictor, key_of(key_of_file(checkpoint), mano and key_of_file(mano))


def _check_out(out: Path) -> None:
    """Refuse what would fail after minutes of work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".fourdhands.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OSError(f"--out: {out} cannot be written to ({error.strerror})") from None
    free = shutil.disk_usage(out).free
    if free < FREE_SPACE:
        raise OSError(f"--out: {out} has {free / 1e6:.0f} MB left; clear {FREE_SPACE / 1e6:.0f} MB")


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Say that a disk is full in plain words; what was whole stays."""
    try:
        yield
    except OSError as error:
        if error.errno == 28:
            raise OSError(f"{out}: the disk is full; the same command goes on from here") from None
        raise


def _write(
    hands: VideoHands,
    video: Video,
    model: HandModel,
    out: Path,
    watch: Stopwatch,
    *,
    world_results: bool,
) -> list[str]:
    def moving() -> bool:
        return bool(np.abs(hands.cam_from_world - np.eye(4)).max() > 1e-6)

    tasks: dict[str, Callable[[Path], None]] = {
        "hands.npz": hands.save,
        "hands.glb": lambda path: write_glb(hands, model, path),
    }
    if len(video.images) == 1:
        tasks["overlay.png"] = lambda path: write_photo(video, hands, model, path)
    else:
        tasks["overlay.mp4"] = lambda path: write_overlay(video, hands, model, path)
    if moving():
        tasks["world.mp4"] = lambda path: write_world(hands, model, path)
    if world_results:
        tasks["world_results.npz"] = lambda path: write_world_results(hands, path)
    for name, task in tasks.items():
        with watch("drawing" if name.startswith(("overlay", "world.")) else "writing"):
            task(out / name)
    return list(tasks)


def _describe(hands: VideoHands) -> str:
    """In words: frames, hands, how well they lie on what was detected."""
    off = hands.reprojection()
    known = np.isfinite(off)
    share = 100 * float((off[known] < 0.1).mean()) if known.any() else math.nan
    return (
        f"{hands.num_frames} frames, {int(hands.observed.sum())} hands seen, "
        f"{int(hands.completed.sum())} filled in; {share:.1f} % of those with joints lie within a "
        "tenth of their box"
    )
