"""H2O-3D: two hands and an object, in HO3D's layout (see `ho3d`).

Its pickles name the labels of each hand (rightHandPose, leftHandPose, ...) and have one shape for
both, of MANO's left hand as released. They may say which joints and angles are valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from fourdhands.data.convert.conventions import FROM_HO3D, Mano, numbers
from fourdhands.data.convert.ho3d import HOnnotateSet, Published
from fourdhands.data.convert.records import HandRecord
from fourdhands.skeleton import NUM_JOINTS, Side

_NAMES: Final = {Side.RIGHT: "right", Side.LEFT: "left"}


@dataclass(frozen=True)
class H2O3D(HOnnotateSet):
    """H2O-3D v1.

    Attributes:
        root: Folder with `train`, `evaluation` and their lists.
    """

    name: ClassVar[str] = "h2o3d"
    left_released: ClassVar[bool] = True

    def hands(
        self, meta: Mapping[str, Any], published: Published, mano: Mano
    ) -> Mapping[Side, HandRecord]:
        """Both, as far as they are valid."""
        return {side: self._valid(meta, side, mano) for side in Side}

    def _valid(self, meta: Mapping[str, Any], side: Side, mano: Mano) -> HandRecord:
        name = _NAMES[side]
        hand = self.hand(meta, side, f"{name}Hand", mano)
        joints = meta.get(f"jointValid{name.capitalize()}")
        if joints is not None and hand.joints is not None:
            valid = numbers(joints, NUM_JOINTS)[list(FROM_HO3D)] > 0
            hand.joints_valid = np.asarray(hand.joints_valid, bool) & valid
            if not hand.joints_valid.any():
                hand.joints = hand.joints_valid = None
        angles = meta.get(f"poseValid{name.capitalize()}")
        if angles is not None and not (numbers(angles, 48) > 0).all():
            hand.global_orient = hand.hand_pose = hand.betas = hand.transl = None
        return hand
