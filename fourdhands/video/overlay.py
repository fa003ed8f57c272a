"""Videos of the result: meshes on the frames beside a view from the side; hands in the world."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import (
    INK,
    PAPER,
    SIDE_COLOURS,
    SIDE_FROM_CAMERA,
    draw_hands,
    draw_skeleton,
)
from fourdhands.skeleton import Side
from fourdhands.structures import HandState
from fourdhands.video.detect import Image
from fourdhands.video.frames import Video
from fourdhands.video.results import VideoHands

LARGEST: Final = (1280, 720)
"""Width and height of overlays, at most."""
FADED: Final = 0.35
"""Opacity of hands that were filled in."""
SEEN: Final = 0.85
VIEW_MARGIN: Final = 1.15
_PIECE: Final = 64  # frames whose meshes are made at once
Array = NDArray[Any]


class Sink(Protocol):
    """Takes the frames of a video one by one."""

    def __call__(self, image: Image) -> None:
        """Take one (H, W, 3)."""
        ...


@contextmanager
def video_file(path: Path, fps: float, size: tuple[int, int]) -> Iterator[Sink]:
    """Write an H.264 mp4 file that browsers play; it appears whole or not at all.

    Args:
        path: of it.
        fps: frames a second.
        size: width, height; the last column or row is left out where they are odd.
    """
    import av

    width, height = size[0] // 2 * 2, size[1] // 2 * 2
    with replacing(path) as partial:
        try:
            container: Any = av.open(str(partial), "w", format="mp4")
        except av.error.FFmpegError as error:
            raise OSError(f"{path}: cannot be written ({error.strerror})") from None
        try:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": "20", "preset": "veryfast", "movflags": "+faststart"}

            def take(image: Image) -> None:
                whole = np.ascontiguousarray(image[:height, :width])
                for packet in stream.encode(av.VideoFrame.from_ndarray(whole, format="rgb24")):
                    container.mux(packet)

            yield take
            for packet in stream.encode():
                container.mux(packet)
            container.close()
        except av.error.FFmpegError as error:
            raise OSError(f"{path}: cannot be written ({error.strerror})") from None
        finally:
            # after an error nothing but the handle is left to give back
            with suppress(av.error.FFmpegError, ValueError):
                container.close()


def write_overlay(video: Video, hands: VideoHands, model: HandModel, path: Path) -> None:
    """The frames with meshes on them, on the right the hands from the side.

    Hands that were filled in are paler. All frames of the side view have one scale and one centre
    a shot, so that it shows motion in depth.
    """
    scale = min(1.0, LARGEST[0] / video.image_size[0], LARGEST[1] / video.image_size[1])
    width, height = (round(value * scale) for value in video.image_size)
    view = min(height, width)
    intrinsics = _scaled(hands.intrinsics, scale)
    windows = _view_windows(hands)
    meshes = mesh_frames(hands, model)
    faces = model.faces.cpu().numpy()
    total = width + view
    with video_file(path, float(hands.fps), (total, height)) as sink:
        frames = zip(video, meshes, strict=False)
        for frame, vertices in tqdm(frames, desc="drawing", unit="frame", total=hands.num_frames):
            t = frame.index
            image = frame.image
            if scale < 1:
                image = np.asarray(
                    cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
                )
            canvas = np.full((height, total, 3), PAPER, np.uint8)
            canvas[:, :width] = draw_frame(image, hands, t, vertices, intrinsics, faces)
            side = _from_side(hands, t, vertices, windows[int(hands.shot[t])], view, faces)
            top = (height - view) // 2
            canvas[top : top + view, width:] = side
            _caption(canvas, f"{hands.times[t]:.2f} s", (width + 12, height - 14))
            sink(canvas)


def write_photo(video: Video, hands: VideoHands, model: HandModel, path: Path) -> None:
    """The first frame with all meshes on it, as a picture."""
    frame = next(iter(video))
    vertices = next(mesh_frames(hands, model))
    faces = model.faces.cpu().numpy()
    drawn = draw_frame(frame.image, hands, 0, vertices, hands.intrinsics, faces)
    with replacing(path) as partial:
        png = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1]
        partial.write_bytes(png.tobytes())


def draw_frame(
    image: Image, hands: VideoHands, t: int, vertices: Array, intrinsics: Array, faces: Array
) -> Image:
    """The meshes (G, S, 778, 3) of a frame over it, farther people first, filled in hands pale."""
    depth = [_depth(hands, g, t) for g in range(len(hands.valid))]
    for g in np.argsort(depth)[::-1]:
        valid = hands.valid[g, t]
        if not valid.any():
            continue
        pale = hands.completed[g, t] & valid
        if pale.any():
            only = draw_hands(image, vertices[g], pale, intrinsics, FADED, faces)
            image = only
        if (valid & ~pale).any():
            image = draw_hands(image, vertices[g], valid & ~pale, intrinsics, SEEN, faces)
    return image


def draw_evidence(image: Image, hands: VideoHands, t: int) -> Image:
    """The detector's joints over the frame of the video."""
    for g in range(len(hands.valid)):
        image = draw_skeleton(image, hands.detected_joints_2d[g, t], hands.observed[g, t])
    return image


def _depth(hands: VideoHands, g: int, t: int) -> float:
    valid = hands.valid[g, t]
    return float(hands.joints[g, t, valid, 0, 2].mean()) if valid.any() else 0.0


def mesh_frames(hands: VideoHands, model: HandModel, *, world: bool = False) -> Iterator[Array]:
    """Vertices (G, S, 778, 3) of each frame, a piece of the video at a time."""
    orient = hands.global_orient_in_world if world else hands.global_orient
    transl = hands.transl_in_world if world else hands.transl
    device = model.faces.device
    for start in range(0, hands.num_frames, _PIECE):
        cut = slice(start, start + _PIECE)
        state = HandState(
            *(
                torch.from_numpy(array[:, cut]).float().to(device)
                for array in (orient, hands.hand_pose, hands.betas, transl)
            )
        )
        with torch.inference_mode():
            vertices = model(state).vertices.cpu().numpy()
        yield from vertices.swapaxes(0, 1)


def _scaled(intrinsics: Array, scale: float) -> Array:
    """Intrinsics of a picture made smaller; pixel centres are at integers."""
    K = np.array(intrinsics, np.float64)
    K[:2, :2] *= scale
    K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
    return K


def _view_windows(hands: VideoHands) -> dict[int, tuple[Array, float]]:
    """Centre (3,) and extent in metres of each shot's view from the side."""
    windows = {}
    for shot in np.unique(hands.shot):
        valid = hands.valid & (hands.shot == shot)[None, :, None]
        points = hands.joints[valid].reshape(-1, 3)
        if not len(points):
            windows[int(shot)] = (np.zeros(3), 1.0)
            continue
        # a few wild frames do not shrink all the others
        low, high = np.percentile(points, (1, 99), axis=0)
        extent = float((high - low)[1:].max())
        windows[int(shot)] = ((low + high) / 2, VIEW_MARGIN * extent + 0.05)
    return windows


def _from_side(
    hands: VideoHands, t: int, vertices: Array, window: tuple[Array, float], size: int, faces: Array
) -> Image:
    """All hands of a frame from the right; the camera stands to the left."""
    centre, extent = window
    paper = np.full((size, size, 3), PAPER, np.uint8)
    lens = 6.0
    focal, middle = size * lens, (size - 1) / 2
    K = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    moved = (vertices - centre) @ SIDE_FROM_CAMERA.T + (0.0, 0.0, lens * extent)
    depth = [moved[g, hands.valid[g, t]][..., 2].mean() if hands.valid[g, t].any() else 0.0
             for g in range(len(vertices))]  # fmt: skip
    for g in np.argsort(depth)[::-1]:
        valid, pale = hands.valid[g, t], hands.completed[g, t]
        for shown, opacity in ((valid & pale, FADED), (valid & ~pale, 1.0)):
            if shown.any():
                paper = draw_hands(paper, moved[g], shown, K, opacity, faces)
    return paper


def _caption(canvas: Image, text: str, corner: tuple[int, int]) -> None:
    cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)


def write_world(hands: VideoHands, model: HandModel, path: Path, size: int = 720) -> None:
    """Hands, their trails and the camera's path in the world, seen from behind and above.

    For videos with a camera that moves; one view a shot.
    """
    faces = model.faces.cpu().numpy()
    views = {int(shot): _WorldView.of(hands, int(shot), size) for shot in np.unique(hands.shot)}
    meshes = mesh_frames(hands, model, world=True)
    with video_file(path, float(hands.fps), (size, size)) as sink:
        for t, vertices in enumerate(
            tqdm(meshes, desc="drawing the world", unit="frame", total=hands.num_frames)
        ):
            sink(views[int(hands.shot[t])].draw(hands, t, vertices, faces))


class _WorldView:
    """A camera that sees all of a shot's world."""

    def __init__(self, view_from_world: Array, K: Array, size: int) -> None:
        self._view, self._K, self._size = view_from_world, K, size

    @classmethod
    def of(cls, hands: VideoHands, shot: int, size: int) -> "_WorldView":
        frames = hands.shot == shot
        valid = hands.valid & frames[None, :, None]
        points = [hands.joints_in_world[valid].reshape(-1, 3), camera_places(hands)[frames]]
        everything = np.concatenate(points)
        low, high = np.percentile(everything, (1, 99), axis=0)
        centre, extent = (low + high) / 2, float((high - low).max()) + 0.3
        first = hands.cam_from_world[frames][0, :3, :3]
        tilt, turn = np.radians(30), np.radians(35)
        about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)],
                            [0, np.sin(tilt), np.cos(tilt)]])  # fmt: skip
        about_y = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0],
                            [np.sin(turn), 0, np.cos(turn)]])  # fmt: skip
        rotation = about_x @ about_y @ first
        view = np.eye(4)
        view[:3, :3] = rotation
        view[:3, 3] = -rotation @ centre + (0, 0, 2.2 * extent)
        K = np.array([[1.9 * size, 0, size / 2], [0, 1.9 * size, size / 2], [0, 0, 1]])
        return cls(view, K, size)

    def draw(self, hands: VideoHands, t: int, vertices: Array, faces: Array) -> Image:
        paper = np.full((self._size, self._size, 3), PAPER, np.uint8)
        first = int(np.flatnonzero(hands.shot == hands.shot[t])[0])
        self._line(paper, camera_places(hands)[first : t + 1], INK)
        self._frustum(paper, hands, t)
        for g in range(len(vertices)):
            for side in Side:
                track = hands.joints_in_world[g, first : t + 1, side, 0]
                self._line(paper, track[hands.valid[g, first : t + 1, side]], SIDE_COLOURS[side])
            moved = vertices[g] @ self._view[:3, :3].T + self._view[:3, 3]
            if hands.valid[g, t].any():
                paper = draw_hands(paper, moved, hands.valid[g, t], self._K, 1.0, faces)
        return paper

    def _pixels(self, points: Array) -> Array:
        seen = (points @ self._view[:3, :3].T + self._view[:3, 3]) @ self._K.T
        return seen[..., :2] / np.maximum(seen[..., 2:], 1e-3)

    def _line(self, paper: Image, points: Array, colour: tuple[int, int, int]) -> None:
        if len(points) > 1:
            pixels = np.round(self._pixels(points) * 16).astype(np.int32)
            cv2.polylines(paper, [pixels], False, colour, 2, cv2.LINE_AA, 4)

    def _frustum(self, paper: Image, hands: VideoHands, t: int) -> None:
        width, height = hands.image_size
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
        rays = 0.15 * corners @ np.linalg.inv(hands.intrinsics).T
        rotation, place = hands.cam_from_world[t, :3, :3], camera_places(hands)[t]
        ends = rays @ rotation + place
        for k in range(4):
            self._line(paper, np.stack((place, ends[k])), INK)
            self._line(paper, np.stack((ends[k], ends[(k + 1) % 4])), INK)


def camera_places(hands: VideoHands) -> Array:
    """(T, 3) where the camera is in the world."""
    poses = hands.cam_from_world
    return -(poses[:, :3, :3].swapaxes(-1, -2) @ poses[:, :3, 3:])[..., 0]
