"""Reading .pt2 files without executing what they hold: `read_program`, used by `graph_files`."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import ExportedProgram

from fourdhands.errors import first_line

_MAX_MODEL_BYTES: Final = 2**28
_ENTRY: Final = re.compile(
    r"\w[^/\\]*/(data/(weights/(weight_\d+|model_weights_config\.json)"
    r"|constants/(tensor_\d+|model_constants_config\.json)|sample_inputs/model\.pt)"
    r"|models/model\.json|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id))"
)
_TARGET: Final = re.compile(
    # all tensor operations but those that open files
    r"torch\.ops\.aten\.(?!(from_file|save)\.)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|pow|and_|or_)"
    r"|torch\.sym_\w+|math\.(trunc|floor|ceil|sqrt)"
)
_EXPRESSION: Final = re.compile(
    r"(Symbol\('[su]\d+'|Integer|Add|Mul|Pow|Min|Max|Mod|PythonMod|FloorDiv|CleanDiv|Eq|Ne|Lt|Le|Gt|Ge"
    r"|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|Equality|Unequality|Rational|And|Or|Not"
    r"|positive=True|nonnegative=True|integer=True|true|false|[su]\d+|[-+*/(), \d])*"
)


def read_program(path: Path) -> ExportedProgram:
    """Read a .pt2 file that `write_graphs` wrote.

    torch's reader unpickles what such a file has pickled and evaluates the expressions in it, so
    the file is looked through first: it may have raw numbers, tensor operations and sizes alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or has anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such graph")
    try:
        with zipfile.ZipFile(path) as file:
            _check_archive(file, path.stat().st_size)
        return torch.export.load(path)
    except _RefusedError as refused:
        raise ValueError(
            f"{path}: refused, {refused}, which graphs of fourdhands do not have; nothing was "
            "executed"
        ) from None
    except (zipfile.BadZipFile, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: not a readable graph ({first_line(error)})") from error


class _RefusedError(Exception):
    """The archive has something that could be executed."""


def _check_archive(file: zipfile.ZipFile, size: int) -> None:
    entries = file.infolist()
    if sum(entry.file_size for entry in entries) > size or len(
        {entry.filename for entry in entries}
    ) < len(entries):
        raise _RefusedError("its parts claim more than it holds")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or not _ENTRY.fullmatch(entry.filename):
            raise _RefusedError(f"it has a part '{entry.filename}'")
        if entry.filename.endswith(".pt") and entry.file_size:
            raise _RefusedError(f"it has pickled data in '{entry.filename}'")
        if entry.filename.endswith(".json"):
            if entry.file_size > _MAX_MODEL_BYTES:
                raise _RefusedError(f"'{entry.filename}' has {entry.file_size} bytes")
            for key, value in _leaves(json.loads(file.read(entry))):
                _check_leaf(key, value)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text with the key that it or the list around it stands under."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _check_leaf(key: str, value: Any) -> None:
    if key == "use_pickle" and value is not False:
        raise _RefusedError("it has pickled weights")
    if key == "guards_code":
        raise _RefusedError("it has code in its guards")
    if key == "target" and not _TARGET.fullmatch(str(value)):
        raise _RefusedError(f"it calls '{value}'")
    if key == "expr_str" and not _EXPRESSION.fullmatch(str(value)):
        raise _RefusedError(f"it has the expression '{str(value)[:80]}'")
