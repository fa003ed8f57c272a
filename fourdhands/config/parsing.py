"""Command lines and plain data to configurations and calls, by jsonargparse."""

import argparse
import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from fourdhands.config.flags import CONFIG, plain_words, split_files
from fourdhands.config.help import HelpFormatter
from fourdhands.config.layers import expand, overlay, read
from fourdhands.config.messages import explain
from fourdhands.files import replacing

T = TypeVar("T")
CONFIG_FILES = "config_files"
NEGATIVE = re.compile(r"-\.?\d")
"""A word that starts so is a value, as it is from Python 3.14 on: -5,10,80,90,left is no flag."""

# ---- from the command line -----------------------------------------------------------------------


def parse(config_type: type[T], args: Sequence[str], *, prog: str | None = None) -> T:
    """Read a configuration from a command line.

    Args:
        config_type: a frozen dataclass; its fields are the flags.
        args: the command line without the program's name.
        prog: the program's name in the help text.

    Raises:
        ValueError: an unknown key or flag, or a value that does not fit.
        FileNotFoundError: a yaml file is missing.
    """
    parser = _new_parser(prog, config_type.__doc__)
    _add_config(parser, config_type)
    return config_type(**_parse_args(parser, get_type_hints(config_type), args))


def call(function: Callable[..., T], args: Sequence[str], *, prog: str | None = None) -> T:
    """Call a function with its arguments read from a command line.

    Parameters that may be given by position are read by position, the others as flags. A sequence
    takes several words, or none if it has a default; one with a default and a flag takes a word at
    each time the flag is given. The fields of a dataclass parameter (one at most) are flags
    themselves.

    Args:
        function: typed, with a Google-style docstring, which becomes the help text.
        args: the command line without the program's name.
        prog: the program's name in the help text.

    Raises:
        ValueError: an unknown key or flag, or a value that does not fit.
        FileNotFoundError: a yaml file is missing.
    """
    parser = _new_parser(prog, function.__doc__)
    hints = get_type_hints(function)
    docs = {
        p.arg_name: p.description for p in docstring_parser.parse(function.__doc__ or "").params
    }
    config: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            config[name] = hint
            _add_config(parser, hint)
        else:
            flags[name] = hint
            _add_parameter(parser, parameter, hint, docs.get(name))
    assert len(config) <= 1, f"{function.__name__} takes more than one configuration"
    keys = dict(flags)
    for config_type in config.values():
        keys |= get_type_hints(config_type)
    arguments = _parse_args(parser, keys, args)
    given = {name: arguments.pop(name) for name in flags}
    given |= {name: tuple(given[name]) for name, hint in flags.items() if get_origin(hint) is tuple}
    return function(
        **given, **{name: config_type(**arguments) for name, config_type in config.items()}
    )


def _new_parser(prog: str | None, doc: str | None) -> ArgumentParser:
    # by default a dict that names a class would be turned into an object of it
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
    summary = inspect.cleandoc(doc or "").split("\n\n")[0]
    parser = ArgumentParser(
        prog=prog,
        description=summary,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    parser._negative_number_matcher = NEGATIVE
    return parser


def _add_config(parser: ArgumentParser, config_type: type) -> None:
    parser.add_argument(
        CONFIG,
        action="config",
        dest=CONFIG_FILES,
        metavar="FILE",
        help="Yaml file; may be given several times, later ones on top.",
    )
    parser.add_class_arguments(config_type, sub_configs=True)
    for action in parser._actions:
        if action.dest.endswith(".help"):  # of groups that may be null: our help has it all
            action.help = argparse.SUPPRESS


def _add_parameter(
    parser: ArgumentParser, parameter: inspect.Parameter, hint: Any, description: str | None
) -> None:
    required = parameter.default is inspect.Parameter.empty
    by_position = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    options: dict[str, Any] = {"type": hint, "help": description}
    if get_origin(hint) in (list, tuple):
        # several words after one flag would take those by position that follow it
        several = {"nargs": "+"} if required else {"action": "append"}
        if by_position and not required:
            several = {"nargs": "*"}
        options |= {"type": get_args(hint)[0], **several}
    if hint is bool:
        options["action"] = argparse.BooleanOptionalAction
    if not required:
        options["default"] = [] if parameter.default == () else parameter.default
    elif not by_position:
        options["required"] = True
    flag = f"--{parameter.name.rstrip('_')}"  # --from is a parameter `from_`
    # both spellings, as flags are known by: --focal-length, and --focal_length like yaml's keys
    names = (parameter.name,) if by_position else dict.fromkeys((flag.replace("_", "-"), flag))
    if not by_position:
        options["dest"] = parameter.name
    parser.add_argument(*names, **options)


def _parse_args(
    parser: ArgumentParser, keys: Mapping[str, Any], args: Sequence[str]
) -> dict[str, Any]:
    files, flags = split_files(args)
    merged: dict[str, Any] = {}
    for file in files:
        merged = overlay(merged, read(file, keys), keys)
    words = plain_words(parser, flags)
    if files:
        words = [CONFIG, yaml.safe_dump(merged), *words]
    try:
        return _fields(parser.instantiate(parser.parse_args(words)))
    except (argparse.ArgumentError, ValueError) as error:
        raise ValueError(explain(str(error))) from None


def _fields(namespace: Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(namespace).items() if name != CONFIG_FILES}


# ---- from files and plain data -------------------------------------------------------------------


def load(config_type: type[T], *files: Path) -> T:
    """Read a configuration from yaml files, later ones on top.

    Raises:
        ValueError: an unknown key, or a value that does not fit.
        FileNotFoundError: a file is missing.
    """
    return parse(config_type, [word for file in files for word in ("--config", str(file))])


def from_dict(config_type: type[T], data: Mapping[str, Any], *, source: str) -> T:
    """Build a configuration from plain data, as `to_dict` makes it.

    Args:
        config_type: a frozen dataclass.
        data: nested mappings, lists and scalars; what is left out keeps its default.
        source: where the data comes from, for error messages.

    Raises:
        ValueError: an unknown key, or a value that does not fit.
    """
    data = expand(data, get_type_hints(config_type), source=source, folder=None)
    parser = _new_parser(None, None)
    _add_config(parser, config_type)
    try:
        return config_type(**_fields(parser.instantiate(parser.parse_object(data))))
    except (argparse.ArgumentError, ValueError) as error:
        raise ValueError(f"{source}: {explain(str(error))}") from None


def to_dict(config: Any) -> Any:
    """Turn a configuration into plain data: dicts, lists, strings, numbers, booleans and None."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def save(config: Any, path: Path) -> None:
    """Write a configuration as yaml; `load` gives it back."""
    with replacing(path) as partial:
        partial.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
