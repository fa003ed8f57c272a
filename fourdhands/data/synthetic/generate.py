"""One rendered clip from a seed: scene -> pictures -> labels.

`ClipGenerator.clip` is a pure function of configuration, seed and index: the same numbers give the
same bytes in any process and in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fourdhands.data.schema import DEPTH_UNIT, Clip
from fourdhands.data.synthetic.appearance import Wardrobe
from fourdhands.data.synthetic.background import Backgrounds
from fourdhands.data.synthetic.config import SceneConfig
from fourdhands.data.synthetic.effects import CameraEffects, EffectsRack
from fourdhands.data.synthetic.scene import Scene
from fourdhands.data.synthetic.stage import Stage
from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import bbox_around
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.raster import Rasterizer, RenderedFrame
from fourdhands.rendering.surface import Surface
from fourdhands.rendering.visibility import visible_joints
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, Side

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Shot:
    """One photographed frame: the encoded picture, (H, W) mask and depth, (S, J) visibility."""

    jpg: bytes
    mask: Bytes
    depth: NDArray[np.float32]
    visible: NDArray[np.bool_]


class ClipGenerator:
    """Makes clips of one configuration; build one per process.

    Args:
        config: What the clips show.
        num_frames: Frames a clip.
        fps: Frames a second.
        dataset: Name that the clips carry.
        seed: Of the stream of clips, and of the textures and noise that its clips share.
    """

    def __init__(
        self,
        config: SceneConfig,
        *,
        num_frames: int,
        fps: float,
        dataset: str = "synthetic",
        seed: int | Sequence[int] = 0,
    ) -> None:
        self.config, self.dataset = config, dataset
        self._seed = tuple(np.atleast_1d(seed).tolist())
        self.model = HandModel(load_assets(config.mano))
        self._stage = Stage(config, self.model, num_frames=num_frames, fps=fps)
        stock = np.random.default_rng((*self._seed, 0))
        self._backgrounds = Backgrounds(config.background, stock)
        self._effects = EffectsRack(stock)
        self._wardrobe = Wardrobe(self.model, config.appearance, config.subdivisions, stock)
        self._renderer = _renderer(config)

    def clip(self, index: int) -> Clip:
        """Render clip `index`."""
        rng = np.random.default_rng((*self._seed, 1, index))
        scene = self._stage.scene(rng)
        joints_2d, vertices_2d = _project(scene)
        shots = self._photograph(rng, scene, joints_2d)
        return self._label(scene, joints_2d, vertices_2d, shots, index)

    def _photograph(
        self, rng: np.random.Generator, scene: Scene, joints_2d: NDArray[np.float32]
    ) -> list[_Shot]:
        """Render every frame."""
        look = self._wardrobe.choose(rng, scene)
        room = self._backgrounds.sample_room(rng, scene.camera.position)
        light = Lighting.sample(rng)
        effects = CameraEffects.sample(rng, self.config.effects, self.config.image_size[0])
        velocity = _velocity(joints_2d[:, scene.present], scene.times)
        intrinsics = scene.camera.intrinsics
        background = None
        shots = []
        for f, joints in enumerate(scene.geometry.joints.numpy()):
            if background is None or scene.camera.moves:
                background = self._backgrounds.paint(
                    room, intrinsics, scene.camera.cam_from_world[f], self.config.image_size
                )
            surfaces, owners = self._wardrobe.dress(look, scene, f)
            turned = _turn(light, scene.camera.rotation[f] @ scene.camera.rotation[0].T)
            picture = self._renderer.render(surfaces, intrinsics, turned, background)
            image = self._effects.apply(rng, effects, picture.rgb, velocity[f], picture.coverage)
            visible = np.zeros((NUM_SIDES, NUM_JOINTS), bool)
            for side in scene.sides:
                own = [k + 1 for k, owner in enumerate(owners) if owner.side is side and owner.bare]
                visible[side] = visible_joints(joints[side], picture, intrinsics, own)
            labels = np.array((0, *(owner.label for owner in owners)), np.uint8)
            shots.append(
                _Shot(
                    jpg=self._effects.encode(effects, image),
                    mask=labels[picture.instance],
                    depth=picture.depth,
                    visible=visible,
                )
            )
        return shots

    def _label(
        self,
        scene: Scene,
        joints_2d: NDArray[np.float32],
        vertices_2d: NDArray[np.float32],
        shots: list[_Shot],
        index: int,
    ) -> Clip:
        """Put pictures and labels together."""
        config, count = self.config, len(shots)
        shown = [_visible_share(*pair) for pair in zip(shots, vertices_2d, strict=True)]
        valid = scene.present & (np.stack(shown) >= config.min_visible_share)
        every_joint = np.repeat(valid[..., None], NUM_JOINTS, axis=-1)

        def masked(array: NDArray[np.float32]) -> NDArray[np.float32]:
            keep = valid.reshape(*valid.shape, *(1,) * (array.ndim - 2))
            return np.where(keep, array, 0).astype(np.float32)

        hands = scene.hands
        return Clip(
            key=f"{index:08d}",
            dataset=self.dataset,
            sequence=f"{index:08d}-{scene.kind}",
            camera="0",
            fps=self._stage.fps,
            frame_ids=tuple(range(count)),
            image_size=config.image_size,
            frames=tuple(shot.jpg for shot in shots),
            intrinsics=np.tile(scene.camera.intrinsics, (count, 1, 1)).astype(np.float32),
            cam_from_world=scene.camera.cam_from_world.astype(np.float32),
            global_orient=masked(hands.global_orient.numpy()),
            hand_pose=masked(hands.hand_pose.numpy()),
            betas=masked(hands.betas.numpy()),
            transl=masked(hands.transl.numpy()),
            hands_valid=valid,
            betas_valid=valid,
            roots_valid=valid,
            vertices_valid=np.zeros_like(valid),
            joints=masked(scene.geometry.joints.numpy()),
            joints_valid=every_joint,
            joints_2d=masked(joints_2d),
            joints_2d_valid=every_joint,
            joints_visible=np.stack([shot.visible for shot in shots]) & every_joint,
            bbox=masked(_bbox(vertices_2d, config.image_size)),
            masks=tuple(_png(shot.mask) for shot in shots) if config.masks else (),
            depths=tuple(_png(_counts(shot.depth)) for shot in shots) if config.depth else (),
        )


class _Renderer(Protocol):
    """What draws the frames: the rasteriser, or the path tracer."""

    def render(
        self,
        surfaces: Sequence[Surface],
        intrinsics: ArrayLike,
        lighting: Lighting,
        background: Bytes,
    ) -> RenderedFrame: ...


def _renderer(config: SceneConfig) -> _Renderer:
    width, height = config.image_size
    if config.path_tracing is None:
        return Rasterizer(height, width, config.supersampling)
    from fourdhands.rendering.realistic import RealisticRenderer  # needs mitsuba, an extra

    tracing = config.path_tracing
    return RealisticRenderer(height, width, tracing.samples, tracing.variant)


def _project(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Joints (F, S, J, 2) and vertices (F, S, V, 2) in pixels."""
    intrinsics = torch.from_numpy(scene.camera.intrinsics.astype(np.float32))
    geometry = scene.geometry
    return (
        project(geometry.joints, intrinsics).numpy(),
        project(geometry.vertices, intrinsics).numpy(),
    )


def _velocity(joints_2d: NDArray[np.float32], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 2) mean velocity of the joints in pixels a second."""
    if len(times) == 1:
        return np.zeros((1, 2))
    return np.gradient(joints_2d.mean(axis=(1, 2)), times, axis=0)


def _turn(light: Lighting, rotation: NDArray[np.float64]) -> Lighting:
    """The light of the first camera's frame seen by a camera that has turned."""
    return Lighting(
        directions=(light.directions @ rotation.T).astype(np.float32),
        radiance=light.radiance,
        ambient=light.ambient,
        penumbra=light.penumbra,
    )


def _visible_share(shot: _Shot, vertices_2d: NDArray[np.float32]) -> NDArray[np.float64]:
    """(S,) pixels that show each hand over the area of its outline's convex hull."""
    shares = np.zeros(NUM_SIDES)
    for side in Side:
        outline = cv2.contourArea(cv2.convexHull(vertices_2d[side]))
        shares[side] = np.count_nonzero(shot.mask == side + 1) / max(outline, 1.0)
    return shares


def _bbox(vertices_2d: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
    """(F, S, 4) tight boxes of the hands cut to the image."""
    border = torch.tensor(image_size) - 0.5
    points = torch.from_numpy(vertices_2d).clamp_min(-0.5).minimum(border)
    return bbox_around(points, torch.ones(points.shape[:-1], dtype=torch.bool)).numpy()


def _counts(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.clip(np.round(depth / DEPTH_UNIT), 0, 65535).astype(np.uint16)


def _png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
