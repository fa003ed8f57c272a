"""Files of hands: what is written is read again, and what is damaged or claimed is refused."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy

from fourdhands.evaluation import array_file
from fourdhands.evaluation.benchmark import score
from fourdhands.evaluation.predictions_file import load_samples, match, save_samples
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import HandSamples, Pair
from tests.helpers.samples import random_pair, random_truth

Arrays = dict[str, Any]
slow_disk = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def arrays(tmp_path: Path) -> Arrays:
    """Of a file that is right."""
    save_samples(random_truth(np.random.default_rng(0), 5), tmp_path / "right.npz")
    with np.load(tmp_path / "right.npz") as file:
        return dict(file)


@pytest.fixture
def small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of test files are large, and blocks of a few images."""
    monkeypatch.setattr(array_file, "_MAPPED_BYTES", 64)
    monkeypatch.setattr(array_file, "BLOCK_BYTES", 50_000)


def same(first: HandSamples, second: HandSamples) -> bool:
    alike = (getattr(first, f.name) for f in fields(first) if f.name not in ("file", "hands"))
    other = (getattr(second, f.name) for f in fields(first) if f.name not in ("file", "hands"))
    return all(
        bool((a == b).all()) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(alike, other, strict=True)
    )


# ---- what is right -------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_maps")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_mean_the_same_however_they_are_stored(
    arrays: Arrays, tmp_path: Path, save: Callable[..., None]
) -> None:
    path = tmp_path / "other.npz"
    save(path, **arrays)
    expected = load_samples(path)
    assert (expected.vertices.numpy() == arrays["vertices"]).all()
    path = tmp_path / "another.npz"  # the first one may still be looked at
    stored: dict[str, Callable[[Any], Any]] = {
        "joints": np.asfortranarray,
        "vertices": lambda array: array.astype(array.dtype.newbyteorder(">")),
        "frame": lambda array: array.astype(np.int16),
    }
    save(path, **{name: stored.get(name, np.asarray)(array) for name, array in arrays.items()})
    assert same(load_samples(path), expected)
    save(path, **(arrays | {"vertices": arrays["vertices"].astype(np.float16)}))
    assert (load_samples(path).vertices.double() - expected.vertices).abs().max() < 1e-3


@pytest.mark.usefixtures("small_maps")
def test_figures_do_not_depend_on_where_arrays_are(tmp_path: Path) -> None:
    pair = random_pair(1, 40)
    for name, part in (("predictions", pair.predicted), ("truth", pair.true)):
        save_samples(part, tmp_path / f"{name}.npz")
    predicted, true = (load_samples(tmp_path / f"{n}.npz") for n in ("predictions", "truth"))
    mapped = match(predicted, true, "predictions")
    assert mapped.predicted is predicted  # not copied
    for name in ("freihand", "arctic"):
        assert score(PROTOCOLS[name], mapped, any_count=True) == pytest.approx(
            score(PROTOCOLS[name], pair, any_count=True), rel=1e-12
        )
    order = torch.arange(40).flip(0)
    save_samples(pair.predicted.take(order), tmp_path / "predictions.npz")
    mixed = match(load_samples(tmp_path / "predictions.npz"), true, "predictions")
    assert same(mixed.predicted, predicted)


numbers = st.floats(-1e6, 1e6, width=32)
written = st.characters(exclude_categories=["Cs"])
frames = st.integers(-(2**60), 2**60)


@st.composite
def samples(draw: st.DrawFn) -> HandSamples:
    """Anything that a file may hold."""
    count = draw(st.integers(1, 3))
    there = draw(hnp.arrays(bool, (count, 2)))
    names = draw(
        st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=count, max_size=count)
    )
    names = [name.rstrip("\0") or "?" for name in names]
    if len(set(names)) < count:
        names = [str(k) for k in range(count)]
    meshes = draw(st.booleans())
    values = draw(hnp.arrays(np.float32, (count, 2, 21, 3), elements=numbers))
    return HandSamples(
        joints=torch.from_numpy(values),
        joints_valid=torch.from_numpy(draw(hnp.arrays(bool, (count, 2, 21)))),
        vertices=torch.full((count, 2, 778 * meshes, 3), draw(numbers)),
        vertices_valid=torch.from_numpy(there & meshes),
        joints_2d=torch.from_numpy(values[..., :2].copy()),
        joints_2d_valid=torch.ones(count, 2, 21, dtype=torch.bool),
        handedness=torch.from_numpy(there.astype(np.float32)),
        sequence=torch.arange(count) // 2,
        frame=torch.tensor(draw(st.lists(frames, min_size=count, max_size=count))),
        fps=torch.full((count,), draw(st.floats(1, 240, width=32))),
        cam_from_world=torch.eye(4).repeat(count, 1, 1),
        area=torch.full((count,), draw(st.floats(0, 1e6, width=32))),
        names=tuple(names),
    )  # fmt: skip


@slow_disk
@given(written=samples())
def test_what_is_written_is_read(tmp_path: Path, written: HandSamples) -> None:
    save_samples(written, tmp_path / "any.npz")
    assert same(load_samples(tmp_path / "any.npz"), written)


# ---- what is not ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_maps")
@slow_disk
@given(data=st.data())
def test_damaged_bytes_are_told_or_do_not_matter(arrays: Arrays, tmp_path: Path, data: Any) -> None:
    path = tmp_path / "damaged.npz"
    small = {name: array for name, array in arrays.items() if "vertices" not in name}
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(path, **small)
    expected, whole = load_samples(path), bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        # headers and the directory as often as the arrays
        ends = st.integers(0, 200) | st.integers(len(whole) - 900, len(whole) - 1)
        place = data.draw(ends | st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        found = load_samples(path)
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert same(found, expected)


def change(name: str, value: Any) -> Callable[[Arrays], None]:
    def apply(arrays: Arrays) -> None:
        arrays[name] = value(arrays[name]) if callable(value) else value

    return apply


def put(name: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    def apply(arrays: Arrays) -> None:
        arrays[name][index] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (put("vertices", (3, 1, 700, 2), np.inf), "vertices of image 3 are not finite"),
        (put("joints", (4, 0, 0, 0), -3e7), "joints of image 4 exceed 1e+06"),
        (put("handedness", (2, 1), 1.5), "handedness of image 2 is 1.5, outside 0 to 1"),
        (put("fps", 1, 0.0), "fps of image 1 is 0.0, outside"),
        (put("frame", 0, 2**62), "frame of image 0 is"),
        (put("cam_from_world", (1, 0, 0), -1.0), "cam_from_world of image 1 is no rigid motion"),
        (put("cam_from_world", (1, 3, 0), 1.0), "cam_from_world of image 1 is no rigid motion"),
        (change("area", -np.ones(5)), "area of image 0 is -1.0"),
        (change("joints", lambda a: a.astype(int)), "joints is int64 (5, 2, 21, 3), it has to be"),
        (change("joints", lambda a: a.astype(np.longdouble)), "joints is float128"),
        (change("joints_valid", lambda a: a.astype(int)), "it has to be bools"),
        (change("frame", lambda a: a / 2), "it has to be integers"),
        (change("joints", lambda a: a[:4]), "floats of 16, 32 or 64 bits of shape (5,"),
        (change("joints", lambda a: a.astype(object)), "objects, which are never loaded"),
        (change("names", np.array([])), "it holds no images"),
        (change("names", np.arange(5)), "names are missing, or not a list of texts"),
        (change("names", np.full(5, 2**31).view("<U1").repeat(1)[:5]), "names are not texts"),
        (change("sequence", np.array(["\ud800"] * 5)), "sequence are not texts"),
        (change("names", np.array(list("abcda"))), "a name stands twice, 'a'"),
        (change("format_version", np.array(2)), "format_version is 2"),
        (change("notes", np.zeros(3)), "unknown array 'notes'"),
    ],
)  # fmt: skip
def test_bad_arrays_are_named(
    arrays: Arrays, tmp_path: Path, spoil: Callable[[Arrays], None], said: str
) -> None:
    spoil(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match="bad") as caught:
        load_samples(tmp_path / "bad.npz")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def member(shape: tuple[int, ...], descr: str = "<f4", values: bytes = b"") -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + values


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member((10**9, 2, 21, 3)), "says it is float32 (1000000000, 2, 21, 3), but has 0 bytes"),
        (member((10**12,), "<U0"), "says it is"),
        (member((-1, 4)), "not a readable npz file"),
        (member((2,), "<f4", bytes(9)), "but has 9 bytes"),
        (b"\x93NUMPY\x03\x00" + member((1,))[8:], "unknown npy version"),
        (b"hello", "not a readable npz file"),
    ],
)
def test_claims_are_not_believed(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "claims.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("joints.npy", content)
    with pytest.raises(ValueError, match="claims") as caught:
        load_samples(path)
    assert said in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_file, "_UNPACKED_BYTES", 2**20)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, vertices=np.zeros((1000, 2, 778, 3), np.float32))
    assert path.stat().st_size < 40_000
    with pytest.raises(ValueError, match=r"would take 0\.0 GiB.*numpy\.savez"):
        load_samples(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    for content in (b"", b"PK", np.random.default_rng(0).bytes(500)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable npz file"):
            load_samples(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_samples(tmp_path / "none.npz")


def test_an_array_that_is_there_twice_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "twice.npz"
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("joints.npy", member((0,)))
    with pytest.raises(ValueError, match=r"'joints.npy' is no array, or is there twice"):
        load_samples(path)


def test_predictions_have_to_be_those_that_are_asked_for() -> None:
    pair: Pair = random_pair(2, 4)
    fewer = pair.predicted.take(torch.arange(3))
    with pytest.raises(ValueError, match="1 images have no prediction, as 'sequence/0/3'"):
        match(fewer, pair.true, "mine")
    with pytest.raises(ValueError, match="1 images are not of the benchmark"):
        match(pair.predicted, pair.true.take(torch.arange(3)), "mine")
