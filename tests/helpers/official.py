"""Small downloads in official layouts: hands of known geometry, and what conversions must keep.

A hand is made once, in its camera's frame, by the open hand; each data set's fixture writes it down
in that data set's own way. `assert_converted` holds what comes out of the stream against it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import roma
import torch
from numpy.typing import NDArray

from fourdhands.cli.main import main
from fourdhands.data.collate import Collate, CropConfig
from fourdhands.data.convert.conventions import Mano, MeshParameters, rotation
from fourdhands.data.manifest import find_shards
from fourdhands.data.schema import Clip, decode_clip
from fourdhands.data.shards import SetSummary, read_samples
from fourdhands.data.stream import EvalStream
from fourdhands.geometry.camera import project
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import Side
from fourdhands.structures import ClipBatch

Floats = NDArray[np.float64]
MANO = Mano()
FINGER_SPREAD = 0.25
PIXELS = 0.5
"""How far a projected point may be off after conversion."""


@dataclass(frozen=True)
class TrueHand:
    """One hand in one image.

    Attributes:
        side: whose.
        global_orient: (3,) axis-angle, camera frame.
        finger_pose: (45,) axis-angle, MANO's mean pose included.
        betas: (10,)
        transl: (3,)
        joints: (21, 3) camera frame, common order.
        vertices: (778, 3)
        joints_2d: (21, 2) pixels of the image that the shard should hold.
        released: whether the left hand's shape directions are those of the released file.
    """

    side: Side
    global_orient: Floats
    finger_pose: Floats
    betas: Floats
    transl: Floats
    joints: Floats
    vertices: Floats
    joints_2d: Floats
    released: bool = False

    @property
    def pose48(self) -> Floats:
        """Wrist, then fingers with the mean included."""
        return np.concatenate((self.global_orient, self.finger_pose))

    @property
    def pose48_offsets(self) -> Floats:
        """Wrist, then fingers without the mean."""
        return np.concatenate((self.global_orient, self.finger_pose - self.mean))

    @property
    def mean(self) -> Floats:
        """(45,) MANO's mean pose of this side."""
        return MANO.assets[self.side].hands_mean.astype(np.float64)

    @property
    def pca(self) -> Floats:
        """(45,) coefficients of the pose without its mean."""
        components = MANO.assets[self.side].hands_components.astype(np.float64)
        return np.linalg.solve(components.T, self.finger_pose - self.mean)

    @property
    def wrist_at_rest(self) -> Floats:
        """J0 (3,)."""
        return MANO.wrist_at_rest(self.side, self.betas, released=self.released)

    def parameters_in(self, rotation_: Floats, translation: Floats) -> tuple[Floats, Floats]:
        """Orientation (3, 3) and transl (3,) in another frame, x' = R x + t, here of the camera."""
        J0 = self.wrist_at_rest
        orient = rotation_ @ rotation(self.global_orient)
        return orient, rotation_ @ (self.transl + J0) + translation - J0


def true_hand(
    rng: np.random.Generator,
    side: Side,
    intrinsics: Floats,
    *,
    centre: Sequence[float] = (0.0, 0.0, 0.6),
    released: bool = False,
    betas: Floats | None = None,
) -> TrueHand:
    """A hand with bent fingers and a shape (a random one if not given), its wrist about a place."""
    pose = MANO.assets[side].hands_mean + rng.normal(0, FINGER_SPREAD, 45)
    orient, own_betas = rng.normal(0, 1.0, 3), rng.normal(0, 1.0, 10)
    betas = own_betas if betas is None else betas
    wrist = MANO.wrist_at_rest(side, betas, released=released)
    transl = np.array(centre) + rng.normal(0, 0.01, 3) - wrist
    made = MANO.geometry(
        side,
        MeshParameters(
            rotation(orient), MANO.hand_pose(side, pose, mean_included=True), betas, transl
        ),
        released=released,
    )
    return TrueHand(
        side,
        orient,
        pose,
        betas,
        transl,
        made.joints,
        made.vertices,
        pixels(made.joints, intrinsics),
        released,
    )


def seen_from(hand: TrueHand, rotation_: Floats, translation: Floats, K: Floats) -> TrueHand:
    """The same hand in another camera, x' = R x + t."""
    orient, transl = hand.parameters_in(rotation_, translation)
    joints, vertices = (
        points @ rotation_.T + translation for points in (hand.joints, hand.vertices)
    )
    return replace(
        hand,
        global_orient=roma.rotmat_to_rotvec(torch.from_numpy(orient)).numpy(),
        transl=transl,
        joints=joints,
        vertices=vertices,
        joints_2d=pixels(joints, K),
    )


def pixels(points: Floats, intrinsics: Floats) -> Floats:
    """Project (N, 3) to (N, 2)."""
    homogeneous = points @ np.asarray(intrinsics).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def camera(size: tuple[int, int], focal: float = 1.4) -> Floats:
    """Intrinsics (3, 3) whose principal point is not the middle; `focal` in image widths."""
    width, height = size
    return np.array(
        [[focal * width, 0, width / 2 + 4], [0, focal * width * 1.02, height / 2 - 3], [0, 0, 1]]
    )


def picture(size: tuple[int, int], hands: Sequence[TrueHand]) -> NDArray[np.uint8]:
    """(H, W, 3) blue first: soft green dots at the joints of right hands, red at those of left."""
    width, height = size
    image = np.full((height, width, 3), 60.0)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    for hand in hands:
        channel = 1 if hand.side is Side.RIGHT else 2
        for joint in hand.joints_2d:
            dot = np.exp(-((x - joint[0]) ** 2 + (y - joint[1]) ** 2) / (2 * 1.5**2))
            image[..., channel] = np.maximum(image[..., channel], 60 + 180 * dot)
    return image.round().astype(np.uint8)


def write_picture(path: Path, size: tuple[int, int], hands: Sequence[TrueHand]) -> None:
    """Write `picture` as jpg or png, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), picture(size, hands), options)


def convert(name: str, root: Path, out: Path, *flags: str) -> None:
    """Run the command in one process; the shipped manifests stay as they are."""
    folders = ["--root", str(root), "--out", str(out), "--manifests", str(out)]
    status = main(["convert", name, *folders, "--workers", "1", *flags])
    assert status == 0


FrameName = tuple[str, str, int]
"""Sequence, camera, number of the frame."""


def converted(out: Path, split: str) -> dict[FrameName, tuple[ClipBatch, int]]:
    """Every frame of a converted split as the stream serves it: batch of one clip, place in it."""
    collate = Collate(1, CropConfig(size=(64, 48), bbox_scale=1.2, box="separate"))
    stream = EvalStream([find_shards(out / f"{split}.json", out)], collate, gap=1, batch_size=1)
    found: dict[FrameName, tuple[ClipBatch, int]] = {}
    for batch in stream:
        assert isinstance(batch, ClipBatch), batch
        meta = batch.meta[0]
        found[meta.sequence, meta.camera, meta.frame_ids[0]] = batch, 0
    return found


def stored_clips(out: Path, split: str) -> list[Clip]:
    """The clips of a converted split as they are stored, in their order."""
    shards = SetSummary.load(out / f"{split}.json").shards
    return [decode_clip(s) for e in shards for s in read_samples(out / e.file)]


def skipped(out: Path, split: str) -> dict[str, int]:
    """Frames that were left out, by reason."""
    report = json.loads((out / f"{split}-report.json").read_text())
    return {reason: entry["frames"] for reason, entry in report["skipped"].items()}


def stored(out: Path, split: str) -> dict[FrameName, tuple[Clip, int]]:
    """Every frame of a converted split as it lies in its shard: clip, place in it."""
    return {
        (clip.sequence, clip.camera, number): (clip, k)
        for shard in find_shards(out / f"{split}.json", out).shards
        for clip in map(decode_clip, read_samples(shard))
        for k, number in enumerate(clip.frame_ids)
    }


Points = tuple[Floats, NDArray[np.bool_]]
"""Places (21, 2) in an image, and which of them are labelled."""


def assert_labelled_2d(
    out: Path, split: str, truth: Mapping[FrameName, Mapping[Side, Points]]
) -> None:
    """The stream serves exactly these frames and hands, with their 2D labels and no others.

    Args:
        out: folder of the conversion.
        split: of it.
        truth: hands by frame and side.
    """
    found = converted(out, split)
    assert sorted(found) == sorted(truth)
    for name, hands in truth.items():
        batch, _ = found[name]
        assert batch.labels is not None
        labels = batch.labels[0, 0]
        present = {Side(s) for s in batch.hand_present[0, 0].nonzero()[:, 0].tolist()}
        assert present == set(hands), name
        assert not labels.joints_valid.any() and not labels.hands_valid.any(), name
        assert not labels.roots_valid.any(), name
        for side, (points, valid) in hands.items():
            assert (labels.joints_2d_valid[side].numpy() == valid).all(), (name, side)
            off = np.linalg.norm(labels.joints_2d[side].numpy() - points, axis=-1)[valid]
            assert (off < PIXELS).all(), (name, side, off.max())


def assert_dots(
    out: Path, split: str, truth: Mapping[FrameName, Sequence[TrueHand]], *, radius: int = 5
) -> None:
    """The dots of `picture` are where the joints are, in every image as the shards hold it.

    Args:
        out: folder of the conversion.
        split: of it.
        truth: hands by frame.
        radius: of a dot, pixels; only dots that stand alone are looked at.
    """
    found, seen = stored(out, split), 0
    for name, hands in truth.items():
        clip, place = found[name]
        image = cv2.imdecode(np.frombuffer(clip.frames[place], np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        joints = np.concatenate([hand.joints_2d for hand in hands])
        border = np.array(image.shape[1::-1]) - 1 - radius
        for hand in hands:
            light = image[..., 1 if hand.side is Side.RIGHT else 2].astype(np.float64)
            for joint in hand.joints_2d:
                alone = (np.abs(joints - joint).max(-1) < 2 * radius).sum() == 1
                if not alone or (joint < radius).any() or (joint > border).any():
                    continue
                x, y = joint.round().astype(int)
                window = slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1)
                weight = (light[window] - 75).clip(0)
                assert weight.sum() > 0, (name, "no dot")
                v, u = np.mgrid[window]
                centre = np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()
                assert np.linalg.norm(centre - joint) < 1, (name, "dot", centre - joint)
                seen += 1
    assert seen >= len(truth), seen


def assert_converted(
    out: Path,
    split: str,
    truth: Mapping[FrameName, Sequence[TrueHand]],
    *,
    meshes: bool = True,
    absolute: bool = True,
) -> None:
    """The stream serves exactly these frames, and their labels project to within half a pixel.

    Args:
        out: folder of the conversion.
        split: of it.
        truth: hands by frame.
        meshes: whether MANO parameters must be there and give the true mesh.
        absolute: whether hands must stand where they are; else 3D joints relative to the wrist.
    """
    found = converted(out, split)
    assert sorted(found) == sorted(truth)
    model = HandModel(MANO.assets)
    for name, hands in truth.items():
        batch, _ = found[name]
        assert batch.labels is not None
        labels, K = batch.labels[0, 0], batch.camera.intrinsics[0, 0]
        present = {Side(s) for s in batch.hand_present[0, 0].nonzero()[:, 0].tolist()}
        assert present == {hand.side for hand in hands}, name
        geometry = model(batch.labels.hands)
        for hand in hands:
            s = hand.side
            assert labels.joints_2d_valid[s].all(), name
            off = np.linalg.norm(labels.joints_2d[s].numpy() - hand.joints_2d, axis=-1).max()
            assert off < PIXELS, (name, s, "2D labels", off)
            valid = labels.joints_valid[s]
            assert valid.all(), name
            if absolute:
                assert labels.roots_valid[s]
                off = (project(labels.joints[s], K) - torch.tensor(hand.joints_2d)).norm(dim=-1)
                assert off.max() < PIXELS, (name, s, "projected joints", off.max())
            true = torch.tensor(hand.joints - hand.joints[0])
            assert ((labels.joints[s] - labels.joints[s, 0]) - true).norm(dim=-1).max() < 1e-3
            if meshes and hand.released:  # betas of that model are of no use, its mesh is
                assert labels.hands_valid[s] and not labels.betas_valid[s]
                clip, place = stored(out, split)[name]
                assert clip.vertices is not None and clip.vertices_valid[place, s]
                off = np.linalg.norm(clip.vertices[place, s] - hand.vertices, axis=-1).max()
                assert off < 2e-5, (name, s, "stored mesh", off)
            elif meshes:
                assert labels.hands_valid[s] and labels.betas_valid[s]
                own = geometry.vertices[0, 0, s] - geometry.joints[0, 0, s, 0]
                true = torch.tensor(hand.vertices - hand.joints[0])
                assert (own - true).norm(dim=-1).max() < 1e-3, (name, s, "mesh")
                if absolute:
                    off = (geometry.vertices[0, 0, s] - torch.tensor(hand.vertices)).norm(dim=-1)
                    assert off.max() < 1e-3, (name, s, "mesh in its place", off.max())
