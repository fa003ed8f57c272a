"""The parsers' complaints, several lines in terms of their own, in one line for people."""

import re
from collections.abc import Sequence

UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - (.*?)"
    r" Given value type: .*? Given value: (.*)"
)
NOT_NULL = " - Expected a null"


def explain(text: str) -> str:
    """Say in one line what is wrong with which key or word."""
    text = " ".join(text.split())
    if stray := re.match(r"unrecognized arguments: (\S+)", text):
        return _stray(stray[1])
    for theirs, ours in (
        (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
        (r"\bNoneType\b", "null"),
        (r"a typing\.Literal\[([^\]]*)\]", r"one of \1"),
        (r"Problem with given class_path '[^']*': ", ""),
        (r"\ba (?=int\b)", "an "),
    ):
        text = re.sub(theirs, ours, text)
    *outer, last = re.split(r'Parser key "([^"]+)": ', text)
    keys = outer[1::2]
    if union := UNION.fullmatch(last):
        last = _of_union(*union.groups())
    elif NOT_NULL in last:  # a key of an optional group: its complaint is the one that counts
        last = last.partition(NOT_NULL)[0]
    return ": ".join([_path(keys), last] if keys else [last])


def _stray(word: str) -> str:
    if word.startswith("-"):
        return f"unknown option {word}"
    return f"unexpected '{word}', it belongs to no option"


def _of_union(complaints: str, value: str) -> str:
    """Of the complaints of all types of a union: what was expected, or what else was wrong."""
    each = re.split(r" - (?=Expected a)", complaints)
    wanted = [re.sub(r"Expected an? ", "", one) for one in each if one.startswith("Expected a")]
    others = [one for one in each if not one.startswith("Expected a")]
    return others[0] if others else f"Expected {_either(wanted)}. Got value: {value}"


def _either(kinds: Sequence[str]) -> str:
    first = kinds[0] if kinds[0].startswith("one of") else f"a {kinds[0]}"
    return " or ".join((re.sub(r"^a (?=int\b)", "an ", first), *kinds[1:]))


def _path(keys: Sequence[str]) -> str:
    """Inner keys are told from their group on, or from the start."""
    path = keys[0]
    for key in keys[1:]:
        path = key if key == path or key.startswith(f"{path}.") else f"{path}.{key}"
    return path
