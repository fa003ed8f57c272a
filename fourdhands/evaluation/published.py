"""What papers print for our benchmarks: their tables as they stand, and how our figures compare.

Values are those of the papers, in the papers' units. A table says which column of a protocol a
printed one is, and by what to multiply our figure to get the printed unit; what may differ in the
way of counting stands in `note`.
"""

from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class PublishedColumn:
    """A column of a paper's table.

    Attributes:
        name: with its unit.
        key: of our protocol's column that counts the same; None if it has none.
        factor: from our figure to the printed one.
        digits: after the point.
        better: which values are good.
    """

    name: str
    key: str | None
    factor: float = 1.0
    digits: int = 2
    better: Better = "lower"


@dataclass(frozen=True)
class PublishedTable:
    """A paper's table.

    Attributes:
        protocol: name of ours whose figures stand beside it.
        source: paper and number of the table.
        columns: as printed.
        rows: method and its values, None where the paper has none; the paper's own method last.
        note: how it was counted, and where that may differ from the protocol.
    """

    protocol: str
    source: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    note: str

    def ours(self, figures: dict[str, float]) -> tuple[float | None, ...]:
        """A method's figures in this table's units; None in columns that we do not count."""
        return tuple(
            None if column.key not in figures else figures[column.key] * column.factor
            for column in self.columns
        )


def published_for(protocol: str) -> tuple[PublishedTable, ...]:
    """The tables that a protocol's figures stand beside."""
    return tuple(table for table in PUBLISHED if table.protocol == protocol)


_ALIGNED_MESHES: Final = (
    PublishedColumn("PA-MPJPE (mm)", "xyz_procrustes_mean_cm", 10, 1),
    PublishedColumn("PA-MPVPE (mm)", "mesh_aligned_mean_cm", 10, 1),
    PublishedColumn("F@5 (%)", "mesh_aligned_f5", 100, 1, "higher"),
    PublishedColumn("F@15 (%)", "mesh_aligned_f15", 100, 1, "higher"),
)
"""DaHyF's columns; the server prints cm and shares of 1."""
_ALIGNED_NOTE: Final = (
    "Ours in millimetres (server's cm times 10) and percent (share times 100). The paper does not "
    "say whether its F-scores are those before or after alignment; they stand beside ours after "
    "it, as usual for this benchmark."
)
_TWO_HANDS: Final = (PublishedColumn("MPJPE (mm)", "mpjpe_mm"),)
_FIVE_FPS: Final = (
    ("InterWild", (11.12, 13.01, 29.29)),
    ("IntagHand", (8.79, 9.03, None)),
    ("MEMAHand", (8.65, 8.89, None)),
    ("ACR", (8.41, 8.53, None)),
    ("Zuo et al.", (8.34, 8.51, None)),
    ("Ren et al.", (7.51, 7.72, 28.98)),
    ("4DHands", (7.49, 7.72, 24.58)),
)
_HMP_DEXYCB: Final = (
    ("ArtiBoost, trained on DexYCB", (None, 12.8, None)),
    ("Deformer, trained on DexYCB", (5.2, None, None)),
    ("PyMAF-X", (11.6, 38.1, 17.1)),
    ("PyMAF-X + HMP", (8.9, 34.1, 3.6)),
)
_ACCELERATION_NOTE: Final = (
    "The paper prints acceleration errors as mm/s^2; programs of this kind compute mm/frame^2, as "
    "ours beside it does."
)

PUBLISHED: Final = (
    PublishedTable(
        "freihand",
        "DaHyF, table 1",
        _ALIGNED_MESHES,
        (
            ("Graphormer", (5.9, 6.0, 76.4, 98.6)),
            ("METRO", (6.3, 6.5, 73.1, 98.4)),
            ("I2L-MeshNet", (7.4, 7.6, 68.1, 97.3)),
            ("Pose2Mesh", (7.7, 7.8, 67.4, 96.9)),
            ("MANO CNN", (11.0, 10.9, 51.6, 93.4)),
            ("FrankMocap", (9.2, 11.6, 55.3, 95.1)),
            ("PIXIE", (12.2, 11.8, 46.8, 91.9)),
            ("Tang et al.", (6.7, 6.7, 72.4, 98.1)),
            ("Moon et al.", (8.4, 8.6, 61.4, 96.6)),
            ("Hand4Whole", (7.7, 7.7, 66.4, 97.1)),
            ("CLIFF", (6.8, 6.6, None, None)),
            ("PyMAF", (7.5, 7.7, 67.1, 97.4)),
            ("MobRecon", (6.9, 7.2, 69.4, 97.9)),
            ("RoboSMPLX", (6.9, 6.7, 71.5, 98.1)),
            ("S2Hand", (11.8, 11.9, 48.0, None)),
            ("AMVUR", (6.2, 6.1, 76.7, 98.7)),
            ("HaMeR", (6.0, 5.7, 78.5, 99.0)),
            ("DaHyF", (4.0, 4.7, 84.8, 99.8)),
        ),
        _ALIGNED_NOTE,
    ),
    PublishedTable(
        "ho3d_v2",
        "DaHyF, table 2",
        _ALIGNED_MESHES,
        (
            ("ObMan", (11.0, 11.0, 46.4, 93.9)),
            ("HO3D", (10.7, 10.6, 50.6, 94.2)),
            ("I2UV-HandNet", (9.9, 10.1, 50.0, 94.3)),
            ("MobRecon", (9.2, 9.4, 53.8, 95.7)),
            ("METRO", (10.4, 11.1, 48.4, 94.6)),
            ("S2Hand", (11.4, 11.2, 45.0, 93.0)),
            ("AMVUR", (8.3, 8.2, 60.8, 96.5)),
            ("DaHyF", (8.0, 8.1, 61.2, 97.6)),
        ),
        _ALIGNED_NOTE,
    ),
    PublishedTable(
        "ho3d_v3",
        "DaHyF, table 3",
        _ALIGNED_MESHES,
        (
            ("ArtiBoost", (10.8, 10.4, 50.7, 94.6)),
            ("Keypoint Trans", (10.9, None, None, None)),
            ("AMVUR", (8.7, 8.3, 59.3, 96.4)),
            ("S2Hand", (11.5, 11.1, 44.8, 93.2)),
            ("DaHyF", (7.5, 7.5, 63.7, 97.4)),
        ),
        _ALIGNED_NOTE,
    ),
    PublishedTable(
        "dexycb",
        "4DHands, table 3",
        (
            PublishedColumn("R-MPJPE (mm)", "root_relative_mean_mm"),
            PublishedColumn("R-JAUC (%)", "root_relative_auc", 100, 1, "higher"),
            PublishedColumn("P-MPJPE (mm)", "procrustes_mean_mm"),
            PublishedColumn("P-JAUC (%)", "procrustes_auc", 100, 1, "higher"),
        ),
        (
            ("VIBE", (16.95, 67.5, 6.43, 87.1)),
            ("TCMR", (16.03, 70.1, 6.28, 87.5)),
            ("Tu et al.", (19.67, 62.5, 7.27, 85.5)),
            ("MeshGraphormer", (16.21, 69.1, 6.41, 87.2)),
            ("Deformer", (13.64, 74.0, 5.22, 89.6)),
            ("4DHands", (8.37, 83.4, 4.75, 90.4)),
        ),
        "Ours in percent (area times 100). The paper does not say that its areas are those of the "
        "official program (100 thresholds from 0 to 50 mm, as ours), nor which split it uses.",
    ),
    PublishedTable(
        "dexycb",
        "HMP, table 4",
        (
            PublishedColumn("PA-MPJPE (mm)", "procrustes_mean_mm", digits=1),
            PublishedColumn("RA-MPJPE (mm)", "root_relative_mean_mm", digits=1),
            PublishedColumn("RA-ACC (mm/frame^2)", None, digits=1),
        ),
        _HMP_DEXYCB,
        "Split S0. Procrustes analysis there has proper rotations, the official program's may "
        "reflect. Our RA-ACC stands under dexycb_temporal.",
    ),
    PublishedTable(
        "interhand26m_intaghand",
        "4DHands, table 2",
        (
            *_TWO_HANDS,
            PublishedColumn("MPVPE (mm)", "mpvpe_mm"),
            PublishedColumn("MRRPE (mm)", None),
        ),
        _FIVE_FPS,
        "5 fps. The paper aligns the root and scales the skeleton when it counts MPJPE, as this "
        "protocol does; rows of other papers may follow rules of their own (InterWild's does not "
        "scale). Our MRRPE stands under interhand26m_interwild.",
    ),
    PublishedTable(
        "interhand26m_interwild",
        "4DHands, table 2",
        (
            PublishedColumn("MPJPE (mm)", None),
            PublishedColumn("MPVPE (mm)", None),
            PublishedColumn("MRRPE (mm)", "mrrpe_mm"),
        ),
        _FIVE_FPS,
        "5 fps. The paper scales skeletons when it counts MPJPE, this protocol does not: ours of "
        "that kind stand under interhand26m_intaghand. Which joint is the root of its MRRPE is not "
        "said; here it is the wrist.",
    ),
    PublishedTable(
        "hic",
        "4DHands, table 4",
        (
            PublishedColumn("MPJPE (mm)", "mpjpe_interacting_mm"),
            PublishedColumn("MPVPE (mm)", "mpvpe_interacting_mm"),
            PublishedColumn("MRRPE (mm)", "mrrpe_mm"),
        ),
        (
            ("IntagHand", (20.38, 21.56, 73.04)),
            ("InterWild", (15.62, 15.17, 26.43)),
            ("4DHands", (9.32, 9.93, 25.26)),
        ),
        "Images that show both hands. The paper aligns the root and scales the skeleton when it "
        "counts MPJPE; this protocol does not scale.",
    ),
    PublishedTable(
        "interhand26m_30fps",
        "4DHands, table 1",
        (
            PublishedColumn("Accel_E (mm/frame^2)", "acceleration_error_mm_per_frame2"),
            *_TWO_HANDS,
            PublishedColumn("MPVPE (mm)", "mpvpe_mm"),
        ),
        (
            ("SeqHand", (6.69, 18.20, 19.46)),
            ("Zhao et al.", (3.70, 13.45, 13.91)),
            ("4DHands", (2.81, 7.37, 7.58)),
        ),
        _ACCELERATION_NOTE,
    ),
    PublishedTable(
        "interhand26m_30fps",
        "Dyn-HaMR, table 1",
        (
            *_TWO_HANDS,
            PublishedColumn("MPVPE (mm)", "mpvpe_mm"),
            PublishedColumn("Acc Err (mm/frame^2)", "acceleration_error_mm_per_frame2"),
        ),
        (
            ("ACR", (8.75, 9.01, 3.99)),
            ("HaMeR", (9.84, 10.13, 5.13)),
            ("Dyn-HaMR", (7.94, 8.15, 2.76)),
        ),
        "Frames, rate, root and scaling are not known of this table, nor the unit of its "
        "acceleration error.",
    ),
    PublishedTable(
        "h2o_world",
        "Dyn-HaMR, table 2",
        (
            PublishedColumn("G-MPJPE (mm)", "g_mpjpe_mm", digits=1),
            PublishedColumn("GA-MPJPE (mm)", "ga_mpjpe_mm", digits=1),
            PublishedColumn("MPJPE (mm)", "mpjpe_mm", digits=1),
            PublishedColumn("Acc Err", "acceleration_error_mm_per_frame2"),
        ),
        (
            ("ACR", (113.6, 88.5, 46.8, 14.3)),
            ("IntagHand", (105.5, 81.5, 45.6, 13.5)),
            ("HaMeR", (96.9, 75.7, 32.9, 9.21)),
            ("Dyn-HaMR without stage III", (51.9, 41.2, 24.9, 9.5)),
            ("Dyn-HaMR", (45.6, 34.2, 22.5, 4.2)),
        ),
        "The paper's length of clips, number of frames that are aligned, whether scale is, and the "
        "unit of its acceleration error are not public: ours are this protocol's.",
    ),
    PublishedTable(
        "ho3d_v3_temporal",
        "HMP, table 3",
        (
            PublishedColumn("PA-MPJPE (mm)", "pa_mpjpe_mm", digits=1),
            PublishedColumn("RA-MPJPE (mm)", "ra_mpjpe_mm", digits=1),
            PublishedColumn("RA-ACC (mm/frame^2)", "ra_acceleration_error_mm_per_frame2", digits=1),
        ),
        (
            ("TempCLR, trained on HO3D", (10.6, None, 3.7)),
            ("HandOccNet, trained on HO3D", (9.1, 24.9, None)),
            ("METRO", (12.1, 38.7, 17.4)),
            ("PyMAF-X", (10.8, 29.6, 9.3)),
            ("METRO + HMP", (10.8, 31.3, 2.4)),
            ("PyMAF-X + HMP", (10.1, 26.7, 2.2)),
        ),
        "On sequences of the training split, as the server does not print accelerations. "
        + _ACCELERATION_NOTE,
    ),
    PublishedTable(
        "dexycb_temporal",
        "HMP, table 4",
        (
            PublishedColumn("PA-MPJPE (mm)", "pa_mpjpe_mm", digits=1),
            PublishedColumn("RA-MPJPE (mm)", "ra_mpjpe_mm", digits=1),
            PublishedColumn("RA-ACC (mm/frame^2)", "ra_acceleration_error_mm_per_frame2", digits=1),
        ),
        _HMP_DEXYCB,
        "Split S0. " + _ACCELERATION_NOTE,
    ),
)
"""In the order in which a report shows those of a protocol."""
