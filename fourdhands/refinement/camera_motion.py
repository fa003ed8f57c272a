"""How the camera moved: files of SLAM and structure from motion, brought to one convention.

Inside the program: `cam_from_world`, x_cam = R x_world + t, OpenCV's axes (x right, y down, z
forward), translations in the trajectory's own unit until refinement finds its size in metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.refinement.trajectory_checks import check_rotations

Array = NDArray[np.float64]
Format = Literal["tum", "kitti", "colmap", "npz"]
STEP: Final = 1e-3  # seconds that a frame may be off its time, beside half a frame
"""Time stamps: see `read_camera`."""


@dataclass(frozen=True)
class CameraMotion:
    """A camera over T frames.

    Attributes:
        cam_from_world: (T, 4, 4).
        metric: whether translations are metres.
        intrinsics: (3, 3) pixels; None if the file does not say.
        source: for messages.
        scene_depth: how far away what it sees typically is, behind the hands, in the unit of the
            translations; None if nobody knows.
    """

    cam_from_world: Array
    metric: bool = False
    intrinsics: Array | None = None
    source: str = "camera"
    scene_depth: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no motion of a camera.

        Raises:
            ValueError: shapes, numbers that are not finite, matrices that are not rotations.
        """
        poses = self.cam_from_world
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ValueError(f"{self.source}: poses are {poses.shape}, they have to be (T, 4, 4)")
        if not np.isfinite(poses).all():
            frame = int(np.argwhere(~np.isfinite(poses))[0, 0])
            raise ValueError(f"{self.source}: the pose of frame {frame} is not finite")
        check_rotations(poses[:, :3, :3], self.source)

    def __len__(self) -> int:
        """T."""
        return len(self.cam_from_world)

    def frames(self, start: int, stop: int) -> "CameraMotion":
        """Some of the frames."""
        return replace(self, cam_from_world=self.cam_from_world[start:stop])


def read_camera(
    path: Path,
    frames: int,
    *,
    fps: float = 30.0,
    format: Format | None = None,
    metric: bool = False,
) -> CameraMotion:
    """Read a file of a camera's motion.

    Args:
        path: a file, or COLMAP's folder of a text model.
        frames: of the clip; the file has to cover them.
        fps: of the clip; TUM's and DPVO's poses have times, which are matched.
        format: None to tell by name and content.
        metric: whether the file's unit is the metre.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these formats, broken, or shorter than the clip.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    kind = format or tell_format(path)
    motion = _READERS[kind](path, frames, fps)
    motion = replace(motion, metric=metric or motion.metric, source=str(path))
    if len(motion) < frames:
        raise ValueError(
            f"{path}: has {len(motion)} poses, the clip {frames} frames; each frame needs one"
        )
    return motion.frames(0, frames)


def tell_format(path: Path) -> Format:
    """What kind of file it is, by its name and first numbers.

    Raises:
        ValueError: it is none.
    """
    if path.is_dir() or path.name == "images.txt":
        return "colmap"
    if path.suffix == ".npz" or path.suffix == ".npy":
        return "npz"
    rows = _rows(path)
    width = len(rows[0]) if rows else 0
    if width == 8:
        return "tum"
    if width in (12, 16):
        return "kitti"
    raise ValueError(
        f"{path}: {width} numbers in the first line; TUM has 8 (time x y z qx qy qz qw), KITTI 12 "
        "or 16; COLMAP's is a folder with images.txt, DROID-SLAM's and DPVO's an npz file"
    )


def read_tum(path: Path, frames: int, fps: float) -> CameraMotion:
    """TUM RGB-D: lines of time, x, y, z, qx, qy, qz, qw, the camera in the world."""
    rows = _numbers(path, (8,))
    poses = world_from_cam_to_cam_from_world(_rigid(rows[:, 4:8], rows[:, 1:4], path))
    return CameraMotion(_at_frames(rows[:, 0], poses, frames, fps, path), source=str(path))


def read_kitti(path: Path, frames: int, fps: float) -> CameraMotion:
    """KITTI: lines of the upper 3 x 4 of the camera in the world, one a frame."""
    rows = _numbers(path, (12, 16))
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = rows[:, :12].reshape(-1, 3, 4)
    check_rotations(matrices[:, :3, :3], str(path))
    return CameraMotion(world_from_cam_to_cam_from_world(matrices), source=str(path))


def read_colmap(path: Path, frames: int, fps: float) -> CameraMotion:
    """COLMAP's text model: images.txt holds the world in the camera; images in order of names."""
    folder = path if path.is_dir() else path.parent
    images, cameras = folder / "images.txt", folder / "cameras.txt"
    if not images.is_file():
        raise FileNotFoundError(
            f"{images} does not exist; a binary model becomes text by `colmap model_converter "
            "--output_type TXT`"
        )
    lines = [line for line in images.read_text().splitlines() if not line.startswith("#")]
    found = []
    for line in lines[::2]:  # every other line lists points
        words = line.split()
        if not words:
            continue
        if len(words) < 10:
            raise ValueError(f"{images}: {line[:60]!r} is not a line of an image")
        try:
            numbers = [float(word) for word in words[1:8]]
        except ValueError:
            raise ValueError(f"{images}: {line[:60]!r} is not a line of an image") from None
        found.append((" ".join(words[9:]), numbers))
    if not found:
        raise ValueError(f"{images}: holds no image")
    found.sort(key=lambda one: one[0])
    values = np.array([numbers for _, numbers in found])
    poses = _rigid(values[:, (1, 2, 3, 0)], values[:, 4:7], images)
    intrinsics = _colmap_intrinsics(cameras) if cameras.is_file() else None
    return CameraMotion(poses, intrinsics=intrinsics, source=str(path))


def _colmap_intrinsics(path: Path) -> Array:
    """Of the first camera, which has to be a pinhole; COLMAP's first pixel's corner is 0, 0."""
    lines = [ln for ln in path.read_text().splitlines() if ln.strip() and not ln.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: holds no camera")
    words = lines[0].split()
    model, numbers = words[1], [float(word) for word in words[4:]]
    shapes = {"SIMPLE_PINHOLE": (0, 0, 1, 2), "PINHOLE": (0, 1, 2, 3)}
    if model not in shapes:
        raise ValueError(
            f"{path}: the camera's model is {model}; undistort the images to a pinhole first "
            "(`colmap image_undistorter`)"
        )
    fx, fy, cx, cy = (numbers[k] for k in shapes[model])
    return np.array(((fx, 0, cx - 0.5), (0, fy, cy - 0.5), (0, 0, 1)))


_NPZ_KEYS: Final = ("cam_from_world", "w2c", "world_from_cam", "c2w", "poses", "traj", "tstamps")


def read_npz(path: Path, frames: int, fps: float) -> CameraMotion:
    """DROID-SLAM's, DPVO's and plain npz files.

    Names say the direction: `cam_from_world` or `w2c` (T, 4, 4) or (T, 3, 4), `world_from_cam` or
    `c2w`; `traj` (DROID-SLAM's `terminate`) and `poses` (DPVO's) are (T, 7) x, y, z, qx, qy, qz, qw
    of the camera in the world, with frame numbers in `tstamps`, if they are not of all frames.
    `intrinsics` or `intrins`: (3, 3), (4,) fx, fy, cx, cy, or such of each frame, which have to
    agree; `scale` or `metric`: whether translations are metres.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"poses": loaded}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a readable npz file ({error})") from None
    named = [name for name in _NPZ_KEYS[:-1] if name in arrays]
    if not named:
        raise ValueError(
            f"{path}: none of {', '.join(_NPZ_KEYS[:-1])} is in it, but {sorted(arrays)}"
        )
    name = named[0]
    values = np.asarray(arrays[name], np.float64)
    if values.ndim == 2 and values.shape[1] == 7:
        poses = _rigid(values[:, 3:7], values[:, :3], path)
        inverse = name not in ("cam_from_world", "w2c")
    elif values.ndim == 3 and values.shape[1:] in ((3, 4), (4, 4)):
        poses = np.tile(np.eye(4), (len(values), 1, 1))
        poses[:, :3] = values[:, :3]
        check_rotations(poses[:, :3, :3], f"{path}: {name}")
        if name in ("poses", "traj"):
            raise ValueError(
                f"{path}: {name} are matrices, of which nobody knows whether they take the world "
                "to the camera or back; name them cam_from_world or world_from_cam"
            )
        inverse = name in ("world_from_cam", "c2w")
    else:
        raise ValueError(f"{path}: {name} is {values.shape}, not (T, 7), (T, 3, 4) or (T, 4, 4)")
    poses = world_from_cam_to_cam_from_world(poses) if inverse else poses
    if "tstamps" in arrays:
        times = np.asarray(arrays["tstamps"], np.float64)
        poses = _between(times, poses, np.arange(frames, dtype=np.float64), path)
    intrinsics = _npz_intrinsics(arrays, path)
    metric = bool(np.asarray(arrays.get("metric", False)))
    return CameraMotion(poses, metric, intrinsics, str(path))


def _npz_intrinsics(arrays: dict[str, Any], path: Path) -> Array | None:
    values = arrays.get("intrinsics", arrays.get("intrins"))
    if values is None:
        return None
    values = np.asarray(values, np.float64)
    if values.shape[-1] == 4:
        values = values.reshape(-1, 4)
        matrices = np.tile(np.eye(3), (len(values), 1, 1))
        matrices[:, 0, 0], matrices[:, 1, 1] = values[:, 0], values[:, 1]
        matrices[:, :2, 2] = values[:, 2:]
    elif values.shape[-2:] == (3, 3):
        matrices = values.reshape(-1, 3, 3)
    else:
        raise ValueError(f"{path}: intrinsics are {values.shape}, not (4,) or (3, 3)")
    if np.abs(matrices - matrices[0]).max() > 1e-3 * np.abs(matrices[0]).max():
        raise ValueError(f"{path}: intrinsics change from frame to frame; one camera has one")
    return matrices[0]


_READERS: Final = {"tum": read_tum, "kitti": read_kitti, "colmap": read_colmap, "npz": read_npz}


def world_from_cam_to_cam_from_world(poses: Array) -> Array:
    """Inverse of rigid (T, 4, 4), and the other way round."""
    turned = poses[:, :3, :3].swapaxes(-1, -2)
    inverse = np.tile(np.eye(4), (len(poses), 1, 1))
    inverse[:, :3, :3] = turned
    inverse[:, :3, 3] = -np.einsum("tij,tj->ti", turned, poses[:, :3, 3])
    return inverse


def _rigid(quaternions: Array, translations: Array, path: Path) -> Array:
    norms = np.linalg.norm(quaternions, axis=-1)
    if (np.abs(norms - 1) > 0.05).any():
        frame = int(np.abs(norms - 1).argmax())
        raise ValueError(
            f"{path}: the quaternion of line {frame + 1} has length {norms[frame]:.3g}"
        )
    poses = np.tile(np.eye(4), (len(quaternions), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    poses[:, :3, 3] = translations
    return poses


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file; name npz files .npz") from None
    lines = (line.split("#")[0].replace(",", " ").split() for line in text.splitlines())
    return [words for words in lines if words]


def _numbers(path: Path, widths: Sequence[int]) -> Array:
    rows = _rows(path)
    if not rows:
        raise ValueError(f"{path}: holds no pose")
    for number, words in enumerate(rows, 1):
        if len(words) not in widths or len(words) != len(rows[0]):
            raise ValueError(f"{path}: pose {number} has {len(words)} numbers, not {widths[0]}")
    try:
        return np.array(rows, np.float64)
    except ValueError:
        raise ValueError(f"{path}: a word is not a number") from None


def _at_frames(times: Array, poses: Array, frames: int, fps: float, path: Path) -> Array:
    """Poses at the clip's frames; times may be seconds, or numbers of frames."""
    if len(times) == frames:
        return poses
    if (np.diff(times) <= 0).any():
        raise ValueError(f"{path}: times do not ascend")
    steps = np.median(np.diff(times)) if len(times) > 1 else 1.0
    whole = np.allclose(times, np.round(times), atol=1e-6) and steps >= 1
    wanted = np.arange(frames, dtype=np.float64) / (1.0 if whole else fps)
    start = 0.0 if whole else times[0] if times[0] > frames / fps else 0.0
    return _between(times - start, poses, wanted, path)


def _between(times: Array, poses: Array, wanted: Array, path: Path) -> Array:
    """Poses at other times: between two that are given, on the arc and the line."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    if len(times) != len(poses) or (np.diff(times) <= 0).any():
        raise ValueError(f"{path}: {len(times)} times of {len(poses)} poses, or not ascending")
    slack = step / 2 + STEP
    if wanted[0] < times[0] - slack or wanted[-1] > times[-1] + slack:
        raise ValueError(
            f"{path}: poses go from {times[0]:g} to {times[-1]:g}, the clip's frames from "
            f"{wanted[0]:g} to {wanted[-1]:g}"
        )
    if len(times) == 1:
        return np.repeat(poses, len(wanted), axis=0)
    inverse = world_from_cam_to_cam_from_world(poses)
    wanted = np.clip(wanted, times[0], times[-1])
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    share = ((wanted - times[after - 1]) / (times[after] - times[after - 1]))[:, None]
    start = Rotation.from_matrix(inverse[after - 1, :3, :3])
    end = Rotation.from_matrix(inverse[after, :3, :3])
    turned = start * Rotation.from_rotvec((start.inv() * end).as_rotvec() * share)
    result = np.tile(np.eye(4), (len(wanted), 1, 1))
    result[:, :3, :3] = turned.as_matrix()
    result[:, :3, 3] = (1 - share) * inverse[after - 1, :3, 3] + share * inverse[after, :3, 3]
    return world_from_cam_to_cam_from_world(result)


def as_tensors(camera: CameraMotion, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotations (T, 3, 3) and translations (T, 3), double precision."""
    poses = torch.from_numpy(np.array(camera.cam_from_world, np.float64)).to(device)
    return poses[:, :3, :3], poses[:, :3, 3]
