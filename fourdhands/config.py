"""Configurations: frozen dataclasses from yaml overlays and flags, and back to plain data.

The only user of jsonargparse. `parse` reads a dataclass, `call` the arguments of a typed function;
both take `--config first.yaml --config second.yaml --group.key value`, where the later wins. In a
yaml file a group may be the name of another yaml file, relative to the file that names it.

Files are read, checked for unknown keys and laid over each other here, then jsonargparse gets the
sum: on its own it accepts an unknown key whose value is an empty group, does not tell which file an
unknown key stands in, and loses the lower layer where an optional group comes from a nested file.
"""

import argparse
import dataclasses
import difflib
import inspect
import json
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_parsing_settings

from fourdhands.files import replacing

T = TypeVar("T")
CONFIG_FILES = "config_files"

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

    Parameters without a default that may be given by position are read by position, the others as
    flags; a sequence takes several words. The fields of a dataclass parameter (one at most) are
    flags themselves.

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
    return ArgumentParser(prog=prog, description=summary, exit_on_error=False, allow_abbrev=False)


def _add_config(parser: ArgumentParser, config_type: type) -> None:
    parser.add_argument(
        "--config",
        action="config",
        dest=CONFIG_FILES,
        metavar="FILE",
        help="Yaml file; may be given several times, later ones on top.",
    )
    parser.add_class_arguments(config_type, sub_configs=True)


def _add_parameter(
    parser: ArgumentParser, parameter: inspect.Parameter, hint: Any, description: str | None
) -> None:
    required = parameter.default is inspect.Parameter.empty
    by_position = required and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    options: dict[str, Any] = {"type": hint, "help": description}
    if get_origin(hint) in (list, tuple):
        options |= {"type": get_args(hint)[0], "nargs": "+" if required else "*"}
        if parameter.default == ():  # a flag given twice adds up
            options |= {"action": "extend"}
    if hint is bool:
        options["action"] = argparse.BooleanOptionalAction
    if not required:
        options["default"] = [] if parameter.default == () else parameter.default
    elif not by_position:
        options["required"] = True
    flag = f"--{parameter.name}"
    # both spellings, as flags are known by: --focal-length, and --focal_length like yaml's keys
    names = (parameter.name,) if by_position else dict.fromkeys((flag.replace("_", "-"), flag))
    parser.add_argument(*names, **options)


def _parse_args(
    parser: ArgumentParser, keys: Mapping[str, Any], args: Sequence[str]
) -> dict[str, Any]:
    try:
        files, flags = _split_args(args)
        merged: dict[str, Any] = {}
        for file in files:
            merged = _overlay(merged, _read(file, keys), keys)
        flags = _bracket_lists(parser, flags)
        words = ["--config", yaml.safe_dump(merged), *flags] if files else flags
        namespace = parser.instantiate(parser.parse_args(words))
    except argparse.ArgumentError as error:
        raise ValueError(_explain(error, parser)) from None
    return _fields(namespace)


def _split_args(args: Sequence[str]) -> tuple[list[Path], list[str]]:
    scanner = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scanner.add_argument("--config", action="append", type=Path, default=[])
    known, flags = scanner.parse_known_args(list(args))
    return known.config, flags


def _bracket_lists(parser: ArgumentParser, flags: Sequence[str]) -> list[str]:
    """`--data.train a b` and `--data.train a` mean the list [a, b], [a] that jsonargparse wants."""
    hints = {
        option: getattr(action, "_typehint", None)
        for action in parser._actions
        for option in action.option_strings
    }
    lists = {option: _of_numbers(hint) for option, hint in hints.items() if _is_list(hint)}
    words: list[str] = []
    rest = [word for flag in flags for word in _split_value(flag, lists)]
    while rest:
        words.append(rest.pop(0))
        if words[-1] in lists:
            values = list(takewhile(lambda word: not word.startswith("--"), rest))
            del rest[: len(values)]
            bare = len(values) != 1 or (not values[0].startswith("[") and values[0] != "null")
            entries = map(_number_or_text, values) if lists[words[-1]] else values
            words += [json.dumps(list(entries))] if bare else values
    return words


def _number_or_text(word: str) -> float | str:
    for number in (int, float):
        with suppress(ValueError):
            return number(word)
    return word


def _split_value(flag: str, options: Container[str]) -> list[str]:
    name, equals, value = flag.partition("=")
    return [name, value] if equals and name in options else [flag]


def _is_list(hint: Any) -> bool:
    """Whether a type is a tuple or a list, or None beside one."""
    kinds = [get_origin(kind) or kind for kind in (hint, *get_args(hint))]
    return kinds[0] is tuple or (kinds[0] in (Union, UnionType) and tuple in kinds[1:])


def _of_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(map(_of_numbers, get_args(hint)))


def _fields(namespace: Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(namespace).items() if name != CONFIG_FILES}


def _explain(error: argparse.ArgumentError, parser: ArgumentParser) -> str:
    """Say in one line what jsonargparse says in several."""
    text = " ".join(str(error).split())
    if unknown := re.match(r"unrecognized arguments: (--[^ =]+)", text):
        options = [option for action in parser._actions for option in action.option_strings]
        return f"unknown option {unknown[1]}{_nearest(unknown[1], options)}"
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    *outer, last = re.split(r'Parser key "([^"]+)": ', text)
    if len(outer) > 2:  # an optional group: the innermost complaint is the one that counts
        last = re.split(r" - Expected| Given value type", last)[0]
    return ": ".join((".".join(outer[1::2]), last)) if outer else last


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
    data = _expand(data, get_type_hints(config_type), source=source, folder=None)
    parser = _new_parser(None, None)
    _add_config(parser, config_type)
    try:
        return config_type(**_fields(parser.instantiate(parser.parse_object(data))))
    except argparse.ArgumentError as error:
        raise ValueError(f"{source}: {_explain(error, parser)}") from None


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


# ---- layers --------------------------------------------------------------------------------------


def _read(file: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such configuration file")
    try:
        data = get_loader("yaml")(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid yaml: {' '.join(str(error).split())}") from None
    if not isinstance(data, Mapping):
        raise ValueError(f"{file}: expected keys and values, found {data!r}")
    return _expand(data, keys, source=str(file), folder=file.parent)


def _expand(
    data: Mapping[str, Any],
    keys: Mapping[str, Any],
    *,
    source: str,
    folder: Path | None,
    prefix: str = "",
) -> dict[str, Any]:
    """Refuse keys that do not exist, and put in the files that stand for groups.

    Args:
        data: what a yaml file says.
        keys: the keys that exist, with their types.
        source: the file's name.
        folder: where files named as groups lie; None where there can be none.
        prefix: path of the group at hand.
    """

    def expand(path: str, group: type, value: Any) -> Any:
        inner = get_type_hints(group)
        if isinstance(value, str) and folder is not None and value.endswith((".yaml", ".yml")):
            return _read(folder / value, inner)
        if isinstance(value, list):
            return [expand(path, group, entry) for entry in value]
        if not isinstance(value, Mapping):
            raise ValueError(f"{source}: '{path}' is a group of keys, not {value!r}")
        return _expand(value, inner, source=source, folder=folder, prefix=f"{path}.")

    expanded = {}
    for key, value in data.items():
        if key not in keys:
            nearest = _nearest(str(key), keys)
            raise ValueError(f"{source}: unknown key '{prefix}{key}'{nearest}")
        group = _group_in(keys[key])
        if group is not None and value is not None:
            value = expand(f"{prefix}{key}", group, value)
        expanded[key] = value
    return expanded


def _overlay(
    below: Mapping[str, Any], above: Mapping[str, Any], keys: Mapping[str, Any]
) -> dict[str, Any]:
    """Lay one file over another, group by group; free dicts and lists are replaced whole."""
    merged = dict(below)
    for key, value in above.items():
        group = _group_in(keys[key])
        if group and isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            value = _overlay(below[key], value, get_type_hints(group))
        merged[key] = value
    return merged


def _group_in(hint: Any) -> type | None:
    """The dataclass of a type: of itself, of `X | None`, of `tuple[X, ...]`."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next(filter(None, map(_group_in, get_args(hint))), None)


def _nearest(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f", did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"
