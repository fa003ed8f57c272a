"""Animated hands with skeletons as one binary glTF file: Blender, three.js and others play it.

The skin is MANO's without its pose correctives, which glTF has no word for: the surface lies within
millimetres of ours, the joints are the same.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.files import replacing
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import SIDE_COLOURS
from fourdhands.skeleton import MANO_JOINT_NAMES, MANO_PARENTS, Side
from fourdhands.video.results import VideoHands

Array = NDArray[Any]
_FLOAT, _USHORT, _UBYTE = 5126, 5123, 5121
_SHAPES: Final = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_HALF_TURN: Final = [1.0, 0.0, 0.0, 0.0]
"""About x: from x right, y down, z forward to glTF's y up, z backward."""


@dataclass
class _File:
    """A glTF document and its bytes in the making."""

    document: dict[str, Any] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def add(self, kind: str, **entry: Any) -> int:
        """Append to one of the document's lists; its index there."""
        entries: list[Any] = self.document.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

    def array(self, values: Array, *, target: int | None = None, bounds: bool = False) -> int:
        """Store an array (N,) or (N, K); the index of its accessor."""
        types = {"float32": _FLOAT, "uint16": _USHORT, "uint8": _UBYTE}
        flat = np.ascontiguousarray(values).reshape(len(values), -1)
        self.data += b"\0" * (-len(self.data) % 4)
        view: dict[str, Any] = {
            "buffer": 0, "byteOffset": len(self.data), "byteLength": flat.nbytes,
        }  # fmt: skip
        if target is not None:
            view["target"] = target
        self.data += flat.tobytes()
        entry: dict[str, Any] = {
            "bufferView": self.add("bufferViews", **view),
            "componentType": types[str(flat.dtype)],
            "count": len(flat),
            "type": _SHAPES[flat.shape[1]],
        }
        if bounds:
            entry |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        return self.add("accessors", **entry)

    def to_bytes(self) -> bytes:
        """The GLB file."""
        self.data += b"\0" * (-len(self.data) % 4)
        self.document["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(self.document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self.data)
        return b"".join((
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"), text,
            struct.pack("<I4s", len(self.data), b"BIN\0"), bytes(self.data),
        ))  # fmt: skip


def write_glb(hands: VideoHands, model: HandModel, path: Path) -> None:
    """Write hands, skeletons and the camera, in metres, in the world's frame.

    A hand that there is not at a time has the size 0 then.
    """
    file = _File({"asset": {"version": "2.0", "generator": "fourdhands"}, "scene": 0})
    times = file.array((np.arange(hands.num_frames) / float(hands.fps)).astype(np.float32),
                       bounds=True)  # fmt: skip
    channels: list[dict[str, Any]] = []
    samplers: list[dict[str, Any]] = []

    def animate(node: int, path: str, values: Array, interpolation: str = "LINEAR") -> None:
        output = file.array(values.astype(np.float32))
        samplers.append({"input": times, "output": output, "interpolation": interpolation})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    children: list[int] = []
    meshes: list[int] = []  # roots of the scene: their skeletons place them
    for g in range(len(hands.valid)):
        for side in Side:
            if hands.valid[g, :, side].any():
                name = f"{side.name.lower()} hand" + (f" {g + 1}" if len(hands.valid) > 1 else "")
                mesh, wrist = _add_hand(file, animate, hands, model.assets[side], g, side, name)
                meshes.append(mesh)
                children.append(wrist)
    children.append(_add_camera(file, animate, hands))
    root = file.add("nodes", name="world", rotation=_HALF_TURN, children=children)
    file.add("scenes", name="hands", nodes=[root, *meshes])
    file.add("animations", name="hands", channels=channels, samplers=samplers)
    with replacing(path) as partial:
        partial.write_bytes(file.to_bytes())


def _add_hand(
    file: _File, animate: Any, hands: VideoHands, assets: ManoAssets, g: int, side: Side, name: str
) -> tuple[int, int]:
    """A skinned mesh and its skeleton: their nodes."""
    valid = hands.valid[g, :, side]
    betas = hands.betas[g, valid, side].mean(0)
    surface = assets.v_template + assets.shapedirs @ betas
    rest = assets.J_regressor @ surface
    skeleton = []
    for joint, parent in enumerate(MANO_PARENTS):
        offset = rest[joint] - (rest[parent] if parent >= 0 else 0.0)
        skeleton.append(
            file.add("nodes", name=f"{name} {MANO_JOINT_NAMES[joint]}", translation=offset.tolist())
        )
    for joint in range(len(MANO_PARENTS)):
        below = [skeleton[k] for k, parent in enumerate(MANO_PARENTS) if parent == joint]
        if below:
            file.document["nodes"][skeleton[joint]]["children"] = below
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    inverse[:, 3, :3] = -rest  # columns first
    skin = file.add(
        "skins", name=name, joints=skeleton, skeleton=skeleton[0],
        inverseBindMatrices=file.array(inverse.reshape(-1, 16)),
    )  # fmt: skip
    mesh = _add_mesh(file, assets, surface, side, name)
    node = file.add("nodes", name=name, mesh=mesh, skin=skin)
    wrist = hands.joints_in_world[g, :, side, 0]
    animate(skeleton[0], "translation", _held(wrist, valid))
    animate(skeleton[0], "scale", np.repeat(valid[:, None], 3, 1), "STEP")
    turns = np.concatenate(
        (hands.global_orient_in_world[g, :, side, None], hands.hand_pose[g, :, side]), 1
    )
    for joint, node_of_joint in enumerate(skeleton):
        animate(node_of_joint, "rotation", _quaternions(turns[:, joint], valid))
    return node, skeleton[0]


def _add_mesh(file: _File, assets: ManoAssets, surface: Array, side: Side, name: str) -> int:
    weights = np.asarray(assets.weights, np.float64)
    strongest = np.argsort(-weights, axis=1)[:, :4]
    chosen = np.take_along_axis(weights, strongest, 1)
    chosen = np.where(chosen < 1e-4, 0.0, chosen)
    strongest = np.where(chosen > 0, strongest, 0)
    chosen = (chosen / chosen.sum(1, keepdims=True)).astype(np.float32)
    red, green, blue = ((value / 255) ** 2.2 for value in SIDE_COLOURS[side])
    material = file.add(
        "materials", name=name, doubleSided=True,
        pbrMetallicRoughness={"baseColorFactor": [red, green, blue, 1.0], "metallicFactor": 0.0,
                              "roughnessFactor": 0.6},
    )  # fmt: skip
    attributes = {
        "POSITION": file.array(surface.astype(np.float32), target=34962, bounds=True),
        "NORMAL": file.array(_normals(surface, assets.faces), target=34962),
        "JOINTS_0": file.array(strongest.astype(np.uint8), target=34962),
        "WEIGHTS_0": file.array(chosen, target=34962),
    }
    indices = file.array(assets.faces.astype(np.uint16).reshape(-1), target=34963)
    primitive = {"attributes": attributes, "indices": indices, "material": material}
    return file.add("meshes", name=name, primitives=[primitive])


def _add_camera(file: _File, animate: Any, hands: VideoHands) -> int:
    width, height = (float(value) for value in hands.image_size)
    camera = file.add(
        "cameras", type="perspective", name="camera",
        perspective={"aspectRatio": width / height, "znear": 0.01,
                     "yfov": float(2 * np.arctan(height / 2 / hands.intrinsics[1, 1]))},
    )  # fmt: skip
    poses = np.asarray(hands.cam_from_world, np.float64)
    world_from_cam = poses[:, :3, :3].swapaxes(-1, -2)
    places = -(world_from_cam @ poses[:, :3, 3:])[..., 0]
    # glTF's cameras look along -z with y up
    turned = world_from_cam @ np.diag((1.0, -1.0, -1.0))
    node = file.add("nodes", name="camera", camera=camera)
    always = np.ones(len(poses), bool)
    animate(node, "translation", places)
    animate(node, "rotation", _quaternions(turned, always))
    return node


def _quaternions(rotations: Array, valid: Array) -> Array:
    """x, y, z, w (T, 4) without jumps of sign; held where nothing is valid."""
    turns = np.where(valid[:, None, None], rotations, np.eye(3))
    quaternions = Rotation.from_matrix(turns).as_quat()
    quaternions = _held(quaternions, valid)
    agree = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    signs = np.cumprod(np.concatenate(([1.0], np.where(agree, -1.0, 1.0))))
    return quaternions * signs[:, None]


def _held(values: Array, valid: Array) -> Array:
    """The last valid value, or the first one before there is any."""
    frames = np.flatnonzero(valid)
    last = np.searchsorted(frames, np.arange(len(valid)), side="right") - 1
    return values[frames[np.maximum(last, 0)]]


def _normals(surface: Array, faces: Array) -> Array:
    corners = surface[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros_like(surface, dtype=np.float64)
    for corner in range(3):
        np.add.at(sums, faces[:, corner], normal)
    lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-12)).astype(np.float32)
