"""Skin: where palm, nails, knuckles and creases are on a hand model, and how they are coloured.

Everything is found from the model's template, joints and skinning weights, so the open hand and
the official one are painted alike.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from fourdhands.hands.anatomy import JointAxes
from fourdhands.hands.assets import ManoAssets
from fourdhands.rendering.forearm import ArmMesh, Points
from fourdhands.rendering.kernels import average_normals
from fourdhands.rendering.surface import Floats, Material, Surface
from fourdhands.skeleton import (
    FINGERS,
    FINGERTIP_VERTICES,
    MANO_FINGERS,
    NUM_MANO_JOINTS,
    NUM_VERTICES,
)

# Linear RGB of lightest, middle and darkest skin (back of the hand); between them in log space.
TONES: Final = np.array([(0.80, 0.56, 0.45), (0.46, 0.25, 0.155), (0.115, 0.058, 0.036)])
BLOOD: Final = np.array([1.10, 0.82, 0.80])  # tint of well-perfused skin
SCATTERING: Final = (0.32, 0.15, 0.10)  # `Material.wrap` of skin
NAIL_EDGE: Final = 0.0007  # metres over which a nail's outline fades


@dataclass(frozen=True)
class Complexion:
    """What both hands of a person share.

    Attributes:
        darkness: 0 the lightest to 1 the darkest skin.
        albedo: (3,) linear RGB of the back of the hand.
        nails: (3,) linear RGB, at times varnished.
        redness: Strength of the red of knuckles and fingertips.
        roughness: GGX roughness; dry skin is rougher.
        seed: Of the mottling.
    """

    darkness: float
    albedo: Points
    nails: Points
    redness: float
    roughness: float
    seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Complexion":
        """Draw a person: all skin tones alike often, one in twelve with varnished nails."""
        darkness = float(rng.uniform())
        albedo = np.exp([np.interp(darkness, (0.0, 0.5, 1.0), c) for c in np.log(TONES).T])
        albedo *= np.exp(rng.normal(0.0, 0.07) + rng.normal(0.0, 0.03, 3))
        nails = 0.68 * albedo * (1.12, 1.0, 0.97) + 0.32 * np.array((0.58, 0.37, 0.32))
        if rng.random() < 1 / 12:
            nails = np.clip(rng.uniform(0.02, 0.7) * rng.dirichlet((2.0, 1.0, 1.0)) * 3, 0.01, 0.8)
        return cls(
            darkness=darkness,
            albedo=albedo,
            nails=nails,
            redness=float(rng.uniform(0.5, 1.5)),
            roughness=float(rng.uniform(0.5, 0.72)),
            seed=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class Skin:
    """The painted skin of one arm: colours on the drawn vertices of an `ArmMesh`.

    Attributes:
        albedo: (n, 3) linear RGB.
        gloss: (n,) signed field, above 0 on the nails.
        material: Of hand and forearm.
    """

    albedo: Floats
    gloss: Floats
    material: Material


@dataclass(frozen=True)
class SkinMasks:
    """Where the parts of the skin are, (n,) each, 0 to 1 (the nails: a signed field)."""

    palm: Points
    nail: Points
    knuckle: Points
    fingertip: Points
    crease: Points


class SkinModel:
    """Paints the arm of one side and turns posed hands into surfaces.

    Attributes:
        arm: The mesh that is painted.
        masks: On the drawn vertices of `arm`.

    Args:
        assets: The hand.
        levels: Loop subdivisions; see `ArmMesh`.
    """

    def __init__(self, assets: ManoAssets, levels: int = 1) -> None:
        self.arm = ArmMesh(assets, levels)
        self.masks = _masks(assets, self.arm)

    def sample(self, rng: np.random.Generator, complexion: Complexion | None = None) -> Skin:
        """Draw a skin, or paint that of a given person.

        Args:
            rng: Draws the complexion if none is given; not used otherwise.
            complexion: Give it to both hands of a person.
        """
        person = complexion or Complexion.sample(rng)
        masks = self.masks
        base, dark = person.albedo, person.darkness
        # palms hardly tan: the darker the skin, the more they differ
        palm = base * (1.0 + 0.1 * dark) + dark * np.array((0.18, 0.105, 0.078))
        albedo = base + masks.palm[:, None] * (palm * (1.03, 0.96, 0.96) - base)
        blood = person.redness * np.clip(0.6 * masks.knuckle + 0.75 * masks.fingertip, 0.0, 1.0)
        albedo *= 1.0 + blood[:, None] * (BLOOD - 1.0)
        albedo *= 1.0 - (0.25 * dark + 0.05) * masks.knuckle[:, None]
        albedo *= 1.0 - np.outer(masks.crease, (0.22, 0.30, 0.32))
        noise = np.random.default_rng(person.seed)
        mottling = 0.06 * _smooth_noise(noise, self.arm.rest, 0.011)
        mottling += 0.035 * _smooth_noise(noise, self.arm.rest, 0.0035)
        albedo *= np.exp(np.outer(mottling, (0.8, 1.1, 1.1)))
        return Skin(
            albedo=np.clip(albedo, 0.01, 0.95).astype(np.float32),
            gloss=masks.nail.astype(np.float32),
            material=Material(
                wrap=tuple((1.0 - 0.5 * dark) * share for share in SCATTERING),
                roughness=person.roughness,
                reflectance=0.028,
                bump=0.055,
                gloss_albedo=person.nails.tolist(),
                gloss_roughness=0.38,
            ),
        )

    def surfaces(
        self, vertices: ArrayLike, skin: Skin, elbow_direction: ArrayLike | None = None
    ) -> tuple[Surface, Surface]:
        """The hand and the forearm of a posed hand, without a seam.

        Args:
            vertices: (778, 3) metres, camera frame.
            skin: Of this model.
            elbow_direction: (3,) from the wrist to the elbow, camera frame; None for unbent.
        """
        return self.paint(self.arm.pose(vertices, elbow_direction), skin)

    def paint(self, drawn: Floats, skin: Skin) -> tuple[Surface, Surface]:
        """The hand and the forearm of drawn vertices (n, 3), which `arm` refined."""
        normals = _normals(drawn, self.arm)
        hand, forearm = (
            Surface(
                vertices=drawn,
                faces=faces,
                albedo=skin.albedo,
                gloss=skin.gloss,
                rest=self.arm.rest,
                material=skin.material,
                normals=normals,
            )
            for faces in (self.arm.hand_faces, self.arm.forearm_faces)
        )
        return hand, forearm


def _normals(vertices: Floats, arm: ArmMesh) -> Floats:
    normals = np.zeros_like(vertices)
    average_normals(vertices, arm.refine.faces, np.ones(len(vertices), np.uint8), normals)
    return normals


def _masks(assets: ManoAssets, arm: ArmMesh) -> SkinMasks:
    """Find the parts of the skin on the mean hand at rest."""
    points = arm.rest.astype(np.float64)
    control = np.zeros((arm.refine.num_vertices, NUM_MANO_JOINTS), np.float32)
    control[:NUM_VERTICES] = assets.weights
    control[NUM_VERTICES:, 0] = 1.0
    weights = arm.refine(control)
    joints = assets.joints.astype(np.float64)
    axes = JointAxes.from_assets(assets)
    normals = _normals(arm.rest, arm).astype(np.float64)

    chains = [slice(1 + 3 * k, 4 + 3 * k) for k in range(len(MANO_FINGERS))]
    tips = assets.v_template[list(FINGERTIP_VERTICES)].astype(np.float64)
    tips = tips[[FINGERS.index(finger) for finger in MANO_FINGERS]]
    bones = np.zeros((NUM_MANO_JOINTS, 3))
    for chain, tip in zip(chains, tips, strict=True):
        line = np.vstack([joints[chain], tip])
        bones[chain] = np.diff(line, axis=0)
        bones[chain] /= np.linalg.norm(bones[chain], axis=1, keepdims=True)
    back = np.zeros((NUM_MANO_JOINTS, 3))  # towards the back of the hand, joint by joint
    back[1:] = -np.cross(axes.flexion, bones[1:])
    back[0] = back[chains[MANO_FINGERS.index("middle")]][0]

    dorsal = np.einsum("nj,jc,nc->n", weights, back, normals)
    knuckle, crease = np.zeros(len(points)), np.zeros(len(points))
    fingertip = np.zeros(len(points))
    nail = np.full(len(points), -1e3)
    for chain, tip in zip(chains, tips, strict=True):
        own = weights[:, chain].sum(axis=1) > 0.5
        for k, joint in enumerate(range(chain.start, chain.stop)):
            from_joint = points - joints[joint]
            distance = np.linalg.norm(from_joint, axis=1)
            bump = np.exp(-((distance / (0.012 if k else 0.014)) ** 2))
            knuckle = np.maximum(knuckle, bump * np.clip(2.0 * dorsal, 0.0, 1.0))
            if k:  # the fold over a finger joint, stronger on the inside
                fold = np.exp(-((from_joint @ bones[joint] / 0.0016) ** 2))
                inside = np.where(dorsal < 0.0, 1.0, 0.55)
                crease = np.maximum(crease, fold * inside * own * (distance < 0.016))
        fingertip = np.maximum(fingertip, np.exp(-((points - tip) ** 2).sum(1) / 0.013**2))
        last = chain.stop - 1
        nail = np.maximum(
            nail, _nail(points, normals, weights[:, last], tip, bones[last], back[last])
        )
    crease = np.maximum(crease, 0.8 * _palm_lines(points, joints, bones, back[0], dorsal))
    return SkinMasks(
        palm=np.clip(0.5 - 1.2 * dorsal, 0.0, 1.0),
        nail=nail,
        knuckle=knuckle,
        fingertip=fingertip,
        crease=crease,
    )


def _nail(
    points: Points, normals: Points, weight: Floats, tip: Points, along: Points, up: Points
) -> Points:
    """Signed field of one nail: 0.5 on its outline, rising to 1 within `NAIL_EDGE`.

    The outline is a superellipse on the back of the last bone, in the size of that fingertip.
    """
    across = np.cross(along, up)
    end = (weight > 0.5) & (np.abs((points - tip) @ along + 0.008) < 0.004)
    half_width = float(np.ptp(points[end] @ across)) / 2
    middle = float((points[end] @ across).mean() - tip @ across)
    long, wide = 0.78 * half_width, 0.72 * half_width
    centre = tip - (long + 0.0022) * along + middle * across
    x, y = (points - centre) @ along / long, (points - centre) @ across / wide
    outline = ((x**4 + y**4) ** 0.25 - 1.0) * wide
    facing = (normals @ up - 0.15) * half_width
    field = np.minimum(-outline, facing) / NAIL_EDGE + 0.5
    return np.where((weight > 0.3) & ((points - centre) @ up > -0.004), field, -1e3)


def _palm_lines(
    points: Points, joints: Points, bones: Points, up: Points, dorsal: Points
) -> Points:
    """The three lines of the palm, drawn between landmarks of the skeleton."""
    knuckle = {f: joints[1 + 3 * k] for k, f in enumerate(MANO_FINGERS)}
    wrist = joints[0]
    ahead = np.linalg.norm(knuckle["middle"] - wrist)
    distal = (knuckle["middle"] - wrist) / ahead
    radial = knuckle["index"] - knuckle["little"]

    def at(finger: str, back: float, towards_thumb: float = 0.0) -> Points:
        return knuckle[finger] - back * ahead * distal + towards_thumb * radial

    lines = (
        (at("little", 0.10, -0.12), at("ring", 0.11), at("middle", 0.02, 0.12)),
        (at("index", 0.16, 0.12), at("middle", 0.24), at("ring", 0.42, -0.2)),
        (at("index", 0.16, 0.14), at("index", 0.42, -0.12), at("index", 0.82, -0.25)),
    )
    flat = points - np.outer(points @ up, up)
    field = np.zeros(len(points))
    for line in lines:
        t = np.linspace(0.0, 1.0, 24)[:, None]
        a, b, c = line  # a quadratic through the three landmarks
        curve = a * (1 - t) * (1 - 2 * t) + 4 * b * t * (1 - t) + c * t * (2 * t - 1)
        curve -= np.outer(curve @ up, up)
        distance = np.linalg.norm(flat[:, None] - curve[None], axis=-1).min(axis=1)
        field = np.maximum(field, np.exp(-((distance / 0.0019) ** 2)))
    in_palm = np.abs((points - wrist) @ up) < 0.035
    return field * in_palm * np.clip(-2.0 * dorsal, 0.0, 1.0)


def _smooth_noise(rng: np.random.Generator, points: NDArray[np.float32], scale: float) -> Points:
    """Unit noise on points (n, 3) in metres whose features are about `scale` wide."""
    volume = rng.normal(size=(24, 24, 24))
    coordinates = (points / scale + rng.uniform(0.0, 24.0, 3)) % 24.0
    return map_coordinates(volume, coordinates.T, order=1, mode="grid-wrap")
