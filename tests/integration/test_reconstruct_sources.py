"""`fourdhands reconstruct` and `view` with networks and hands from elsewhere: the hub, MANO."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fourdhands.cli.main import main
from fourdhands.cli.view import OTHER_HAND
from fourdhands.export.publish import export_bundle
from fourdhands.hands.assets import load_assets, save_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.video.results import VideoHands
from fourdhands.video.view import hand_model_error
from tests.helpers.hub_server import serving
from tests.integration.test_reconstruct import TrueDetector, reconstruct, run  # noqa: F401
from tests.unit.export.test_hub import use
from tests.unit.export.test_predictor import TINY, write_checkpoint

SHORT = ("--end", "0.3", "--no-refine")


def test_a_network_from_the_hub_is_the_folders(run, tmp_path, monkeypatch, capsys):  # noqa: F811
    export_bundle(run / "net.ckpt", tmp_path / "bundle", open_hand=True)
    files = {
        path.relative_to(tmp_path / "bundle").as_posix(): path.read_bytes()
        for path in (tmp_path / "bundle").rglob("*")
        if path.is_file()
    }
    monkeypatch.chdir(tmp_path)
    told = []
    with serving() as server:
        use(server, tmp_path / "hub", monkeypatch)
        server.files["me/hands"] = files
        for number, source in enumerate((tmp_path / "bundle", "me/hands")):
            out = tmp_path / str(number)
            assert reconstruct(run, *SHORT, "--checkpoint", str(source), out=str(out)) == 0
            with np.load(out / "cache" / "network.npz") as file:
                told.append({name: file[name] for name in file.files if name != "key"})
        assert "model.safetensors" in server.fetched
        flags = ("--prior", "me/hands")
        assert reconstruct(run, *SHORT, *flags, out=str(tmp_path / "prior")) == 1
        assert "not of a motion prior" in capsys.readouterr().err.splitlines()[-1]
        flags = ("--checkpoint", "me/none")
        assert reconstruct(run, *SHORT, *flags, out=str(tmp_path / "none")) == 1
        assert "me/none: the Hugging Face hub says" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "prior").exists() and not (tmp_path / "none").exists()
    assert told[0] and told[0].keys() == told[1].keys()
    for name in told[0]:
        np.testing.assert_array_equal(told[0][name], told[1][name], name)


def test_hands_of_mano_want_its_folder_here_and_in_the_viewer(
    run, tmp_path, monkeypatch, capsys  # noqa: F811
):  # fmt: skip
    mano = tmp_path / "mano"  # as it may be: other numbers than the open hand's
    sides = tuple(
        replace(side, source="mano", v_template=1.2 * side.v_template) for side in load_assets()
    )
    save_assets(sides, mano)
    models = HandModel(load_assets(mano)), HandModel.open()
    torch.manual_seed(0)
    trained = TwoHandNetwork(TINY, models[0].mean_pose)
    write_checkpoint(tmp_path / "mano.ckpt", trained, mano=str(mano))
    export_bundle(tmp_path / "mano.ckpt", tmp_path / "bundle")
    out, flags = tmp_path / "out", (*SHORT, "--checkpoint", str(tmp_path / "bundle"))
    assert reconstruct(run, *flags, out=str(out)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "give the folder that `fourdhands hands import` wrote" in line
    assert not out.exists()
    assert reconstruct(run, *flags, "--mano", str(mano), out=str(out)) == 0
    hands = VideoHands.load(out / "hands.npz")
    assert hand_model_error(hands, models[0]) < 1e-4
    assert hand_model_error(hands, models[1]) > OTHER_HAND

    def shown(*_):
        raise ValueError("shown")

    monkeypatch.setattr("fourdhands.cli.view.serve", shown)
    capsys.readouterr()
    for words, told in (((), True), (("--mano", str(mano)), False)):
        assert main(["view", str(out), *words]) == 1
        said = capsys.readouterr()
        assert "shown" in said.err
        assert ("give its folder by --mano" in said.out) is told


def test_everybodys_hands_or_a_word_on_those_left_out(run, tmp_path, monkeypatch):  # noqa: F811
    alone, down = TrueDetector.__call__, np.float32((0, 60, 0, 0))

    def doubled(self, image):  # the same two hands again, a little farther down
        found = alone(self, image)
        return found + [
            replace(hand, bbox=hand.bbox + down, joints_2d=hand.joints_2d + down[:2])
            for hand in found
        ]

    monkeypatch.setattr(TrueDetector, "__call__", doubled)
    results = []
    for people in ("one", "all"):
        # another span than other tests', whose search is their own
        flags = ("--end", "0.8", "--no-refine", "--people", people)
        out = tmp_path / people
        assert reconstruct(run, *flags, out=str(out)) == 0
        results.append(VideoHands.load(out / "hands.npz"))
    one, everybody = results
    assert one.valid.shape[0] == 1 and everybody.valid.shape[0] == 2
    assert any("hands of 1 other person are left out" in str(note) for note in one.notes)
    assert not any("left out" in str(note) for note in everybody.notes)
    heights = everybody.joints_2d[..., 1].mean(-1)  # (G, T, S)
    between = np.median((heights[1] - heights[0])[everybody.observed.all(0)])
    assert abs(between) == pytest.approx(60, abs=10)
    page = (tmp_path / "all" / "summary.html").read_text()
    assert "person 2, left hand" in page
