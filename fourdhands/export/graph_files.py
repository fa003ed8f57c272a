"""Graphs as files: written, run, compared with the network they come from. Start at `write_graphs`.

Beside the files, `graphs.json` says what goes in, what comes out, and how far each file's hands are
from the network's own.
"""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from fourdhands.errors import first_line
from fourdhands.export.bundle import read_json
from fourdhands.export.graphs import (
    DTYPES,
    FRAME,
    FRAME_INPUTS,
    HANDS,
    WINDOW,
    Graph,
    Inputs,
    Precision,
    Runner,
    build_graphs,
    eager,
    example_frame,
    is_free,
    refuse_mano,
)
from fourdhands.export.predictor import Predictor
from fourdhands.export.program_files import read_program
from fourdhands.export.publish import preprocessing
from fourdhands.export.skinning import GraphHandModel
from fourdhands.files import replacing
from fourdhands.structures import HandState

Format = Literal["onnx", "pt2"]
SUMMARY: Final = "graphs.json"
OPSET: Final = 20


def write_graphs(
    predictor: Predictor,
    out: Path,
    *,
    formats: Sequence[Format] = ("onnx",),
    precisions: Sequence[Precision] = ("fp32",),
    mesh: bool = False,
    frames: Inputs | None = None,
) -> dict[str, Any]:
    """Write the frame and the window graph in every format and precision that is asked for.

    Names are frame.onnx and window.onnx, frame_fp16.pt2 and so on. int8 has its matrix products in
    8 bits and is ONNX alone, bf16 is .pt2 alone.

    Args:
        predictor: with the open hand, on the CPU.
        out: a folder that is there.
        formats: 'onnx', 'pt2'.
        precisions: 'fp32', 'fp16', 'bf16', 'int8'.
        mesh: whether the window graph gives joints and vertices of the open hand, too.
        frames: inputs of the frame graph to measure errors with; noise if None.

    Returns:
        What was written to `graphs.json`.

    Raises:
        ValueError: what is asked for cannot be written.
    """
    jobs = check_graphs(predictor, formats=formats, precisions=precisions, mesh=mesh)
    frames = example_frame(predictor, frames=6) if frames is None else frames
    reference = build_graphs(predictor, mesh=mesh)
    true = _stream({name: eager(graph) for name, graph in reference.items()}, frames)
    summary: dict[str, Any] = {
        "inputs": {name: _described(graph.inputs) for name, graph in reference.items()},
        "outputs": {name: list(graph.outputs) for name, graph in reference.items()},
        "preprocessing": preprocessing(predictor),
        "hands_in_one_scene": is_free(predictor),
        "files": {},
    }
    for precision, kinds in jobs.items():
        own = precision in DTYPES and precision != "fp32"
        graphs = build_graphs(predictor, precision=precision, mesh=mesh) if own else reference
        for kind in kinds:
            files = {name: out / _file_name(name, precision, kind) for name in graphs}
            for name, graph in graphs.items():
                _write(name, graph, files[name], precision)
            runs = {name: open_graph(file, reference[name]) for name, file in files.items()}
            errors = _errors(predictor, true, _stream(runs, frames))
            for name, file in files.items():
                summary["files"][file.name] = {"graph": name, "precision": precision} | errors
    with replacing(out / SUMMARY) as partial:
        partial.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def check_graphs(
    predictor: Predictor,
    *,
    formats: Sequence[Format],
    precisions: Sequence[Precision],
    mesh: bool,
) -> dict[Precision, list[Format]]:
    """What `write_graphs` is to write; refuses what it cannot before any work is done.

    Returns:
        Formats of each precision.

    Raises:
        ValueError: a precision is in none of the formats, the hand model is MANO and needed, or the
            extra `export` is not installed.
    """
    jobs = {p: [f for f in formats if p not in _ELSEWHERE[f]] for p in precisions}
    for precision, kinds in jobs.items():
        if not kinds:
            raise ValueError(f"{precision} cannot be written as {' or '.join(formats)}")
    refuse_mano(predictor, mesh=mesh)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if "onnx" in formats and missing:
        raise ValueError(
            f"onnx: {', '.join(missing)} not installed; pip install 'fourdhands[export]'"
        )
    return jobs


_NEEDED: Final = ("onnx", "onnxscript", "onnxruntime")
_NOT_WRITTEN: Final = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What exporters raise for operations that they do not know."""
_ELSEWHERE: Final[Mapping[Format, tuple[Precision, ...]]] = {"onnx": ("bf16",), "pt2": ("int8",)}


def open_graph(path: Path, graph: Graph) -> Runner:
    """A written graph as a function by names.

    Args:
        path: .onnx or .pt2.
        graph: whose inputs and outputs it has.
    """
    if path.suffix == ".pt2":
        program = read_program(path).module()

        def run_program(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with torch.no_grad():
                found = program(*(inputs[name] for name in graph.inputs))
            return dict(zip(graph.outputs, found, strict=True))

        return run_program
    import onnxruntime  # not at the top: an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}  # what nothing depends on is left out

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: inputs[name].numpy() for name in graph.inputs if name in taken}
        found = session.run(list(graph.outputs), arrays)
        return {n: torch.from_numpy(a) for n, a in zip(graph.outputs, found, strict=True)}

    return run


def _file_name(graph: str, precision: Precision, kind: Format) -> str:
    return f"{graph}.{kind}" if precision == "fp32" else f"{graph}_{precision}.{kind}"


def _write(name: str, graph: Graph, path: Path, precision: Precision) -> None:
    kind = path.suffix[1:]
    try:
        _WRITERS[kind](graph, path, precision)
    except _NOT_WRITTEN as error:
        raise ValueError(
            f"the {name} graph of this network cannot be written as {precision} {kind} "
            f"({first_line(error)})"
        ) from error


def _write_onnx(graph: Graph, path: Path, precision: Precision) -> None:
    with _quiet():
        made = torch.onnx.export(
            graph.program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert made is not None
    for node in made.model.graph:  # where the code stood on this machine is nobody's matter
        node.metadata_props.clear()
    weights = sum(tensor.nbytes for tensor in graph.module.state_dict().values())
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        made.save(whole, external_data=weights > _ONE_FILE)
        if precision == "int8":
            parts = Path(folder) / "parts"
            parts.mkdir()
            _quantize(whole, parts / path.name)
            whole = parts / path.name
        for file in sorted(whole.parent.glob(f"{path.name}*"), reverse=True):  # numbers first
            file.replace(path.with_name(file.name))


_ONE_FILE: Final = 1_500_000_000
"""Bytes; ONNX keeps at most 2 GiB in a file, larger weights lie beside it in NAME.onnx.data."""


def _quantize(whole: Path, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(whole, load_external_data=False).graph
    # vectors have no channels; three axes have the hand model's arrays alone, which are metres
    kept = {one.name for one in graph.initializer if len(one.dims) != 2}
    nodes = [node for node in graph.node if node.op_type in _PRODUCTS]
    with _quiet():
        quantize_dynamic(
            whole,
            path,
            op_types_to_quantize=list(_PRODUCTS),
            nodes_to_exclude=[node.name for node in nodes if kept & set(node.input)],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what exporters say about themselves; their errors are raised all the same."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


_PRODUCTS: Final = ("MatMul", "Gemm")


def _write_program(graph: Graph, path: Path, precision: Precision) -> None:
    program = graph.program
    program._example_inputs = None  # they would be pickled
    program._guards_code = []  # they would be code; shapes that do not fit fail all the same
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
                node.meta.pop("nn_module_stack", None)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        with _quiet():
            torch.export.save(program, made)
        made.replace(path)


_WRITERS: Final[Mapping[str, Callable[[Graph, Path, Precision], None]]] = {
    "onnx": _write_onnx,
    "pt2": _write_program,
}

# ---- how far hands are apart ---------------------------------------------------------------------


def _stream(run: Mapping[str, Runner], frames: Inputs) -> dict[str, Tensor]:
    """Both graphs as a stream uses them: frames one by one, then windows of half of them each."""
    count = len(frames["crops"])
    alone = [
        run[FRAME]({name: frames[name][k : k + 1] for name in FRAME_INPUTS}) for k in range(count)
    ]
    features = torch.cat([found["features"] for found in alone])
    length = (count + 1) // 2
    windows = [list(range(length)), list(range(count - length, count))]

    def of(values: Tensor) -> Tensor:
        return torch.stack([values[index] for index in windows])

    times = torch.arange(count, dtype=torch.float32) / 6
    inputs = {"features": of(features), "times": of(times)}
    inputs |= {name: of(frames[name]) for name in FRAME_INPUTS if name != "crops"}
    return run[WINDOW](inputs)


def _errors(
    predictor: Predictor, true: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The largest difference of each output, and of joints about their wrist in millimetres."""
    model = GraphHandModel(predictor.hand_model)
    joints = []
    for said in (true, found):
        pose = {name: said[name].float() for name in HANDS[:4]}
        hands = HandState(**pose)
        posed = model(hands).joints
        joints.append(posed - posed[..., :1, :])
    apart = 1e3 * (joints[0] - joints[1]).norm(dim=-1)
    return {
        "largest_difference": {
            name: float((true[name].float() - found[name].float()).abs().max()) for name in true
        },
        "joints_mm": {"mean": float(apart.mean()), "largest": float(apart.max())},
    }


def _described(inputs: Inputs) -> dict[str, Any]:
    return {
        name: {"type": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
        for name, value in inputs.items()
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """What `write_graphs` noted."""
    return dict(read_json(folder / SUMMARY))
