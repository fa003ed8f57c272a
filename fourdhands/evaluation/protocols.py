"""Benchmarks as data: which hands, laid over the truth in which way, averaged how, in which unit.

A protocol is a list of `Column`s. What two of them share (an alignment of joints or of meshes) is
computed once for a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    between_wrists,
    bone_scaled,
    handedness_hits,
    in_image,
    root_relative,
    scale_translation,
    similarity,
)
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
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, NUM_VERTICES

Chosen = Literal["all", "single", "interacting", "right", "left"]
"""Images of one or two labelled hands, or hands of one side."""


@dataclass(frozen=True)
class Column:
    """A figure of a protocol.

    Attributes:
        key: in JSON; ends in its unit.
        name: as the official program prints it.
        statistic: makes an empty one.
        alignment: what the statistic sees; of a `Compared`.
        points: joints or vertices.
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
        dataset: name in the clips; empty for any.
        split: of it.
        columns: its figures.
        images: how many there are to be; None if nobody knows.
        note: what this protocol's figures mean and leave out, in a line.
    """

    name: str
    title: str
    dataset: str
    split: str
    columns: tuple[Column, ...]
    images: int | None = None
    note: str = ""


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


procrustes = partial(similarity, reflections=True)
"""FreiHAND's, HO3D's and DexYCB's, which lays mirrored hands upon the truth."""


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
    *_accumulated("procrustes", "Procrustes", procrustes, "joints", MILLI, "mm"),
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
_INTERWILD: Final = (
    *_by_kind("mpjpe", "MPJPE", _INTERNET_MPJPE, root_relative, "joints", _KINDS),
    *_by_kind("mpvpe", "MPVPE", PooledMean, root_relative, "vertices", _KINDS),
    Column("mrrpe_mm", "MRRPE (mm)", PooledMean, between_wrists, "joints", MILLI, "interacting"),
)
_INTAGHAND: Final = (
    *_by_kind("mpjpe", "MPJPE", PooledMean, bone_scaled, "joints", ("all", *_SIDES)),
    *_by_kind("mpvpe", "MPVPE", PooledMean, bone_scaled, "vertices", ("all", *_SIDES)),
)
_ARCTIC: Final = (
    Column("mpjpe_ra_mm", "MPJPE-RA (mm)", ImageMean, root_relative, "joints", MILLI),
    _MRRPE,
    Column(
        "acceleration_error_m_per_s2",
        "ACC (m/s^2)",
        PooledMean,
        accelerations,
        "vertices",
        temporal=True,
    ),
)
_H2O: Final = _by_kind("mepe", "MEPE", PooledMean, absolute, "joints", _SIDES)


# ---- motion, and hands in each other -------------------------------------------------------------


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
EPE_2D: Final = Column("epe_2d_px", "2D EPE (px)", PooledMean, in_image)
_INTERHAND_30FPS: Final = (
    Column("mpjpe_mm", "MPJPE (mm)", PooledMean, bone_scaled, "joints", MILLI),
    Column("mpvpe_mm", "MPVPE (mm)", PooledMean, bone_scaled, "vertices", MILLI),
    *_acceleration_errors(partial(root_relative, root=MIDDLE), name="Accel_E"),
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
        Protocol("ho3d_v2", "HO3D v2", "ho3d_v2", "test", _HO3D, 11_524),
        Protocol("ho3d_v3", "HO3D v3", "ho3d_v3", "test", _HO3D, 20_137),
        Protocol("freihand", "FreiHAND", "freihand", "test", _FREIHAND, 3_960),
        Protocol("dexycb", "DexYCB S0", "dexycb", "test", _DEXYCB),
        Protocol(
            "interhand26m",
            "InterHand2.6M by InterNet",
            "interhand26m",
            "test",
            _INTERNET,
            note="pixels of the prediction at the true depth of the wrists",
        ),
        Protocol(
            "interhand26m_interwild",
            "InterHand2.6M by InterWild",
            "interhand26m",
            "test",
            _INTERWILD,
            121_573,
            note="human annotations; meshes relative to their own wrist joint",
        ),
        Protocol(
            "interhand26m_intaghand",
            "InterHand2.6M by IntagHand",
            "interhand26m",
            "test",
            _INTAGHAND,
            note="root: first joint of the middle finger; scaled by the bone to it",
        ),
        Protocol("reinterhand", "Re:InterHand by InterWild", "reinterhand", "test", _INTERWILD),
        Protocol("hic", "HIC by InterWild", "hic", "test", _INTERWILD),
        Protocol("arctic", "ARCTIC", "arctic", "val", _ARCTIC),
        Protocol("h2o", "H2O", "h2o", "test", _H2O, 23_391, note="no alignment"),
        Protocol(
            "interhand26m_30fps",
            "InterHand2.6M 30 fps by 4DHands",
            "interhand26m_30fps",
            "test",
            _INTERHAND_30FPS,
            note="root: first joint of the middle finger; scaled by the bone to it, Accel_E not",
        ),
        Protocol(
            "h2o_world",
            "H2O in the world by Dyn-HaMR",
            "h2o",
            "test",
            _WORLD,
            note="G, GA: 128 frames, both hands as one; W, WA: 100 frames, each hand by itself",
        ),
        Protocol("ho3d_v3_temporal", "HO3D v3 over time by HMP", "ho3d_v3", "train", _HMP),
        Protocol("dexycb_temporal", "DexYCB S0 over time by HMP", "dexycb", "test", _HMP),
        Protocol(
            "interaction",
            "Two hands in each other, any data",
            "",
            "",
            PENETRATION,
            note="of the predicted meshes of images that show both hands",
        ),
    )
}
"""By the names of the command line."""
