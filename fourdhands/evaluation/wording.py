"""Words for the parts of a protocol, taken from the parts themselves: names and docstrings."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final

_TOO_FINE: Final = ("softening",)  # for words: it decides the last digits


def label_of(function: Callable[..., Any]) -> str:
    """A function's or a class's name and what it was given: `similarity (reflections)`."""
    if not isinstance(function, partial):
        name: str = getattr(function, "__name__", type(function).__name__)
        spaced = "".join(f" {c.lower()}" if c.isupper() else c for c in name)
        return spaced.replace("_", " ").strip()
    given = [_value(value) for value in function.args]
    for name, value in function.keywords.items():
        if name in _TOO_FINE:
            continue
        spaced = name.replace("_", " ")
        given.append(spaced if value is True else f"{spaced} {_value(value)}")
    return f"{label_of(function.func)} ({', '.join(given)})" if given else label_of(function.func)


def meaning_of(function: Callable[..., Any]) -> str:
    """The first paragraph of its docstring, in one line."""
    while isinstance(function, partial):
        function = function.func
    text = inspect.getdoc(function) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _value(value: Any) -> str:
    return label_of(value) if callable(value) else str(value)
