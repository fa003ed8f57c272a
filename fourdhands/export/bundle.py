"""The bundle: a folder with a network's weights and everything that is needed to use them.

    model.safetensors  config.json  README.md  manifest.json  (open_hand/, and graphs, by option)

`export.checkpoint.read_checkpoint` reads it like a checkpoint. Nothing in it can be executed; the
manifest has every file's size and sha256, which reading compares.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fourdhands.errors import first_line
from fourdhands.files import replacing

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
CARD: Final = "README.md"
MANIFEST: Final = "manifest.json"
OPEN_HAND: Final = "open_hand"
_MAX_JSON_BYTES: Final = 2**22
_MAX_HEADER_BYTES: Final = 2**25
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        config: what a checkpoint holds under its own key, and how to feed the network.
        weights: the network's state dict.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]


def write_bundle(out: Path, bundle: Bundle, card: str, extra: Path | None = None) -> None:
    """Write a bundle whole or not at all.

    Args:
        out: a folder that is new, empty, or a bundle, which is replaced.
        bundle: what goes into it.
        card: the model card, markdown.
        extra: folder whose files and folders are taken along.

    Raises:
        ValueError: the folder holds something else.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        if extra is not None:
            shutil.copytree(extra, made, dirs_exist_ok=True)
        weights = {name: weight.detach().contiguous() for name, weight in bundle.weights.items()}
        save_file(_apart(weights), made / WEIGHTS, metadata={"format": "pt"})
        (made / WEIGHTS).chmod(0o666 & ~_umask())  # safetensors lets the owner read it alone
        (made / CONFIG).write_text(json.dumps(bundle.config, indent=1) + "\n")
        (made / CARD).write_text(card)
        write_manifest(made)
        made.chmod(0o777 & ~_umask())
        if out.exists():
            shutil.rmtree(out)
        os.replace(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_free(out: Path) -> None:
    """Refuse a folder that something else than a bundle would be lost with.

    Raises:
        ValueError: it holds something else, is a file, or its manifest is damaged.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise ValueError(f"out: {out} is there and no bundle; name a folder that is new or empty")
    for name in _files(out).keys() - _entries(out).keys():
        raise ValueError(
            f"out: {out} holds {name}, which is no part of the bundle there; move it away, or name "
            "another folder"
        )


def write_manifest(folder: Path) -> None:
    """Note the size and sha256 of every file in a folder."""
    entries = {
        name: {"bytes": path.stat().st_size, "sha256": hash_of(path)}
        for name, path in sorted(_files(folder).items())
    }
    with replacing(folder / MANIFEST) as partial:
        partial.write_text(json.dumps({"files": entries}, indent=1) + "\n")


def _files(folder: Path) -> dict[str, Path]:
    """What a folder holds beside its manifest."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _entries(folder: Path) -> Mapping[str, Any]:
    """What a bundle's manifest lists."""
    manifest = read_json(folder / MANIFEST)
    entries = manifest.get("files") if isinstance(manifest, Mapping) else None
    if not isinstance(entries, Mapping):
        raise ValueError(f"{folder / MANIFEST}: has no list of files")
    return entries


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, after comparing its files with its manifest.

    Raises:
        FileNotFoundError: it is no bundle.
        ValueError: a file is missing, damaged, or not what the manifest says.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder}: no checkpoint and no bundle, it has no {MANIFEST}")
    check_files(folder, only=(WEIGHTS, CONFIG))
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict):
        raise ValueError(f"{folder / CONFIG}: holds no configuration")
    return Bundle(content, _read_weights(folder / WEIGHTS))


def check_files(folder: Path, only: tuple[str, ...] | None = None) -> None:
    """Compare a bundle's files with its manifest.

    Args:
        folder: the bundle.
        only: names of the files to compare; all of them if None.

    Raises:
        ValueError: a file is missing or other than the manifest says, or a name leads elsewhere.
    """
    entries = _entries(folder)
    for name in entries:
        if not all(_NAME.fullmatch(part) for part in str(name).split("/")):
            raise ValueError(f"{folder / MANIFEST}: {name!r} is no name of a file in a bundle")
    for name in only or tuple(entries):
        entry, path = entries.get(name), folder / name
        if not isinstance(entry, Mapping) or not path.is_file():
            raise ValueError(f"{folder}: {name} is missing")
        if entry.get("bytes") != path.stat().st_size or entry.get("sha256") != hash_of(path):
            raise ValueError(
                f"{path}: not the file that the manifest describes; get the bundle again"
            )


def read_json(path: Path) -> Any:
    """Read a small JSON file.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no JSON, or too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"{path}: more than {_MAX_JSON_BYTES} bytes are no configuration")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({first_line(error)})") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    try:
        if header > _MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {header} bytes")
        return load_file(path)
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not readable as safetensors ({first_line(error)})") from error


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors that share memory their own, which safetensors asks for."""
    seen: set[int] = set()
    for name, weight in weights.items():
        place = weight.untyped_storage().data_ptr()
        whole = weight.untyped_storage().nbytes() == weight.nbytes
        weights[name] = weight if whole and place not in seen else weight.clone()
        seen.add(place)
    return weights


def hash_of(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
