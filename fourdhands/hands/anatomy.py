"""How a hand can move: joint axes, ranges of motion, and poses written as joint angles.

Angles are what motion is interpolated in; the hand model wants rotations. This module holds the
bridge between the two, the published limits, and poses that do not pierce themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.hands.assets import NUM_HAND_JOINTS, ManoAssets, write_arrays
from fourdhands.hands.self_intersection import pierced_faces, self_intersections
from fourdhands.skeleton import FINGERS, FINGERTIP_VERTICES, MANO_FINGERS, Side

__all__ = [
    "POSE_LIMITS",
    "JointAxes",
    "angles_from_rotations",
    "axis_angle_from_angles",
    "joint_frames",
    "named_poses",
    "pierced_faces",
    "pose_bank",
    "relax_angles",
    "rotations_from_angles",
    "sample_hand_angles",
    "sample_hand_poses",
    "save_pose_bank",
    "self_intersections",
]

Floats = NDArray[np.floating[Any]]

# Ranges of motion in degrees: (flexion, abduction, twist), each (least, greatest).
# Fingers: American Academy of Orthopaedic Surgeons, Joint Motion: Method of Measuring and
# Recording, 1965 (MCP 45 back to 90, abduction 20, PIP 0 to 100, DIP 0 to 90; thumb MCP 0 to 50,
# IP 20 back to 80). Thumb's base: arcs of 53 flexion, 42 abduction and 17 rotation, Cooney et al.,
# The kinesiology of the thumb trapeziometacarpal joint, J. Bone Joint Surg. 63-A, 1981, placed
# around MANO's rest pose, whose thumb stands out; the rotation is widened by that of the
# scaphotrapezial joint, which MANO lumps in. A knuckle's twist and the hinges' play are the passive
# laxity of a few degrees.
_HINGE_PLAY: Final = ((-4, 4), (-4, 4))
_FINGER_LIMITS: Final = (
    ((-45, 90), (-20, 20), (-8, 8)),
    ((-5, 100), *_HINGE_PLAY),
    ((-5, 90), *_HINGE_PLAY),
)
_THUMB_LIMITS: Final = (
    ((-15, 38), (-20, 22), (-8, 30)),
    ((-10, 55), *_HINGE_PLAY),
    ((-20, 80), *_HINGE_PLAY),
)
# (15, 3, 2) radians: joints in MANO's order; flexion, abduction, twist; least and greatest.
POSE_LIMITS: Final = np.radians(
    np.concatenate([_THUMB_LIMITS if f == "thumb" else _FINGER_LIMITS for f in MANO_FINGERS])
)

POSE_BANK_FILE: Final = "POSES.npz"
POSE_STEP: Final = float(np.radians(0.5))  # resolution of the bank's angles
_PALM_FINGERS: Final = ("index", "middle", "little")  # whose knuckles span the palm's plane
# Where the thumb's nail looks at rest: a little back to the wrist, to the back of the hand, and
# above all to the thumb's own side (components distal, dorsal, radial).
_THUMBNAIL: Final = np.array((-0.35, 0.35, 0.87))


@dataclass(frozen=True)
class JointAxes:
    """Orthogonal axes of the 15 finger joints, in MANO's rest frame of one side.

    Positive flexion bends towards the palm. Positive abduction spreads: index and middle finger to
    the thumb's side, ring and little finger away from it, the thumb out of the palm's plane.
    Positive twist is pronation, which turns the thumb's pulp towards the fingers. The same angles
    make mirrored poses on the left hand.

    Attributes:
        flexion: (15, 3) unit vectors.
        abduction: (15, 3) unit vectors.
        twist: (15, 3) unit vectors, along the bones.
    """

    flexion: Floats
    abduction: Floats
    twist: Floats

    @classmethod
    def from_assets(cls, assets: ManoAssets) -> Self:
        """Axes from the bones of the mean shape at rest."""
        mirror = np.array((-1.0 if assets.side is Side.LEFT else 1.0, 1.0, 1.0))
        joints = assets.joints.astype(np.float64) * mirror
        tips = assets.v_template[list(FINGERTIP_VERTICES)].astype(np.float64) * mirror
        distal, dorsal, radial = _hand_basis(joints)
        bones = np.zeros((NUM_HAND_JOINTS, 3))
        nails = np.zeros((NUM_HAND_JOINTS, 3))
        outward = np.zeros((NUM_HAND_JOINTS, 3))  # where positive abduction goes
        for chain, finger in enumerate(MANO_FINGERS):
            own = slice(3 * chain, 3 * chain + 3)
            line = np.vstack([joints[1:][own], tips[FINGERS.index(finger)]])
            bones[own] = _unit(np.diff(line, axis=0))
            if finger == "thumb":
                nails[own] = _THUMBNAIL @ np.stack([distal, dorsal, radial])
                outward[own] = -dorsal
            else:
                nails[own] = dorsal
                outward[own] = radial if finger in ("index", "middle") else -radial
        pulps = -_unit(nails - (nails * bones).sum(-1, keepdims=True) * bones)
        flexion = np.cross(bones, pulps)
        abduction = pulps * np.sign((np.cross(pulps, bones) * outward).sum(-1, keepdims=True))
        # A rotation axis is a pseudovector: in the mirror it changes sign besides being reflected.
        axial = mirror * np.prod(mirror)
        return cls(flexion * axial, abduction * axial, -bones * axial)


def rotations_from_angles(angles: Floats, axes: JointAxes) -> Floats:
    """Pose of a hand from its joint angles.

    R = R_flexion R_abduction R_twist: the flexion axis stays with the nearer bone, the twist axis
    with the farther one, the joint coordinate system of Grood and Suntay (1983).

    Args:
        angles: (..., 15, 3) radians: flexion, abduction, twist, from MANO's flat rest pose.
        axes: Of the same hand.

    Returns:
        (..., 15, 3, 3) rotations, as `HandState.hand_pose`.
    """
    basis, signs = joint_frames(axes)
    euler = (angles * signs).reshape(-1, 3)
    local = Rotation.from_euler("XYZ", euler).as_matrix().reshape(*angles.shape, 3)
    return basis @ local @ basis.swapaxes(-1, -2)


def angles_from_rotations(rotations: Floats, axes: JointAxes) -> Floats:
    """Inverse of `rotations_from_angles`: (..., 15, 3, 3) to (..., 15, 3) radians."""
    basis, signs = joint_frames(axes)
    local = basis.swapaxes(-1, -2) @ rotations @ basis
    euler = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_euler("XYZ")
    return euler.reshape(rotations.shape[:-1]) * signs


def axis_angle_from_angles(angles: Floats, axes: JointAxes) -> Floats:
    """Pose of a hand in MANO's axis-angle form: (..., 15, 3) to (..., 15, 3) radians."""
    rotations = rotations_from_angles(angles, axes)
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(angles.shape)


def relax_angles(
    angles: Floats, clean: Floats, is_clean: Callable[[Floats], bool], steps: int = 6
) -> Floats:
    """Move a pose towards a clean one until it is clean itself, and no further than needed.

    Bisection on the straight line in angle space; fingers that pierced end up touching.

    Args:
        angles: (15, 3) wanted angles.
        clean: (15, 3) angles known to be clean.
        is_clean: Says whether a pose is free of piercing.
        steps: Halvings; the result is within 2^-steps of the border.

    Returns:
        (15, 3) clean angles.
    """
    if is_clean(angles):
        return angles
    good, bad = 0.0, 1.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if is_clean(clean + middle * (angles - clean)):
            good = middle
        else:
            bad = middle
    return clean + good * (angles - clean)


def sample_hand_angles(rng: np.random.Generator, count: int) -> Floats:
    """Draw poses that span the hand's range of motion, each free of self-piercing on the open hand.

    They come from the bank that is built with the open hand (`open_hand.pose_bank`), whose fingers
    keep about a millimetre between them, so that most hold for other shapes too.

    Args:
        rng: Decides which.
        count: How many.

    Returns:
        (count, 15, 3) joint angles in radians, for either hand.
    """
    bank = pose_bank()
    return bank[rng.integers(len(bank), size=count)]


def sample_hand_poses(rng: np.random.Generator, count: int, axes: JointAxes) -> Floats:
    """`sample_hand_angles` in MANO's axis-angle form: (count, 15, 3) radians."""
    return axis_angle_from_angles(sample_hand_angles(rng, count), axes)


@cache
def pose_bank() -> Floats:
    """All poses of the bank, (N, 15, 3) joint angles in radians; read-only."""
    bank, _ = _read_pose_bank()
    bank.flags.writeable = False
    return bank


def named_poses() -> dict[str, Floats]:
    """The gestures and pinches of the bank, relaxed until nothing pierces: (15, 3) radians each."""
    _, names = _read_pose_bank()
    return dict(zip(names, pose_bank(), strict=False))


def save_pose_bank(bank: Floats, names: Sequence[str], folder: Path) -> None:
    """Write a bank whose first poses have names; its angles are multiples of `POSE_STEP`."""
    steps = np.round(bank / POSE_STEP).astype(np.int16)
    write_arrays(folder / POSE_BANK_FILE, {"steps": steps, "names": np.array(names)})


def _read_pose_bank() -> tuple[Floats, list[str]]:
    with (
        resources.files("fourdhands.hands.open_hand").joinpath(POSE_BANK_FILE).open("rb") as file,
        np.load(file, allow_pickle=False) as content,
    ):
        return content["steps"] * POSE_STEP, content["names"].tolist()


def _hand_basis(joints: Floats) -> tuple[Floats, Floats, Floats]:
    """Distal, dorsal and radial directions of a right hand from its 16 rest joints."""
    index, middle, little = (
        joints[1 + 3 * MANO_FINGERS.index(f)] for f in ("index", "middle", "little")
    )
    distal = _unit(middle - joints[0])
    dorsal = _unit(np.cross(little - joints[0], index - joints[0]))
    dorsal = _unit(dorsal - (dorsal @ distal) * distal)
    return distal, dorsal, np.cross(dorsal, distal)


def joint_frames(axes: JointAxes) -> tuple[Floats, Floats]:
    """Right-handed bases of the joints, and the signs that angles take in them.

    Returns:
        (15, 3, 3) flexion, abduction and twist axes as columns, and (15, 3) of ones.
    """
    columns = np.stack([axes.flexion, axes.abduction, axes.twist], axis=-1)
    handed = np.sign(np.linalg.det(columns))
    signs = np.stack([np.ones_like(handed), handed, np.ones_like(handed)], axis=-1)
    return columns * signs[:, None, :], signs


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
