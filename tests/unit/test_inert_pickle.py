"""A MANO pickle is data: whatever it asks for, nothing of it runs."""

import builtins
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fourdhands.inert_pickle import loads, read_arrays


class Reduces:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def write(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def hostile(marker: Path) -> dict[str, object]:
    """Pickles whose loading would make `marker`."""
    import os
    import posix
    import subprocess

    touch = f"open({str(marker)!r}, 'w')"
    command = f"touch {marker}"
    return {
        "os.system": Reduces(os.system, command),
        "posix.system": Reduces(posix.system, command),
        "builtins.eval": Reduces(eval, touch),
        "builtins.exec": Reduces(exec, touch),
        "builtins.open": Reduces(open, str(marker), "w"),
        "subprocess": Reduces(subprocess.check_call, ["touch", str(marker)]),
        "getattr": Reduces(getattr, Reduces(__import__, "os"), "system"),
        "nested": {"v_template": [np.zeros(3), (Reduces(os.system, command),)]},
        "numpy.load": Reduces(np.load, str(marker)),
        "operator": Reduces(__import__("operator").methodcaller("write_text", "x"), marker),
    }


@pytest.mark.parametrize("name", list(hostile(Path("marker"))))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickles_are_refused_and_nothing_runs(
    tmp_path: Path, name: str, protocol: int
) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "MANO_RIGHT.pkl", {"f": hostile(marker)[name]}, protocol)
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.pkl: refused, the pickle asks for"):
        read_arrays(path)
    assert not marker.exists()


def test_a_hand_written_program_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "MANO_LEFT.pkl"
    path.write_bytes(f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode())
    with pytest.raises(ValueError, match=r"'posix\.system'"):
        read_arrays(path)
    # no way round by a dotted name
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93)R.")
    with pytest.raises(ValueError, match="refused"):
        read_arrays(path)
    assert not marker.exists()


def test_memo_slots_cannot_exhaust_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(ValueError, match="memo slot"):
        read_arrays(path)


def test_sparse_matrices_become_dense(tmp_path: Path) -> None:
    dense = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    content = {"columns": sparse.csc_matrix(dense), "rows": sparse.csr_matrix(dense)}
    read = read_arrays(write(tmp_path / "x.pkl", content))
    np.testing.assert_array_equal(read["columns"], dense)
    np.testing.assert_array_equal(read["rows"], dense)


def test_numpy_numbers_are_keys() -> None:
    content = {np.int64(3): {np.str_("K"): np.float32(2.5)}}
    assert loads(pickle.dumps(content), "test") == {3: {"K": 2.5}}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_dictionaries_survive(protocol: int) -> None:
    frames = np.array([{"pose": np.arange(3.0), "name": "a"}, None], dtype=object)
    names = np.array(["left", "right"])
    read = loads(pickle.dumps([frames, names], protocol=protocol), "labels")
    assert read[0].shape == (2,) and read[0][1] is None and read[0][0]["name"] == "a"
    assert (read[0][0]["pose"] == np.arange(3.0)).all() and (read[1] == names).all()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i8", "|u1", "<u4", "|b1"])
def test_arrays_survive(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    fortran = np.asfortranarray(array)
    path = write(
        tmp_path / "x.pkl", {"a": array, "b": fortran, "c": array[0, 0, 1], "d": "lbs"}, protocol
    )
    read = read_arrays(path)
    for name in "ab":
        np.testing.assert_array_equal(read[name], array)
    assert read["c"] == array[0, 0, 1] and read["d"] == "lbs"


@pytest.fixture
def chumpy() -> Iterator[types.SimpleNamespace]:
    """Classes that pickle under chumpy's names; the names are gone when a file is read."""
    modules = {
        name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")
    }
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering"})
    modules["chumpy.ch"].Ch = ch  # type: ignore[attr-defined]
    modules["chumpy.reordering"].Select = select  # type: ignore[attr-defined]
    sys.modules.update(modules)
    yield types.SimpleNamespace(Ch=ch, Select=select)
    for name in modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_chumpy_expressions_become_arrays(
    tmp_path: Path, chumpy: types.SimpleNamespace, protocol: int
) -> None:
    # as in the official file: a selection of the first ten of twenty directions
    all_directions = np.random.default_rng(0).normal(size=(4, 3, 20))
    inner = chumpy.Ch()
    inner.__dict__.update(x=all_directions, _dirty_vars=set(), _itr=None)
    outer = chumpy.Select()
    indices = np.arange(all_directions.size).reshape(all_directions.shape)[..., :10].ravel()
    outer.__dict__.update(a=inner, idxs=indices, preferred_shape=(4, 3, 10), _dirty_vars={"a"})
    path = write(tmp_path / "x.pkl", {"shapedirs": outer, "v": inner}, protocol)
    read = read_arrays(path)
    np.testing.assert_array_equal(read["shapedirs"], all_directions[..., :10])
    np.testing.assert_array_equal(read["v"], all_directions)


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "MANO_RIGHT.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.pkl"):
        read_arrays(path)


@settings(deadline=None)
@given(cut=st.integers(0, 400), flip=st.integers(0, 255))
def test_damaged_files_are_clear_errors_or_dictionaries(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    whole = bytearray(pickle.dumps({"a": np.arange(20.0), "s": "lbs"}, protocol=2))
    position = cut % len(whole)
    whole[position] = flip
    path = tmp_path_factory.mktemp("damaged") / "MANO_RIGHT.pkl"
    path.write_bytes(bytes(whole))
    try:
        assert isinstance(read_arrays(path), dict)
    except ValueError as error:
        assert "MANO_RIGHT.pkl" in str(error)


def test_no_builtin_is_known() -> None:
    from fourdhands.inert_pickle import _STAND_INS

    known = set(_STAND_INS.values())
    assert not known & {value for value in vars(builtins).values() if callable(value)}


@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1])
def test_sparse_indices_outside_the_matrix_are_refused(tmp_path: Path, index: int) -> None:
    matrix = sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = index
    with pytest.raises(ValueError, match="not a readable pickle"):
        read_arrays(write(tmp_path / "x.pkl", {"J_regressor": matrix}))


def test_sparse_matrices_cannot_exhaust_memory(tmp_path: Path) -> None:
    matrix = sparse.csc_matrix(([1.0], ([0], [0])), shape=(2**20, 2**20))
    with pytest.raises(ValueError, match="would fill"):
        read_arrays(write(tmp_path / "x.pkl", {"J_regressor": matrix}))


def test_lists_of_lists_of_lists_cannot_exhaust_time(tmp_path: Path) -> None:
    bomb: list[object] = []
    for _ in range(40):
        bomb = [bomb, bomb]
    with pytest.raises(ValueError, match="more than"):
        read_arrays(write(tmp_path / "x.pkl", {"a": bomb}))
