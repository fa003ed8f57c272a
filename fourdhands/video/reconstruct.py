"""A video to hands over time. Read `reconstruct_video` first.

    frames -> search (hands, cuts) -> follow (whose hand) -> network -> merge -> refine -> result

The first and the third go through the video; what they and refinement find is kept in the folder
`cache`, so that a run that was stopped goes on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fourdhands.export.predictor import Predictor
from fourdhands.geometry.camera import intrinsics_from_focal_length
from fourdhands.hands.mano import HandModel
from fourdhands.hands.posing import HandSkeleton
from fourdhands.models.motion_prior.prior import Completer
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.clip import ObservedClip, RefinedClip
from fourdhands.refinement.refine import refine
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.structures import HandState
from fourdhands.video.assembly import Assembly
from fourdhands.video.frames import Video
from fourdhands.video.merge import MergedHands, merge, track_arrays
from fourdhands.video.network_pass import NetworkHands, NetworkPass
from fourdhands.video.phases import Arrays, PhaseCache, Stopwatch, key_of
from fourdhands.video.results import VideoHands
from fourdhands.video.search import Search, VideoDetector, search
from fourdhands.video.solved_camera import CameraSolver, SolvedCamera
from fourdhands.video.track import PairTrack, follow

FEWEST_FRAMES: Final = 3
"""A pair that is seen in fewer frames in all is left out."""
FEWEST_SECONDS: Final = 0.33
"""Nor is one beside the most persistent one a person that never shows for so long, with holes."""
SHOWS: Final = 0.25
"""A pair seen less often than this share of the most persistent one is not worth a note."""
MOST_PAIRS: Final = 8
_CLIP_ARRAYS: Final = ("global_orient", "hand_pose", "betas", "transl")

MakeDetector = Callable[[], VideoDetector]


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        video: the frames.
        video_key: hash of the file and of the frames that are asked for.
        cache: where phases are kept.
        make_detector: called if hands have to be found.
        detector_key: name of the detector and its settings.
        predictor: the network; None to go by the detector alone.
        predictor_key: hash of its checkpoint.
        hand_model: of the predictor, or any other.
        focal_length: pixels; None for the file's metadata, the solver's, or an assumed one.
        camera: solver of the camera's motion; None for a camera that stands still.
        camera_key: name of the solver and its settings.
        camera_may_err: whether a motion that does not fit the hands is passed over, not refused.
        all_people: whether to follow all pairs of hands, or the most persistent one.
        refinement: None leaves hands as they are frame by frame.
        prior: of finger motion, for refinement.
        prior_key: hash of it.
        watch: measures the phases.
    """

    video: Video
    video_key: str
    cache: PhaseCache
    make_detector: MakeDetector
    detector_key: str
    predictor: Predictor | None
    predictor_key: str
    hand_model: HandModel
    focal_length: float | None = None
    camera: CameraSolver | None = None
    camera_key: str = "static"
    camera_may_err: bool = False
    all_people: bool = False
    refinement: RefinementConfig | None = field(default_factory=RefinementConfig)
    prior: Completer | None = None
    prior_key: str = ""
    watch: Stopwatch = field(default_factory=Stopwatch)


def reconstruct_video(job: Job) -> VideoHands:
    """Reconstruct the hands of a video.

    Raises:
        ValueError: it has no frames, or shows no hand.
    """
    with job.watch("finding"):
        found = _search(job)
    with job.watch("following"):
        tracks, left_out = _follow(job, found)
    if not any(tracks):
        raise ValueError(
            f"{job.video.path}: no hand found ({len(found.times)} frames); they have to be at "
            "least about 3 % of the picture's width, and bare"
        )
    with job.watch("camera"):
        solved, focal_length, focal_source = _camera(job, found)
    size = torch.tensor(job.video.image_size, dtype=torch.float64)
    K = intrinsics_from_focal_length(torch.tensor(focal_length, dtype=torch.float64), size)
    refined_too = job.refinement is not None
    arrays = Assembly.empty(job.video, job.hand_model, refined_too, found, K)
    arrays.texts["focal_length_source"] = focal_source
    arrays.texts["camera_source"] = solved.source
    notes = [*job.video.notes, *left_out, *solved.notes]
    skeleton = HandSkeleton(job.hand_model.assets)
    scales: dict[int, float] = {}
    with job.watch("predicting"):
        told = _network(job, found, tracks, K)
    for number, (start, stop) in enumerate(found.shots):
        arrays.shot[start:stop] = number
        for g, pair in enumerate(tracks[number]):
            track = track_arrays(pair, stop - start, job.video.fps)
            network = told.get((number, g))
            threshold = math.nan if job.predictor is None else job.predictor.confidence_threshold
            with job.watch("merging"):
                merged = merge(track, network, threshold, K, skeleton)
            if not merged.observed.any():
                continue
            camera = solved.motion[number]
            refined = None
            if job.refinement is not None:
                if not (merged.observed & (merged.confidence >= job.refinement.confidence)).any():
                    notes.append(f"shot {number + 1}, person {g + 1}: too unsure to be refined")
                    continue
                # all people of a shot are in one world, whose size the first one tells
                config = job.refinement
                if number in scales and config.world_scale is None:
                    config = replace(config, world_scale=scales[number])
                with job.watch("refining"):
                    refined, doubt = _refine(job, config, merged, K, camera, f"{number}-{g}")
                notes += [*doubt, *refined.notes]
                if not doubt:
                    scales.setdefault(number, float(refined.world_scale))
            arrays.put(g, number, start, pair, track, merged, refined, camera)
    if not arrays.values.get("observed", np.zeros(0)).any():
        remedy = (
            "boxes alone want a --checkpoint"
            if job.predictor is None
            else "none is sure enough: see confidence of the refinement, or --no-refine"
        )
        raise ValueError(f"{job.video.path}: hands were found, but not one was posed: {remedy}")
    arrays.notes = list(dict.fromkeys(notes))
    return arrays.finish()


def _search(job: Job) -> Search:
    key = key_of("search 2", job.video_key, job.detector_key)
    stored = job.cache.load("search", key)
    if stored is not None:
        return Search.from_arrays(stored)
    found = search(job.video, job.make_detector())
    job.cache.store("search", key, found.to_arrays())
    return found


def _follow(job: Job, found: Search) -> tuple[list[list[PairTrack]], list[str]]:
    """Pairs of each shot, and a note on those that are left out; one that is hardly seen is none.

    All are followed whether they are wanted or not: who is there tells whose hand is whose.
    """
    pairs, left_out = [], 0
    for start, stop in found.shots:
        tracks = follow(
            found.detections[start:stop],
            job.video.fps,
            job.video.image_size,
            most_pairs=MOST_PAIRS,
        )
        fewest = min(FEWEST_FRAMES, stop - start)
        lasting = min(max(FEWEST_FRAMES, round(FEWEST_SECONDS * job.video.fps)), stop - start)
        tracks = [track for track in tracks if len(track) >= fewest]
        tracks = tracks[:1] + [track for track in tracks[1:] if track.lasts(lasting)]
        if not job.all_people:
            shown = [len(track) for track in tracks]
            left_out = max(left_out, sum(n >= SHOWS * shown[0] for n in shown) - 1)
            tracks = tracks[:1]
        pairs.append(tracks)
    if not left_out:
        return pairs, []
    people = f"{left_out} other {'person' if left_out == 1 else 'people'}"
    return pairs, [f"the hands of {people} are left out: see --people all"]


def _camera(job: Job, found: Search) -> tuple[SolvedCamera, float, str]:
    """The camera's motion, one focal length for everything, and where that is from."""
    known, known_source = job.focal_length, "option"
    if known is None:
        known, known_source = job.video.focal_length, "metadata"
    if job.camera is None:
        moving = [n for n, still in enumerate(found.still) if not still]
        notes = (
            ("the camera seems to move, but is taken to stand still: see --camera solve",)
            if moving
            else ()
        )
        solved = SolvedCamera((None,) * len(found.shots), None, "taken to stand still", notes)
    else:
        solved = _solved(job, found, job.camera, known)
    if known is not None:
        return solved, float(known), known_source
    if solved.focal_length is not None:
        return solved, float(solved.focal_length), solved.source
    return solved, math.hypot(*job.video.image_size), "assumed: the image's diagonal"


def _solved(job: Job, found: Search, solve: CameraSolver, known: float | None) -> SolvedCamera:
    key = key_of("camera 3", job.video_key, job.detector_key, job.camera_key, known)
    stored = job.cache.load("camera", key)
    if stored is not None:
        return SolvedCamera.from_arrays(stored)
    solved = solve(job.video, found, known)
    if any(
        motion is not None for motion in solved.motion
    ):  # what was missing may be there the next time
        job.cache.store("camera", key, solved.to_arrays())
    return solved


def _network(
    job: Job, found: Search, tracks: list[list[PairTrack]], intrinsics: Tensor
) -> dict[tuple[int, int], NetworkHands]:
    """What the network says of every pair of every shot."""
    if job.predictor is None:
        return {}
    key = key_of(
        "network 2", job.video_key, job.detector_key, job.predictor_key, job.all_people,
        intrinsics.tolist(),
    )  # fmt: skip
    names = [(n, g) for n, pairs in enumerate(tracks) for g in range(len(pairs))]
    stored = job.cache.load("network", key)
    if stored is not None:
        return {
            (n, g): NetworkHands.from_arrays(
                {k.split("/")[1]: v for k, v in stored.items() if k.startswith(f"{n}-{g}/")}
            )
            for n, g in names
        }
    told: dict[tuple[int, int], NetworkHands] = {}
    passes: NetworkPass | None = None
    bars = tqdm(job.video, desc="predicting", unit="frame", total=len(found.times))
    starts = {start: n for n, (start, _) in enumerate(found.shots)}
    ends = {stop - 1 for _, stop in found.shots}
    number = 0
    for frame in bars:
        if frame.index >= len(found.times):
            break
        if frame.index in starts:
            number = starts[frame.index]
            passes = _start_pass(job, found, tracks[number], number, intrinsics)
        if passes is not None:
            passes(frame.image)
            if frame.index in ends:
                hands = passes.finish()
                for g in range(len(tracks[number])):
                    told[number, g] = NetworkHands(
                        hands.hands[g], hands.confidence[g], hands.joints_2d[g]
                    )
                passes = None
    arrays = {f"{n}-{g}/{k}": v for (n, g), one in told.items() for k, v in one.to_arrays().items()}
    job.cache.store("network", key, arrays)
    return told


def _start_pass(
    job: Job, found: Search, pairs: list[PairTrack], number: int, intrinsics: Tensor
) -> NetworkPass | None:
    if not pairs or job.predictor is None:
        return None
    start, stop = found.shots[number]
    arrays = [track_arrays(pair, stop - start, job.video.fps) for pair in pairs]
    return NetworkPass(
        job.predictor,
        torch.stack([one.boxes for one in arrays]),
        torch.stack([one.boxed for one in arrays]),
        intrinsics,
        job.video.image_size,
        job.video.fps,
    )


def _refine(
    job: Job,
    config: RefinementConfig,
    merged: MergedHands,
    intrinsics: Tensor,
    camera: CameraMotion | None,
    name: str,
) -> tuple[RefinedClip, list[str]]:
    """Refined hands of a pair over a shot, and what is doubtful about the camera."""
    clip = ObservedClip(
        hands=merged.hands[None],
        observed=merged.observed[None],
        confidence=merged.confidence[None],
        joints_2d=merged.joints_2d[None],
        joints_2d_confidence=merged.joint_confidence[None],
        intrinsics=intrinsics[None],
        fps=torch.tensor([job.video.fps], dtype=torch.float64),
    )
    evidence = [value.numpy().tobytes() for value in vars(merged.hands).values()]
    key = key_of(
        "refined 3", config, job.prior_key, intrinsics.tolist(), job.video.fps,
        key_of(*evidence),
        merged.confidence.tolist(), merged.joints_2d.sum().item(),
        None if camera is None else (camera.cam_from_world.tolist(), camera.scene_depth),
    )  # fmt: skip
    file = f"refined-{name}"
    stored = job.cache.load(file, key)
    if stored is not None:
        return _clip_of_arrays(stored), stored["doubt"].tolist()
    job.cache.folder.mkdir(parents=True, exist_ok=True)
    state = job.cache.folder / f"{file}-{key}.state"
    doubt: list[str] = []

    def solve(motion: CameraMotion | None) -> RefinedClip:
        return refine(
            clip, motion, job.prior, config, assets=job.hand_model.assets, state=state,
            progress=True,
        )  # fmt: skip

    try:
        result = solve(camera)
    except ValueError as error:
        if camera is None or not job.camera_may_err:
            raise
        doubt.append(f"the solved camera is not believed: {error}; it is taken to stand still")
        result = solve(None)
    arrays = _arrays_of_clip(result) | {"doubt": np.array(doubt, str)}
    job.cache.store(file, key, arrays)
    return result, doubt


def _arrays_of_clip(clip: RefinedClip) -> Arrays:
    arrays: Arrays = {"notes": np.array(list(clip.notes), str)}
    for one in fields(RefinedClip):
        value = getattr(clip, one.name)
        if isinstance(value, Tensor):
            arrays[one.name] = value.numpy()
        elif isinstance(value, HandState):
            arrays |= {f"{one.name}/{name}": part.numpy() for name, part in vars(value).items()}
    return arrays


def _clip_of_arrays(arrays: Arrays) -> RefinedClip:
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind != "U"}
    states = {
        name: HandState(**{part: tensors.pop(f"{name}/{part}") for part in _CLIP_ARRAYS})
        for name in ("hands", "hands_in_world")
    }
    rest: dict[str, Any] = {**states, **tensors, "notes": tuple(arrays["notes"].tolist())}
    return RefinedClip(**rest)
