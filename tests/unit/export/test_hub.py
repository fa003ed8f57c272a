"""The hub by its own client: a bundle is pushed, fetched, and found again without a network."""

from pathlib import Path

import huggingface_hub.constants as constants
import pytest

from fourdhands.export import hub
from fourdhands.export.bundle import MANIFEST, write_manifest
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.export.publish import export_bundle
from tests.helpers.hub_server import Hub, serving
from tests.unit.export.test_bundle import assert_same, predict, write_checkpoint


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    export_bundle(write_checkpoint(tmp_path / "a.ckpt"), tmp_path / "bundle", open_hand=True)
    (tmp_path / "bundle" / "frame.onnx.data").write_bytes(b"numbers")  # graphs lie beside it
    write_manifest(tmp_path / "bundle")
    return tmp_path / "bundle"


def use(server: Hub, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the client talk to the server, and keep what it fetches in a folder."""
    template = "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", server.address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def test_pushed_fetched_and_kept(bundle, tmp_path, monkeypatch):
    with serving() as server:
        use(server, tmp_path / "cache", monkeypatch)
        place = hub.push_bundle(bundle, "me/hands")
        assert place == f"{server.address}/me/hands"
        assert server.private["me/hands"]
        local = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*") if p.is_file()}
        assert server.files["me/hands"] == {n: p.read_bytes() for n, p in local.items()}
        expected = predict(bundle)
        assert_same(predict("me/hands"), expected)
        assert "model.safetensors" in server.fetched
        assert "frame.onnx.data" not in server.fetched  # graphs are for others
        server.files["me/bad"] = server.files["me/hands"] | {"model.safetensors": b"other"}
        with pytest.raises(ValueError, match="not the file that the manifest describes"):
            predict("me/bad")
        server.files["me/empty"] = {"README.md": b"nothing"}
        with pytest.raises(FileNotFoundError, match=f"it has no {MANIFEST}"):
            predict("me/empty")
        with pytest.raises(OSError, match="me/none: the Hugging Face hub says") as caught:
            predict("me/none")
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match="not of a motion prior"):
            load_motion_prior("me/hands")
        with pytest.raises(ValueError, match="write owner/name"):
            hub.push_bundle(bundle, "hands")
        for local in ("runs/none.ckpt", tmp_path.name):  # files, not names of the hub
            with pytest.raises(FileNotFoundError, match="no such checkpoint"):
                predict(local)
    assert_same(predict("me/hands"), expected)  # the server is gone, the cache is not
    with pytest.raises(FileNotFoundError, match="not in the cache, and the Hugging Face hub"):
        predict("me/other")
    with pytest.raises(OSError, match="me/hands: the Hugging Face hub cannot be reached") as caught:
        hub.push_bundle(bundle, "me/hands")
    assert "\n" not in str(caught.value)
