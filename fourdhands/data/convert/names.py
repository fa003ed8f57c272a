"""All data sets that can be converted, by the names of their commands."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fourdhands.data.convert.records import Dataset


@dataclass(frozen=True)
class Entry:
    """A data set; its module is imported only when it is asked for.

    Attributes:
        title: in a line.
        target: `module:class`.
    """

    title: str
    target: str

    def load(self) -> "type[Dataset]":
        """The class."""
        module, _, name = self.target.partition(":")
        loaded: type[Dataset] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return loaded


DATASETS: Final[Mapping[str, Entry]] = {
    "arctic": Entry("ARCTIC", "arctic:Arctic"),
    "coco_wholebody": Entry("the hands of COCO-WholeBody v1.0", "coco_wholebody:CocoWholeBody"),
    "dexycb": Entry("DexYCB", "dexycb:DexYcb"),
    "freihand": Entry("FreiHAND v2", "freihand:FreiHand"),
    "h2o": Entry("H2O of Kwon et al.", "h2o:H2O"),
    "h2o3d": Entry("H2O-3D", "h2o3d:H2O3D"),
    "halpe": Entry("the hands of Halpe Full-Body", "halpe:Halpe"),
    "hamer": Entry("HaMeR's training tars", "hamer:Hamer"),
    "hanco": Entry("HanCo", "hanco:HanCo"),
    "hic": Entry("HIC, Hands in Action", "hic:Hic"),
    "ho3d_v2": Entry("HO3D v2", "ho3d:Ho3dV2"),
    "ho3d_v3": Entry("HO3D v3", "ho3d:Ho3dV3"),
    "interhand26m": Entry("InterHand2.6M", "interhand26m:InterHand26M"),
    "mpii_nzsl": Entry("MPII+NZSL hands (CMU HandDB)", "mpii_nzsl:MpiiNzsl"),
    "mtc": Entry("MTC (Panoptic Studio, Monocular Total Capture)", "mtc:Mtc"),
    "reinterhand": Entry("Re:InterHand", "reinterhand:ReInterHand"),
    "renderih": Entry("RenderIH", "renderih:RenderIh"),
    "rhd": Entry("RHD v2 (Rendered Handpose Dataset)", "rhd:Rhd"),
}
"""Lower-case names; the command takes them in other spellings, too."""
