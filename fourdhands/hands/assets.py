"""The numbers of a hand model of one side: read, written, converted from the official files.

Everything that makes hands starts here: `load_assets` feeds `hands.mano.HandModel` and rendering.
"""

import zipfile
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fourdhands.files import replacing
from fourdhands.inert_pickle import read_arrays
from fourdhands.skeleton import (
    MANO_PARENTS,
    NUM_BETAS,
    NUM_FACES,
    NUM_MANO_JOINTS,
    NUM_VERTICES,
    Side,
)

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]
Source = Literal["mano", "open"]

NUM_HAND_JOINTS: Final = NUM_MANO_JOINTS - 1
FILE_NAMES: Final = {Side.RIGHT: "MANO_RIGHT.npz", Side.LEFT: "MANO_LEFT.npz"}
_ROOT_PARENT: Final = 2**32 - 1  # MANO's kintree_table writes the root's parent as an unsigned -1
# Name of each array in MANO's files, and its shape.
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "v_template": (NUM_VERTICES, 3),
    "f": (NUM_FACES, 3),
    "shapedirs": (NUM_VERTICES, 3, NUM_BETAS),
    "posedirs": (NUM_VERTICES, 3, 9 * NUM_HAND_JOINTS),
    "J_regressor": (NUM_MANO_JOINTS, NUM_VERTICES),
    "weights": (NUM_VERTICES, NUM_MANO_JOINTS),
    "kintree_table": (2, NUM_MANO_JOINTS),
    "hands_mean": (3 * NUM_HAND_JOINTS,),
    "hands_components": (3 * NUM_HAND_JOINTS, 3 * NUM_HAND_JOINTS),
}


@dataclass(frozen=True)
class ManoAssets:
    """One side of a hand model in MANO's layout.

    Metres, MANO's own frame; arrays are float32, index arrays int64.
    """

    v_template: FloatArray  # (778, 3) the mean shape at rest
    faces: IndexArray  # (1538, 3) outward
    shapedirs: FloatArray  # (778, 3, 10) metres per unit of betas
    posedirs: FloatArray  # (778, 3, 135) metres per entry of R - I, joints 1..15, row-major
    J_regressor: FloatArray  # (16, 778)
    weights: FloatArray  # (778, 16) skinning
    parents: IndexArray  # (16,) root -1
    hands_mean: FloatArray  # (45,) axis-angle
    hands_components: FloatArray  # (45, 45) axis-angle, a component a row
    side: Side
    source: Source

    @property
    def joints(self) -> FloatArray:
        """Joints of the mean shape at rest, (16, 3) metres."""
        return self.J_regressor @ self.v_template


def load_assets(folder: Path | None = None) -> tuple[ManoAssets, ManoAssets]:
    """Load the right and the left hand.

    Args:
        folder: Folder that `fourdhands hands import` wrote; None for the open hand that is shipped
            with the package.

    Returns:
        Assets of the right hand, then of the left.

    Raises:
        FileNotFoundError: The folder or one of its two files is missing.
        ValueError: A file is damaged or does not have MANO's layout.
    """
    if folder is None:
        with resources.as_file(resources.files("fourdhands.hands.open_hand")) as shipped:
            return _read_side(shipped, Side.RIGHT), _read_side(shipped, Side.LEFT)
    if not folder.is_dir():
        raise FileNotFoundError(f"MANO folder '{folder}' does not exist. {_remedy(folder)}")
    return _read_side(folder, Side.RIGHT), _read_side(folder, Side.LEFT)


def save_assets(assets: tuple[ManoAssets, ManoAssets], folder: Path) -> None:
    """Write npz files that unmodified smplx loads (`ext='npz'`); same input, same bytes."""
    for side in assets:
        write_arrays(folder / FILE_NAMES[side.side], _to_file(side))


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an npz file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def import_official(folder: Path, out: Path) -> tuple[ManoAssets, ManoAssets]:
    """Convert the official `MANO_RIGHT.pkl` and `MANO_LEFT.pkl` to npz, executing nothing of them.

    Args:
        folder: Where the two pickles lie, or the folder `mano_v1_2` with `models/` inside.
        out: Where `MANO_RIGHT.npz` and `MANO_LEFT.npz` go. Written only when both files are good.

    Returns:
        Assets of the right hand and of the left, the left one's shape directions repaired.

    Raises:
        FileNotFoundError: A pickle is missing.
        ValueError: A pickle is refused, damaged, or does not have MANO's layout.
    """
    models = folder / "models"
    source = models if not (folder / "MANO_RIGHT.pkl").exists() and models.is_dir() else folder
    paths = [source / Path(FILE_NAMES[side]).with_suffix(".pkl") for side in Side]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"'{path}' does not exist. Download MANO v1.2 from https://mano.is.tue.mpg.de and "
                "give the folder that holds MANO_RIGHT.pkl and MANO_LEFT.pkl"
            )
    right, left = (
        _from_arrays(read_arrays(path), path, side, "mano")
        for path, side in zip(paths, Side, strict=True)
    )
    assets = right, repair_left_shape(right, left)
    save_assets(assets, out)
    return assets


def repair_left_shape(right: ManoAssets, left: ManoAssets) -> ManoAssets:
    """Give the left hand's shape directions the sign that mirrors the right hand's.

    In the released `MANO_LEFT.pkl` the x components of `shapedirs` were not negated when the right
    hand was mirrored, so that betas deform the left hand's breadth the wrong way round
    (https://github.com/vchoutas/smplx/issues/48). The fault is present where they are nearer to the
    right hand's x components than to their negatives; a correct file is returned unchanged.
    """
    right_x, left_x = right.shapedirs[:, 0], left.shapedirs[:, 0]
    if np.abs(left_x + right_x).sum() <= np.abs(left_x - right_x).sum():
        return left
    shapedirs = left.shapedirs.copy()
    shapedirs[:, 0] *= -1
    return replace(left, shapedirs=shapedirs)


def _remedy(folder: Path) -> str:
    return (
        "Convert the official files once with `fourdhands hands import DIR --out "
        f"{folder}`, or give no folder to use the open hand"
    )


def _read_side(folder: Path, side: Side) -> ManoAssets:
    path = folder / FILE_NAMES[side]
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist. {_remedy(folder)}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz file ({error}). {_remedy(folder)}") from error
    return _from_arrays(arrays, path, side, "open" if arrays.get("source") == "open" else "mano")


def _from_arrays(arrays: dict[str, Any], path: Path, side: Side, source: Source) -> ManoAssets:
    """Check MANO's layout and bring the arrays to the types of `ManoAssets`."""
    if missing := sorted(set(_SHAPES) - set(arrays)):
        raise ValueError(f"{path}: '{missing[0]}' is missing; MANO's files have {sorted(_SHAPES)}")
    arrays = dict(arrays)
    arrays["shapedirs"] = np.asarray(arrays["shapedirs"])[..., :NUM_BETAS]
    for name, shape in _SHAPES.items():
        array = np.asarray(arrays[name])
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise ValueError(
                f"{path}: '{name}' is {array.dtype} of shape {array.shape}, MANO's has {shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: '{name}' holds numbers that are not finite")
    faces = np.asarray(arrays["f"]).astype(np.int64)
    if faces.min() < 0 or faces.max() >= NUM_VERTICES:
        raise ValueError(f"{path}: 'f' names vertices outside 0..{NUM_VERTICES - 1}")
    parents = np.asarray(arrays["kintree_table"])[0].astype(np.int64)
    parents[0] = -1
    if tuple(parents) != MANO_PARENTS:
        raise ValueError(f"{path}: 'kintree_table' has parents {parents}, not {MANO_PARENTS}")
    floats = {
        name: np.ascontiguousarray(arrays[name], dtype=np.float32)
        for name in _SHAPES
        if name not in ("f", "kintree_table")
    }
    return ManoAssets(faces=faces, parents=parents, side=side, source=source, **floats)


def _to_file(assets: ManoAssets) -> dict[str, NDArray[Any]]:
    """MANO's own names and types, so that other MANO tools read the file too."""
    parents = np.where(assets.parents < 0, _ROOT_PARENT, assets.parents)
    return {
        "v_template": assets.v_template,
        "f": assets.faces.astype(np.uint32),
        "shapedirs": assets.shapedirs,
        "posedirs": assets.posedirs,
        "J_regressor": assets.J_regressor,
        "weights": assets.weights,
        "kintree_table": np.stack([parents, np.arange(NUM_MANO_JOINTS)]).astype(np.uint32),
        "hands_mean": assets.hands_mean,
        "hands_components": assets.hands_components,
        "J": assets.joints,
        "source": np.array(assets.source),
    }
