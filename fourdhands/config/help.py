"""Help that lists the options of groups that may be null, too."""

import argparse
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

import docstring_parser
from jsonargparse import DefaultHelpFormatter

from fourdhands.config.flags import inner_options


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, which tells of such a group only that there is one."""

    def add_argument(self, action: argparse.Action) -> None:
        """Add an option, and after a group its options."""
        super().add_argument(action)
        if action.help != argparse.SUPPRESS:
            for inner in _inner_actions(action):
                super().add_argument(inner)


def _inner_actions(action: argparse.Action) -> Iterator[argparse.Action]:
    hint = getattr(action, "_typehint", None)
    chosen = action.default if isinstance(action.default, dict) else {}
    for option, group, name, kind in inner_options(f"--{action.dest}", hint):
        described = docstring_parser.parse(group.__doc__ or "").params
        own = {field.name: field for field in fields(group)}[name]
        yield argparse.Action(
            [option],
            dest=option.removeprefix("--"),
            type=kind,
            help=next((p.description for p in described if p.arg_name == name), None),
            default=chosen.get(name, _default(own)),
        )


def _default(field: "Field[Any]") -> Any:
    if field.default is not MISSING:
        return field.default
    return argparse.SUPPRESS if field.default_factory is MISSING else field.default_factory()
