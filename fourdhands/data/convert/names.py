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
    "dexycb": Entry("DexYCB", "dexycb:DexYcb"),
    "freihand": Entry("FreiHAND v2", "freihand:FreiHand"),
    "hanco": Entry("HanCo", "hanco:HanCo"),
    "hic": Entry("HIC, Hands in Action", "hic:Hic"),
}
"""Lower-case names; the command takes them in other spellings, too."""
