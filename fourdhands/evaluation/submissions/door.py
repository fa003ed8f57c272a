"""Where `eval.py` and the command line come in: write, read, check a file for a server."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fourdhands.evaluation.predictions_file import load_samples
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions import Context, ServerFile, find_submission
from fourdhands.evaluation.submissions.base import Contents
from fourdhands.evaluation.submissions.findings import find_oddities, summary
from fourdhands.hands.assets import ManoAssets


@dataclass(frozen=True)
class Target:
    """A file to write.

    Attributes:
        benchmark: name of its protocol.
        path: of the file.
        images: the server's list, if the file needs one.
    """

    benchmark: str
    path: Path
    images: Path | None = None

    def __post_init__(self) -> None:
        """Refuse before anything is computed what could not be written in the end."""
        kind = find_submission(self.benchmark)
        if self.path.suffix != kind.suffix:
            raise ValueError(f"submission: name {self.path} *{kind.suffix}, as its server wants")
        if self.path.is_dir():
            raise ValueError(f"submission: {self.path} is a folder; name a file")
        if kind.needs_list and self.images is None:
            raise ValueError(
                f"{kind.title}: the order of its images is not known; --submission_list has to be "
                f"{kind.list_is}"
            )
        if self.images is not None and not self.images.exists():
            raise FileNotFoundError(f"submission_list: {self.images} does not exist")


def is_hidden(true: HandSamples) -> bool:
    """Whether a truth has no more than wrists, as that of evaluation splits whose server scores."""
    masks = (true.joints_valid, true.joints_2d_valid)
    return not (true.vertices_valid.any() or any((mask.sum(-1) > 1).any() for mask in masks))


def write_submission(
    target: Target,
    samples: HandSamples,
    assets: tuple[ManoAssets, ManoAssets],
    *,
    any_count: bool,
) -> Iterable[str]:
    """Write the file.

    Args:
        target: where.
        samples: of all images that the server asks for, in any order.
        assets: hand models that their MANO parameters are of.
        any_count: whether there may be other than the official number of images.

    Returns:
        Lines for the user.

    Raises:
        ValueError: an image or a hand is missing or too much; names it.
    """
    kind = find_submission(target.benchmark)
    context = Context(assets, target.images, any_count)
    target.path.parent.mkdir(parents=True, exist_ok=True)
    holds = kind.write(samples, target.path, context)
    lines = [f"{target.path}: {kind.title}, {holds}"]
    if kind.note:
        lines.append(f"note: {kind.note}")
    if kind.wants_parameters and assets[0].source == "open":
        lines.append("note: the parameters are of the open hand; --mano names the official one")
    return lines


def load_predictions(
    path: Path,
    benchmark: str,
    names: Sequence[str],
    assets: tuple[ManoAssets, ManoAssets],
    images: Path | None,
    *,
    any_count: bool,
) -> HandSamples:
    """Predictions of a file of our own, or of one for the benchmark's server.

    Args:
        path: of the file.
        benchmark: name of the protocol.
        names: of the true images, by which the predictions are to be known.
        assets: hand models for parameters.
        images: the server's list.
        any_count: whether there may be other than the official number of images.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is none of these files.
    """
    if path.suffix == ".npz":
        return load_samples(path)
    kind = find_submission(benchmark)
    if kind.needs_list and images is None:
        raise ValueError(
            f"{path}: which image is which is not known; --submission_list has to be {kind.list_is}"
        )
    found = kind.read(path, Context(assets, images, any_count))
    known = dict(zip(kind.keys(names, found.keys), names, strict=True))
    own = tuple(known.get(key, kind.name_of(key)) for key in found.keys)
    return HandSamples(**(vars(found.samples) | {"names": own}))


def check_submission(
    path: Path, kind: ServerFile, context: Context
) -> tuple[Sequence[str], Sequence[str]]:
    """Read a file back and look at its hands.

    Returns:
        What is wrong, and what it holds; the latter is empty if it cannot be read.
    """
    try:
        found: Contents = kind.read(path, context, meshes=False)
    except ValueError as error:
        return [str(error)], []
    wrong = [] if path.suffix == kind.suffix else [f"the server wants a {kind.suffix} file"]
    wrong += find_oddities(found.samples, kind.common_from_server, kind.sides)
    holds = [f"{path}: {kind.title}, {summary(found.samples, kind.sides)}"] if found.keys else []
    return wrong, holds + ([f"note: {kind.note}"] if kind.note else [])
