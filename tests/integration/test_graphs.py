"""Graphs say what the network says, for every batch size; their files execute nothing."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourdhands.data.collate import CropConfig
from fourdhands.export import graph_files
from fourdhands.export.graph_files import (
    check_graphs,
    open_graph,
    read_summary,
    write_graphs,
)
from fourdhands.export.graphs import (
    FRAME_INPUTS,
    HANDS,
    build_graphs,
    eager,
    example_frame,
    example_window,
)
from fourdhands.export.importers import HAMER, OMNIHANDS
from fourdhands.export.predictor import Predictor
from fourdhands.export.program_files import read_program
from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.direction_map import DirectionConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import TwoHandNetwork
from fourdhands.skeleton import Side
from fourdhands.structures import HandState
from fourdhands.video.detect import BoxDetector, parse_box
from fourdhands.video.predict import predict_photo
from tests.helpers.batches import random_batch
from tests.helpers.runs import tiny_network

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_numpy.py"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    hand_model = HandModel.open()
    config = replace(
        tiny_network(), direction=DirectionConfig(), joints_2d=Joints2dConfig(channels=8)
    )
    network = TwoHandNetwork(config, hand_model.mean_pose).eval()
    for module in network.modules():  # statistics that are not 0 and 1, as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    return Predictor(network, hand_model.eval(), CropConfig((64, 48), 1.2, "separate"))


@pytest.fixture(scope="module")
def written(predictor, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("graphs")
    write_graphs(predictor, out, formats=("pt2", "onnx"), mesh=True)
    return out


def test_both_graphs_are_the_predictor(predictor):
    """A frame without one hand, another without any, as clips have them."""
    batch = random_batch(predictor.hand_model, clips=2, frames=3)
    batch.hand_present[0, 1, 1] = batch.hand_present[1, 2] = False
    graphs = build_graphs(predictor, mesh=True)
    frame = {"crops": batch.crops, "bbox": batch.bbox, "hand_visible": batch.hand_visible}
    frame |= {"intrinsics": batch.camera.intrinsics, "image_size": batch.camera.image_size}
    found = eager(graphs["frame"])({n: frame[n].flatten(0, 1) for n in FRAME_INPUTS})
    window = {"features": found["features"].unflatten(0, (2, 3)), "times": batch.times} | frame
    hands = eager(graphs["window"])(window)
    expected = predictor(batch)
    geometry = predictor.hand_model(expected.hands)
    seen = batch.hand_visible
    for name in ("global_orient", "hand_pose", "betas", "transl"):
        torch.testing.assert_close(hands[name], vars(expected.hands)[name], atol=1e-5, rtol=0)
    torch.testing.assert_close(hands["upsilon"], expected.upsilon, atol=1e-5, rtol=0)
    torch.testing.assert_close(hands["vertices"], geometry.vertices, atol=1e-5, rtol=0)
    places = expected.joint_logits.joints()[seen]
    torch.testing.assert_close(found["joints_2d"].unflatten(0, (2, 3))[seen], places)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_files_agree_for_every_batch_size(predictor, written, kind):
    graphs = build_graphs(predictor, mesh=True)
    for name, sizes in (("frame", (1, 2, 7)), ("window", ((1, 1), (2, 5), (7, 3)))):
        run = open_graph(written / f"{name}.{kind}", graphs[name])
        for size in sizes:
            inputs = (
                example_frame(predictor, size)
                if name == "frame"
                else example_window(predictor, *size)
            )
            inputs["hand_visible"][0, ..., 1] = False
            expected, found = eager(graphs[name])(inputs), run(inputs)
            for output, value in expected.items():
                torch.testing.assert_close(found[output], value, atol=1e-4, rtol=0, msg=output)


def test_the_summary_tells_the_error(written):
    summary = read_summary(written)
    assert summary["outputs"]["window"][-1] == "vertices"
    assert summary["files"].keys() == {"frame.onnx", "window.onnx", "frame.pt2", "window.pt2"}
    for facts in summary["files"].values():
        assert facts["joints_mm"]["largest"] < 0.1


def test_a_graph_carries_its_own_part_alone(written):
    for name, others in (("frame", b"mano_head"), ("window", b"backbone")):
        with zipfile.ZipFile(written / f"{name}.pt2") as file:
            config = next(n for n in file.namelist() if n.endswith("model_weights_config.json"))
            assert others not in file.read(config)


def test_int8_leaves_the_hand_model_in_full_precision(predictor, written, tmp_path):
    graph_files._quantize(written / "window.onnx", tmp_path / "window.onnx")
    graph = build_graphs(predictor, mesh=True)["window"]
    inputs = example_window(predictor, 2, 3)
    found = open_graph(tmp_path / "window.onnx", graph)(inputs)
    assert not torch.equal(found["hand_pose"], eager(graph)(inputs)["hand_pose"])
    posed = predictor.hand_model(HandState(**{name: found[name] for name in HANDS[:4]}))
    torch.testing.assert_close(found["vertices"], posed.vertices, atol=1e-5, rtol=0)


def test_mano_stays_out_of_graphs(predictor):
    sides = tuple(replace(side, source="mano") for side in predictor.hand_model.assets)
    mano = replace(predictor, hand_model=HandModel(sides))
    with pytest.raises(ValueError, match="arrays of MANO, which may not be passed on"):
        build_graphs(mano, mesh=True)
    module = build_graphs(mano)["window"].module
    assert module.hand_model is None
    assert not module.network.mano_head.mean_rotations.any()
    inputs = example_window(predictor, 2, 3)
    plain, free = (eager(build_graphs(one)["window"])(inputs) for one in (mano, predictor))
    torch.testing.assert_close(plain["hand_pose"], free["hand_pose"], atol=1e-5, rtol=0)
    assert predictor.network.mano_head.mean_rotations.any()


def changed(path: Path, out: Path, change) -> Path:
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(out, "w") as made:
        for name in file.namelist():
            for new, data in change(name, file.read(name)):
                made.writestr(new, data)
    return out


def test_hostile_graphs_are_refused(written, tmp_path):
    good, bad = written / "window.pt2", tmp_path / "bad.pt2"

    def replaced(ending: str, old: bytes, new: bytes):
        return lambda name, data: [
            (name, data.replace(old, new) if name.endswith(ending) else data)
        ]

    for change, words in (
        (lambda n, d: [(n, d if d or "sample" not in n else b"pickle")], "pickled data in"),
        (
            replaced("weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
            "pickled w",
        ),
        (
            replaced("model.json", b"torch.ops.aten.matmul.default", b"torch.load"),
            "it calls 'torch",
        ),
        *(
            (
                replaced(
                    "model.json", b"torch.ops.aten.matmul.default", f"torch.ops.{op}".encode()
                ),
                f"it calls 'torch.ops.{op}",
            )
            for op in ("aten.save.default", "aten.from_file.default", "inductor.x.default")
        ),
        (replaced("model.json", b"Symbol('s", b"__import__('os"), "it has the expression"),
        (replaced("model.json", b'"guards_code": []', b'"guards_code": ["exit()"]'), "code in its"),
        (
            lambda n, d: [(n, d)] + ([("x/extra/evil.so", b"")] if "order" in n else []),
            "has a part",
        ),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            read_program(changed(good, bad, change))
        assert "\n" not in str(caught.value)
        assert "nothing was executed" in str(caught.value)
    bad.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable graph"):
        read_program(bad)


def test_compressed_and_wandering_parts_are_refused(written, tmp_path):
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(written / "window.pt2") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    for compression, prefix in ((zipfile.ZIP_DEFLATED, ""), (zipfile.ZIP_STORED, "../")):
        with zipfile.ZipFile(bad, "w", compression) as made:
            for name, data in parts.items():
                made.writestr(prefix + name, data)
        with pytest.raises(ValueError, match=r"(claim more than|has a part).*nothing was executed"):
            read_program(bad)


PEERS = {
    "hamer": replace(HAMER, backbone=BackboneConfig("vit_tiny_patch16_224", options={"depth": 1})),
    "omnihands": replace(
        OMNIHANDS, backbone=BackboneConfig("vit_tiny_patch16_224", options={"depth": 1})
    ),
}


@pytest.mark.parametrize(("peer", "kind"), [("hamer", "pt2"), ("omnihands", "onnx")])
def test_the_peers_presets_have_graphs(peer, kind, tmp_path, monkeypatch):
    """Their parts in small; ONNX with its numbers in a file beside, as for weights above 1.5 GB."""
    monkeypatch.setattr(graph_files, "_ONE_FILE", 1)
    torch.manual_seed(0)
    full = PEERS[peer]
    small = {"decoder_depth": 1, "decoder_heads": 2, "mlp_dim": 32}
    encoder = min(1, full.spatial.encoder_depth)
    spatial = replace(
        full.spatial, dim=32, encoder_depth=encoder, encoder_heads=3, head_dim=16, **small
    )
    temporal = full.temporal and replace(
        full.temporal, depth=1, num_heads=2, head_dim=16, mlp_dim=32
    )
    config = replace(full, crop_size=(64, 48), spatial=spatial, temporal=temporal)
    hand_model = HandModel.open()
    network = TwoHandNetwork(config, hand_model.mean_pose).eval()
    made = Predictor(network, hand_model.eval(), CropConfig((64, 48), 2.0, "separate"))
    summary = write_graphs(made, tmp_path, formats=(kind,), mesh=True)
    names = {f"frame.{kind}", f"window.{kind}", "graphs.json"}
    names |= {"frame.onnx.data", "window.onnx.data"} if kind == "onnx" else set()
    assert {p.name for p in tmp_path.iterdir()} == names
    for name, facts in summary["files"].items():
        assert max(facts["largest_difference"].values()) < 1e-4, name
    graphs = build_graphs(made, mesh=True)
    inputs = example_window(made, 7, 2)
    found = open_graph(tmp_path / f"window.{kind}", graphs["window"])(inputs)
    for name, value in eager(graphs["window"])(inputs).items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0, msg=name)


def test_what_cannot_be_written_is_said_in_one_line(predictor, tmp_path, monkeypatch):
    sides = tuple(replace(side, source="mano") for side in predictor.hand_model.assets)
    mano = replace(predictor, hand_model=HandModel(sides))
    for words, options in (
        ("arrays of MANO", {"predictor": mano, "mesh": True}),
        ("int8 cannot be written as pt2", {"formats": ("pt2",), "precisions": ("int8",)}),
    ):
        given = {"predictor": predictor, "formats": ("onnx",), "precisions": ("fp32",)}
        with pytest.raises(ValueError, match=words):
            check_graphs(**(given | {"mesh": False} | options))

    def unknown(*_: object) -> None:
        raise RuntimeError("operator aten::wings is not known\nand much more")

    monkeypatch.setitem(graph_files._WRITERS, "onnx", unknown)
    words = "the frame graph of this network cannot be written as fp32 onnx .*wings is not known"
    with pytest.raises(ValueError, match=words) as caught:
        write_graphs(predictor, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_example_runs_without_this_package(predictor, written, tmp_path):
    """Every import of ours or of torch fails; hands stand where the predictor puts them."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.png")
    for name in ("fourdhands", "torch", "cv2"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    numbers = {Side.RIGHT: (200, 50, 60, 80), Side.LEFT: (-5, 60, 90, 70)}  # beyond the edge
    paths = [str(written), str(tmp_path / "photo.png"), str(tmp_path / "out.png")]
    boxes = [
        word
        for side, box in numbers.items()
        for word in ("--box", *map(str, box), side.name.lower())
    ]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *paths, *boxes],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    detector = BoxDetector(
        tuple(parse_box(f"{','.join(map(str, b))},{s.name.lower()}") for s, b in numbers.items())
    )
    hands = predict_photo(np.asarray(photo), detector, predictor)
    for side, line in zip(numbers, done.stdout.splitlines(), strict=True):
        assert line.startswith(side.name.lower())
        wrist = np.array(line[line.index("[") + 1 : line.index("]")].split(), float)
        np.testing.assert_allclose(wrist, hands.joints[0, side, 0], atol=0.002)
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == photo.size
        assert (np.asarray(drawn) != np.asarray(photo)).any()
    assert json.loads((written / "graphs.json").read_text())["hands_in_one_scene"]
    assert len(EXAMPLE.read_text().splitlines()) <= 60
