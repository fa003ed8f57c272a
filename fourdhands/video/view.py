"""A reconstruction in the browser (viser): hands in space beside the frame, over time.

All that a browser shows lies in `Scene`; `serve` runs the server and the clock.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import SIDE_COLOURS
from fourdhands.skeleton import BONES, Side
from fourdhands.structures import HandState
from fourdhands.video.detect import Image
from fourdhands.video.overlay import camera_places
from fourdhands.video.results import VideoHands

Array = NDArray[Any]
TRAIL: Final = 1.0
"""Seconds of the wrists' way that are shown."""
FRAME_WIDTH: Final = 640
KEPT_FRAMES: Final = 400
REMEDY: Final = "install it with `pip install -c constraints.txt -e '.[view]'`"
_UNREFINED: Final = (150, 150, 150)
_FRUSTUM: Final = 0.14  # metres, of its picture's width
_FIELD: Final = np.radians(45)  # of the view, upright
_LINE: Final = 0.002


class Pictures:
    """The frames of the overlay or of the video, read as they are asked for, some of them kept.

    Args:
        path: of an mp4 file that was written with the hands, frame by frame; None for none.
        width: of the frame in it, on the left, as a share; the rest is not shown.
    """

    def __init__(self, path: Path | None, share: float = 1.0) -> None:
        self._path, self._share = path, share
        self._kept: OrderedDict[int, Image] = OrderedDict()
        self._reader: Iterator[tuple[int, Image]] | None = None
        self._next = 0

    def __call__(self, index: int) -> Image | None:
        """The frame (H, W, 3) with this number."""
        if self._path is None:
            return None
        if index in self._kept:
            return self._kept[index]
        if self._reader is None or not self._next <= index < self._next + 60:
            self._reader, self._next = self._read(index), index
        for number, image in self._reader:
            self._kept[number] = image
            self._next = number + 1
            while len(self._kept) > KEPT_FRAMES:
                self._kept.popitem(last=False)
            if number >= index:
                return image
        self._reader = None
        return None

    def _read(self, start: int) -> Iterator[tuple[int, Image]]:
        import av

        with av.open(str(self._path)) as container:
            stream: Any = container.streams.video[0]
            rate, base = float(stream.average_rate), float(stream.time_base)
            container.seek(max(0, int((start - 1) / rate / base)), stream=stream)
            for picture in container.decode(stream):
                number = round(float(picture.pts) * base * rate)
                if number < start:
                    continue
                image = picture.to_ndarray(format="rgb24")
                image = image[:, : round(image.shape[1] * self._share)]
                scale = FRAME_WIDTH / image.shape[1]
                size = (FRAME_WIDTH, max(1, round(image.shape[0] * scale)))
                yield number, np.asarray(cv2.resize(image, size), np.uint8)


class Scene:
    """Everything in the browser, at one time of the video.

    Args:
        server: viser's.
        hands: the result.
        model: hand model that it was made with.
        pictures: frames to show.
    """

    def __init__(self, server: Any, hands: VideoHands, model: HandModel, pictures: Pictures):
        self._server, self._hands, self._model = server, hands, model
        self._pictures = pictures
        self._meshes: OrderedDict[tuple[int, bool], Array] = OrderedDict()
        self._playing_since: tuple[float, int] | None = None
        server.gui.set_panel_label("fourdhands")
        self._controls()
        self._objects()
        self._first_look()
        self.show(0)

    def _controls(self) -> None:
        gui, hands = self._server.gui, self._hands
        last = max(hands.num_frames - 1, 1)
        self.timeline = gui.add_slider("frame", 0, last, 1, 0)
        self.play = gui.add_checkbox("play", False)
        self.speed = gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0)
        with gui.add_folder("show"):
            self.meshes = gui.add_checkbox("meshes", True)
            self.skeleton = gui.add_checkbox("skeleton", False)
            self.trails = gui.add_checkbox("trails", True)
            self.cameras = gui.add_checkbox("camera", True)
            self.unrefined = gui.add_checkbox(
                "before refinement", False, disabled=not bool(hands.refined)
            )
        self.text = gui.add_markdown("")
        first = self._pictures(0)
        self.picture = None if first is None else gui.add_image(first, format="jpeg")
        self.timeline.on_update(lambda _: self.show(int(self.timeline.value)))
        for box in (self.meshes, self.skeleton, self.trails, self.cameras, self.unrefined):
            box.on_update(lambda _: self.show(int(self.timeline.value)))

    def _objects(self) -> None:
        scene, hands = self._server.scene, self._hands
        faces = self._model.faces.cpu().numpy()
        nowhere = np.zeros((778, 3), np.float32)
        bones = np.zeros((len(BONES), 2, 3), np.float32)
        self._hand_nodes: dict[tuple[int, Side, bool], Any] = {}
        self._bone_nodes: dict[tuple[int, Side], Any] = {}
        self._trail_nodes: dict[tuple[int, Side], Any] = {}
        trail = np.zeros((max(1, round(TRAIL * float(hands.fps))), 2, 3), np.float32)
        for g in range(len(hands.valid)):
            for side in Side:
                colour = SIDE_COLOURS[side]
                name = f"/hands/{g + 1}/{side.name.lower()}"
                self._hand_nodes[g, side, True] = scene.add_mesh_simple(
                    f"{name}/mesh", nowhere, faces[side], color=colour, visible=False
                )
                self._hand_nodes[g, side, False] = scene.add_mesh_simple(
                    f"{name}/unrefined", nowhere, faces[side], color=_UNREFINED, opacity=0.5,
                    visible=False,
                )  # fmt: skip
                self._bone_nodes[g, side] = scene.add_line_segments(
                    f"{name}/skeleton", bones, colour, thickness=1.5 * _LINE, visible=False
                )
                self._trail_nodes[g, side] = scene.add_line_segments(
                    f"{name}/trail", trail, colour, thickness=_LINE, visible=False
                )
        width, height = (float(value) for value in hands.image_size)
        half_height = height / 2 / float(hands.intrinsics[1, 1])  # of its picture, a metre away
        half_width = half_height * width / height
        # viser sizes frusta by the cube root of their volume
        root = float(np.cbrt(half_width * half_height / 3))
        self._frustum = scene.add_camera_frustum(
            "/camera",
            2 * np.arctan(half_height),
            width / height,
            scale=_FRUSTUM / (2 * half_width) * root,
            thickness=_LINE,
            image=self._pictures(0),
        )

    def _first_look(self) -> None:
        """At all of the hands and the camera, from behind it, the right and above."""
        hands = self._hands
        places = camera_places(hands)
        points = np.concatenate((hands.joints_in_world[hands.valid].reshape(-1, 3), places))
        low, high = np.percentile(points, (2, 98), axis=0)
        away = 0.5 * float(np.linalg.norm(high - low)) / np.sin(_FIELD / 2)
        world_from_cam = np.asarray(hands.cam_from_world[0, :3, :3], np.float64).T
        initial = self._server.initial_camera
        initial.fov = _FIELD
        initial.look_at = (low + high) / 2
        initial.position = initial.look_at + away * world_from_cam @ (0.75, -0.4, -0.53)
        initial.up = world_from_cam @ (0.0, -1.0, 0.0)
        self._server.scene.set_up_direction(tuple(initial.up.tolist()))

    def show(self, t: int) -> None:
        """Show a frame."""
        hands = self._hands
        with self._server.atomic():
            for g in range(len(hands.valid)):
                for side in Side:
                    self._show_hand(t, g, side)
            self._show_camera(t)
            picture = self._pictures(t)
            if picture is not None and self.picture is not None:
                self.picture.image = picture
                self._frustum.image = picture
            self.text.content = describe(hands, t)
        self._server.flush()

    def _show_hand(self, t: int, g: int, side: Side) -> None:
        hands = self._hands
        valid = bool(hands.valid[g, t, side])
        observed = bool(hands.observed[g, t, side])
        mesh, before = self._hand_nodes[g, side, True], self._hand_nodes[g, side, False]
        mesh.visible = valid and self.meshes.value
        before.visible = observed and self.unrefined.value
        if mesh.visible:
            mesh.vertices = self._vertices(t, refined=True)[g, side]
            mesh.opacity = 1.0 if observed else 0.45
        if before.visible:
            before.vertices = self._vertices(t, refined=False)[g, side]
        bones, trail = self._bone_nodes[g, side], self._trail_nodes[g, side]
        bones.visible = valid and self.skeleton.value
        if bones.visible:
            joints = hands.joints_in_world[g, t, side]
            bones.points = joints[np.array(BONES)].astype(np.float32)
        points = trail_points(hands, t, g, side)
        trail.visible = bool(len(points)) and self.trails.value
        if trail.visible:
            trail.points = points

    def _show_camera(self, t: int) -> None:
        pose = np.asarray(self._hands.cam_from_world[t], np.float64)
        x, y, z, w = Rotation.from_matrix(pose[:3, :3].T).as_quat()
        self._frustum.wxyz = (w, x, y, z)
        self._frustum.position = camera_places(self._hands)[t]
        self._frustum.visible = self.cameras.value

    def _vertices(self, t: int, *, refined: bool) -> Array:
        """(G, S, 778, 3) in the world."""
        key = (t, refined)
        if key not in self._meshes:
            self._meshes[key] = frame_vertices(self._hands, self._model, t, refined=refined)
            while len(self._meshes) > KEPT_FRAMES:
                self._meshes.popitem(last=False)
        return self._meshes[key]

    def tick(self) -> None:
        """Move on if the video is being played."""
        if not self.play.value:
            self._playing_since = None
            return
        now = time.monotonic()
        if self._playing_since is None:
            self._playing_since = (now, int(self.timeline.value))
        since, start = self._playing_since
        passed = (now - since) * float(self._hands.fps) * float(self.speed.value)
        frame = (start + int(passed)) % self._hands.num_frames
        if frame < start or passed > 1e6:
            self._playing_since = (now, frame)
        if frame != int(self.timeline.value):
            self.timeline.value = frame  # which shows it


def frame_vertices(hands: VideoHands, model: HandModel, t: int, *, refined: bool) -> Array:
    """Meshes (G, S, 778, 3) of a frame in the world, refined or as the frame alone says."""
    cut = slice(t, t + 1)
    if refined:
        one = (hands.global_orient_in_world, hands.hand_pose, hands.betas, hands.transl_in_world)
    else:
        one = (
            hands.frame_global_orient, hands.frame_hand_pose, hands.frame_betas,
            hands.frame_transl,
        )  # fmt: skip
    state = HandState(*(torch.from_numpy(array[:, cut]).float() for array in one))
    with torch.inference_mode():
        vertices = model(state).vertices[:, 0].numpy()
    if not refined:  # from the camera's frame to the world's
        pose = hands.cam_from_world[t]
        vertices = (vertices - pose[:3, 3]) @ pose[:3, :3]
    return np.asarray(vertices, np.float32)


def hand_model_error(hands: VideoHands, model: HandModel) -> float:
    """Mean distance of the joints that a hand model gives from the stored ones, metres."""
    some = np.argwhere(hands.valid)[:: max(1, int(hands.valid.sum()) // 8)]
    if not len(some):
        return 0.0
    index = tuple(some.T)
    sides = torch.from_numpy(some[:, 2])
    one = (hands.global_orient, hands.hand_pose, hands.betas, hands.transl)
    both = (torch.from_numpy(array[index]).float()[:, None] for array in one)
    state = HandState(*(value.expand(-1, 2, *value.shape[2:]) for value in both))
    with torch.inference_mode():
        joints = model(state).joints[torch.arange(len(sides)), sides].numpy()
    return float(np.linalg.norm(joints - hands.joints[index], axis=-1).mean())


def trail_points(hands: VideoHands, t: int, g: int, side: Side) -> Array:
    """Segments (N, 2, 3) of the wrist's way up to a frame, without those over cuts and holes."""
    first = max(0, t - round(TRAIL * float(hands.fps)))
    frames = np.arange(first, t + 1)
    wrists = hands.joints_in_world[g, frames, side, 0]
    segments = np.stack((wrists[:-1], wrists[1:]), 1)
    valid = hands.valid[g, frames, side] & (hands.shot[frames] == hands.shot[t])
    return segments[valid[:-1] & valid[1:]].astype(np.float32)


def describe(hands: VideoHands, t: int) -> str:
    """A frame in words, as markdown."""
    lines = [f"**{hands.times[t]:.2f} s**, frame {t} of {hands.num_frames}"]
    for g in range(len(hands.valid)):
        for side in Side:
            if not hands.valid[g, t, side]:
                word = "not there"
            elif hands.completed[g, t, side]:
                word = "filled in"
            else:
                word = f"confidence {hands.confidence[g, t, side]:.2f}"
            person = f"{g + 1} " if len(hands.valid) > 1 else ""
            lines.append(f"{person}{side.name.lower()}: {word}")
    return "  \n".join(lines)


def serve(
    hands: VideoHands, model: HandModel, pictures: Pictures, host: str, port: int
) -> tuple[Any, Scene]:
    """Start the server; the browser's page is at `host:port`.

    Raises:
        ValueError: viser is missing.
    """
    try:
        import viser
    except ModuleNotFoundError:
        raise ValueError(f"the viewer needs viser: {REMEDY}") from None
    server = viser.ViserServer(host=host, port=port, label="fourdhands", verbose=False)
    return server, Scene(server, hands, model, pictures)
