"""From the distance field to MANO's mesh: 778 vertices, 1538 faces, known vertices where expected.

Needs scikit-image and fast-simplification, which only the building of the hand needs.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.open_hand.field import (
    PALM,
    Flesh,
    distance,
    group_distances,
    project,
)
from fourdhands.hands.open_hand.measurements import Floats, Skeleton
from fourdhands.hands.open_hand.remesh import boundary_loop, polish_mesh, reduce_mesh
from fourdhands.skeleton import (
    FINGERS,
    FINGERTIP_VERTICES,
    MANO_FINGERS,
    NUM_FACES,
    NUM_VERTICES,
    WRIST_RING,
)

Indices = NDArray[np.integer[Any]]

WRIST_CUT: Final = 16.0  # the skin ends this far behind the wrist joint, millimetres
_GRID: Final = 1.5  # of marching cubes, millimetres
_LOWER: Final = np.array((-206.0, -50.0, -75.0))
_UPPER: Final = np.array((WRIST_CUT, 40.0, 95.0))
_FIRST_FACES: Final = 7000
_FINGER_EDGE: Final = 4.6  # wanted edge lengths, up to a common factor
_PALM_EDGE: Final = 8.8
# Vertices beside the tips that other MANO code uses as fingertips; they go next to ours.
_OTHER_TIPS: Final = {
    "thumb": (745, 728),
    "index": (317, 333, 353),
    "middle": (444, 442),
    "ring": (555, 556, 576),
    "little": (672, 673, 694),
}
# Vertices are numbered by part: palm, then fingers.
_PART_ORDER: Final = ("palm", "index", "middle", "ring", "little", "thumb")


def skin_mesh(flesh: Flesh, skeleton: Skeleton) -> tuple[Floats, Indices]:
    """Mesh the skin in MANO's layout.

    Args:
        flesh: Distance field at rest.
        skeleton: Its bones.

    Returns:
        (778, 3) vertices in millimetres, wrist at the origin, and (1538, 3) outward faces.
    """

    def edge_length(points: Floats) -> Floats:
        return _edge_length(points, flesh)

    def surface(points: Floats) -> Floats:
        return project(points, flesh, steps=2)

    vertices, faces = reduce_mesh(
        *_fine_mesh(flesh), edge_length, surface, NUM_VERTICES, num_boundary=len(WRIST_RING)
    )
    assert (len(vertices), len(faces)) == (NUM_VERTICES, NUM_FACES)
    tips = [int(np.linalg.norm(vertices - tip, axis=1).argmin()) for tip in skeleton.tips]
    vertices[tips] = project(skeleton.tips, flesh)
    ring = boundary_loop(faces)
    vertices[ring] = _even_rim(vertices[ring], flesh)
    vertices, faces = polish_mesh(vertices, faces, edge_length, surface, fixed=tips + ring)
    number = _mano_numbers(vertices, ring, dict(zip(MANO_FINGERS, tips, strict=True)), flesh)
    renumbered = np.empty_like(vertices)
    renumbered[number] = vertices
    faces = number[faces]
    return renumbered, faces[np.lexsort(faces.T[::-1])]


def _fine_mesh(flesh: Flesh) -> tuple[Floats, Indices]:
    """Marching cubes, open where the grid cuts the forearm, then a first decimation."""
    try:
        import fast_simplification
        from skimage.measure import marching_cubes
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"building the open hand needs '{missing.name}': "
            "pip install -c constraints.txt -e '.[dev]'"
        ) from missing

    axes = [np.arange(low, high, _GRID) for low, high in zip(_LOWER, _UPPER, strict=True)]
    axes[0] = axes[0] + (WRIST_CUT - axes[0][-1])  # the last plane is the cut
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = distance(grid.reshape(-1, 3), flesh).reshape(grid.shape[:3])
    vertices, faces, _, _ = marching_cubes(values, 0.0, spacing=(_GRID,) * 3)
    vertices = vertices + [axis[0] for axis in axes]
    # Marching cubes makes a vertex twice where the surface passes through a grid point.
    _, first, merged = np.unique(
        np.round(vertices, 5), axis=0, return_index=True, return_inverse=True
    )
    faces = merged.ravel()[faces]
    whole = (np.diff(np.sort(faces, axis=1), axis=1) > 0).all(1)
    return fast_simplification.simplify(
        vertices[first].astype(np.float32),
        faces[whole].astype(np.int32),
        target_count=_FIRST_FACES,
    )


def _edge_length(points: Floats, flesh: Flesh) -> Floats:
    """Fingers finer than the palm."""
    into_palm = np.clip((group_distances(points, flesh)[:, :PALM].min(1) + 1) / 10, 0, 1)
    return _FINGER_EDGE + into_palm * (_PALM_EDGE - _FINGER_EDGE)


def _even_rim(rim: Floats, flesh: Flesh) -> Floats:
    """Space the rim's vertices evenly in the plane of the cut."""
    closed = np.vstack([rim, rim[:1]])
    closed[:, 0] = WRIST_CUT
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    places = np.linspace(0, along[-1], len(rim), endpoint=False)
    even = np.stack([np.interp(places, along, closed[:, k]) for k in range(3)], axis=-1)
    return project(even, flesh, in_plane=np.ones(len(rim), bool))


def _mano_numbers(vertices: Floats, ring: list[int], tips: dict[str, int], flesh: Flesh) -> Indices:
    """MANO's number of every vertex: rim and tips fixed, the rest by part, far end first."""
    number = np.full(NUM_VERTICES, -1)
    # The rim starts at its most ulnar vertex and runs so that the usual cap faces look outwards.
    start = int(np.argmin(vertices[ring, 2]))
    number[[ring[(start - k) % len(ring)] for k in range(len(ring))]] = WRIST_RING
    for finger, tip in tips.items():
        number[tip] = FINGERTIP_VERTICES[FINGERS.index(finger)]
    for finger, others in _OTHER_TIPS.items():
        nearest = np.argsort(np.linalg.norm(vertices - vertices[tips[finger]], axis=1))
        number[nearest[number[nearest] < 0][: len(others)]] = others
    by_group = group_distances(vertices, flesh)[:, :PALM]
    part = np.array([_PART_ORDER.index(finger) for finger in MANO_FINGERS])[by_group.argmin(1)]
    part[by_group.min(1) >= 2.5] = _PART_ORDER.index("palm")
    order = np.lexsort((-vertices[:, 0], part))
    rest = order[number[order] < 0]
    number[rest] = np.setdiff1d(np.arange(NUM_VERTICES), number)
    return number
