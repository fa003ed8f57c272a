"""`fourdhands submission`: files for benchmarks' servers."""

from pathlib import Path

from fourdhands.evaluation.submissions import Context, find_submission
from fourdhands.evaluation.submissions.door import check_submission
from fourdhands.hands.assets import load_assets


def check(
    file: Path,
    *,
    benchmark: str,
    list: Path | None = None,
    mano: Path | None = None,
    any_count: bool = False,
) -> None:
    """Read a file for a benchmark's server back, and tell what is wrong with it.

    The exit status is 1 if anything is wrong. The server alone knows the true hands: what looks
    right here may still be far from them.

    Args:
        file: The file as it would be uploaded.
        benchmark: Name of the protocol, as `ho3d_v2`.
        list: The server's list of images, as HO3D's evaluation.txt (docs/submissions.md).
        mano: Folder that `fourdhands hands import` wrote, for parameters; the open hand if not
            given.
        any_count: Whether the file may hold other than the official number of images.

    Raises:
        ValueError: Something is wrong.
        OSError: A file cannot be read.
    """
    kind = find_submission(benchmark)
    wrong, holds = check_submission(file, kind, Context(load_assets(mano), list, any_count))
    print("\n".join((*holds, *(f"wrong: {line}" for line in wrong))), flush=True)
    if wrong:
        raise ValueError(f"{file} is not right ({len(wrong)} findings)")
