"""Latency and throughput of presets: eager, compiled, ONNX, by precision; a stream; a video.

    python benchmarks/inference.py [--models small resnet50 ...] [--checkpoint CKPT --video FILE]

Everything is measured in one process, in turns: each round runs every variant once, so what else
the machine does falls on all alike; the median over rounds counts. Frames have both hands. Latency
is of one frame; throughput of `--batch` frames at once. A stream of windows of 9 frames is run in
two ways: naively, the backbone sees all nine frames of every window, and as the graphs do, each
frame once. A video goes from its file to hands, phase by phase, and naively beside that.
Presets have random weights: they do not matter for time, but how far int8 and others are off is
told by a checkpoint. On a machine that others use, `--clock cpu` counts the processor's seconds.
`--device cuda` measures eager and compiled networks on a GPU.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from fourdhands import config
from fourdhands.data.collate import CropConfig
from fourdhands.export.graph_files import open_graph, write_graphs
from fourdhands.export.graphs import (
    FRAME_INPUTS,
    Graph,
    Inputs,
    Precision,
    build_graphs,
    eager,
    example_frame,
    example_window,
)
from fourdhands.export.predictor import Predictor, load_predictor
from fourdhands.geometry.camera import default_intrinsics
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.structures import Camera, FrameFeatures
from fourdhands.video.frames import open_video
from fourdhands.video.mediapipe_hands import FollowingDetector
from fourdhands.video.merge import track_arrays
from fourdhands.video.network_pass import NetworkPass
from fourdhands.video.track import follow

MODELS = Path(__file__).parents[1] / "configs" / "model"
WINDOW = 9
KINDS = {
    "cpu": ("eager-fp32", "compiled-fp32", "onnx-fp32", "onnx-int8", "eager-bf16"),
    "cuda": ("eager-fp32", "compiled-fp32", "eager-fp16", "compiled-fp16", "eager-bf16"),
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Timed = Callable[[], Any]
Seconds = dict[str, float]


def build(name: str, device: str) -> Predictor:
    """A preset with random weights."""
    network_config = config.load(NetworkConfig, MODELS / f"{name}.yaml")
    backbone = replace(network_config.backbone, pretrained=False)
    torch.manual_seed(0)
    hand_model = HandModel.open()
    network = TwoHandNetwork(replace(network_config, backbone=backbone), hand_model.mean_pose)
    crop = CropConfig(network_config.crop_size, 1.2, "separate")
    return Predictor(network.to(device).eval(), hand_model.to(device).eval(), crop)


def graphs_of(predictor: Predictor, precision: Precision = "fp32") -> dict[str, Graph]:
    """Both graphs, where the predictor computes."""
    graphs = build_graphs(predictor, precision=precision)
    return {
        name: replace(graph, module=graph.module.to(predictor.device))
        for name, graph in graphs.items()
    }


def at(device: torch.device, inputs: Inputs) -> Inputs:
    """Inputs on a device."""
    return {name: value.to(device) for name, value in inputs.items()}


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


def variants(
    predictor: Predictor, batch: int, wanted: Sequence[str], folder: Path
) -> tuple[dict[str, Timed], dict[str, Any]]:
    """What is timed, by name: `KIND frame`, `KIND batch`, `KIND window`; errors of ONNX files."""
    timed: dict[str, Timed] = {}
    errors: dict[str, Any] = {}
    device = predictor.device
    inputs = {
        ("frame", "frame"): at(device, example_frame(predictor, 1)),
        ("frame", "batch"): at(device, example_frame(predictor, batch)),
        ("window", "window"): at(device, example_window(predictor, 1, WINDOW)),
    }
    graphs = graphs_of(predictor)
    for kind in wanted:
        way, _, word = kind.partition("-")
        precision = cast(Precision, word)
        if way == "onnx":
            summary = write_graphs(predictor, folder, precisions=(precision,))
            errors[kind] = next(iter(summary["files"].values()))["joints_mm"]
        own = graphs if way == "onnx" or precision == "fp32" else graphs_of(predictor, precision)
        suffix = "" if precision == "fp32" else f"_{precision}"
        for (name, size), given in inputs.items():
            run = {
                "eager": lambda g=own[name]: eager(g),
                "compiled": lambda g=own[name]: compiled(g),
                "onnx": lambda n=name, s=suffix: open_graph(folder / f"{n}{s}.onnx", graphs[n]),
            }[way]()
            timed[f"{kind} {size}"] = on(graphs[name], run, given)
    timed |= streams(predictor, graphs)
    return timed, errors


def streams(predictor: Predictor, graphs: dict[str, Graph]) -> dict[str, Timed]:
    """One more frame of a stream: the naive window, and features that are kept."""
    frames = at(predictor.device, example_frame(predictor, WINDOW))
    window = at(predictor.device, example_window(predictor, 1, WINDOW))
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


def timed_call(call: Timed) -> Seconds:
    """By both clocks, to the end of what a GPU was given."""
    start = {name: clock() for name, clock in CLOCKS.items()}
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}


def measure(timed: dict[str, Timed], seconds: float, rounds: int) -> dict[str, Seconds]:
    """Median seconds of each by both clocks, in turns."""
    for call in timed.values():
        call()
    times: dict[str, list[Seconds]] = {name: [] for name in timed}
    end = time.perf_counter() + seconds
    done = 0
    while done < 3 or (time.perf_counter() < end and done < rounds):
        for name, call in timed.items():
            times[name].append(timed_call(call))
        done += 1
    return {
        name: {clock: statistics.median(value[clock] for value in values) for clock in CLOCKS}
        for name, values in times.items()
    }


def table(
    name: str,
    found: dict[str, Seconds],
    errors: dict[str, Any],
    batch: int,
    wanted: Sequence[str],
    clock: str,
) -> str:
    """Markdown."""
    lines = [
        f"| {name} | ms a frame | frames/s, {batch} at once | ms a window of {WINDOW} | mm off |",
        "|---|---|---|---|---|",
    ]
    for kind in wanted:
        row = (
            f"{1e3 * found[f'{kind} frame'][clock]:.1f}",
            f"{batch / found[f'{kind} batch'][clock]:.1f}",
            f"{1e3 * found[f'{kind} window'][clock]:.1f}",
            f"{errors[kind]['mean']:.2g} / {errors[kind]['largest']:.2g}" if kind in errors else "",
        )
        lines.append(f"| {kind} | {' | '.join(row)} |")
    naive, kept = (1e3 * found[f"stream {way}"][clock] for way in ("naive", "kept"))
    lines.append("")
    lines.append(
        f"One more frame of a stream: {naive:.1f} ms naively (nine backbone passes a window), "
        f"{kept:.1f} ms with kept features: {naive / kept:.1f} times as fast."
    )
    return "\n".join(lines)


class TimedPredictor(Predictor):
    """A predictor that adds up where its time goes."""

    seconds: dict[str, Seconds]

    def encode(self, *given: Any, **named: Any) -> FrameFeatures:
        """The backbone and the encoder."""
        return self._add("frame network", super().encode, *given, **named)

    def decode(self, *given: Any, **named: Any) -> Any:
        """Windows of time."""
        return self._add("window network", super().decode, *given, **named)

    def _add(self, phase: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        answers: list[Any] = []
        took = timed_call(lambda: answers.append(call(*given, **named)))
        for clock, value in took.items():
            self.seconds[phase][clock] += value
        return answers[0]


def through_video(predictor: Predictor, path: Path, seconds: float, windows: int) -> dict[str, Any]:
    """A video's first seconds to hands, by phase, for the pair that shows most.

    The naive path runs the network over the whole window of every frame, as if nothing had been
    computed before; it is timed on so many windows, and stands for all.
    """
    if predictor.window < WINDOW:  # trained on shorter ones; the time is the same
        predictor = replace(predictor, window=WINDOW, gap=predictor.gap or 1 / 6)
    video = open_video(path, end=seconds)
    phases: dict[str, Seconds] = {}
    images: list[Any] = []
    phases["decoding"] = timed_call(lambda: images.extend(frame.image for frame in video))
    detector, found = FollowingDetector(), []
    phases["finding hands"] = timed_call(lambda: found.extend(list(detector(i)) for i in images))
    pairs = follow(found, video.fps, video.image_size)
    track = track_arrays(pairs[0], len(images), video.fps)
    size = torch.tensor(video.image_size, dtype=torch.float32)
    K = default_intrinsics(size)
    timed = TimedPredictor(**vars(predictor))
    parts = {name: dict.fromkeys(CLOCKS, 0.0) for name in ("frame network", "window network")}
    object.__setattr__(timed, "seconds", parts)
    told: list[Any] = []

    def whole() -> None:
        boxes = (track.boxes.float()[None], track.boxed[None])
        passes = NetworkPass(timed, *boxes, K, video.image_size, video.fps)
        for image in images:
            passes(image)
        told.append(passes.finish())

    total = timed_call(whole)
    inside = {clock: sum(part[clock] for part in parts.values()) for clock in CLOCKS}
    phases["crops and the rest"] = {clock: total[clock] - inside[clock] for clock in CLOCKS}
    phases |= parts
    count = len(images)
    naive = naive_windows(predictor, min(windows, count))
    return {
        "frames": count,
        "fps of the video": video.fps,
        "image": list(video.image_size),
        "window": predictor.window,
        "seconds": phases,
        "naive network, seconds a frame": naive,
        "network, seconds a frame": {
            clock: sum(part[clock] for part in parts.values()) / count for clock in CLOCKS
        },
    }


def naive_windows(predictor: Predictor, count: int) -> Seconds:
    """Seconds a frame if the network sees its whole window anew."""
    length = predictor.window
    frames = example_frame(predictor, length)
    batch = {name: value[None] for name, value in frames.items()}
    eye = torch.eye(4).expand(1, length, 4, 4)
    camera = Camera(batch["intrinsics"], batch["image_size"], eye)
    times = torch.arange(length)[None] / 6

    def once() -> None:
        seen = (batch["bbox"], batch["hand_visible"], camera)
        features = predictor.encode(batch["crops"], *seen)
        predictor.decode(FrameFeatures(features.hands, None), times, seen[1], seen[0], camera)

    once()
    taken = [timed_call(once) for _ in range(count)]
    return {clock: statistics.median(one[clock] for one in taken) for clock in CLOCKS}


def video_table(found: dict[str, Any], clock: str) -> str:
    """Markdown."""
    count, phases = found["frames"], found["seconds"]
    lines = ["| phase | ms a frame | frames/s |", "|---|---|---|"]
    whole = sum(phase[clock] for phase in phases.values())
    for name, value in [*((n, p[clock]) for n, p in phases.items()), ("together", whole)]:
        lines.append(f"| {name} | {1e3 * value / count:.1f} | {count / max(value, 1e-9):.1f} |")
    naive, ours = (found[f"{way}, seconds a frame"][clock] for way in ("naive network", "network"))
    rest = whole / count - ours
    lines.append("")
    lines.append(
        f"Naively ({found['window']} backbone passes a window) the network takes {1e3 * naive:.1f} "
        f"ms a frame, not {1e3 * ours:.1f}: {naive / ours:.1f} times as long; together "
        f"{1 / (rest + naive):.1f} frames/s, not {1 / (rest + ours):.1f}."
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", default=["small", "resnet50"])
    parser.add_argument("--checkpoint", type=Path, help="a trained network, after the presets")
    parser.add_argument("--video", type=Path, help="with --checkpoint: from the file to hands")
    parser.add_argument("--video_seconds", type=float, default=4.0, help="of the video")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each model")
    parser.add_argument("--rounds", type=int, default=30, help="at most")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--device", choices=list(KINDS), default="cpu")
    parser.add_argument("--kinds", nargs="+", help="eager-, compiled- or onnx- and the precision")
    parser.add_argument("--out", type=Path, help="file for the figures, json")
    arguments = parser.parse_args()
    if arguments.video and not arguments.checkpoint:
        parser.error("--video needs --checkpoint: hands are found and fused as it was trained")
    kinds = tuple(arguments.kinds or KINDS[arguments.device])
    on_gpu = arguments.device == "cuda"
    if on_gpu and any(kind.startswith("onnx") for kind in kinds):
        parser.error("onnx kinds run on the processor: leave --device cuda out")
    figures: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "clock of the tables": arguments.clock,
        "load of the machine before": os.getloadavg()[0],
    }
    print(", ".join(f"{key} {value}" for key, value in figures.items()))
    sources: list[tuple[str, Callable[[], Predictor]]] = [
        (name, partial(build, name, arguments.device)) for name in arguments.models
    ]
    if arguments.checkpoint:
        made = partial(load_predictor, arguments.checkpoint, arguments.device)
        sources.append((f"checkpoint {arguments.checkpoint.stem}", made))
    for name, make in sources:
        predictor = make()
        with tempfile.TemporaryDirectory() as folder:
            timed, errors = variants(predictor, arguments.batch, kinds, Path(folder))
            found = measure(timed, arguments.seconds, arguments.rounds)
        figures[name] = {"seconds": found, "joints_mm": errors}
        shown = (found, errors, arguments.batch, kinds, arguments.clock)
        print(f"\n{table(name, *shown)}", flush=True)
        del timed
    if arguments.video:
        figures["video"] = through_video(
            predictor, arguments.video, arguments.video_seconds, windows=5
        )
        print(f"\n{video_table(figures['video'], arguments.clock)}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def _processor() -> str:
    """The processor's name, where the system tells."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
