"""Files for benchmarks' servers: written of predictions, read back, checked (docs/submissions.md).

A module for each kind of file; `SUBMISSIONS` names them by their protocols. `eval.py` comes in
through `door`, `fourdhands submission check` through `check`.
"""

from collections.abc import Mapping
from typing import Final

from fourdhands.evaluation.submissions.arctic import Arctic
from fourdhands.evaluation.submissions.base import Context, ServerFile
from fourdhands.evaluation.submissions.dexycb import DexYcb
from fourdhands.evaluation.submissions.h2o import H2O
from fourdhands.evaluation.submissions.meshes import FreiHand, Ho3d

__all__ = ["SUBMISSIONS", "Context", "ServerFile", "find_submission"]

SUBMISSIONS: Final[Mapping[str, ServerFile]] = {
    one.name: one
    for one in (Ho3d("ho3d_v2"), Ho3d("ho3d_v3"), FreiHand(), DexYcb(), Arctic(), H2O())
}
"""By the names of protocols."""


def find_submission(name: str) -> ServerFile:
    """The file that a benchmark's server takes.

    Raises:
        ValueError: nobody takes files for a protocol of that name.
    """
    if name not in SUBMISSIONS:
        raise ValueError(f"there are no submissions to {name!r}, but to {', '.join(SUBMISSIONS)}")
    return SUBMISSIONS[name]
