import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from fourdhands.cli.main import main
from fourdhands.hands.assets import (
    ManoAssets,
    import_official,
    load_assets,
    repair_left_shape,
    save_assets,
)
from fourdhands.skeleton import Side


@pytest.fixture(scope="module")
def hands() -> tuple[ManoAssets, ManoAssets]:
    return load_assets()


def official_content(hand: ManoAssets, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The hand in the official files' layout: sparse regressor, chumpy shapes, float64."""
    for name, attribute in (("chumpy", None), ("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        module = types.ModuleType(name)
        if attribute:
            setattr(module, attribute, type(attribute, (), {"__module__": name}))
        monkeypatch.setitem(sys.modules, name, module)
    chumpy: Any = sys.modules
    twenty = np.concatenate([hand.shapedirs, 0 * hand.shapedirs], axis=-1).astype(np.float64)
    directions, chosen = chumpy["chumpy.ch"].Ch(), chumpy["chumpy.reordering"].Select()
    directions.__dict__.update(x=twenty, _dirty_vars=set(), _itr=None)
    indices = np.arange(twenty.size).reshape(twenty.shape)[..., :10].ravel()
    chosen.__dict__.update(a=directions, idxs=indices, preferred_shape=(778, 3, 10))
    parents = np.where(hand.parents < 0, 2**32 - 1, hand.parents)
    return {
        "v_template": hand.v_template.astype(np.float64),
        "f": hand.faces.astype(np.uint32),
        "shapedirs": chosen,
        "posedirs": hand.posedirs.astype(np.float64),
        "J_regressor": sparse.csc_matrix(hand.J_regressor.astype(np.float64)),
        "weights": hand.weights.astype(np.float64),
        "kintree_table": np.stack([parents, np.arange(16)]).astype(np.uint32),
        "hands_mean": hand.hands_mean.astype(np.float64),
        "hands_components": hand.hands_components.astype(np.float64),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_official(
    folder: Path, hands: tuple[ManoAssets, ManoAssets], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        for hand in hands:
            content = official_content(hand, patch)
            (folder / f"MANO_{hand.side.name}.pkl").write_bytes(pickle.dumps(content, protocol=2))
    assert "chumpy" not in sys.modules


def assert_same(first: ManoAssets, second: ManoAssets) -> None:
    for name in vars(first):
        if name != "source":
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


def test_saved_hands_load_again(tmp_path: Path, hands: tuple[ManoAssets, ManoAssets]) -> None:
    save_assets(hands, tmp_path)
    for before, after in zip(hands, load_assets(tmp_path), strict=True):
        assert_same(before, after)
        assert after.source == "open"
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"MANO_RIGHT.npz", "MANO_LEFT.npz"}
    save_assets(hands, tmp_path)
    assert written == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_official_files_are_imported_without_chumpy(
    tmp_path: Path, hands: tuple[ManoAssets, ManoAssets], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_official(tmp_path / "mano_v1_2" / "models", hands, monkeypatch)
    returned = import_official(tmp_path / "mano_v1_2", tmp_path / "out")
    for before, after, kept in zip(hands, load_assets(tmp_path / "out"), returned, strict=True):
        assert_same(before, after)
        assert_same(after, kept)
        assert after.source == "mano"


def test_the_left_hands_shape_sign_is_repaired(
    tmp_path: Path, hands: tuple[ManoAssets, ManoAssets], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, left = hands
    sign = np.array([[-1.0], [1.0], [1.0]], np.float32)
    faulty = replace(left, shapedirs=left.shapedirs * sign)  # as released: x not mirrored
    np.testing.assert_array_equal(faulty.shapedirs, right.shapedirs)
    assert_same(repair_left_shape(right, faulty), left)
    assert repair_left_shape(right, left) is left
    write_official(tmp_path, (right, faulty), monkeypatch)
    assert_same(import_official(tmp_path, tmp_path / "out")[1], left)


def test_missing_folder_and_files_say_what_to_do(
    tmp_path: Path, hands: tuple[ManoAssets, ManoAssets], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist.*hands import"):
        load_assets(tmp_path / "nowhere")
    save_assets(hands, tmp_path)
    (tmp_path / "MANO_LEFT.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"MANO_LEFT\.npz.*hands import"):
        load_assets(tmp_path)
    assert main(["hands", "import", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "MANO_RIGHT.pkl" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_hostile_official_file_writes_nothing(
    tmp_path: Path,
    hands: tuple[ManoAssets, ManoAssets],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_official(tmp_path, hands, monkeypatch)
    marker = tmp_path / "marker"
    (tmp_path / "MANO_LEFT.pkl").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    assert main(["hands", "import", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "MANO_LEFT.pkl" in error and "os.system" in error and error.count("\n") == 1
    assert not marker.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", np.zeros((778, 15), np.float32), r"'weights' is float32 of shape \(778, 15\)"),
        ("v_template", np.full((778, 3), np.nan, np.float32), "not finite"),
        ("f", np.full((1538, 3), 778, np.uint32), r"outside 0\.\.777"),
        ("kintree_table", np.zeros((2, 16), np.uint32), "kintree_table"),
        ("posedirs", None, "'posedirs' is missing"),
    ],
)
def test_files_of_another_layout_are_refused(
    tmp_path: Path, hands: tuple[ManoAssets, ManoAssets], name: str, value: Any, message: str
) -> None:
    save_assets(hands, tmp_path)
    path = tmp_path / "MANO_RIGHT.npz"
    arrays = dict(np.load(path))
    del arrays[name]
    np.savez(path, **arrays, **({} if value is None else {name: value}))
    with pytest.raises(ValueError, match=rf"MANO_RIGHT\.npz.*{message}"):
        load_assets(tmp_path)


def test_npz_files_are_never_unpickled(
    tmp_path: Path, hands: tuple[ManoAssets, ManoAssets]
) -> None:
    save_assets(hands, tmp_path)
    path = tmp_path / "MANO_RIGHT.npz"
    arrays = dict(np.load(path)) | {"weights": np.array([print], dtype=object)}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.npz: not a readable npz file"):
        load_assets(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.npz: not a readable npz file"):
        load_assets(tmp_path)


def test_sides_know_themselves(hands: tuple[ManoAssets, ManoAssets]) -> None:
    assert [hand.side for hand in hands] == list(Side)
