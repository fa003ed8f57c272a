"""How the camera moved: read from a file, or found by structure from motion (pycolmap, optional).

A camera that stands still is told first, as structure from motion finds a motion for anything: on a
still background it follows the person. Hands are masked.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline
from tqdm import tqdm

from fourdhands.refinement.camera_motion import (
    CameraMotion,
    read_camera,
    world_from_cam_to_cam_from_world,
)
from fourdhands.video.detect import Detection, corners
from fourdhands.video.frames import Video
from fourdhands.video.search import Search
from fourdhands.video.solved_camera import CameraSolver, SolvedCamera

IMAGES_A_SECOND: Final = 15
MOST_IMAGES: Final = 180
"""Of a shot; of faster or longer ones every second, third, ... frame is solved."""
FEWEST_REGISTERED: Final = 0.7
FEWEST_IMAGES: Final = 8
FEWEST_POINTS: Final = 30
"""Of the background that an image has in common with others, in the median image."""
MOST_POINTS: Final = 3000
"""Of an image: more of them cost time (squared) and change little."""
HEIGHT: Final = 720
OVERLAP: Final = 8
"""Frames that each one is matched with."""
MASK: Final = 1.8
"""Hands' boxes are masked grown by this: wrists and sleeves move with them."""
FOREARM: Final = 1.6
FOREARM_WIDTH: Final = 0.8
"""Sizes of a hand, in which its forearm is masked, too."""
LONGEST_GUESS: Final = 0.3
"""Seconds without a solved image that are not worth a note."""
NEIGHBOURS: Final = 2
"""Frames on either side whose hands are masked as well: some are missed."""
REMEDY: Final = (
    "install it with `pip install -c constraints.txt -e '.[solve]'`, or give the camera's motion "
    "by --camera FILE"
)
Poses = NDArray[np.float64]


def camera_of_file(path: Path) -> CameraSolver:
    """A solver that reads a file; of one shot, or of all frames."""

    def read(video: Video, found: Search, focal_length: float | None) -> SolvedCamera:
        motion = read_camera(path, len(found.times), fps=video.fps)
        focal = None
        if motion.intrinsics is not None:
            focal = float((motion.intrinsics[0, 0] + motion.intrinsics[1, 1]) / 2)
        parts = tuple(motion.frames(start, stop) for start, stop in found.shots)
        return SolvedCamera(parts, focal, f"file {path.name}")

    return read


def solve_camera(video: Video, found: Search, focal_length: float | None) -> SolvedCamera:
    """Solve each shot whose background moves; the others stand still.

    Where pycolmap is missing or finds nothing, the camera is taken to stand still and a note says
    so.
    """
    if all(found.still):
        return SolvedCamera((None,) * len(found.shots), None, "stands still, as its background")
    try:
        import pycolmap
    except ImportError:
        note = f"--camera solve needs pycolmap: {REMEDY}; the camera is taken to stand still"
        return SolvedCamera((None,) * len(found.shots), None, "taken to stand still", (note,))
    motions: list[CameraMotion | None] = []
    focals: list[float] = []
    notes: list[str] = []
    for number, (start, stop) in enumerate(found.shots):
        if found.still[number]:
            motions.append(None)
            continue
        solved = _solve_shot(pycolmap, video, found, start, stop, focal_length)
        if isinstance(solved, str):
            notes.append(f"shot {number + 1}: {solved}; the camera is taken to stand still there")
            motions.append(None)
        else:
            motion, focal, unplaced = solved
            motions.append(motion)
            focals.append(focal)
            notes += [f"shot {number + 1}: {text}" for text in unplaced]
    found_focal = float(np.median(focals)) if focals else None
    source = "structure from motion" if focals else "taken to stand still"
    return SolvedCamera(tuple(motions), found_focal, source, tuple(notes))


def _solve_shot(
    pycolmap: Any, video: Video, found: Search, start: int, stop: int, focal_length: float | None
) -> tuple[CameraMotion, float, list[str]] | str:
    """The motion, the focal length and where they are doubtful; or why there is none."""
    step = max(-(-(stop - start) // MOST_IMAGES), round(video.fps / IMAGES_A_SECOND))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scale = _write_images(video, found, start, stop, step, folder)
        focal = None if focal_length is None else focal_length * scale
        reconstruction = _map(pycolmap, folder, video, scale, focal)
        if reconstruction is None:
            return "structure from motion found no model"
        frames, poses = registered(reconstruction)
        points = float(np.median([one.num_points3D for one in reconstruction.images.values()]))
        depth = scene_depth(reconstruction)
        camera = next(iter(reconstruction.cameras.values()))
        found_focal = float(camera.focal_length) / scale
    wanted = len(range(start, stop, step))
    if len(frames) < max(FEWEST_IMAGES, FEWEST_REGISTERED * wanted):
        return f"structure from motion placed only {len(frames)} of {wanted} frames"
    if points < FEWEST_POINTS:
        return f"the background shows too little to go by ({points:.0f} points an image)"
    every = between(frames, poses, np.arange(start, stop))
    times = [found.times[start], *(found.times[frame] for frame in frames), found.times[stop - 1]]
    unplaced = [
        f"no image between {before:.1f} and {after:.1f} s found its place; the camera's path is a "
        "guess there"
        for before, after in pairwise(times)
        if after - before > LONGEST_GUESS
    ]
    motion = CameraMotion(every, source="structure from motion", scene_depth=depth)
    return motion, focal_length or found_focal, unplaced


def _write_images(
    video: Video, found: Search, start: int, stop: int, step: int, folder: Path
) -> float:
    """Pictures and masks of every `step`-th frame; how much smaller they are."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    scale = min(1.0, HEIGHT / min(video.image_size))
    for frame in tqdm(video, desc="camera: reading", unit="frame", total=video.estimated_frames):
        if frame.index >= stop:
            break
        if frame.index < start or (frame.index - start) % step:
            continue
        image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        near = found.detections[max(start, frame.index - NEIGHBOURS) : frame.index + NEIGHBOURS + 1]
        mask = background(
            (image.shape[0], image.shape[1]), [hand for hands in near for hand in hands]
        )
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        name = f"{frame.index:07d}.jpg"
        cv2.imwrite(str(folder / "images" / name), cv2.resize(image, size))
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), cv2.resize(mask, size))
    return scale


def background(shape: tuple[int, int], hands: Sequence[Detection]) -> NDArray[np.uint8]:
    """255 where an image (H, W) shows neither these hands nor, as far as is known, their arms."""
    mask = np.full(shape, 255, np.uint8)
    for hand in hands:
        low, high = corners(np.concatenate((hand.bbox[:2], MASK * hand.bbox[2:])))
        left, top = np.maximum(low, 0).astype(int)
        right, bottom = np.maximum(high, 0).astype(int)
        mask[top : bottom + 1, left : right + 1] = 0
        if hand.joints_2d is None:
            continue
        wrist, knuckles = hand.joints_2d[0], hand.joints_2d[[5, 9, 13, 17]].mean(0)
        palm = float(np.linalg.norm(wrist - knuckles))
        size = float(hand.bbox[2:].max())
        elbow = wrist + (wrist - knuckles) / max(palm, 1e-6) * FOREARM * size
        ends = [tuple(np.clip(point, -9999, 9999).round().astype(int).tolist())
                for point in (wrist, elbow)]  # fmt: skip
        cv2.line(mask, ends[0], ends[1], (0,), max(1, round(FOREARM_WIDTH * size)))
    return mask


def _map(
    pycolmap: Any, folder: Path, video: Video, scale: float, focal_length: float | None
) -> Any:
    """The largest model, or None."""
    pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)  # it tells of every image
    steps = tqdm(total=3, desc="camera: solving", unit="step")
    database, images = folder / "database.db", folder / "images"
    reader = pycolmap.ImageReaderOptions()
    reader.mask_path = str(folder / "masks")
    reader.camera_model = "SIMPLE_PINHOLE"
    if focal_length is not None:
        width, height = (value * scale for value in video.image_size)
        reader.camera_params = f"{focal_length},{width / 2},{height / 2}"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = MOST_POINTS
    device = pycolmap.Device.cpu
    pycolmap.extract_features(
        database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=extraction, device=device,
    )  # fmt: skip
    steps.update()
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap, pairing.loop_detection = OVERLAP, False
    pycolmap.match_sequential(database, pairing_options=pairing, device=device)
    steps.update()
    output = folder / "model"
    output.mkdir()
    if focal_length is None:
        # the incremental mapper settles on wrong focal lengths where it may choose one
        models = pycolmap.global_mapping(database, images, output)
    else:
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
        models = pycolmap.incremental_mapping(database, images, output, options)
    steps.update()
    steps.close()
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def registered(reconstruction: Any) -> tuple[NDArray[np.int64], Poses]:
    """Frames in order of time, and their poses (N, 4, 4)."""
    found = [(int(Path(image.name).stem), pose) for image, pose in _placed(reconstruction)]
    found.sort(key=lambda one: one[0])
    return np.array([frame for frame, _ in found]), np.array([pose for _, pose in found])


def scene_depth(reconstruction: Any) -> float | None:
    """Median over images of the median depth of the points that each sees, in the model's unit."""
    places = {key: point.xyz for key, point in reconstruction.points3D.items()}
    depths = []
    for image, pose in _placed(reconstruction):
        seen = [places[point.point3D_id] for point in image.points2D if point.has_point3D()]
        if seen:
            depths.append(float(np.median(np.stack(seen) @ pose[2, :3] + pose[2, 3])))
    return float(np.median(depths)) if depths else None


def _placed(reconstruction: Any) -> Iterator[tuple[Any, Poses]]:
    """Images that have a pose, and it (4, 4)."""
    for image in reconstruction.images.values():
        pose = image.cam_from_world
        pose = pose() if callable(pose) else pose
        if pose is not None:
            matrix = np.eye(4)
            matrix[:3] = np.asarray(pose.matrix())
            yield image, matrix


def between(frames: NDArray[np.int64], poses: Poses, wanted: NDArray[np.int64]) -> Poses:
    """Poses (T, 4, 4) at every frame, on cubic splines through those that are known.

    A carried camera trembles: on lines between every second frame its path would jerk as much as
    hands do, and the world's scale would come out too small.
    """
    inverse = world_from_cam_to_cam_from_world(poses)
    inside = np.clip(wanted, frames[0], frames[-1])
    result = np.tile(np.eye(4), (len(wanted), 1, 1))
    turns = RotationSpline(frames, Rotation.from_matrix(inverse[:, :3, :3]))
    result[:, :3, :3] = turns(inside).as_matrix()
    result[:, :3, 3] = CubicSpline(frames, inverse[:, :3, 3])(inside)
    return world_from_cam_to_cam_from_world(result)
