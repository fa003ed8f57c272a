"""Which shards make up a data set: a yaml manifest per set and split, or simply a folder of shards.

`find_shards` is where every stream begins; whatever is missing is said here, before anything runs.
`record_shards` writes into a manifest which shards a conversion has made.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from fourdhands.data.shards import SetSummary
from fourdhands.files import replacing

Split = Literal["train", "val", "test"]
Annotation = Literal[
    "boxes",
    "joints_2d",
    "joints_3d",
    "roots",
    "mano",
    "betas",
    "vertices",
    "intrinsics",
    "cameras",
    "masks",
    "depth",
]
"""What shards can hold: `roots` are hands that stand where they are, not just in their own frame,
`cameras` a world that the cameras move in or share."""
COUNTS: Final = ("clips", "frames", "hands")
_SHARD_NAME: Final = re.compile(r"(.+)-\d{6}\.tar")
_ANY_SHARD: Final = "-*.tar"


@dataclass(frozen=True)
class Manifest:
    """One split of one data set.

    Attributes:
        name: of the data set; its clips have it, too, perhaps with more after a dash.
        split: train, val or test.
        source: where the data come from: the official page, or the command that makes them.
        licence: under which they may be used.
        shards: pattern of the tar files, relative to the data root.
        fps: frames a second; 1 for single images.
        weight: how often training draws from this set, relative to the others; a set is drawn in
            proportion to its weight alone, whatever its size.
        num_shards: how many shards there are, if that is fixed.
        checksums: sha256 by file name, for the shards that have one on record.
        title: what people call it.
        description: a line for people.
        citation: authors, title, venue, year.
        annotations: what is labelled.
        expected: clips, frames or hands of the whole split, as far as known; frames that conversion
            left out for a reason count as there.
        counts_checked: whether `expected` was read in the data set's own documents or code; a
            difference from figures that were not is told, but is no fault.
    """

    name: str
    split: Split
    source: str
    licence: str
    shards: str
    fps: float
    weight: float = 1.0
    num_shards: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    description: str = ""
    citation: str = ""
    annotations: tuple[Annotation, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    counts_checked: bool = True

    @staticmethod
    def load(path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a field is missing, unknown or of the wrong kind.
        """
        if not path.is_file():
            raise FileNotFoundError(f"manifest {path} does not exist")
        plain = _parse(path, path.read_text())
        known = {entry.name for entry in fields(Manifest)}
        required = {"name", "split", "source", "licence", "shards", "fps"}
        if unknown := sorted(str(name) for name in plain.keys() - known):
            raise ValueError(
                f"{path}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        if missing := sorted(required - plain.keys()):
            raise ValueError(f"{path}: the field {missing[0]!r} is missing")
        for name, value in plain.items():
            _check_field(path, name, value)
        return Manifest(**{**plain, "annotations": tuple(plain.get("annotations", ()))})

    @property
    def summaries(self) -> str | None:
        """Pattern of the summaries beside the shards; None if the shards' does not tell."""
        stem = self.shards.removesuffix(_ANY_SHARD)
        return f"{stem}.json" if stem != self.shards else None


@dataclass(frozen=True)
class ShardSet:
    """The shards of one set, all of them there.

    Attributes:
        name: for messages.
        dataset: a manifest's file name without its split, as two releases of a data set may share
            its name, or the place of a set without a manifest; what weights are given to.
        shards: in order.
        weight: how often training draws from the set.
    """

    name: str
    dataset: str
    shards: tuple[Path, ...]
    weight: float = 1.0


def load_manifests(folder: Path) -> dict[Path, Manifest]:
    """All manifests of a folder by their files, in order.

    Raises:
        FileNotFoundError: there is no such folder, or no manifest in it.
        ValueError: one is wrong.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"manifests: {folder} is not a folder")
    found = {path: Manifest.load(path) for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise FileNotFoundError(f"manifests: no *.yaml in {folder}")
    return found


def record_shards(path: Path, summary: SetSummary) -> bool:
    """Write into a manifest which shards its set has; every other line stays as it is.

    Args:
        path: of the manifest.
        summary: of the finished set.

    Returns:
        Whether anything changed.

    Raises:
        OSError: the manifest cannot be read or written.
        ValueError: it is wrong, or laid out so that only these fields cannot be changed.
    """
    before = path.read_text()
    checksums = {entry.file: entry.sha256 for entry in summary.shards}
    text = _with_field(before, "num_shards", f" {len(checksums)}")
    lines = (f"\n  {name}: {digest}" for name, digest in sorted(checksums.items()))
    text = _with_field(text, "checksums", "".join(lines))
    if text == before:
        return False
    changed = {"num_shards": len(checksums), "checksums": checksums}
    if _parse(path, text) != {**_parse(path, before), **changed}:
        raise ValueError(
            f"{path}: cannot change its num_shards and checksums alone; begin these fields' lines "
            "with their names"
        )
    with replacing(path) as partial:
        partial.write_text(text)
    return True


def _with_field(text: str, name: str, value: str) -> str:
    """Replace the value of a field of the first level, or add the field at the end.

    A comment on the field's own line stays; the value is what follows it there, and the indented
    lines below.
    """
    first, separator, rest = value.partition("\n")
    pattern = re.compile(rf"^{name}:[^\n#]*?([ \t]*#[^\n]*)?$(?:\n[ \t]+[^\n]*)*", re.MULTILINE)
    match = pattern.search(text)
    if match is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}{name}:{value}\n"
    field_ = f"{name}:{first}{match[1] or ''}{separator}{rest}"
    return text[: match.start()] + field_ + text[match.end() :]


def find_shards(source: Path, root: Path) -> ShardSet:
    """Find the shards of a set, and make sure that none is missing or cut off.

    Args:
        source: a manifest (`.yaml`), the summary that the set's writer left beside the shards
            (`.json`), or a folder that holds one set.
        root: what a manifest's pattern is relative to.

    Raises:
        FileNotFoundError: the source or one of its shards is missing.
        ValueError: the manifest is wrong, the set is unfinished, or a shard has the wrong size.
    """
    if source.suffix in (".yaml", ".yml"):
        return _from_manifest(source, root)
    if source.suffix == ".json":
        if not source.is_file():
            raise FileNotFoundError(f"summary {source} does not exist; make the set first")
        shards = tuple(source.with_name(entry.file) for entry in _require_complete(source).shards)
        return ShardSet(str(source), str(source), shards)
    return _from_folder(source)


def _from_manifest(source: Path, root: Path) -> ShardSet:
    manifest = Manifest.load(source)
    shards = tuple(sorted(root.glob(manifest.shards)))
    for path in _summaries(shards):
        for entry in _require_complete(path).shards:
            if manifest.checksums.get(entry.file, entry.sha256) != entry.sha256:
                raise ValueError(
                    f"{path}: {entry.file} is not the shard that {source} has on record; make or "
                    f"fetch the set again ({manifest.source})"
                )
    if not shards or len(shards) != (manifest.num_shards or len(shards)):
        expected = manifest.num_shards or "any"
        raise FileNotFoundError(
            f"{source}: found {len(shards)} of {expected} shards {root / manifest.shards}; "
            f"make or fetch the set ({manifest.source}) or set the data root"
        )
    dataset = source.stem.removesuffix(f"_{manifest.split}")
    return ShardSet(f"{manifest.name} {manifest.split}", dataset, shards, manifest.weight)


def _from_folder(source: Path) -> ShardSet:
    shards = tuple(sorted(source.glob("*.tar")))
    if not shards:
        raise FileNotFoundError(
            f"{source}: no shards (*.tar) there; give a manifest (.yaml), a set's summary (.json) "
            "or a folder of shards"
        )
    summaries = _summaries(shards)
    if len(summaries) > 1:
        names = ", ".join(path.name for path in summaries)
        raise ValueError(f"{source}: holds several sets; name the summary of one of them: {names}")
    for summary in summaries:
        _require_complete(summary)
    return ShardSet(str(source), str(source), shards)


def _summaries(shards: Sequence[Path]) -> list[Path]:
    """The summaries that belong to shards, where there are any."""
    matches = ((shard, _SHARD_NAME.fullmatch(shard.name)) for shard in shards)
    paths = {shard.with_name(f"{match[1]}.json") for shard, match in matches if match}
    return sorted(path for path in paths if path.is_file())


def _require_complete(path: Path) -> SetSummary:
    """Hold the shards of a set against the summary that their writer left, and return it."""
    summary = SetSummary.load(path)
    if not summary.finished:
        raise ValueError(f"{path}: the set is not finished; run what makes it once more")
    for entry in summary.shards:
        shard = path.with_name(entry.file)
        if not shard.is_file():
            raise FileNotFoundError(
                f"shard {shard} is missing, {path.name} lists it; run what makes the set once more"
            )
        if (size := shard.stat().st_size) != entry.bytes:
            raise ValueError(
                f"shard {shard} has {size} bytes, {path.name} says {entry.bytes}; delete the shard "
                "and run what makes the set once more"
            )
    return summary


def _parse(path: Path, text: str) -> dict[Any, Any]:
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not yaml ({' '.join(str(error).split())})") from None
    if not isinstance(plain, dict):
        raise ValueError(f"{path}: a manifest is a list of fields with values")
    return plain


def _check_field(path: Path, name: str, value: Any) -> None:
    """Check the kind and range of one value of a manifest."""
    positive = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    fits = {
        "split": value in get_args(Split),
        "shards": isinstance(value, str) and value != "" and not Path(value).is_absolute(),
        "fps": positive,
        "weight": positive,
        "num_shards": value is None or (positive and isinstance(value, int)),
        "checksums": isinstance(value, dict)
        and all(isinstance(word, str) for pair in value.items() for word in pair),
        "annotations": isinstance(value, list)
        and all(kind in get_args(Annotation) for kind in value),
        "expected": isinstance(value, dict)
        and all(key in COUNTS and type(count) is int and count > 0 for key, count in value.items()),
        "counts_checked": isinstance(value, bool),
    }
    allowed = {
        "split": f"one of {', '.join(get_args(Split))}",
        "shards": "a pattern relative to the data root",
        "num_shards": "a positive whole number",
        "checksums": "sha256 by file name",
        "annotations": f"a list of {', '.join(get_args(Annotation))}",
        "expected": f"positive whole numbers of {', '.join(COUNTS)}",
        "counts_checked": "true or false",
    }
    if not fits.get(name, isinstance(value, str)):
        kind = allowed.get(name, "a positive number" if name in ("fps", "weight") else "text")
        raise ValueError(f"{path}: {name} is {value!r}, it has to be {kind}")
