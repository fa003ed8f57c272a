"""Latency and throughput of presets: eager, compiled, ONNX, by precision; and the naive path.

    python benchmarks/inference.py [--models small resnet50 ...] [--checkpoint CKPT]

Everything is measured in one process, in turns: each round runs every variant once, so what else
the machine does falls on all alike; the median over rounds counts. Frames have both hands. Latency
is of one frame; throughput of `--batch` frames at once. A stream of windows of 9 frames is run in
two ways: naively, the backbone sees all nine frames of every window, and as the graphs do, each
frame once.
Weights are random unless a checkpoint is given: they do not matter for time.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fourdhands import config
from fourdhands.data.collate import CropConfig
from fourdhands.export.graph_files import open_graph, write_graphs
from fourdhands.export.graphs import (
    FRAME_INPUTS,
    Graph,
    Inputs,
    build_graphs,
    eager,
    example_frame,
    example_window,
)
from fourdhands.export.predictor import Predictor, load_predictor
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork

MODELS = Path(__file__).parents[1] / "configs" / "model"
WINDOW = 9
Timed = Callable[[], Any]


def build(name: str, checkpoint: Path | None) -> Predictor:
    """A preset with random weights, or a checkpoint."""
    if checkpoint is not None:
        return load_predictor(checkpoint)
    network_config = config.load(NetworkConfig, MODELS / f"{name}.yaml")
    backbone = replace(network_config.backbone, pretrained=False)
    torch.manual_seed(0)
    hand_model = HandModel.open()
    network = TwoHandNetwork(replace(network_config, backbone=backbone), hand_model.mean_pose)
    crop = CropConfig(network_config.crop_size, 1.2, "separate")
    return Predictor(network.eval(), hand_model.eval(), crop)


def on(graph: Graph, run: Callable[[Inputs], Any], inputs: Inputs) -> Timed:
    """A call without arguments."""
    return lambda: run({name: inputs[name] for name in graph.inputs})


def compiled(graph: Graph) -> Callable[[Inputs], Any]:
    """torch.compile of the module."""
    module = torch.compile(graph.module, dynamic=True)

    def run(inputs: Inputs) -> Any:
        with torch.inference_mode():
            return module(*inputs.values())

    return run


def variants(predictor: Predictor, batch: int, wanted: list[str], folder: Path) -> dict[str, Timed]:
    """What is timed, by name: `KIND frame`, `KIND batch`, `KIND window`."""
    timed: dict[str, Timed] = {}
    inputs = {
        ("frame", "frame"): example_frame(predictor, 1),
        ("frame", "batch"): example_frame(predictor, batch),
        ("window", "window"): example_window(predictor, 1, WINDOW),
    }
    graphs = build_graphs(predictor)
    for kind in wanted:
        way, _, precision = kind.partition("-")
        if way == "onnx":
            write_graphs(predictor, folder, precisions=(precision,))
        own = build_graphs(predictor, precision=precision) if precision == "bf16" else graphs
        suffix = "" if precision == "fp32" else f"_{precision}"
        for (name, size), given in inputs.items():
            run = {
                "eager": lambda g=own[name]: eager(g),
                "compiled": lambda g=own[name]: compiled(g),
                "onnx": lambda n=name, s=suffix: open_graph(folder / f"{n}{s}.onnx", graphs[n]),
            }[way]()
            timed[f"{kind} {size}"] = on(graphs[name], run, given)
    timed |= streams(predictor, graphs)
    return timed


def streams(predictor: Predictor, graphs: dict[str, Graph]) -> dict[str, Timed]:
    """One more frame of a stream: the naive window, and features that are kept."""
    frames = example_frame(predictor, WINDOW)
    window = example_window(predictor, 1, WINDOW)
    frame_run, window_run = eager(graphs["frame"]), eager(graphs["window"])
    newest = {name: frames[name][-1:] for name in FRAME_INPUTS}
    kept = window["features"].clone()

    def naive() -> Any:
        features = frame_run(frames)["features"][None]
        return window_run(window | {"features": features})

    def streaming() -> Any:
        kept[:, :-1] = kept[:, 1:].clone()
        kept[:, -1] = frame_run(newest)["features"]
        return window_run(window | {"features": kept})

    return {"stream naive": naive, "stream kept": streaming}


def measure(timed: dict[str, Timed], seconds: float, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turns."""
    for call in timed.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in timed}
    end = time.perf_counter() + seconds
    while not times or min(map(len, times.values())) < 2 or time.perf_counter() < end:
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
        if min(map(len, times.values())) >= rounds:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def table(name: str, found: dict[str, float], batch: int, wanted: list[str]) -> str:
    """Markdown."""
    lines = [f"| {name} | ms a frame | frames/s, {batch} at once | ms a window of {WINDOW} |"]
    lines.append("|---|---|---|---|")
    for kind in wanted:
        throughput = 1e3 * batch / found[f"{kind} batch"]
        row = (
            f"{found[f'{kind} frame']:.1f}",
            f"{throughput:.1f}",
            f"{found[f'{kind} window']:.1f}",
        )
        lines.append(f"| {kind} | {' | '.join(row)} |")
    naive, kept = found["stream naive"], found["stream kept"]
    lines.append("")
    lines.append(
        f"One more frame of a stream: {naive:.1f} ms naively (nine backbone passes a window), "
        f"{kept:.1f} ms with kept features: {naive / kept:.1f} times as fast."
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["small", "resnet50"])
    parser.add_argument("--checkpoint", type=Path, help="in place of random weights; one model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each model")
    parser.add_argument("--rounds", type=int, default=30, help="at most")
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=["eager-fp32", "compiled-fp32", "onnx-fp32", "onnx-int8", "eager-bf16"],
        help="eager-, compiled- or onnx- and the precision",
    )
    parser.add_argument("--out", type=Path, help="file for the figures, json")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in figures.items()))
    for name in arguments.models:
        predictor = build(name, arguments.checkpoint)
        with tempfile.TemporaryDirectory() as folder:
            timed = variants(predictor, arguments.batch, arguments.kinds, Path(folder))
            figures[name] = measure(timed, arguments.seconds, arguments.rounds)
        print(f"\n{table(name, figures[name], arguments.batch, arguments.kinds)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
