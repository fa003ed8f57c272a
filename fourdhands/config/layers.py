"""Yaml files as plain data: read, checked for unknown keys, laid over each other."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import get_loader

YAML_SUFFIXES = (".yaml", ".yml")


def read(file: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Read a file and the files that it names as groups.

    Args:
        file: yaml.
        keys: the keys that exist, with their types.

    Raises:
        ValueError: it is not yaml, or has an unknown key.
        FileNotFoundError: it, or a file that it names, is missing.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such configuration file{_file_meant(file)}")
    try:
        data = load_yaml(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid yaml: {' '.join(str(error).split())}") from None
    if not isinstance(data, Mapping):
        raise ValueError(f"{file}: expected keys and values, found {data!r}")
    return expand(data, keys, source=str(file), folder=file.parent)


def load_yaml(text: str) -> Any:
    """Read yaml as jsonargparse does: 1e-5 is a number.

    Raises:
        yaml.YAMLError: it is not yaml.
    """
    return get_loader("yaml")(text)


def expand(
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

    Raises:
        ValueError: a key is unknown, or a group is no group.
        FileNotFoundError: a file is missing.
    """

    def expand_group(path: str, group: type, value: Any) -> Any:
        inner = get_type_hints(group)
        if isinstance(value, str) and folder is not None and value.endswith(YAML_SUFFIXES):
            return read(folder / value, inner)
        if isinstance(value, list):
            return [expand_group(path, group, entry) for entry in value]
        if not isinstance(value, Mapping):
            raise ValueError(f"{source}: '{path}' is a group of keys, not {value!r}")
        return expand(value, inner, source=source, folder=folder, prefix=f"{path}.")

    expanded = {}
    for key, value in data.items():
        if key not in keys:
            known = f"; known are {', '.join(sorted(keys))}"
            hint = nearest(str(key), keys, otherwise=known)
            raise ValueError(f"{source}: unknown key '{prefix}{key}'{hint}")
        group = group_in(keys[key])
        if group is not None and value is not None:
            value = expand_group(f"{prefix}{key}", group, value)
        expanded[key] = value
    return expanded


def overlay(
    below: Mapping[str, Any], above: Mapping[str, Any], keys: Mapping[str, Any]
) -> dict[str, Any]:
    """Lay one file over another, group by group; free dicts and lists are replaced whole."""
    merged = dict(below)
    for key, value in above.items():
        group = group_in(keys[key])
        if group and isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            value = overlay(below[key], value, get_type_hints(group))
        merged[key] = value
    return merged


def group_in(hint: Any) -> type | None:
    """The dataclass of a type: of itself, of `X | None`, of `tuple[X, ...]`."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next(filter(None, map(group_in, get_args(hint))), None)


def nearest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The end of a sentence about an unknown word: what was meant, or `otherwise`."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean '{near[0]}'?" if near else otherwise


def _file_meant(file: Path) -> str:
    """The end of a sentence about a missing file."""
    if file.is_dir():
        return ", it is a folder"
    if not file.parent.is_dir():
        return f", nor is there a folder '{file.parent}' in {Path.cwd()}"
    siblings = (path for path in file.parent.iterdir() if path.suffix in YAML_SUFFIXES)
    return nearest(str(file), map(str, siblings))
