"""Measure the shipped open hand: the figures of `docs/hand.md`, by `fourdhands hands report`.

Nothing here knows how the hand was made; everything is measured on the files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.hands.anatomy import (
    JointAxes,
    axis_angle_from_angles,
    named_poses,
    pose_bank,
    rotations_from_angles,
)
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.correctives import enclosed_volume
from fourdhands.hands.open_hand.measurements import WRIST_IN_MANO, HandMeasurements, skeleton_of
from fourdhands.hands.open_hand.pose_bank import gripping_poses
from fourdhands.hands.open_hand.shapes import SHAPE_FACTORS, joint_directions
from fourdhands.hands.self_intersection import self_intersections
from fourdhands.skeleton import FINGERS, MANO_JOINT_NAMES, NUM_BETAS, NUM_SIDES, Side
from fourdhands.structures import HandState

Floats = NDArray[np.floating[Any]]

_POSES: Final = 300
_SHAPES: Final = 300
_SEED: Final = 5


class HandReport:
    """Poses the right hand many times and turns what it finds into tables."""

    def __init__(self, model: HandModel) -> None:
        self.model = model
        self.right = model.assets[Side.RIGHT]
        self.axes = JointAxes.from_assets(self.right)
        self.closed = model.closed_faces[Side.RIGHT].numpy()
        bare = tuple(replace(a, posedirs=np.zeros_like(a.posedirs)) for a in model.assets)
        self.skinning_only = HandModel((bare[0], bare[1]))
        self.rng = np.random.default_rng(_SEED)

    def markdown(self) -> str:
        """All tables."""
        sections = (
            ("Bones", self.bones()),
            ("Mesh", self.mesh()),
            ("Joints, skin and mirror", self.skin()),
            ("Shape directions", self.shapes()),
            ("Volume", self.volume()),
            ("Self-piercing", self.piercing()),
        )
        return "\n\n".join(f"### {title}\n\n{table}" for title, table in sections) + "\n"

    def bones(self) -> str:
        """Lengths of the bones against their source."""
        tips = self.model(_state(np.zeros((1, 15, 3, 3)) + np.eye(3))).joints[0, Side.RIGHT]
        source = HandMeasurements().phalanges
        rows = []
        for k, finger in enumerate(FINGERS):
            line = tips[4 * k + 1 : 4 * k + 5].numpy() * 1e3
            lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
            rows.append(
                (
                    finger,
                    *(f"{a:.1f} ({b:.1f})" for a, b in zip(lengths, source[finger], strict=True)),
                )
            )
        return _table(("mm, measured (source)", "first", "second", "third, with pulp"), rows)

    def mesh(self) -> str:
        """Counts, quality and size of the mesh."""
        vertices, faces = self.right.v_template * 1e3, self.right.faces
        corners = vertices[faces]
        sides = np.roll(corners, -1, axis=1) - corners
        lengths = np.linalg.norm(sides, axis=-1)
        directions = sides / lengths[..., None]
        cosines = -(directions * np.roll(directions, 1, axis=1)).sum(-1)
        least = np.degrees(np.arccos(cosines)).min(1)
        edges = np.unique(
            np.sort(np.concatenate([self.closed[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1),
            axis=0,
        )
        euler = len(vertices) - len(edges) + len(self.closed)
        joints = self.right.joints * 1e3
        palm = self.right.weights[:, -3:].sum(1) < 0.5  # all but the thumb
        at_knuckles = palm & (np.abs(vertices[:, 0] - joints[1, 0] - 10) < 6)
        length = joints[0, 0] - vertices[:, 0].min()
        return _table(
            ("mesh", ""),
            (
                ("vertices, faces", f"{len(vertices)}, {len(faces)}"),
                ("Euler number of the closed mesh", f"{euler} (2: one sphere)"),
                ("smallest angle", f"{least.min():.1f} deg; under 20 deg: {(least < 20).sum()}"),
                (
                    "edges, 5 to 95 %",
                    "{:.1f} to {:.1f} mm".format(*np.percentile(lengths, (5, 95))),
                ),
                ("wrist joint to middle fingertip", f"{length:.0f} mm"),
                ("breadth at the knuckles", f"{np.ptp(vertices[at_knuckles, 2]):.0f} mm"),
                ("volume, wrist closed", f"{self._volumes(vertices[None] / 1e3)[0]:.0f} cm3"),
            ),
        )

    def skin(self) -> str:
        """Joint regressor, weights, pose directions, pose components, mirror."""
        hand = HandMeasurements()
        truth = skeleton_of(hand).joints + WRIST_IN_MANO
        template = np.linalg.norm(self.right.joints * 1e3 - truth, axis=1)
        moved = np.einsum("jv,vck->kjc", self.right.J_regressor, self.right.shapedirs) * 1e3
        shaped = np.linalg.norm(moved - joint_directions(hand), axis=2)
        bones = (self.right.weights > 0).sum(1)
        posedirs = np.abs(self.right.posedirs)
        poses = axis_angle_from_angles(pose_bank(), self.axes).reshape(len(pose_bank()), -1)
        scores = (poses - self.right.hands_mean) @ self.right.hands_components.T
        explained = np.cumsum(scores.var(0)) / scores.var(0).sum()
        share = (posedirs > 0).mean()
        rows = (
            ("regressed joints off, mean hand", f"at most {template.max():.2f} mm"),
            ("the same, one standard deviation of shape", f"at most {shaped.max():.2f} mm"),
            ("bones a vertex", f"{bones.mean():.1f}, at most {bones.max()}"),
            ("pose directions, largest", f"{posedirs.max() * 1e3:.1f} mm; {share:.1%} not zero"),
            ("pose components", f"6 explain {explained[5]:.0%}, 15 {explained[14]:.0%}"),
            ("left against mirrored right", f"{self._mirror_difference():.1e} m"),
        )
        return _table(("joints, skin, poses, mirror", ""), rows)

    def shapes(self) -> str:
        """What one unit of each beta does."""
        moves = np.linalg.norm(self.right.shapedirs, axis=1) * 1e3
        rows = [
            (
                str(k),
                f.name,
                f.meaning,
                f"{np.sqrt((moves[:, k] ** 2).mean()):.1f}",
                f"{moves[:, k].max():.1f}",
            )
            for k, f in enumerate(SHAPE_FACTORS)
        ]
        return _table(("beta", "factor", "+1", "rms mm", "largest mm"), rows)

    def volume(self) -> str:
        """Volume kept in poses, with and without the correctives."""
        named = named_poses()
        random = self._random_poses()
        poses = {
            "rest": np.zeros((15, 3)),
            "fist": named["fist"],
            "half a fist": named["fist"] / 2,
            "hook": named["hook"],
            "table top": named["table top"],
        }
        rows = [
            (
                name,
                *(
                    f"{self._volumes(self._vertices(a[None], model=m))[0]:.1f}"
                    for m in self._models()
                ),
            )
            for name, a in poses.items()
        ]
        for name, angles in (("gripping poses", random), ("bank", self._some_of_bank())):
            found = [self._volumes(self._vertices(angles, model=m)) for m in self._models()]
            rows.append((f"{name}, least", *(f"{v.min():.1f}" for v in found)))
            rows.append((f"{name}, mean", *(f"{v.mean():.1f}" for v in found)))
            rows.append((f"{name}, greatest", *(f"{v.max():.1f}" for v in found)))
        return _table(("cm3", "open hand", "skinning alone"), rows)

    def piercing(self) -> str:
        """How often the skin pierces itself."""
        betas = self.rng.normal(size=(_SHAPES, NUM_BETAS))
        flat = np.zeros((_SHAPES, 15, 3))
        bank, random = self._some_of_bank(), self._random_poses()
        rows = [
            ("at rest", *_shares(self._pierced(flat[:1]))),
            ("flat, shapes N(0, 1)", *_shares(self._pierced(flat, betas))),
            ("gripping poses, not relaxed", *_shares(self._pierced(random))),
            ("bank", *_shares(self._pierced(bank))),
            ("bank, shapes N(0, 1)", *_shares(self._pierced(bank, betas))),
        ]
        table = _table(("right hand", "clean", "at most 10 faces", "90th percentile"), rows)
        alone = ", ".join(
            f"{name} {self._flexion_limit(k)}" for k, name in enumerate(MANO_JOINT_NAMES[1:])
        )
        return (
            f"{table}\n\nOne joint flexed alone stays clean up to (degrees, at most 100): {alone}."
        )

    def _models(self) -> tuple[HandModel, HandModel]:
        return self.model, self.skinning_only

    def _random_poses(self) -> Floats:
        return gripping_poses(_POSES, np.random.default_rng(_SEED))

    def _some_of_bank(self) -> Floats:
        bank = pose_bank()
        return bank[np.random.default_rng(_SEED).choice(len(bank), _POSES, replace=False)]

    def _vertices(
        self, angles: Floats, betas: Floats | None = None, model: HandModel | None = None
    ) -> Floats:
        state = _state(rotations_from_angles(angles, self.axes), betas)
        with torch.no_grad():
            return (model or self.model)(state).vertices[:, Side.RIGHT].numpy()

    def _volumes(self, vertices: Floats) -> Floats:
        """Cubic centimetres."""
        return np.array(
            [enclosed_volume(v.astype(np.float64), self.closed) * 1e6 for v in vertices]
        )

    def _pierced(self, angles: Floats, betas: Floats | None = None) -> Floats:
        vertices = self._vertices(angles, betas)
        return np.array([self_intersections(v, self.right.faces) for v in vertices])

    def _flexion_limit(self, joint: int) -> int:
        angles = np.zeros((21, 15, 3))
        angles[:, joint, 0] = np.radians(np.arange(0, 101, 5)[: len(angles)])
        pierced = np.flatnonzero(self._pierced(angles))
        return int(5 * (pierced[0] - 1)) if len(pierced) else 100

    def _mirror_difference(self) -> float:
        """Largest distance of the left hand from the mirrored right one over random poses."""
        right, left = (JointAxes.from_assets(side) for side in self.model.assets)
        angles = self._random_poses()
        betas = torch.from_numpy(self.rng.normal(size=(_POSES, NUM_BETAS))).float()
        pose = [torch.from_numpy(rotations_from_angles(angles, axes)) for axes in (right, left)]
        state = HandState(
            global_orient=torch.eye(3).expand(_POSES, NUM_SIDES, 3, 3),
            hand_pose=torch.stack(pose, dim=1).float(),
            betas=betas[:, None].expand(-1, NUM_SIDES, -1),
            transl=torch.zeros(_POSES, NUM_SIDES, 3),
        )
        with torch.no_grad():
            vertices = self.model(state).vertices
        mirrored = vertices[:, Side.RIGHT] * torch.tensor((-1.0, 1.0, 1.0))
        return float((vertices[:, Side.LEFT] - mirrored).abs().max())


def measure(assets: tuple[ManoAssets, ManoAssets]) -> str:
    """Measure a pair of open hands; markdown."""
    return HandReport(HandModel(assets)).markdown()


def _state(pose: Floats, betas: Floats | None = None) -> HandState:
    """The same pose and shape for both hands, wrists in place: (N, 15, 3, 3), (N, 10)."""
    count = len(pose)
    rotations = torch.from_numpy(np.ascontiguousarray(pose)).float()
    shape = torch.zeros(count, NUM_BETAS) if betas is None else torch.from_numpy(betas).float()
    return HandState(
        global_orient=torch.eye(3).expand(count, NUM_SIDES, 3, 3),
        hand_pose=rotations[:, None].expand(-1, NUM_SIDES, -1, -1, -1),
        betas=shape[:, None].expand(-1, NUM_SIDES, -1),
        transl=torch.zeros(count, NUM_SIDES, 3),
    )


def _shares(pierced: Floats) -> tuple[str, str, str]:
    return (
        f"{(pierced == 0).mean():.0%}",
        f"{(pierced <= 10).mean():.0%}",
        f"{np.percentile(pierced, 90):.0f} faces",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
