"""Bundles on the Hugging Face hub: fetched once, kept in its cache, pushed by their owner."""

import re
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from fourdhands.errors import first_line
from fourdhands.export.bundle import (
    CARD,
    CONFIG,
    MANIFEST,
    OPEN_HAND,
    WEIGHTS,
    check_files,
)

_FILES: Final = (".ckpt", ".pth", ".pt", ".safetensors")
HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED: Final = (WEIGHTS, CONFIG, CARD, MANIFEST, f"{OPEN_HAND}/*.npz")
"""What is fetched; graphs are for others."""
_CLIENTS: Final = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
"""Whose errors say that there is no connection; `huggingface_hub` has changed them twice."""


def find_source(source: Path | str, revision: str | None = None) -> Path:
    """A checkpoint's file or a bundle's folder by its path, or by its name on the hub.

    Args:
        source: what is there as a file or folder is that; otherwise `owner/name` is of the hub.
        revision: branch, tag or commit on the hub; the newest if None.

    Raises:
        FileNotFoundError: it is neither.
        OSError: the hub cannot be reached, or has no such bundle.
    """
    path = Path(source)
    local = path.exists() or path.suffix in _FILES or path.parent.name in ("", "..")
    if local or not HUB_ID.fullmatch(str(source)) or path.parent.exists():
        return path
    return fetch_bundle(str(source), revision)


def fetch_bundle(name: str, revision: str | None = None) -> Path:
    """Fetch a bundle, or find it in the hub's cache; offline the cache alone is asked.

    Returns:
        Its folder.

    Raises:
        FileNotFoundError: there is no such bundle, or it is not in the cache and the hub is away.
        OSError: the hub refuses.
    """
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_WANTED)))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: no such file or folder, not in the cache, and the Hugging Face hub cannot be "
            "reached; go online once, or name a folder"
        ) from error
    except HFValidationError as error:
        raise FileNotFoundError(f"{name}: no such file, and no name of the hub") from error
    except HfHubHTTPError as error:
        raise OSError(f"{name}: the Hugging Face hub says: {first_line(error)}") from error


def push_bundle(folder: Path, name: str, *, private: bool = True) -> str:
    """Put a bundle on the hub, all of its files and nothing else.

    Args:
        folder: the bundle.
        name: `owner/name`; made if it is not there yet.
        private: whether a new one is seen by its owner only.

    Returns:
        Where it can be seen.

    Raises:
        ValueError: the bundle is damaged, or the name is none.
        OSError: the hub cannot be reached or refuses.
    """
    if not HUB_ID.fullmatch(name):
        raise ValueError(f"'{name}' is no name on the hub; write owner/name")
    check_files(folder)
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True, repo_type="model")
        done = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="A bundle of fourdhands"
        )
    except HFValidationError as error:
        raise ValueError(f"'{name}' is no name on the hub ({first_line(error)})") from error
    except HfHubHTTPError as error:
        raise OSError(f"{name}: the Hugging Face hub says: {first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        raise OSError(
            f"{name}: the Hugging Face hub cannot be reached ({first_line(error)})"
        ) from error
    return str(getattr(done, "repo_url", None) or f"https://huggingface.co/{name}")
