"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SUFFIX: Final = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it; it gets its own name when all went well.

    The name is this process's alone. What a killed process leaves behind is `.NAME.*.partial`.

    Args:
        path: the file; its folder is there already.

    Yields:
        The name to write to, in one go or many.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
