"""How two hands stand to each other: apart, in contact, or crossing before the camera.

Every kind is one construction: the left hand approaches the right one along a direction until they
touch (`contact`), and a gap that moves over the clip is left between them. Forearms take part, so
that they do not pass through anything either.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from fourdhands.data.synthetic.contact import FirstContact, first_contact
from fourdhands.data.synthetic.motion import Timeline, random_walk_rotations
from fourdhands.data.synthetic.rotation import (
    matrices_from_vectors,
    matrix_from_vector,
    random_rotation,
    rotation_between,
    unit,
)
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import FINGERTIP_VERTICES, NUM_SIDES, WRIST_RING, Side

Array = NDArray[np.float64]


SceneKind = Literal["single", "apart", "close", "crossing"]
SCENE_KINDS: Final[tuple[SceneKind, ...]] = get_args(SceneKind)

PRESS: Final = 0.0012  # metres; how deep skin gives way where hands touch
SETTLING: Final = 0.08  # seconds in which hands give way to a new contact
FOREARM: Final = 0.22  # metres
ATTEMPTS: Final = 8  # drafts of a contact
CONTACT_CHOICES: Final = 5


@dataclass(frozen=True)
class Placement:
    """Both hands in a frame of their own, the group frame.

    Attributes:
        rotation: (F, S, 3, 3) group from hand.
        wrist: (F, S, 3) metres.
        approach: (3,) from the right hand to the left one, at the first frame.
    """

    rotation: Array
    wrist: Array
    approach: Array


class Placer:
    """Places hands of one hand model.

    Args:
        model: Gives the faces, and the regions that touch.
    """

    def __init__(self, model: HandModel) -> None:
        self._num_faces = model.closed_faces.shape[1]
        self._faces = [_with_forearm(f.numpy().astype(np.int32)) for f in model.closed_faces]
        self._corners = [faces[: self._num_faces] for faces in self._faces]
        self._regions = [
            _regions(assets.v_template, assets.weights, faces)
            for assets, faces in zip(model.assets, self._corners, strict=True)
        ]

    def place(
        self,
        rng: np.random.Generator,
        kind: SceneKind,
        vertices: Array,
        arms: Array,
        timeline: Timeline,
        fps: float,
    ) -> Placement:
        """Place two hands over a clip.

        Args:
            rng: Source of randomness.
            kind: "single" places the hands like "apart"; one of them is left out later.
            vertices: (F, S, 778, 3) posed hands, each in its own frame, the wrist at the origin.
            arms: (S, 3) direction from the wrist to the elbow in each hand's frame.
            timeline: When the hands move against each other.
            fps: Frames a second.
        """
        bodies = [_with_arm(vertices[:, side], arms[side]) for side in Side]
        if kind == "close":
            draft = self._draft_contact(rng, vertices[0], arms, [body[0] for body in bodies])
        else:
            draft = _draft_free(rng)
        return self._slide(rng, kind, draft, bodies, timeline, fps)

    def _draft_contact(
        self, rng: np.random.Generator, vertices: Array, arms: Array, bodies: list[Array]
    ) -> "_Draft":
        """Draw which places touch and from where.

        Of a few drafts in which hand meets hand, not a forearm, the one wins that brings most skin
        together: left to chance, hands would mostly meet at a fingertip.
        """
        best, most = None, -1.0
        wanted = int(rng.integers(1, CONTACT_CHOICES + 1))
        for _ in range(ATTEMPTS):
            anchors, normals = zip(
                *(self._draw_anchor(rng, vertices[side], side) for side in Side), strict=True
            )
            rotation = _facing(rng, normals, arms)
            approach = unit(normals[Side.RIGHT] + rng.normal(0, 0.25, 3))
            draft = _Draft(rotation, approach, anchors[Side.RIGHT], anchors[Side.LEFT])
            contact = self._contact(draft, rotation, np.zeros(3), bodies)
            if contact is not None and self._between_hands(contact):
                wanted -= 1
                if contact.close_area > most:
                    best, most = draft, contact.close_area
            if wanted == 0:
                break
        return best or draft

    def _draw_anchor(
        self, rng: np.random.Generator, vertices: Array, side: int
    ) -> tuple[Array, Array]:
        regions = self._regions[side]
        region = regions[int(rng.choice(len(regions), p=REGION_SHARES))]
        vertex = region[int(rng.integers(len(region)))]
        faces = self._corners[side]
        around = vertices[faces[(faces == vertex).any(axis=1)]]
        normal = np.cross(around[:, 1] - around[:, 0], around[:, 2] - around[:, 0]).sum(axis=0)
        return vertices[vertex], unit(normal)

    def _slide(
        self,
        rng: np.random.Generator,
        kind: SceneKind,
        draft: "_Draft",
        bodies: list[Array],
        timeline: Timeline,
        fps: float,
    ) -> Placement:
        frames, keys = len(bodies[0]), timeline.num_keys
        restlessness = 0.12 if kind == "close" else 0.35
        turns = timeline.interpolate_rotations(
            random_walk_rotations(rng, draft.left_rotation, keys, restlessness)
        )
        drifts = timeline.interpolate(_drift_keys(rng, kind, keys, draft.approach))
        gaps = timeline.interpolate(_gap_keys(rng, kind, keys))
        press = PRESS * rng.uniform() if kind == "close" else 0.0
        laterals = np.empty((frames, 3))
        distances = np.empty(frames)
        for frame in range(frames):
            contact = self._contact(
                draft, turns[frame], drifts[frame], [body[frame] for body in bodies]
            )
            laterals[frame], distances[frame] = draft.meet(turns[frame], drifts[frame])
            if contact is not None:
                distances[frame] = contact.offset
        if kind == "close":
            distances = _upper_envelope(distances, int(SETTLING * fps))
        else:  # the hands keep their distance, whatever would touch first
            distances[:] = distances.max()
        rotation = np.tile(np.eye(3), (frames, NUM_SIDES, 1, 1))
        rotation[:, Side.LEFT] = turns
        wrist = np.zeros((frames, NUM_SIDES, 3))
        wrist[:, Side.LEFT] = laterals + (distances + gaps - press)[:, None] * draft.approach
        return Placement(rotation, wrist, draft.approach)

    def _contact(
        self, draft: "_Draft", turn: Array, drift: Array, bodies: list[Array]
    ) -> FirstContact | None:
        left = bodies[Side.LEFT] @ turn.T + draft.meet(turn, drift)[0]
        return first_contact(
            bodies[Side.RIGHT],
            self._faces[Side.RIGHT],
            left,
            self._faces[Side.LEFT],
            draft.approach,
        )

    def _between_hands(self, contact: FirstContact) -> bool:
        return max(contact.fixed_face, contact.moving_face) < self._num_faces


@dataclass(frozen=True)
class _Draft:
    """How the left hand comes to the right one; the group frame is the right hand's."""

    left_rotation: Array  # (3, 3) at the first key
    approach: Array  # (3,) unit vector, from right to left
    right_anchor: Array  # (3,) point of the right hand, its own frame
    left_anchor: Array  # (3,) point of the left hand, its own frame

    def meet(self, turn: Array, drift: Array) -> tuple[Array, float]:
        """Wrist (3,) of a left hand turned by (3, 3) that brings the anchors together.

        Given as the part across the approach, and the distance along it.
        """
        offset = self.right_anchor - turn @ self.left_anchor + drift
        along = float(offset @ self.approach)
        return offset - along * self.approach, along


def _facing(rng: np.random.Generator, normals: tuple[Array, Array], arms: Array) -> Array:
    """Right from left hand frame: normals about opposite, arms at an angle that people manage."""
    right, left = normals
    meet = rotation_between(left, -right)
    turns = matrices_from_vectors(rng.uniform(0, 2 * np.pi, (8, 1)) * right) @ meet
    cosines = turns @ arms[Side.LEFT] @ arms[Side.RIGHT]
    # the arms of one person seldom run alongside or straight into each other
    weight = np.exp(-(((np.arccos(np.clip(cosines, -1, 1)) - 1.4) / 0.7) ** 2) / 2) + 1e-9
    turn = turns[int(rng.choice(len(cosines), p=weight / weight.sum()))]
    return matrix_from_vector(rng.normal(0, 0.25, 3)) @ turn


def _upper_envelope(values: Array, reach: int) -> Array:
    """A smooth curve that nowhere falls below the values.

    The greatest value within `reach` frames, then its mean over as many: which fingers touch may
    change from one frame to the next, but hands give way before that.
    """
    window = 2 * reach + 1
    return uniform_filter1d(
        maximum_filter1d(values, window, mode="nearest"), window, mode="nearest"
    )


def _draft_free(rng: np.random.Generator) -> _Draft:
    centre = np.array((-0.09, 0, 0))  # about the middle of the right hand, from its wrist
    return _Draft(
        random_rotation(rng), unit(rng.normal(size=3)), centre, centre * np.array((-1.0, 1.0, 1.0))
    )


def _gap_keys(rng: np.random.Generator, kind: SceneKind, count: int) -> Array:
    """Metres between the hands at each key."""
    if kind == "crossing":
        return rng.uniform(0.003, 0.09, count)
    if kind == "close":
        away = (rng.random(count) < 0.5) & (rng.random() < 0.15)
        return np.where(away, rng.uniform(0.005, 0.05, count), 0.0)
    start = rng.uniform(0.01, 0.16)
    return np.abs(start + np.cumsum(rng.normal(0, 0.03, count)))


def _drift_keys(rng: np.random.Generator, kind: SceneKind, count: int, approach: Array) -> Array:
    """Sideways offsets (K, 3) of the left hand in metres."""
    if kind == "close":
        return np.cumsum(rng.normal(0, 0.006, (count, 3)), axis=0)
    if kind == "crossing":  # pass in front of the other hand, and back
        across = unit(np.cross(approach, rng.normal(size=3)))
        reach = rng.uniform(-0.10, 0.10, count)
        return reach[:, None] * across + rng.normal(0, 0.015, (count, 3))
    return rng.normal(0, 0.02, 3) + np.cumsum(rng.normal(0, 0.02, (count, 3)), axis=0)


REGION_SHARES: Final = (0.35, 0.10, 0.35, 0.20)


def _regions(
    template: NDArray[np.float32], weights: NDArray[np.float32], faces: NDArray[np.int32]
) -> tuple[NDArray[np.int64], ...]:
    """Vertex ids of the palm, the back of the hand, the fingers and the fingertips."""
    corners = template[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(template)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals)
    dorsal = normals[:, 1] / np.linalg.norm(normals, axis=1)
    on_palm = (weights[:, 0] > 0.5) & ~np.isin(np.arange(len(template)), WRIST_RING)
    return (
        np.flatnonzero(on_palm & (dorsal < -0.6)),
        np.flatnonzero(on_palm & (dorsal > 0.6)),
        np.flatnonzero(weights[:, 1:].sum(axis=1) > 0.6),
        np.array(FINGERTIP_VERTICES),
    )


def _with_arm(vertices: Array, arm: Array) -> Array:
    """Append the elbow's end of a forearm to (..., 778, 3) vertices."""
    ring = vertices[..., list(WRIST_RING), :]
    return np.concatenate((vertices, ring + FOREARM * arm), axis=-2)


def _with_forearm(closed_faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Faces of a closed hand followed by those of a prism over its wrist ring.

    The prism's far ring are 16 vertices after the hand's own. Both bodies are closed.
    """
    ring = np.array(WRIST_RING, np.int32)
    count = len(ring)
    far = np.arange(count, dtype=np.int32) + (closed_faces.max() + 1)
    following = np.roll(np.arange(count), -1)
    sides = np.concatenate(
        (
            np.stack((ring, ring[following], far), axis=1),
            np.stack((ring[following], far[following], far), axis=1),
        )
    )
    lid = np.stack((np.full(count - 2, far[0]), far[1:-1], far[2:]), axis=1)
    prism = np.concatenate((sides, lid))
    # the cap's winding tells which way round the ring runs on this side
    cap = closed_faces[-1]
    edges = {(a, b) for a, b in zip(ring.tolist(), ring[following].tolist(), strict=True)}
    forwards = any((int(cap[k]), int(cap[(k + 1) % 3])) in edges for k in range(3))
    return np.concatenate((closed_faces, prism if forwards else prism[:, ::-1])).astype(np.int32)
