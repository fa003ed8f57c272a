"""A scene: what moves in a clip and who sees it, before anything is drawn.

`stage` makes scenes, `appearance` dresses them, `generate` draws and labels them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdhands.data.synthetic.camera import CameraPath
from fourdhands.data.synthetic.placement import SceneKind
from fourdhands.skeleton import WRIST, Side
from fourdhands.structures import HandGeometry, HandState


@dataclass(frozen=True)
class Scene:
    """Everything that moves in a clip; camera frame, metres.

    Attributes:
        kind: Of the scene.
        present: (S,) which hands exist.
        hands: Parameters, dimensions (F, S); an absent hand's are placeholders.
        geometry: Joints and vertices of the hands.
        elbows: (F, S, 3) directions from the wrists to the elbows.
        camera: Intrinsics and extrinsics.
        times: (F,) seconds.
    """

    kind: SceneKind
    present: NDArray[np.bool_]
    hands: HandState
    geometry: HandGeometry
    elbows: NDArray[np.float64]
    camera: CameraPath
    times: NDArray[np.float64]

    @property
    def sides(self) -> list[Side]:
        """The hands that exist."""
        return [side for side in Side if self.present[side]]

    @property
    def vertices(self) -> NDArray[np.float32]:
        """(F, S, 778, 3)."""
        return self.geometry.vertices.numpy()

    @property
    def orientation(self) -> NDArray[np.float32]:
        """(F, S, 3, 3) camera from hand."""
        return self.hands.global_orient.numpy()

    @property
    def wrists(self) -> NDArray[np.float32]:
        """(F, S, 3)."""
        return self.geometry.joints[..., WRIST, :].numpy()
