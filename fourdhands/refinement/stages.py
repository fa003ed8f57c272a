"""Refinement as data: stages of variables, weighted terms and an optimiser.

`default` is ours; `hmp` and `dynhamr` follow the papers (`configs/refinement/`).
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal

from fourdhands.refinement.motion import VARIABLES, Variable

Optimizer = Literal["gauss_newton", "adam", "lbfgs"]


@dataclass(frozen=True)
class Weights:
    """Factors of the terms; what is 0 is not computed. Units: see `refinement.terms`.

    Attributes:
        reprojection: joints where the picture shows them (parts of the hand's size, squared).
        orientation: wrist rotations near the network's (radians^2).
        translation: wrists near the network's (metres^2).
        pose: finger rotations near the network's (radians^2).
        velocity: of all joints in the world ((m/s)^2).
        acceleration: of all joints in the world ((m/s^2)^2).
        turning_speed: of the wrist in the world ((rad/s)^2).
        shape: betas near zero.
        shape_estimate: betas near the network's mean.
        shape_symmetry: both hands' betas alike.
        latent: likelihood of the prior's latent, a dimension.
        pose_likelihood: of poses under a Gaussian over clean poses, a dimension.
        completion: fingers of gaps near the prior's completion (in its own deviations).
        camera: corrections of the camera near none (metres^2).
        camera_smoothness: of the corrections ((m/s^2)^2).
        scale: logarithm of the scale near its closed form (in its own deviations).
        focal: logarithm of the focal length near the given one (in deviations).
        joint_angles: inside their ranges (radians^2).
        bone_lengths: proportions of bones inside theirs (squared logarithms).
        palm_shape: inside its range (radians^2).
        penetration: between the hands (millimetres^2 over the skin).
    """

    reprojection: float = 0.0
    orientation: float = 0.0
    translation: float = 0.0
    pose: float = 0.0
    velocity: float = 0.0
    acceleration: float = 0.0
    turning_speed: float = 0.0
    shape: float = 0.0
    shape_estimate: float = 0.0
    shape_symmetry: float = 0.0
    latent: float = 0.0
    pose_likelihood: float = 0.0
    completion: float = 0.0
    camera: float = 0.0
    camera_smoothness: float = 0.0
    scale: float = 0.0
    focal: float = 0.0
    joint_angles: float = 0.0
    bone_lengths: float = 0.0
    palm_shape: float = 0.0
    penetration: float = 0.0

    def __post_init__(self) -> None:
        """Refuse weights that turn a term round."""
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"weights.{one.name} is {value}, it may not be negative")


@dataclass(frozen=True)
class Kernels:
    """Sizes beyond which residuals lose their pull, and the like.

    Attributes:
        reprojection: in parts of the hand's size in the picture.
        orientation: radians.
        translation: metres.
        pose: radians a joint.
        depth_weight: of the network's translation along the line of sight, beside 1 across it.
        angle_margin: radians that joint limits are moved inwards.
        penetration_margin: metres that hands are moved apart where they were inside.
        camera_lever: metres; a turn of the camera counts as the motion of a point so far away.
        focal_deviation: of the logarithm of the focal length.
    """

    reprojection: float = math.inf
    orientation: float = math.inf
    translation: float = math.inf
    pose: float = math.inf
    depth_weight: float = 1.0
    angle_margin: float = 0.0
    penetration_margin: float = 0.0
    camera_lever: float = 0.5
    focal_deviation: float = 0.05


@dataclass(frozen=True)
class Stage:
    """One run of an optimiser.

    Attributes:
        name: for the progress bar and the report.
        variables: what it changes.
        weights: of the terms.
        kernels: of the terms.
        optimizer: Gauss-Newton over the whole trajectory with step control, Adam, or L-BFGS.
        iterations: at most.
        tolerance: relative decrease of the energy below which it ends before that.
        learning_rate: of Adam and L-BFGS: radians, metres, units of betas.
        decay: factor on Adam's learning rate after each `decay_every` iterations.
        decay_every: see `decay`.
        complete: whether the fingers of gaps are filled anew before it, from what the stages before
            made of the frames around them.
    """

    name: str
    variables: tuple[Variable, ...]
    weights: Weights
    kernels: Kernels = field(default_factory=Kernels)
    optimizer: Optimizer = "gauss_newton"
    iterations: int = 20
    tolerance: float = 1e-4
    learning_rate: float = 0.05
    decay: float = 0.7
    decay_every: int = 200
    complete: bool = False

    def __post_init__(self) -> None:
        """Refuse what no optimiser can do."""
        if not self.variables or len(set(self.variables)) < len(self.variables):
            raise ValueError(
                f"stage {self.name!r}: variables are {self.variables}, name some, once"
            )
        if unknown := set(self.variables) - set(VARIABLES):
            raise ValueError(f"stage {self.name!r}: there is no variable {min(unknown)!r}")
        if self.iterations < 1:
            raise ValueError(f"stage {self.name!r}: iterations is {self.iterations}, at least 1")
        if "latent" in self.variables and self.optimizer == "gauss_newton":
            raise ValueError(f"stage {self.name!r}: latents want the optimizer adam or lbfgs")
        if {"latent", "pose"} <= set(self.variables):
            raise ValueError(f"stage {self.name!r}: the latent says the pose; change one of them")


_ESTIMATE: Final = Weights(
    reprojection=1.5e4,
    orientation=5.0,
    translation=100.0,
    pose=40.0,
    velocity=0.3,
    acceleration=0.3,
    turning_speed=0.01,
    shape=0.01,
    shape_estimate=1.0,
    shape_symmetry=0.0,
    camera=1e4,
    camera_smoothness=10.0,
    scale=4e-3,
    completion=30.0,
    pose_likelihood=5.0,
    focal=1.0,
)
_KERNELS: Final = Kernels(
    reprojection=0.1,
    orientation=0.5,
    translation=0.3,
    pose=1.0,
    depth_weight=0.6,
    angle_margin=0.01,
)
_PHYSICAL: Final = replace(
    _ESTIMATE, joint_angles=3e3, bone_lengths=10.0, palm_shape=10.0, penetration=5.0
)
DEFAULT_STAGES: Final = (
    Stage(
        "place",
        ("orientation", "wrist", "scale"),
        _ESTIMATE,
        replace(_KERNELS, reprojection=0.3),
        iterations=6,
    ),
    Stage(
        "pose",
        ("orientation", "wrist", "pose", "betas", "scale"),
        _ESTIMATE,
        _KERNELS,
        iterations=15,
    ),
    Stage(
        "physics",
        ("orientation", "wrist", "pose", "betas", "scale"),
        _PHYSICAL,
        _KERNELS,
        iterations=20,
        complete=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class RefinementConfig:
    """How clips are refined.

    Attributes:
        stages: one after the other.
        confidence: hands below it are not observed.
        disagreement: hands whose own 2D joints lie farther off (median, in parts of the hand's
            size, after the hand was shifted to fit) are not observed either.
        completion: what fills gaps first: the motion prior, or spherical interpolation.
        adapt: whether beliefs (smoothness, anatomy, contact) weigh less where the network is
            measured to be less noisy than a typical one.
        window: frames that are solved together; longer clips are cut into overlapping windows.
        overlap: frames of a window that the next one solves again.
        world_scale: metres a unit of the camera trajectory; null to find out.
        check_camera: whether to refuse a trajectory that is smoother when read in another way.
        scale_bounds: least and greatest factor by which the scale may leave its closed form.
    """

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    confidence: float = 0.3
    disagreement: float = 0.3
    completion: Literal["prior", "slerp"] = "prior"
    adapt: bool = True
    window: int = 256
    overlap: int = 16
    world_scale: float | None = None
    check_camera: bool = True
    scale_bounds: tuple[float, float] = (0.2, 5.0)

    def __post_init__(self) -> None:
        """Refuse windows that do not overlap, and scales that no world has."""
        if not self.stages:
            raise ValueError("stages: there is none")
        if not 2 <= self.overlap < self.window:
            raise ValueError(
                f"overlap is {self.overlap}, window {self.window}: 2 <= overlap < window"
            )
        if self.world_scale is not None and not 0 < self.world_scale < math.inf:
            raise ValueError(f"world_scale is {self.world_scale}, it has to be positive")
        low, high = self.scale_bounds
        if not 0 < low < 1 < high < math.inf:
            raise ValueError(f"scale_bounds are {low, high}: a factor below 1, one above")
