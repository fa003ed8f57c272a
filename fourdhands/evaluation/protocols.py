"""Benchmarks as data: which hands, laid over the truth in which way, averaged how, in which unit.

A protocol is a list of `Column`s. What two of them share (an alignment of joints or of meshes) is
computed once for a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from torchmetrics import Metric

from fourdhands.evaluation.alignments import (
    MIDDLE,
    Alignment,
    Points,
    absolute,
    accelerations,
    back_projected,
    between_back_projected_wrists,
    between_shown_wrists,
    between_wrists,
    bone_scaled,
    both_from_right_wrist,
    detections,
    from_meshes,
    handedness_hits,
    in_image,
    root_relative,
    scale_translation,
    similarity,
)
from fourdhands.evaluation.keypoint_precision import KeypointPrecision
from fourdhands.evaluation.penetration import penetration_depth, penetration_volume
from fourdhands.evaluation.statistics import (
    AreaUnderCurve,
    FScore,
    ImageMean,
    KeypointMean,
    Largest,
    PooledMean,
)
from fourdhands.evaluation.trajectories import FIRST_FRAMES, aligned_in_world, along_path, in_world
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, NUM_VERTICES, Side

Chosen = Literal["all", "single", "interacting", "right", "left"]
"""Images of one or two labelled hands, or hands of one side."""
Complete = Literal["joints", "hands", "images"]
"""What a benchmark's labels come as: joint by joint, hand by hand, or a hand or two in every image.
"""


@dataclass(frozen=True)
class Column:
    """A figure of a protocol.

    Attributes:
        key: in JSON; ends in its unit.
        name: as the official program prints it.
        statistic: makes an empty one.
        alignment: what the statistic sees; of a `Compared`.
        points: joints, vertices, or joints in the image.
        factor: from SI units to the figure's.
        chosen: which hands or images count.
        part: of the statistic's numbers, if it has several.
        temporal: whether it compares frames that follow each other.
        trajectory: whether it has to see whole sequences; of joints.
        alone: whether it is of the prediction, and no true points are asked for.
    """

    key: str
    name: str
    statistic: Callable[[], Metric]
    alignment: Alignment
    points: Points = "joints"
    factor: float = 1.0
    chosen: Chosen = "all"
    part: int | None = None
    temporal: bool = False
    trajectory: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Protocol:
    """A benchmark.

    Attributes:
        name: as on the command line.
        title: for tables.
        dataset: name in the clips, which may have more after a dash; empty for any.
        split: of it.
        columns: its figures.
        images: how many there are to be; None if nobody knows.
        note: what this protocol's figures mean and leave out, in a line.
        complete: what is labelled whole or not at all: a hand of which anything is labelled then
            counts with all joints, as the official program counts it; labels that lack some are
            refused, and with `images` also images without a hand.
        other_images: how many there may be of other annotations, by what these are.
        root: what points are relative to, in words, as the four below.
        scaling: what is done about scale.
        joints: where they come from.
        meshes: likewise; empty if none are looked at.
        validity: what counts.
        tips: vertices of the fingertips, from thumb to little finger, of joints that are regressed
            from meshes; None if every joint is the one that truth and prediction bring.
    """

    name: str
    title: str
    dataset: str
    split: str
    columns: tuple[Column, ...]
    images: int | None = None
    note: str = ""
    complete: Complete = "joints"
    other_images: Mapping[str, int] = field(default_factory=dict)
    root: str = "the wrist"
    scaling: str = "none"
    joints: str = "the data set's own, 21 a hand"
    meshes: str = ""
    validity: str = "labelled joints"
    tips: tuple[int, ...] | None = None

    @property
    def wants_meshes(self) -> bool:
        """Whether any figure is of meshes."""
        return any(column.points == "vertices" for column in self.columns)

    @property
    def counts(self) -> Mapping[str, int]:
        """All numbers of images that there may be, by what they are of; empty if nobody knows."""
        own = {} if self.images is None else {"the official list": self.images}
        return {**own, **self.other_images}

    @property
    def counts_in_words(self) -> str:
        """For messages: "849,160 (all annotations) or 121,573 (human annotations)"."""
        if self.images is not None and not self.other_images:
            return f"{self.images:,}"
        return " or ".join(f"{count:,} ({of})" for of, count in self.counts.items())


# ---- columns -------------------------------------------------------------------------------------

CENTI, MILLI = 1e2, 1e3


def _accumulated(
    prefix: str, name: str, alignment: Alignment, points: Points, factor: float, unit: str
) -> tuple[Column, Column]:
    """Mean and area under the curve as FreiHAND's, HO3D's and DexYCB's programs make them."""
    keypoints = NUM_JOINTS if points == "joints" else NUM_VERTICES
    return (
        Column(
            f"{prefix}_mean_{unit}",
            f"{name}, mean ({unit})",
            partial(KeypointMean, keypoints),
            alignment,
            points,
            factor,
        ),
        Column(
            f"{prefix}_auc",
            f"{name}, AUC",
            partial(AreaUnderCurve, keypoints),
            alignment,
            points,
        ),
    )


procrustes = partial(similarity, reflections=True, softening=1e-8)
"""FreiHAND's and HO3D's, which lays mirrored hands upon the truth."""
procrustes_in_mm = partial(similarity, reflections=True, softening=1e-11)
"""DexYCB's, which is the same program, but on millimetres."""


def _f_scores(prefix: str, name: str, alignment: Alignment) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{prefix}_f{millimetres}",
            f"{name}F@{millimetres}",
            FScore,
            alignment,
            "vertices",
            part=part,
        )
        for part, millimetres in enumerate((5, 15))
    )


_MESHES: Final = (
    *_accumulated("mesh", "mesh", absolute, "vertices", CENTI, "cm"),
    *_accumulated("mesh_aligned", "mesh, aligned", procrustes, "vertices", CENTI, "cm"),
    *_f_scores("mesh", "", absolute),
    *_f_scores("mesh_aligned", "aligned ", procrustes),
)
_FREIHAND: Final = (
    *_accumulated("xyz", "xyz", absolute, "joints", CENTI, "cm"),
    *_accumulated("xyz_procrustes", "xyz, Procrustes", procrustes, "joints", CENTI, "cm"),
    *_MESHES,
)
_HO3D: Final = (
    *_accumulated("xyz", "xyz", absolute, "joints", CENTI, "cm"),
    *_accumulated("xyz_procrustes", "xyz, Procrustes", procrustes, "joints", CENTI, "cm"),
    *_accumulated(
        "xyz_scale_translation", "xyz, scale-translation", scale_translation, "joints", CENTI, "cm"
    ),
    *_MESHES,
)
_DEXYCB: Final = (
    *_accumulated("absolute", "absolute", absolute, "joints", MILLI, "mm"),
    *_accumulated("root_relative", "root-relative", root_relative, "joints", MILLI, "mm"),
    *_accumulated("procrustes", "Procrustes", procrustes_in_mm, "joints", MILLI, "mm"),
)

_INTERNET_MPJPE: Final = partial(KeypointMean, NUM_JOINTS, NUM_SIDES)
"""Mean over the 42 joints of both hands, the two wrists with their zeros included."""


def _by_kind(
    key: str,
    name: str,
    statistic: Callable[[], Metric],
    alignment: Alignment,
    points: Points,
    kinds: tuple[Chosen, ...],
) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{key}_mm" if kind == "all" else f"{key}_{kind}_mm",
            f"{name}, {kind} (mm)",
            statistic,
            alignment,
            points,
            MILLI,
            kind,
        )
        for kind in kinds
    )


_KINDS: Final[tuple[Chosen, ...]] = ("all", "single", "interacting")
_SIDES: Final[tuple[Chosen, ...]] = ("right", "left")
_MRRPE: Final = Column("mrrpe_mm", "MRRPE (mm)", PooledMean, between_wrists, "joints", MILLI)
_INTERNET: Final = (
    *_by_kind("mpjpe", "MPJPE", _INTERNET_MPJPE, back_projected, "joints", _KINDS),
    Column("mrrpe_mm", "MRRPE (mm)", PooledMean, between_back_projected_wrists, "joints", MILLI),
    Column("handedness", "handedness accuracy", PooledMean, handedness_hits, "joints"),
)
from_mesh_wrists = from_meshes(root_relative)
bone_scaled_meshes = from_meshes(bone_scaled)


def _proper(mesh: bool = True) -> tuple[Column, ...]:
    """Errors after the best similarity with a proper rotation: a mirrored hand is wrong."""
    joints = Column("pa_mpjpe_mm", "PA-MPJPE (mm)", PooledMean, similarity, "joints", MILLI)
    meshes = Column("pa_mpvpe_mm", "PA-MPVPE (mm)", PooledMean, similarity, "vertices", MILLI)
    return (joints, meshes) if mesh else (joints,)


def _interwild(between: Alignment, joints: Alignment = root_relative) -> tuple[Column, ...]:
    """InterWild's figures; data sets differ in joints and in the vector between the wrists."""
    offset = from_meshes(both_from_right_wrist)
    return (
        *_by_kind("mpjpe", "MPJPE", _INTERNET_MPJPE, joints, "joints", _KINDS),
        *_by_kind("mpvpe", "MPVPE", ImageMean, from_mesh_wrists, "vertices", _KINDS),
        Column("mrrpe_mm", "MRRPE (mm)", PooledMean, between, "joints", MILLI, "interacting"),
        Column("rrve_mm", "RRVE (mm)", PooledMean, offset, "vertices", MILLI, "interacting"),
        *_proper(),
    )


_INTAGHAND: Final = (
    *_by_kind("mpjpe", "MPJPE", PooledMean, bone_scaled_meshes, "joints", ("all", *_SIDES)),
    *_by_kind("mpvpe", "MPVPE", PooledMean, bone_scaled_meshes, "vertices", ("all", *_SIDES)),
    *_proper(),
)
_ARCTIC: Final = (
    Column("mpjpe_ra_mm", "MPJPE-RA (mm)", ImageMean, root_relative, "joints", MILLI),
    _MRRPE,
    Column(
        "acceleration_error_m_per_s2",
        "ACC (m/s^2)",
        ImageMean,
        accelerations,
        "vertices",
        temporal=True,
    ),
)
_H2O: Final = (
    *_by_kind("mepe", "MEPE", PooledMean, absolute, "joints", _SIDES),
    *_proper(mesh=False),
)


def _acceleration_errors(of: Alignment, prefix: str = "", name: str = "Acc") -> tuple[Column, ...]:
    """In both units; papers print the first as mm/s^2."""
    return (
        Column(
            f"{prefix}acceleration_error_mm_per_frame2",
            f"{name} (mm/frame^2)",
            PooledMean,
            partial(accelerations, of=of, per_frame=True),
            factor=MILLI,
            temporal=True,
        ),
        Column(
            f"{prefix}acceleration_error_m_per_s2",
            f"{name} (m/s^2)",
            PooledMean,
            partial(accelerations, of=of),
            temporal=True,
        ),
    )


EPE_2D: Final = Column("epe_2d_px", "2D EPE (px)", PooledMean, in_image, "joints_2d")
_SCENES: Final = (
    Column("mpjpe_mm", "MPJPE (mm)", PooledMean, root_relative, "joints", MILLI),
    Column("mpvpe_mm", "MPVPE (mm)", PooledMean, root_relative, "vertices", MILLI),
    *_proper(),
    _MRRPE,
    EPE_2D,
    Column("pck_auc", "PCK, AUC", partial(AreaUnderCurve, NUM_JOINTS), root_relative, "joints"),
    *_acceleration_errors(root_relative, name="acceleration error"),
    Column("handedness", "handedness accuracy", PooledMean, handedness_hits, "joints"),
)


def _found(prefix: str, name: str, sides: tuple[Side, ...]) -> tuple[Column, ...]:
    statistic = partial(KeypointPrecision, sides)
    return tuple(
        Column(f"{prefix}_{key}", f"{name}, {title}", statistic, detections, "joints_2d", part=part)
        for part, (key, title) in enumerate(
            (("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"), ("ar", "AR"))
        )
    )


_COCO: Final = (
    *_found("left", "left hand", (Side.LEFT,)),
    *_found("right", "right hand", (Side.RIGHT,)),
    *_found("both", "both hands", tuple(Side)),
)

_INTAGHAND_TIPS: Final = (745, 317, 444, 556, 673)
_INTERWILD_TIPS: Final = (745, 317, 445, 556, 673)
_OWN_MESHES: Final = "the data set's own, or MANO's of its parameters"
_FROM_MESH_WRISTS: Final = "the wrist; of meshes the one that is regressed from them"
_INTERNET_VALIDITY: Final = (
    "joints that are labelled in the image, with their wrist; wrists count with no error"
)
_INTERHAND_IMAGES: Final = {
    "all annotations, 5 fps": 849_160,
    "human annotations": 121_573,
    "machine annotations, 5 fps": 727_587,
}
_ALL_VALID: Final = "all joints, vertices and images"


# ---- motion, and hands in each other -------------------------------------------------------------


def _in_world(key: str, name: str, *, frames: int | None, length: int, together: bool) -> Column:
    alignment = partial(aligned_in_world, frames=frames, length=length, together=together)
    return Column(key, name, PooledMean, alignment, factor=MILLI, trajectory=True)


PENETRATION: Final = (
    Column(
        "penetration_depth_mm",
        "penetration depth, mean (mm)",
        PooledMean,
        penetration_depth,
        "vertices",
        MILLI,
        alone=True,
    ),
    Column(
        "penetration_depth_largest_mm",
        "penetration depth, largest (mm)",
        Largest,
        penetration_depth,
        "vertices",
        MILLI,
        alone=True,
    ),
    Column(
        "penetration_volume_cm3",
        "penetration volume, mean (cm^3)",
        PooledMean,
        penetration_volume,
        "vertices",
        CENTI**3,
        alone=True,
    ),
)
"""A protocol of their own: tables that lack them should neither want meshes nor wait minutes."""
_INTERHAND_30FPS: Final = (
    Column("mpjpe_mm", "MPJPE (mm)", PooledMean, bone_scaled_meshes, "joints", MILLI),
    Column("mpvpe_mm", "MPVPE (mm)", PooledMean, bone_scaled_meshes, "vertices", MILLI),
    *_acceleration_errors(from_meshes(partial(root_relative, root=MIDDLE)), name="Accel_E"),
)
_WORLD: Final = (
    _in_world("g_mpjpe_mm", "G-MPJPE (mm)", frames=FIRST_FRAMES, length=128, together=True),
    _in_world("ga_mpjpe_mm", "GA-MPJPE (mm)", frames=None, length=128, together=True),
    Column("mpjpe_mm", "MPJPE (mm)", PooledMean, root_relative, "joints", MILLI),
    *_acceleration_errors(root_relative),
    _in_world("w_mpjpe_mm", "W-MPJPE (mm)", frames=FIRST_FRAMES, length=100, together=False),
    _in_world("wa_mpjpe_mm", "WA-MPJPE (mm)", frames=None, length=100, together=False),
    *_acceleration_errors(in_world, "world_", "Acc in the world"),
    Column("rte_percent", "RTE (%)", PooledMean, along_path, factor=CENTI, trajectory=True),
)
_HMP: Final = (
    Column("pa_mpjpe_mm", "PA-MPJPE (mm)", PooledMean, similarity, "joints", MILLI),
    Column("ra_mpjpe_mm", "RA-MPJPE (mm)", PooledMean, root_relative, "joints", MILLI),
    *_acceleration_errors(root_relative, "ra_", "RA-ACC"),
    *_f_scores("mesh_aligned", "aligned ", similarity),
)

PROTOCOLS: Final[Mapping[str, Protocol]] = {
    one.name: one
    for one in (
        *(
            Protocol(
                f"ho3d_{version}",
                f"HO3D {version}",
                f"ho3d_{version}",
                "test",
                _HO3D,
                images,
                root="none; the wrist in scale-translation",
                scaling="none; the bone from wrist to middle finger in scale-translation",
                meshes="the data set's own",
                validity=_ALL_VALID,
                complete="images",
            )
            for version, images in (("v2", 11_524), ("v3", 20_137))
        ),
        Protocol(
            "freihand",
            "FreiHAND",
            "freihand",
            "test",
            _FREIHAND,
            3_960,
            root="none",
            meshes="the data set's own",
            validity=_ALL_VALID,
            complete="images",
        ),
        Protocol(
            "dexycb",
            "DexYCB S0",
            "dexycb",
            "test",
            _DEXYCB,
            root="none; the wrist in root-relative",
            validity="all joints of images with a labelled hand",
            complete="hands",
        ),
        Protocol(
            "interhand26m",
            "InterHand2.6M by InterNet",
            "interhand26m",
            "test",
            _INTERNET,
            note="pixels of the prediction at the true depth of the wrists",
            other_images=_INTERHAND_IMAGES,
            validity=_INTERNET_VALIDITY,
        ),
        Protocol(
            "interhand26m_interwild",
            "InterHand2.6M by InterWild",
            "interhand26m",
            "test",
            _interwild(between_wrists),
            121_573,
            note="human annotations",
            root=_FROM_MESH_WRISTS,
            meshes=_OWN_MESHES,
            validity=_INTERNET_VALIDITY,
            tips=_INTERWILD_TIPS,
        ),
        Protocol(
            "interhand26m_intaghand",
            "InterHand2.6M by IntagHand",
            "interhand26m",
            "test",
            _INTAGHAND,
            note="root: first joint of the middle finger; scaled by the bone to it",
            root="the first joint of the middle finger",
            scaling="the true length of the bone from there to the wrist",
            joints="regressed from the meshes",
            meshes=_OWN_MESHES,
            validity="hands with a mesh",
            tips=_INTAGHAND_TIPS,
        ),
        Protocol(
            "reinterhand",
            "Re:InterHand by InterWild",
            "reinterhand",
            "test",
            _interwild(from_meshes(between_wrists)),
            root=_FROM_MESH_WRISTS,
            meshes=_OWN_MESHES,
            validity=_INTERNET_VALIDITY,
            tips=_INTERWILD_TIPS,
        ),
        Protocol(
            "hic",
            "HIC by InterWild",
            "hic",
            "test",
            _interwild(from_meshes(between_shown_wrists), from_mesh_wrists),
            note="in MRRPE, a hand that is shown and has no mesh has its wrist at the origin",
            root=_FROM_MESH_WRISTS,
            joints="regressed from the meshes",
            meshes="the data set's own",
            validity="hands with a mesh; in MRRPE all images that show both hands",
            tips=_INTERWILD_TIPS,
        ),
        Protocol(
            "arctic",
            "ARCTIC",
            "arctic",
            "val",
            _ARCTIC,
            meshes="MANO's of the data set's parameters",
            validity="hands that the official lists call valid, whole",
            complete="hands",
        ),
        Protocol(
            "h2o",
            "H2O",
            "h2o",
            "test",
            _H2O,
            23_391,
            note="no alignment, but in PA-MPJPE",
            root="none",
        ),
        Protocol(
            "coco_wholebody",
            "COCO-WholeBody hands",
            "coco_wholebody",
            "val",
            _COCO,
            note="one person's hands an image; hands without a label, and predictions for them, "
            "are left out",
            root="none; joints in the image",
            scaling="distances by the root of the person's area",
            joints="the data set's own in 2D, 21 a hand",
            validity="labelled joints; hands with at least one",
        ),
        Protocol(
            "scenes",
            "rendered scenes",
            "synthetic",
            "test",
            _SCENES,
            meshes=_OWN_MESHES,
            validity="labelled joints of hands that show",
        ),
        Protocol(
            "interhand26m_30fps",
            "InterHand2.6M 30 fps by 4DHands",
            "interhand26m",
            "test",
            _INTERHAND_30FPS,
            note="30 fps release; Accel_E is not scaled",
            root="the first joint of the middle finger",
            scaling="the true length of the bone from there to the wrist; none in Accel_E",
            joints="regressed from the meshes",
            meshes=_OWN_MESHES,
            validity="hands with a mesh",
            tips=_INTAGHAND_TIPS,
        ),
        Protocol(
            "h2o_world",
            "H2O in the world by Dyn-HaMR",
            "h2o",
            "test",
            _WORLD,
            note="G, GA: 128 frames, both hands as one; W, WA: 100 frames, each hand by itself",
            root="the wrist; none in the world",
            scaling="none; the best in G, GA, W and WA",
        ),
        *(
            Protocol(
                f"{name}_temporal",
                f"{title} over time by HMP",
                name,
                split,
                _HMP,
                root="the wrist; the best in PA-MPJPE and aligned F",
                scaling="none; the best in PA-MPJPE and aligned F",
                meshes=_OWN_MESHES,
            )
            for name, title, split in (
                ("ho3d_v3", "HO3D v3", "train"),
                ("dexycb", "DexYCB S0", "test"),
            )
        ),
        Protocol(
            "interaction",
            "Two hands in each other, any data",
            "",
            "",
            PENETRATION,
            note="of the predicted meshes of images that show both hands",
            root="none",
            joints="not looked at",
            meshes="predicted ones alone",
            validity="images whose truth says that both hands show",
        ),
    )
}
"""By the names of the command line."""
