"""The path tracer agrees with the rasteriser on geometry and on where light comes from."""

import builtins
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.primitives import box, sphere
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.realistic import RealisticRenderer, environment_map

GREY = (0.5, 0.5, 0.5)


def test_environment_light_has_the_irradiance_of_its_description() -> None:
    lighting = Lighting.sample(np.random.default_rng(4))
    light = environment_map(lighting)
    rows, columns = light.shape[:2]
    polar = (np.arange(rows)[:, None] + 0.5) * np.pi / rows
    turn = (np.arange(columns) + 0.5) * 2 * np.pi / columns
    # mitsuba's convention: y up the poles, longitude from -z towards x
    d = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.sin(turn), np.cos(polar), -np.sin(polar) * np.cos(turn)
        ),
        axis=-1,
    )
    area = np.sin(polar) * (np.pi / rows) * (2 * np.pi / columns)
    for n in (*np.eye(3), *-np.eye(3), *lighting.directions):
        x, y, z = n
        terms = np.array([1, y, z, x, x * y, y * z, 3 * z**2 - 1, x * z, x**2 - y**2])
        expected = terms @ lighting.ambient
        expected = expected + np.maximum(lighting.directions @ n, 0.0) @ lighting.radiance
        cosine = np.maximum(d @ n, 0.0) * area
        got = np.einsum("ij,ijc->c", cosine, light) / np.pi
        np.testing.assert_allclose(got, expected, rtol=0.15, atol=0.03)


def test_without_mitsuba_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_mitsuba(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "mitsuba":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "mitsuba", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_mitsuba)
    with pytest.raises(ValueError, match=r"pip install .*'\.\[realistic\]'"):
        RealisticRenderer(8, 8)


def test_both_renderers_see_the_same_scene() -> None:
    pytest.importorskip("mitsuba")
    height, width = 48, 64
    # off-centre principal point: a mirrored or shifted image would not match
    K = np.array([[80.0, 0.0, 20.0], [0.0, 80.0, 30.0], [0.0, 0.0, 1.0]])
    surfaces = [
        sphere(0.1, GREY).moved(np.eye(3), (0.05, -0.05, 0.5)),
        box((0.2, 0.1, 0.1), (0.5, 0.2, 0.1)).moved(np.eye(3), (0.2, 0.1, 0.6)),
    ]
    lighting = Lighting.studio()
    paper = np.full((height, width, 3), 120, np.uint8)
    fast = Rasterizer(height, width).render(surfaces, K, lighting, paper)
    traced = RealisticRenderer(height, width, samples=48).render(surfaces, K, lighting, paper)
    for name in ("depth", "instance", "coverage"):
        np.testing.assert_array_equal(getattr(traced, name), getattr(fast, name))
    far_off = cv2.dilate(fast.coverage, np.ones((3, 3))) == 0  # the tracer's edges are finer
    np.testing.assert_array_equal(traced.rgb[far_off], 120)
    solid = fast.coverage == 1
    difference = traced.rgb[solid].astype(float) - fast.rgb[solid]
    assert np.abs(difference.mean(axis=0)).max() < 20
    brightness = [image.rgb[solid].mean(axis=-1) for image in (fast, traced)]
    assert np.corrcoef(*brightness)[0, 1] > 0.85
    again = RealisticRenderer(height, width, samples=48).render(surfaces, K, lighting, paper)
    np.testing.assert_array_equal(traced.rgb, again.rgb)
