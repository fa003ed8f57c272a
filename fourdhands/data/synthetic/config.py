"""What rendered scenes show and how many there are: the fields of `configs/synthetic/*.yaml`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from fourdhands.data.synthetic.appearance import AppearanceConfig
from fourdhands.data.synthetic.background import BackgroundConfig
from fourdhands.data.synthetic.camera import CameraConfig
from fourdhands.data.synthetic.effects import EffectsConfig
from fourdhands.data.synthetic.placement import SCENE_KINDS, SceneKind


@dataclass(frozen=True)
class KindShares:
    """How often each kind of scene comes; the numbers are relative.

    Attributes:
        single: One hand.
        apart: Two hands that do not touch.
        close: Two hands in contact.
        crossing: One hand in front of the other.
    """

    single: float = 0.25
    apart: float = 0.25
    close: float = 0.35
    crossing: float = 0.15

    def __post_init__(self) -> None:
        """Refuse shares that are no distribution."""
        shares = [getattr(self, kind) for kind in SCENE_KINDS]
        if min(shares) < 0 or sum(shares) <= 0:
            raise ValueError(f"kinds are {shares}: none may be negative, one has to be positive")

    def draw(self, rng: np.random.Generator) -> SceneKind:
        """Draw a kind."""
        shares = np.array([getattr(self, kind) for kind in SCENE_KINDS])
        return SCENE_KINDS[int(rng.choice(len(shares), p=shares / shares.sum()))]


@dataclass(frozen=True)
class PathTracingConfig:
    """Realistic pictures by mitsuba (extra `realistic`), a hundred times slower.

    Attributes:
        samples: Light paths a pixel; 64 and more leave no grain.
        variant: mitsuba's back end; llvm_ad_rgb is faster but needs a fitting LLVM library.
    """

    samples: int = 64
    variant: Literal["scalar_rgb", "llvm_ad_rgb"] = "scalar_rgb"

    def __post_init__(self) -> None:
        """Refuse pictures without light."""
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}: at least 1 is needed")


@dataclass(frozen=True)
class SceneConfig:
    """What the rendered clips show.

    Attributes:
        image_size: Width, height in pixels.
        kinds: How often each kind of scene comes.
        hand_size: Smallest and largest length of an unforeshortened hand, share of image height.
        distance: Nearest and farthest hands, metres from the camera.
        truncated_share: Share of clips whose hands are cut by the image border.
        min_visible_share: A hand that shows less of its outline than this counts as absent.
        camera: Intrinsics and camera motion.
        background: What is behind the hands.
        appearance: Skin, forearms, sleeves, occluders.
        effects: Blur, noise, compression.
        subdivisions: Rounds of Loop subdivision before rendering.
        supersampling: Samples per pixel along each axis.
        path_tracing: Realistic pictures; None for the fast rasteriser.
        masks: Whether masks are stored.
        depth: Whether depth is stored.
        mano: Folder of converted MANO files; None for the open hand.
    """

    image_size: tuple[int, int] = (320, 240)
    kinds: KindShares = field(default_factory=KindShares)
    hand_size: tuple[float, float] = (0.35, 0.85)
    distance: tuple[float, float] = (0.25, 1.0)
    truncated_share: float = 0.12
    min_visible_share: float = 0.08
    camera: CameraConfig = field(default_factory=CameraConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    effects: EffectsConfig = field(default_factory=EffectsConfig)
    subdivisions: int = 1
    supersampling: int = 2
    path_tracing: PathTracingConfig | None = None
    masks: bool = True
    depth: bool = True
    mano: Path | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be rendered."""
        if min(self.image_size) < 32:
            raise ValueError(f"image_size is {self.image_size}: at least 32 x 32 is needed")
        if self.subdivisions < 0 or self.supersampling < 1:
            raise ValueError(
                f"subdivisions is {self.subdivisions}, supersampling {self.supersampling}: "
                "at least 0 and 1 are needed"
            )
        for part in (self, self.camera, self.appearance, self.effects):
            for name, value in vars(part).items():
                if name.endswith("_share") and not 0 <= value <= 1:
                    raise ValueError(f"{name} is {value}: a share lies between 0 and 1")
        for name in ("hand_size", "distance"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {low, high}: give least, greatest, both positive")
