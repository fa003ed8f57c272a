"""`fourdhands reconstruct` and `view` as a user runs them, with a detector that knows the truth."""

import errno
import json
import os
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fourdhands.cli.main import main
from fourdhands.geometry.camera import default_intrinsics, project
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.rendering.overlay import draw_hands
from fourdhands.skeleton import Side
from fourdhands.structures import HandState
from fourdhands.video.detect import Detection, bbox_from_joints
from fourdhands.video.overlay import video_file
from fourdhands.video.results import VideoHands
from tests.helpers.browser import CHROMIUM, open_page
from tests.unit.export.test_predictor import TINY, write_checkpoint

av = pytest.importorskip("av")
T, SIZE = 14, (192, 144)
HIDDEN = range(6, 9)  # frames without the left hand
K = default_intrinsics(torch.tensor(SIZE, dtype=torch.float32))


def scene():
    model = HandModel.open()
    t = torch.linspace(0, 1, T)
    transl = torch.zeros(T, 2, 3)
    transl[:, Side.RIGHT] = torch.stack((-0.2 + 0.03 * t, 0 * t, 0.6 + 0 * t), -1)
    transl[:, Side.LEFT] = torch.stack((0.2 + 0 * t, 0.02 * t, 0.6 + 0.05 * t), -1)
    facing = torch.tensor(((0.0, 1, 0), (-1, 0, 0), (0, 0, 1)))  # fingers up
    state = HandState(
        torch.stack((facing, facing.T)).expand(T, 2, 3, 3),
        model.mean_pose.expand(T, 2, 15, 3, 3).clone(),
        torch.zeros(T, 2, 10),
        transl,
    )
    return state, model(state)


class TrueDetector:
    """Knows which frame comes next; labels of one frame are swapped, one hand hides for a while."""

    calls = 0

    def __init__(self, *, crowd=False):
        type(self).calls += 1
        self._joints = scene()[1].joints
        self._frame = 0

    def restart(self):
        pass

    def __call__(self, image):
        t, self._frame = self._frame, self._frame + 1
        hands = []
        for side in Side:
            if side is Side.LEFT and t in HIDDEN:
                continue
            joints = self._joints[t, side]
            pixels = project(joints, K).numpy()
            said = Side(1 - side) if t == 3 else side
            hands.append(
                Detection(
                    said,
                    bbox_from_joints(pixels, SIZE),
                    0.9,
                    pixels.astype(np.float32),
                    np.full(21, 0.9, np.float32),
                    (joints - joints.mean(0)).numpy(),
                )
            )
        return hands


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstruct")
    vertices = scene()[1].vertices.numpy()
    noise = np.random.default_rng(0).integers(60, 120, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    with video_file(folder / "clip.mp4", 15.0, SIZE) as sink:
        for t in range(T):
            sink(draw_hands(noise, vertices[t], (True, t not in HIDDEN), K.numpy(), 1.0))
    torch.manual_seed(0)
    write_checkpoint(folder / "net.ckpt", TwoHandNetwork(TINY))
    patch = pytest.MonkeyPatch()
    patch.setattr("fourdhands.cli.reconstruct.FollowingDetector", TrueDetector)
    yield folder
    patch.undo()


def reconstruct(folder: Path, *flags: str, out: str = "out") -> int:
    video = str(folder / "clip.mp4")
    checkpoint = str(folder / "net.ckpt")
    words = ["reconstruct", video, "--out", str(folder / out), "--checkpoint", checkpoint]
    return main([*words, *flags])


@pytest.fixture(scope="module")
def result(run):
    assert reconstruct(run, "--world-results") == 0
    return run / "out"


def test_hands_are_where_they_were_and_hidden_ones_are_filled_in(result):
    hands = VideoHands.load(result / "hands.npz")
    truth = scene()[1].joints.numpy()
    assert hands.valid.shape == (1, T, 2) and hands.valid.all()
    assert np.flatnonzero(hands.completed[0, :, Side.LEFT]).tolist() == list(HIDDEN)
    assert not hands.completed[0, :, Side.RIGHT].any()
    off = np.linalg.norm(hands.joints[0] - truth, axis=-1).mean(-1)
    assert np.median(off) < 0.015
    assert off[list(HIDDEN), Side.LEFT].max() < 0.03
    near = hands.reprojection()
    assert (near[np.isfinite(near)] < 0.1).all()
    # swapped labels of one frame swap nothing
    assert hands.joints[0, 3, Side.RIGHT, 0, 0] < 0 < hands.joints[0, 3, Side.LEFT, 0, 0]
    assert "diagonal" in str(hands.focal_length_source)


def test_pictures_are_written_for_every_frame(result):
    with av.open(str(result / "overlay.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == T
    assert frames[0].shape == (144, 192 + 144, 3)
    page = (result / "summary.html").read_text()
    assert "seen 11 times, filled in 3" in page and "overlay.mp4" in page


def test_glb_poses_the_joints_where_they_are(result):
    data = (result / "hands.glb").read_bytes()
    magic, version, total, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, total, kind) == (b"glTF", 2, len(data), b"JSON")
    document = json.loads(data[20 : 20 + length])
    binary = data[20 + length + 8 :]

    def array(index):
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        kind = {5126: np.float32, 5123: np.uint16, 5121: np.uint8}[accessor["componentType"]]
        count = accessor["count"] * width
        return np.frombuffer(binary, kind, count, view["byteOffset"]).reshape(-1, width)

    hands = VideoHands.load(result / "hands.npz")
    animation = document["animations"][0]
    moves = {
        (c["target"]["node"], c["target"]["path"]): array(
            animation["samplers"][c["sampler"]]["output"]
        )
        for c in animation["channels"]
    }
    chain = document["skins"][Side.LEFT]["joints"]
    t, index = 5, (0, 1, 2, 3)  # wrist, and MANO's first finger, the index
    place, turned = moves[chain[0], "translation"][t], Rotation.identity()
    places = [place]
    for k, joint in enumerate(index):
        node = chain[joint]
        if k:
            place = place + turned.apply(document["nodes"][node]["translation"])
            places.append(place)
        turned = turned * Rotation.from_quat(moves[node, "rotation"][t])
    expected = hands.joints_in_world[0, t, Side.LEFT, [0, 5, 6, 7]]
    assert np.stack(places) == pytest.approx(expected, abs=1e-4)


def test_world_results_follow_the_mirrored_convention(result):
    hands = VideoHands.load(result / "hands.npz")
    with np.load(result / "world_results.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["trans"].shape == (2, T, 3) and arrays["cam_R"].shape == (2, T, 3, 3)
    assert arrays["is_right"][:, 0].tolist() == [1, 0]
    from fourdhands.geometry.rotation import matrix_from_axis_angle

    model = HandModel.open()
    left = torch.from_numpy(arrays["root_orient"][1])
    state = HandState(
        matrix_from_axis_angle(left)[:, None].expand(T, 2, 3, 3),
        matrix_from_axis_angle(torch.from_numpy(arrays["pose_body"][1]))[:, None].expand(
            T, 2, 15, 3, 3
        ),
        torch.from_numpy(arrays["betas"][1]).expand(T, 2, 10),
        torch.from_numpy(arrays["trans"][1])[:, None].expand(T, 2, 3),
    )
    as_right = model(state).joints[:, Side.RIGHT].numpy() * (-1, 1, 1)
    assert as_right == pytest.approx(hands.joints_in_world[0, :, Side.LEFT], abs=2e-3)


def test_a_second_run_reads_what_the_first_one_found(run, result, capsys):
    before = VideoHands.load(result / "hands.npz")
    calls = TrueDetector.calls
    assert reconstruct(run) == 0
    assert TrueDetector.calls == calls
    after = VideoHands.load(result / "hands.npz")
    assert (before.joints == after.joints).all()
    # another span of time is another search
    assert reconstruct(run, "--end", "0.3", "--no-refine", out="short") == 0
    assert TrueDetector.calls == calls + 1
    short = VideoHands.load(run / "short" / "hands.npz")
    assert short.num_frames == 5 and not short.refined


def test_odd_inputs_are_one_line_and_leave_nothing(run, tmp_path, capsys):
    def error(*words) -> str:
        assert main(["reconstruct", *map(str, words)]) == 1
        text = capsys.readouterr().err.strip().splitlines()[-1]
        assert text.startswith("fourdhands: error: ")
        return text

    clip = run / "clip.mp4"
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "file").write_text("")
    assert "not a video" in error(tmp_path / "text.mp4", "--out", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert "no such video" in error(tmp_path / "none.mp4", "--out", tmp_path / "a")
    assert "--start" in error(clip, "--out", tmp_path / "a", "--start", "100")
    assert "is a file" in error(clip, "--out", tmp_path / "file")
    assert "--focal_length" in error(clip, "--out", tmp_path / "a", "--focal-length", "-3")
    assert "--camera" in error(clip, "--out", tmp_path / "a", "--camera", "none.txt")
    with video_file(tmp_path / "empty.mp4", 15.0, SIZE) as sink:
        for _ in range(3):
            sink(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(TrueDetector, "__call__", lambda self, image: [])
    assert "no hand found" in error(tmp_path / "empty.mp4", "--out", tmp_path / "a")
    monkey.undo()
    assert "mediapipe, or a file" in error(clip, "--out", tmp_path / "a", "--detector", "yolo")
    assert "no such file" in error(clip, "--out", tmp_path / "a", "--detector", "none.csv")
    (tmp_path / "no.task").write_text("no model")
    assert "not a model" in error(clip, "--out", tmp_path / "a", "--detector", tmp_path / "no.task")
    with av.open(str(tmp_path / "header.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    assert "header.mp4: " in error(tmp_path / "header.mp4", "--out", tmp_path / "a")
    assert not list((tmp_path / "a").rglob("*.partial"))
    assert not (tmp_path / "a" / "hands.npz").exists()


def test_full_disks_are_one_line(run, tmp_path, capsys, monkeypatch):
    def error() -> str:
        assert reconstruct(run, "--no-refine", out=str(tmp_path / "out")) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
        assert "has 1 MB left" in error()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fourdhands.video.results.write_npz", full)
        assert "the disk is full; the same command goes on" in error()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cache"]


def test_a_camera_from_a_file_moves_the_world(run, tmp_path):
    poses = np.tile(np.eye(4), (T, 1, 1))  # world from camera
    poses[:, :3, :3] = Rotation.from_rotvec([(0, 0.01 * t, 0) for t in range(T)]).as_matrix()
    poses[:, 0, 3] = 0.01 * np.arange(T)
    file = tmp_path / "poses.txt"
    file.write_text("\n".join(" ".join(map(str, pose[:3].flatten())) for pose in poses))
    out = tmp_path / "out"
    assert reconstruct(run, "--no-refine", "--camera", str(file), out=str(out)) == 0
    hands = VideoHands.load(out / "hands.npz")
    assert hands.cam_from_world == pytest.approx(np.linalg.inv(poses), abs=1e-6)
    seen = hands.valid[0].all(-1)
    world = (
        np.einsum("tij,tskj->tski", poses[:, :3, :3], hands.joints[0]) + poses[:, None, None, :3, 3]
    )
    assert hands.joints_in_world[0, seen] == pytest.approx(world[seen], abs=1e-4)
    with av.open(str(out / "world.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == T


@pytest.mark.skipif(
    CHROMIUM is None or "FOURDHANDS_BROWSER" not in os.environ,
    reason="wants chromium and FOURDHANDS_BROWSER=1",
)
def test_the_page_shows_hands_and_complains_of_nothing(result):
    pytest.importorskip("viser")
    pytest.importorskip("websockets")
    from fourdhands.video.view import Pictures, serve

    hands = VideoHands.load(result / "hands.npz")
    pictures = Pictures(result / "overlay.mp4", 192 / (192 + 144))
    server, view = serve(hands, HandModel.open(), pictures, "127.0.0.1", 8947)
    try:
        threading.Timer(14.0, lambda: view.show(10)).start()
        (page,) = open_page(f"http://127.0.0.1:{server.get_port()}", seconds=20)
    finally:
        server.stop()
    assert page.errors == ()
    import cv2

    image = cv2.imdecode(np.frombuffer(page.screenshot, np.uint8), cv2.IMREAD_COLOR)[:, :1000]
    blue, _, red = (image[..., c].astype(int) for c in range(3))
    assert (red - blue > 60).sum() > 300 and (blue - red > 60).sum() > 300
