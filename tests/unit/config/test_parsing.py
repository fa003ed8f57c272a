"""Configurations: overlays, refusals and round trips, and the command lines of functions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from fourdhands import config


@dataclass(frozen=True)
class Temporal:
    """Fusion over time.

    Attributes:
        depth: layers.
        gap: frames.
    """

    depth: int = 2
    gap: int = 5

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError(f"depth is {self.depth}, it may not be negative")


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        crop_size: height and width.
        temporal: fusion over time.
        options: free.
    """

    crop_size: tuple[int, int] = (256, 192)
    temporal: Temporal | None = field(default_factory=lambda: Temporal(depth=4))
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        network: the network.
        precision: number format.
        rate: step size.
        minutes: limit.
        folder: results.
        parts: several.
    """

    network: Network = field(default_factory=Network)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    rate: float = 1e-3
    minutes: float | None = None
    folder: Path | None = None
    parts: tuple[Temporal, ...] = ()


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_overlays_then_flags(write):
    base = write("rate: 1e-5\nnetwork: {crop_size: [64, 48], temporal: {gap: 3}}", "base.yaml")
    over = write("network: {temporal: {depth: 1}}", "over.yaml")
    run = config.parse(
        Run, ["--config", str(base), "--config", str(over), "--network.temporal.gap", "9"]
    )
    assert run == Run(network=Network(crop_size=(64, 48), temporal=Temporal(1, 9)), rate=1e-5)


def test_order_of_overlays_counts(write):
    without = write("network: {temporal: null}", "without.yaml")
    deep = write("network: {temporal: {depth: 7}}", "deep.yaml")
    assert config.load(Run, deep, without).network.temporal is None
    assert config.load(Run, without, deep).network.temporal == Temporal(depth=7)


def test_a_group_may_be_another_file(write):
    write("temporal: {gap: 2}\ncrop_size: [32, 24]", "model/tiny.yaml")
    base = write("network: model/tiny.yaml", "base.yaml")
    assert config.load(Run, base).network == Network((32, 24), Temporal(depth=4, gap=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rte: 1", "x.yaml: unknown key 'rte', did you mean 'rate'?"),
        (
            "qq: {}",
            "x.yaml: unknown key 'qq'; known are folder, minutes, network, parts, precision, rate",
        ),
        ("network: {temporl: {}}", "unknown key 'network.temporl', did you mean 'temporal'?"),
        ("network: {temporal: {dpth: 2}}", "unknown key 'network.temporal.dpth', did you mean"),
        ("parts: [{gap: 1}, {gapp: 1}]", "unknown key 'parts.gapp'"),
        ("network: 3", "'network' is a group of keys, not 3"),
        ("parts: [pathlib.Path]", "'parts' is a group of keys, not 'pathlib.Path'"),
        ("rate: fast", "rate: Expected a float. Got value: fast"),
        ("precision: 8", "precision: Expected one of '32-true', 'bf16-mixed'"),
        (
            "network: {temporal: {depth: x}}",
            "network.temporal.depth: Expected an int. Got value: x",
        ),
        ("minutes: long", "minutes: Expected a float or null. Got value: long"),
        ("network: {temporal: {depth: -1}}", "depth is -1, it may not be negative"),
        ("network: {crop_size: [1]}", "network.crop_size: Expected a tuple"),
        ("a: [", "x.yaml: not valid yaml"),
        ("- 1", "x.yaml: expected keys and values"),
        ("", "x.yaml: expected keys and values"),
    ],
)
def test_bad_files_are_refused_in_one_line(write, text, message):
    with pytest.raises(ValueError) as caught:
        config.load(Run, write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--network.crop_siz", "[1,2]"], "unknown option --network.crop_siz, did you mean"),
        (["--rat", "1"], "unknown option --rat, did you mean '--rate'?"),
        (["--network.temporal.dept", "1"], "did you mean '--network.temporal.depth'?"),
        (["--depth", "1"], "unknown option --depth, did you mean '--network.temporal.depth'?"),
        (["--network.help"], "unknown option --network.help, did you mean '--help'?"),
        (["--quite_other", "1"], "unknown option --quite_other; --help lists what there is"),
        (["--network.temporal", "3"], "expected a yaml file or '{key: value}' or null, got '3'"),
        (
            ["--network.temporal", "{dept: 3}"],
            "temporal: unknown key 'dept', did you mean 'depth'?",
        ),
        (["--network.temporal.depth", "-1"], "depth is -1, it may not be negative"),
        (
            ["--network.temporal.depth", "x"],
            "network.temporal.depth: Expected an int. Got value: x",
        ),
        (["--network", "{temporal: {depth: x}}"], "network.temporal.depth: Expected an int."),
        (["--rate", "x"], "rate: Expected a float"),
        (["--minutes", "long"], "minutes: Expected a float or null. Got value: long"),
        (["--network.temporal.depth"], "--network.temporal.depth: its value is missing"),
        (["--folder", "--rate", "1"], "--folder: its value is missing"),
        (["stray"], "unexpected 'stray'"),
        (["-r"], "unknown option -r"),
        (["--config"], "--config: the name of a file is missing"),
    ],
)
def test_bad_flags_are_refused_in_one_line(args, message):
    with pytest.raises(ValueError) as caught:
        config.parse(Run, args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        config.load(Run, tmp_path / "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        config.load(Run, write("network: nowhere.yaml"))
    with pytest.raises(
        FileNotFoundError, match=r"over\.yml: no such .* did you mean '.*over\.yaml'"
    ):
        config.load(Run, write("rate: 1", "over.yaml").with_suffix(".yml"))
    with pytest.raises(FileNotFoundError, match=r"nor is there a folder '.*away' in "):
        config.parse(Run, ["--network", str(tmp_path / "away" / "x.yaml")])


def test_a_group_on_the_command_line_is_a_file_or_keys(write):
    tiny = write("temporal: temporal.yaml\ncrop_size: [32, 24]", "model/tiny.yaml")
    write("gap: 2", "model/temporal.yaml")
    expected = Network((32, 24), Temporal(depth=4, gap=2))
    assert config.parse(Run, ["--network", str(tiny)]).network == expected
    assert (
        config.parse(Run, ["--network={crop_size: [32, 24], temporal: {gap: 2}}"]).network
        == expected
    )
    nothing = config.parse(Run, ["--network.temporal", "null"])
    assert nothing.network.temporal is None
    again = ["--network.temporal", "null", "--network.temporal.gap", "2"]
    assert config.parse(Run, again).network.temporal == Temporal(gap=2)


def test_free_options_are_taken_as_they_are():
    run = config.parse(Run, ["--network.options.layers", "3", "--network.options", "{width: 1e-2}"])
    assert run.network.options == {"width": 0.01}


def test_round_trips(tmp_path):
    run = Run(
        network=Network((8, 6), None, options={"depth": 3, "class_path": "pathlib.Path"}),
        rate=1e-05,
        folder=Path("runs/x"),
        parts=(Temporal(1), Temporal(2)),
    )
    data = config.to_dict(run)
    assert yaml.safe_load(yaml.safe_dump(data)) == data
    assert config.from_dict(Run, data, source="here") == run
    config.save(run, tmp_path / "run.yaml")
    assert config.load(Run, tmp_path / "run.yaml") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_plain_data_is_checked_and_keeps_defaults():
    assert config.from_dict(Run, {"network": {}}, source="here") == Run()
    with pytest.raises(ValueError, match=r"here: unknown key 'network.foo'"):
        config.from_dict(Run, {"network": {"foo": {}}}, source="here")
    with pytest.raises(ValueError, match="here: rate: Expected a float"):
        config.from_dict(Run, {"rate": "x"}, source="here")
    with pytest.raises(ValueError, match="is a group of keys"):
        config.from_dict(Run, {"network": "some.yaml"}, source="here")


def test_print_config_can_be_read_again(capsys, write):
    with pytest.raises(SystemExit) as stop:
        config.parse(Run, ["--rate", "0.5", "--print_config"])
    assert stop.value.code == 0
    assert config.load(Run, write(capsys.readouterr().out)) == Run(rate=0.5)


def do(
    pictures: list[Path], run: Run, *, out: Path, boxes: tuple[str, ...] = (), loud: bool = False
) -> tuple[Any, ...]:
    """Do something.

    Args:
        pictures: what to look at.
        run: how.
        out: where.
        boxes: which parts.
        loud: noise.
    """
    return pictures, run, out, boxes, loud


def test_functions_get_typed_arguments(write):
    file = write("rate: 2")
    assert config.call(do, ["a.png", "b.png", "--out", "o"]) == (
        [Path("a.png"), Path("b.png")], Run(), Path("o"), (), False,
    )  # fmt: skip
    pictures, run, _, boxes, loud = config.call(
        do,
        ["--boxes", "-1,2", "a.png", "--boxes=3,4", "--loud", "--out=o", "--config", str(file)],
    )
    assert (pictures, run, list(boxes), loud) == (
        [Path("a.png")],
        Run(rate=2),
        ["-1,2", "3,4"],
        True,
    )


def test_functions_miss_their_arguments():
    with pytest.raises(ValueError, match="required: out"):
        config.call(do, ["a.png"])


def test_help_speaks_of_every_argument(capsys):
    with pytest.raises(SystemExit):
        config.call(do, ["--help"], prog="test do")
    text = capsys.readouterr().out
    for words in ("usage: test do", "Do something.", "what to look at", "noise", "--network.crop"):
        assert words in text
    assert "layers. (type: int, default: 4)" in text.partition("--network.temporal.depth DEPTH")[2]
    assert ".help" not in text


@pytest.mark.parametrize(
    "flags",
    [
        ["--network.crop_size", "64", "48"],
        ["--network.crop_size=[64, 48]", "--rate", "1e-3"],
        ["--network.crop_size", "[64, 48]"],
    ],
)
def test_lists_are_given_as_words_or_in_brackets(flags):
    assert config.parse(Run, flags).network.crop_size == (64, 48)


@dataclass(frozen=True)
class Inputs:
    """Inputs.

    Attributes:
        files: some.
        others: some, or None.
    """

    files: tuple[Path, ...] = ()
    others: tuple[Path, ...] | None = None


def test_paths_need_no_brackets():
    both = config.parse(Inputs, ["--files", "a b.yaml", "c,d", "--others=2"])
    assert both == Inputs((Path("a b.yaml"), Path("c,d")), (Path("2"),))
    assert config.parse(Inputs, ["--others", "null", "--files", "x"]) == Inputs((Path("x"),))
