"""Configurations: frozen dataclasses from yaml overlays and flags, and back to plain data.

The only user of jsonargparse. `parse` reads a dataclass, `call` the arguments of a typed function;
both take `--config first.yaml --config second.yaml --group.key value`, where the later wins. In a
yaml file a group may be the name of another yaml file, relative to the file that names it.

Files are read, checked for unknown keys and laid over each other here (`layers`), flags are
checked (`flags`), then jsonargparse gets the sum: on its own it accepts an unknown key whose value
is an empty group, does not tell which file an unknown key stands in, loses the lower layer where
an optional group comes from a nested file, and does not know the flags of optional groups.
"""

from fourdhands.config.parsing import call, from_dict, load, parse, save, to_dict

__all__ = ["call", "from_dict", "load", "parse", "save", "to_dict"]
