"""`fourdhands data`: which data sets are there, and whether they are whole."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fourdhands.data.inventory import Stock, check_set, take_stock
from fourdhands.data.manifest import Manifest, load_manifests

_HEADINGS = (
    "name",
    "split",
    "status",
    "frames",
    "hands",
    "shards",
    "size",
    "fps",
    "weight",
    "annotations",
    "licence",
)
_NUMBERS = frozenset(("frames", "hands", "shards", "size", "fps", "weight"))


def list_sets(*, manifests: Path = Path("data_manifests"), root: Path = Path("data")) -> None:
    """List the data sets: what there is of each / what there should be, where that is known.

    Nothing is read but names, sizes and what was written down: see `fourdhands data check`. A ~
    marks figures that nobody has checked.

    Args:
        manifests: Folder of manifests.
        root: Folder that the manifests' shards are relative to.

    Raises:
        ValueError: A manifest is wrong.
        OSError: A file cannot be read.
    """
    stocks = [take_stock(path, known, root) for path, known in load_manifests(manifests).items()]
    print("\n".join(_table([_HEADINGS, *(_row(stock) for stock in stocks)])))
    for stock in stocks:
        for line in (*stock.problems, *stock.notes):
            print(f"{stock.name}: {line}")


def check_sets(
    names: tuple[str, ...] = (),
    *,
    manifests: Path = Path("data_manifests"),
    root: Path = Path("data"),
    workers: int | None = None,
    quick: bool = False,
) -> None:
    """Check the data sets: shards, sizes, checksums, samples, counts.

    Every shard is read, every sample decoded. The exit status is 1 if anything is wrong, also if a
    set that is named is missing; a difference from figures that nobody has checked is only told.

    Args:
        names: Names as `fourdhands data list` tells them, or of data sets, with all their splits;
            all that are there if none is given.
        manifests: Folder of manifests.
        root: Folder that the manifests' shards are relative to.
        workers: Processes; one per core if not given.
        quick: Read no shard: only names, sizes and what was written down.

    Raises:
        ValueError: A name is unknown, a manifest is wrong, there is nothing to check, or something
            is wrong with the sets.
        OSError: A file cannot be read.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    if workers < 1:
        raise ValueError(f"workers is {workers}, it has to be positive")
    known = load_manifests(manifests)
    chosen = choose(names, known) if names else list(known)
    stocks = [take_stock(path, known[path], root) for path in chosen]
    if not names:
        stocks = [stock for stock in stocks if stock.status != "missing"]
    if not stocks:
        raise ValueError(f"none of the sets of {manifests} is in {root}; nothing was checked")
    wrong = []
    for found in stocks:
        stock = found if quick else check_set(found, workers=workers)
        if stock.status != "complete":
            wrong.append(stock.name)
        print("\n".join(_verdict(stock)), flush=True)
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(stocks)} sets are not right: {', '.join(wrong)}")


def choose(names: Sequence[str], known: Mapping[Path, Manifest]) -> list[Path]:
    """The manifests that names mean: a file's name, a folder of shards, or a data set's.

    Raises:
        ValueError: a name means none.
    """
    meanings: dict[str, list[Path]] = {}
    for path, manifest in known.items():
        folder = Path(manifest.shards).parent.name
        for word in dict.fromkeys(plain(w) for w in (path.stem, folder, manifest.name)):
            meanings.setdefault(word, []).append(path)
    for name in names:
        if plain(name) not in meanings:
            near = difflib.get_close_matches(name, [path.stem for path in known], 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ValueError(
                f"{name!r} is none of the sets that `fourdhands data list` tells{hint}"
            )
    return list(dict.fromkeys(path for name in names for path in meanings[plain(name)]))


def plain(name: str) -> str:
    """HO3D-v2 is ho3d_v2: people write names as they know them."""
    return "".join(letter for letter in name.lower() if letter.isalnum()) or name


def _row(stock: Stock) -> tuple[str, ...]:
    known = stock.manifest
    return (
        stock.name,
        known.split,
        stock.status,
        _of(stock.frames, known, "frames"),
        _of(stock.hands, known, "hands"),
        str(len(stock.shards) or "-"),
        _size(stock.bytes),
        f"{known.fps:g}",
        f"{known.weight:g}",
        ",".join(known.annotations) or "-",
        known.licence,
    )


def _of(there: int | None, known: Manifest, name: str) -> str:
    number = "-" if there is None else str(there)
    if (expected := known.expected.get(name)) is None:
        return number
    return f"{number} / {'' if known.counts_checked else '~'}{expected}"


def _size(count: int) -> str:
    """Bytes for people."""
    if not count:
        return "-"
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they have to be; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [heading in _NUMBERS for heading in rows[0]]
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        yield "  ".join(
            cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells
        ).rstrip()


def _verdict(stock: Stock) -> Iterator[str]:
    counts = {"shards": len(stock.shards), "frames": stock.frames, "hands": stock.hands}
    known = ", ".join(f"{name} {count}" for name, count in counts.items() if count is not None)
    yield f"{stock.name}: {stock.status} ({known})"
    yield from (f"  wrong: {line}" for line in stock.problems)
    yield from (f"  note: {line}" for line in stock.notes)
