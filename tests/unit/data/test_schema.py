import io
import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.data.schema import (
    ARRAYS,
    BadSampleError,
    Clip,
    count_frames,
    decode_clip,
    encode_clip,
)
from tests.helpers.clips import random_clip

CLIP = random_clip(np.random.default_rng(0), num_frames=3)
SAMPLE = encode_clip(CLIP)
MEMBERS = sorted(name for name in SAMPLE if not name.startswith("__"))


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def meta(**changes: Any) -> bytes:
    return json.dumps({**json.loads(SAMPLE["meta.json"]), **changes}).encode()


def test_round_trip() -> None:
    clip = replace(
        CLIP,
        masks=(b"m",) * 3,
        depths=(b"d0", b"d1", b"d2"),
        hands_shown=np.array([[True, False]] * 3),
        person_area=np.array([5.0, 6.0, 7.0], np.float32),
    )
    decoded = decode_clip(encode_clip(clip))
    for field in fields(Clip):
        np.testing.assert_array_equal(getattr(decoded, field.name), getattr(clip, field.name))
    assert count_frames(encode_clip(clip)) == 3
    assert {*ARRAYS} <= {field.name for field in fields(Clip)}


def test_numpy_reads_the_members() -> None:
    for name in ARRAYS:
        array = np.load(io.BytesIO(SAMPLE[f"{name}.npy"]), allow_pickle=False)
        np.testing.assert_array_equal(array, getattr(CLIP, name))


BAD_MEMBERS: dict[str, tuple[str, bytes, str]] = {
    "not json": ("meta.json", b"{", "not JSON"),
    "not an object": ("meta.json", b"[]", "not a JSON object"),
    "other version": ("meta.json", meta(schema_version=99), "schema_version is 99"),
    "unknown field": ("meta.json", meta(colour="red"), "colour"),
    "fps as text": ("meta.json", meta(fps="30"), "fps is '30'"),
    "no fps": ("meta.json", meta(fps=0.0), "fps is 0.0"),
    "frame id repeated": ("meta.json", meta(frame_ids=[0, 1, 1]), "do not increase"),
    "one frame id too few": ("meta.json", meta(frame_ids=[0, 1]), "3 for 2 frames"),
    "one side of the image": ("meta.json", meta(image_size=[64]), "image_size"),
    "not npy": ("betas.npy", b"hello", "npy"),
    "objects": (
        "betas.npy",
        npy(np.array([print], dtype=object), allow_pickle=True),
        "is object (1,), not float32",
    ),
    "wrong dtype": ("joints.npy", npy(CLIP.joints.astype(np.float64)), "float64"),
    "wrong shape": ("joints.npy", npy(CLIP.joints[:, :, :20]), "(3, 2, 20, 3)"),
    "frame missing": ("joints.npy", npy(CLIP.joints[:2]), "(2, 2, 21, 3)"),
    "other order": ("transl.npy", npy(np.asfortranarray(CLIP.transl)), "C order"),
    "cut off": ("transl.npy", SAMPLE["transl.npy"][:-1], "bytes"),
    "NaN": ("transl.npy", npy(CLIP.transl * np.float32("nan")), "not finite"),
    "no rotation": ("hand_pose.npy", npy(CLIP.hand_pose * np.float32(1.1)), "not rotations"),
    "mirrored rotation": ("global_orient.npy", npy(-CLIP.global_orient), "not rotations"),
    "half a box": ("bbox.npy", npy(CLIP.bbox * np.float32([1, 1, 1, 0])), "bbox"),
    "no focal length": ("intrinsics.npy", npy(CLIP.intrinsics * np.float32(0)), "focal"),
    "unknown": ("surprise.npy", b"", "not a member"),
    "numbers with a gap": ("004.jpg", b"", "is missing"),
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_bad_member_is_named(case: str) -> None:
    member, data, reason = BAD_MEMBERS[case]
    sample = {**SAMPLE, member: data, "__url__": "train-000003.tar"}
    with pytest.raises(BadSampleError) as error:
        decode_clip(sample)
    message = str(error.value)
    assert "train-000003.tar" in message and "clip" in message and reason in message
    assert "\n" not in message
    if case not in ("numbers with a gap", "one frame id too few"):
        assert member in message


@pytest.mark.parametrize("member", MEMBERS)
def test_missing_member_is_named(member: str) -> None:
    sample = {name: value for name, value in SAMPLE.items() if name != member}
    with pytest.raises(BadSampleError, match=r"\.(npy|jpg|json)"):
        decode_clip(sample)


@settings(max_examples=200, deadline=None)
@given(
    member=st.sampled_from([name for name in MEMBERS if not name.endswith("jpg")]),
    edit=st.one_of(
        st.binary(max_size=64).map(lambda data: lambda _: data),
        st.integers(0, 400).map(lambda n: lambda data: data[:n]),
        st.tuples(st.integers(0, 200), st.integers(0, 255)).map(
            lambda e: lambda data: data[: e[0]] + bytes([e[1]]) + data[e[0] + 1 :]
        ),
    ),
)
def test_any_damage_is_refused_or_harmless(member: str, edit: Callable[[bytes], bytes]) -> None:
    try:
        clip = decode_clip({**SAMPLE, member: edit(SAMPLE[member])})
    except BadSampleError:
        return
    encode_clip(clip)


def test_writer_checks_too() -> None:
    with pytest.raises(BadSampleError, match="betas"):
        encode_clip(replace(CLIP, betas=CLIP.betas.astype(np.float64)))
    with pytest.raises(BadSampleError, match="key"):
        encode_clip(replace(CLIP, key="../outside"))
    with pytest.raises(BadSampleError, match="1 for 3 frames"):
        encode_clip(replace(CLIP, masks=(b"",)))
