"""Words of a command line, checked and made plain for jsonargparse."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import yaml

from fourdhands.config.layers import YAML_SUFFIXES, expand, group_in, load_yaml, nearest, read

CONFIG: Final = "--config"
MOST_MEANT: Final = 3


def split_files(args: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Part `--config FILE` from the other words.

    Raises:
        ValueError: a file's name is missing.
    """
    files: list[Path] = []
    others: list[str] = []
    rest = iter(args)
    for word in rest:
        option, equals, value = word.partition("=")
        if word == "--":
            others += [word, *rest]
        elif option != CONFIG:
            others.append(word)
        elif equals or not (value := next(rest, "--")).startswith("--"):
            files.append(Path(value))
        else:
            raise ValueError(f"{CONFIG}: the name of a file is missing")
    return files, others


def plain_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Refuse options that do not exist, put in the files that stand for groups, bracket lists.

    `--data.train a b` and `--data.train a` mean the lists [a, b] and [a] that jsonargparse wants.

    Raises:
        ValueError: an option is unknown, or a group is no group.
        FileNotFoundError: a file is missing.
    """
    options = _options(parser)
    end = words.index("--") if "--" in words else len(words)
    rest = list(words[:end])
    plain: list[str] = []
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            plain.append(word)
            continue
        _require_known(option, options)
        hint = options.get(option)
        if is_list(hint):
            values = [value] if equals else list(takewhile(_is_value, rest))
            del rest[: 0 if equals else len(values)]
            plain += [option, *_bracketed(values, hint)]
        elif hint and not equals and not any(map(_is_value, rest[:1])):
            raise ValueError(f"{option}: its value is missing")
        elif group_in(hint):
            plain += _of_group(option, hint, value if equals else rest.pop(0))
        else:
            plain.append(word)
    return [*plain, *words[end:]]


def inner_options(option: str, hint: Any) -> Iterator[tuple[str, type, str, Any]]:
    """The options of a group that may be null; jsonargparse knows them only when they come.

    Args:
        option: of the group, `--splits.train`.
        hint: its type.

    Yields:
        Option, dataclass, name of the field in it, and its type.
    """
    group = None if is_list(hint) else group_in(hint)
    if group is not None:
        for name, inner in get_type_hints(group).items():
            yield f"{option}.{name}", group, name, inner
            yield from inner_options(f"{option}.{name}", inner)


def is_list(hint: Any) -> bool:
    """Whether a type is a tuple or a list, or None beside one."""
    kinds = [get_origin(kind) or kind for kind in (hint, *get_args(hint))]
    return kinds[0] is tuple or (kinds[0] in (Union, UnionType) and tuple in kinds[1:])


def _options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Every option and its type, None if it has none of jsonargparse's."""
    options = {
        option: getattr(action, "_typehint", None) or getattr(action, "basetype", None)
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
    }
    for option, hint in list(options.items()):
        options |= {inner: kind for inner, _, _, kind in inner_options(option, hint)}
    return options


def _require_known(option: str, options: Mapping[str, Any]) -> None:
    free = (f"{known}." for known, hint in options.items() if (get_origin(hint) or hint) is dict)
    if option not in options and not option.startswith(tuple(free)):
        same = [known for known in options if _name(known) == _name(option)]  # in another group
        if 0 < len(same) <= MOST_MEANT:
            hint = f", did you mean {' or '.join(map(repr, same))}?"
        else:
            hint = nearest(option, options, otherwise="; --help lists what there is")
        raise ValueError(f"unknown option {option}{hint}")


def _name(option: str) -> str:
    return option.lstrip("-").rpartition(".")[2]


def _is_value(word: str) -> bool:
    return not word.startswith("--")


def _bracketed(values: Sequence[str], hint: Any) -> list[str]:
    if len(values) == 1 and (values[0].startswith("[") or values[0] == "null"):
        return list(values)
    return [json.dumps([_number_or_text(word) for word in values] if _of_numbers(hint) else values)]


def _of_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(map(_of_numbers, get_args(hint)))


def _number_or_text(word: str) -> float | str:
    for number in (int, float):
        with suppress(ValueError):
            return number(word)
    return word


def _of_group(option: str, hint: Any, text: str) -> list[str]:
    """A group's value, keys and values or a file's name, as words for each value in it.

    Raises:
        ValueError: it is nothing of this, or has an unknown key.
        FileNotFoundError: the file is missing.
    """
    group, optional = group_in(hint), type(None) in get_args(hint)
    assert group is not None
    keys = get_type_hints(group)
    if optional and text == "null":
        return [option, text]
    if text.endswith(YAML_SUFFIXES):
        data = read(Path(text), keys)
    else:
        try:
            given = load_yaml(text)
        except yaml.YAMLError:
            given = None
        if not isinstance(given, Mapping):
            allowed = ["a yaml file", "'{key: value}'", *(["null"] if optional else [])]
            raise ValueError(f"{option}: expected {' or '.join(allowed)}, got {text!r}")
        data = expand(given, keys, source=option, folder=Path())
    return list(_leaves(option, data, keys)) or [option, "{}"]


def _leaves(option: str, data: Mapping[str, Any], keys: Mapping[str, Any]) -> Iterator[str]:
    """One by one, values keep what lies below them; a group given as a whole loses it."""
    for name, value in data.items():
        inner, hint = f"{option}.{name}", keys[name]
        group = None if is_list(hint) else group_in(hint)
        if group is not None and value:
            yield from _leaves(inner, value, get_type_hints(group))
        else:
            yield f"{inner}={value if isinstance(value, str) else json.dumps(value)}"
