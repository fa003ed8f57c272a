"""The command line: quick help, lazy commands, and errors in one line."""

import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import eval as evaluation
import train
from fourdhands.cli.main import COMMANDS, Command, main, one_line, run

STATE: dict[str, object] = {}


def remember(word: str, *, count: int = 1) -> None:
    """Remember a word."""
    STATE.update(word=word, count=count)


def fail(kind: str) -> None:
    """Fail in some way."""
    raise {
        "value": ValueError("data.x is 3,\n  it has to be 4"),
        "missing": FileNotFoundError("a.yaml: no such file"),
        "interrupt": KeyboardInterrupt(),
        "bug": AssertionError("this is ours"),
    }[kind]


HERE = Command(
    "Test.",
    {
        "remember": Command("Remember.", f"{__name__}:remember"),
        "group": Command("Group.", {"fail": Command("Fail.", f"{__name__}:fail")}),
        "broken": Command("Never imported.", "no.such.module:nothing"),
    },
)


def leaves(command: Command) -> Iterator[Command]:
    if isinstance(command.target, str):
        yield command
    else:
        for inner in command.target.values():
            yield from leaves(inner)


@pytest.mark.parametrize("command", [COMMANDS, train.TRAIN, evaluation.EVALUATE])
def test_every_command_is_there(command):
    for leaf in leaves(command):
        module, _, function = leaf.target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), leaf.target


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from fourdhands.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as left: assert left.code == 0\n"
        "assert not {'torch', 'cv2', 'numba'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in COMMANDS.target:
        assert name in done.stdout


def test_a_command_gets_its_arguments():
    assert run("test", HERE, ["remember", "this", "--count", "2"]) == 0
    assert STATE == {"word": "this", "count": 2}


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("value", 1, "test: error: data.x is 3, it has to be 4"),
        ("missing", 1, "test: error: a.yaml: no such file"),
        ("interrupt", 130, "test: interrupted"),
    ],
)
def test_errors_are_one_line(capsys, kind, status, message):
    assert run("test", HERE, ["group", "fail", kind]) == status
    assert capsys.readouterr().err == message + "\n"


def test_our_own_faults_and_wanted_tracebacks_come_through(monkeypatch):
    with pytest.raises(AssertionError):
        run("test", HERE, ["group", "fail", "bug"])
    monkeypatch.setenv("FOURDHANDS_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"data.x is 3"):
        run("test", HERE, ["group", "fail", "value"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["hands", "show", "--seed", "-1"], "--seed -1: it may not be negative"),
        (["hands", "show", "--out", "hands.jpg"], "give a name that ends in .png"),
        (["hands", "build", "--poses", "1"], "the bank needs at least 64"),
        (["predict", "--sed", "3"], "unknown option --sed"),
    ],
)
def test_mistakes_are_told_before_any_work(capsys, args, message):
    assert main(args) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("args", [[], ["forget"], ["group"], ["group", "fial"]])
def test_unknown_commands_are_refused(capsys, args):
    with pytest.raises(SystemExit, match="2"):
        run("test", HERE, args)
    assert "COMMAND" in capsys.readouterr().err


def test_an_error_from_a_data_worker_speaks_for_itself():
    wrapped = (
        "Caught ValueError in DataLoader worker process 0.\n"
        'Original Traceback (most recent call last):\n  File "x.py", line 1, in f\n'
        "ValueError: shard a.tar, sample 7: 000.jpg is broken\n"
    )
    assert one_line(ValueError(wrapped)) == "shard a.tar, sample 7: 000.jpg is broken"
