"""`fourdhands convert NAME`: official downloads to shards."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from fourdhands.data.convert.names import DATASETS
from fourdhands.data.convert.records import Dataset
from fourdhands.data.convert.run import Conversion, convert_split
from fourdhands.data.manifest import Manifest, load_manifests, record_shards
from fourdhands.data.shards import SetSummary
from fourdhands.data.sheet import write_contact_sheet
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel


def command(name: str) -> Callable[..., None]:
    """The function behind `fourdhands convert NAME`: its flags are the data set's options, too."""
    dataset_type = DATASETS[name].load()

    def run(
        dataset: Dataset,
        *,
        out: Path,
        splits: tuple[str, ...] = (),
        mano: Path | None = None,
        workers: int | None = None,
        tolerance: float = 0.07,
        manifests: Path = Path("data_manifests"),
    ) -> None:
        """Bring an official download into shards.

        A conversion that was stopped goes on where it was; the number of workers does not change a
        byte. Frames that cannot be used are left out and counted by their reason.

        Args:
            dataset: What to convert.
            out: Folder for shards, summaries, reports and contact sheets.
            splits: What to convert of it; everything that is there if not given.
            mano: Folder that `fourdhands hands import` wrote; the open hand if not given. Labels
                that are MANO parameters mean something with their own model only.
            workers: Processes; one per core if not given.
            tolerance: Share of the hand's size by which labels may disagree with each other.
            manifests: Folder of manifests; the one whose shards are OUT/SPLIT-*.tar (by the name of
                the folder OUT) is told the checksums.
        """
        convert(dataset, out, splits, mano, workers, tolerance, manifests)

    run.__annotations__["dataset"] = dataset_type
    run.__doc__ = (run.__doc__ or "").replace("an official download", DATASETS[name].title)
    return run


def convert(
    dataset: Dataset,
    out: Path,
    splits: tuple[str, ...],
    mano: Path | None,
    workers: int | None,
    tolerance: float,
    manifests: Path,
) -> None:
    """Convert, draw, report, fill in checksums (see `command`).

    Raises:
        ValueError: an argument makes no sense, or the download is not what it should be.
        OSError: a file is missing or cannot be read.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    if workers < 1 or tolerance <= 0:
        raise ValueError(
            f"workers is {workers} and tolerance {tolerance}: both have to be positive"
        )
    assets = load_assets(mano)  # what users get wrong is said before anything is written
    if not dataset.root.is_dir():
        raise FileNotFoundError(f"root: {dataset.root} is not a folder")
    there = tuple(dataset.splits())
    if unknown := [split for split in splits if split not in there]:
        raise ValueError(
            f"splits: {unknown[0]!r} is not in {dataset.root}; there are {', '.join(there)}"
        )
    known = load_manifests(manifests) if any(manifests.glob("*.yaml")) else {}
    conversion, model = Conversion(dataset, mano), HandModel(assets)
    for split in splits or there:
        report = convert_split(conversion, split, out, workers=workers, tolerance=tolerance)
        summary = SetSummary.load(out / f"{split}.json")
        sheet = out / f"{split}-sheet.png"
        if not sheet.exists():
            write_contact_sheet([out / e.file for e in summary.shards if e.clips], sheet, model)
        shards = f"{out.resolve().name}/{split}-*.tar"
        record = _record(known, dataset.name, shards, summary, manifests)
        print("\n".join((*report.lines(), f"  {sheet}", f"  {record}")))


def _record(
    known: Mapping[Path, Manifest], name: str, shards: str, summary: SetSummary, folder: Path
) -> str:
    """Write checksums into the manifest of a set, if there is one; tell what was done."""
    for path, manifest in known.items():
        if manifest.shards == shards and manifest.name == name:
            try:
                state = "now has" if record_shards(path, summary) else "has"
            except (OSError, ValueError) as error:  # the shards are good all the same
                return f"no checksums filled in: {error}"
            return f"{path} {state} the checksums of {len(summary.shards)} shards"
    return f"{folder} has no manifest of {name} for {shards}: no checksums filled in"
