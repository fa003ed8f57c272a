"""The motion prior as a bundle: the same prior again, or one line about why not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fourdhands
from fourdhands import config
from fourdhands.cli.main import main
from fourdhands.export import hub
from fourdhands.export.bundle import CONFIG, WEIGHTS, write_manifest
from fourdhands.export.checkpoint import describe
from fourdhands.export.motion_prior import export_motion_prior, load_motion_prior
from fourdhands.models.motion_prior.prior import MotionPrior
from tests.helpers.motion import TINY

TIMES = torch.arange(60) / 30


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    prior = MotionPrior(TINY)
    for weight in prior.state_dict().values():
        weight.add_(0.05 * torch.randn_like(weight))
    run = {"network": config.to_dict(TINY), "data": {"train": []}, "out": "/home/somebody/run"}
    weights = {f"network.{name}": value for name, value in prior.state_dict().items()}
    path = tmp_path_factory.mktemp("prior") / "last.ckpt"
    torch.save({"state_dict": weights, "fourdhands": describe(run), "global_step": 7}, path)
    return path


def answers(prior: MotionPrior) -> torch.Tensor:
    """A gap filled in motion of both hands, and motion that is drawn."""
    generator = torch.Generator().manual_seed(3)
    drawn = prior.sample(2, TIMES, generator=generator, joint=True)
    mask = torch.ones(2, len(TIMES), 2, dtype=torch.bool)
    mask[:, 20:35] = False
    return torch.cat([drawn, prior.complete(drawn, mask, TIMES)])


def test_a_bundle_is_the_same_prior(checkpoint, tmp_path, monkeypatch, capsys):
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "b")]) == 0
    export_motion_prior(tmp_path / "b", tmp_path / "again")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(tmp_path / "b"))
    expected = answers(load_motion_prior(checkpoint))
    for source in (tmp_path / "b", str(tmp_path / "again"), "me/prior"):
        assert torch.equal(answers(fourdhands.load_motion_prior(source)), expected)
    assert {p.name for p in (tmp_path / "b").iterdir()} == {
        *("model.safetensors", "config.json", "README.md", "manifest.json")
    }
    stored = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert stored["kind"] == "motion_prior"
    assert "somebody" not in json.dumps(stored)
    card = (tmp_path / "b" / "README.md").read_text()
    assert "no recordings" in card and "7 steps" in card


def test_the_card_tells_figures_and_licences(checkpoint, tmp_path):
    table = {"slerp": {"0.53 s": 3.5, "ratio 0.53 s": 1}, "HMP": {"0.53 s": 2.25}}
    report = {"unit": "mm", "30 fps": table, "checkpoint_sha256": "abc"}
    (tmp_path / "metrics.json").write_text(json.dumps(report))
    content = torch.load(checkpoint, weights_only=True)
    root = Path(__file__).parents[3]
    manifest = root / "data_manifests" / "motion" / "amass_grab_train.yaml"
    content["fourdhands"]["run"]["data"] = {"train": [str(manifest)]}
    torch.save(content, tmp_path / "a.ckpt")
    export_motion_prior(tmp_path / "a.ckpt", tmp_path / "b", metrics=tmp_path / "metrics.json")
    card = (tmp_path / "b" / "README.md").read_text()
    assert "| HMP | 2.25 |" in card and "of another checkpoint (abc)" in card
    assert "license: other" in card and "AMASS's own, not commercial" in card
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no metrics.json of `fourdhands motion evaluate`"):
        export_motion_prior(tmp_path / "a.ckpt", tmp_path / "c", metrics=tmp_path / "metrics.json")
    assert not (tmp_path / "c").exists()


def test_options_of_networks_and_other_kinds_are_refused(checkpoint, tmp_path, capsys):
    out = ["--out", str(tmp_path / "b")]
    for flags, words in ((["--graphs", "onnx"], "--graphs"), (["--open_hand"], "--open_hand")):
        assert main(["export", str(checkpoint), *out, *flags]) == 1
        assert f"error: {words}: {checkpoint} is a motion prior" in capsys.readouterr().err
    export_motion_prior(checkpoint, tmp_path / "b")
    with pytest.raises(ValueError, match="not a checkpoint of a network that reconstructs hands"):
        fourdhands.load_predictor(tmp_path / "b")


def test_hostile_and_broken_bundles_are_refused(checkpoint, tmp_path):
    folder = tmp_path / "b"
    export_motion_prior(checkpoint, folder)
    good_config = json.loads((folder / CONFIG).read_text())
    good_weights = load_file(folder / WEIGHTS)

    def refused(words: str, network=None, weights=None, **own) -> None:
        content = good_config | own
        content["network"] = good_config["network"] | (network or {})
        (folder / CONFIG).write_text(json.dumps(content))
        save_file(good_weights | (weights or {}), folder / WEIGHTS)
        write_manifest(folder)
        with pytest.raises(ValueError, match=words) as caught:
            load_motion_prior(folder)
        assert "\n" not in str(caught.value)

    refused("vae.centre is", weights={"vae.centre": torch.zeros(3)})
    refused("wings is not known", weights={"wings": torch.zeros(3)})
    refused("unknown key 'wings'", network={"wings": 2})
    refused("network.latent is 1000000000", network={"latent": 10**9})  # nothing is allocated
    refused("encoder.depth is 99999, more", network={"encoder": {"depth": 99999}})
    refused("weights are of another network", network={"latent": 60000})
    refused("not of a motion prior", kind="reconstruction")
    refused("checkpoint format 2, this version reads 1", format_version=2)
    missing = dict(good_weights)
    del missing["coupling"]
    save_file(missing, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(good_config))
    write_manifest(folder)
    with pytest.raises(ValueError, match="coupling is missing"):
        load_motion_prior(folder)
