"""The `fourdhands` command, and how every command line of the project runs and fails.

A command is the name of a typed function; its module is imported only when it is chosen, so that
help and completion stay quick.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fourdhands import __version__, config
from fourdhands.data.convert.names import DATASETS


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands.

    Attributes:
        help: one line.
        target: `module:function`, or commands by name.
        argument: if given, the function is not the command but makes it from this.
        switches: flags that choose another command instead, wherever they stand.
    """

    help: str
    target: "str | Mapping[str, Command]"
    argument: str | None = None
    switches: "Mapping[str, Command]" = field(default_factory=dict)


COMMANDS = Command(
    "Two-hand 3D reconstruction over time, from ordinary video.",
    {
        "hands": Command(
            "The hand model's files.",
            {
                "import": Command(
                    "Convert the official MANO files.", "fourdhands.cli.hands:import_official"
                ),
                "show": Command("Draw a sheet of poses and shapes.", "fourdhands.cli.hands:show"),
                "build": Command("Make the open hand anew.", "fourdhands.cli.hands:build"),
                "report": Command("Measure the open hand.", "fourdhands.cli.hands:report"),
            },
        ),
        "synthesize": Command(
            "Render two-hand scenes into shards; with --motion, generate finger motion alone.",
            "fourdhands.cli.synthesize:synthesize",
            switches={
                "--motion": Command(
                    "Generate finger motion into shards.", "fourdhands.cli.motion:synthesize"
                )
            },
        ),
        "motion": Command(
            "Recorded finger motion, and the prior that learns from it.",
            {
                "amass": Command("Bring AMASS's hands into shards.", "fourdhands.cli.motion:amass"),
                "arctic": Command(
                    "Bring ARCTIC's hands into shards.", "fourdhands.cli.motion:arctic"
                ),
                "clips": Command(
                    "Bring the fingers of shards with images into shards of motion.",
                    "fourdhands.cli.motion:clips",
                ),
                "evaluate": Command(
                    "Hold a motion prior against baselines.", "fourdhands.cli.motion:evaluate"
                ),
            },
        ),
        "convert": Command(
            "Bring official downloads into shards.",
            {
                name: Command(entry.title + ".", "fourdhands.cli.convert:command", name)
                for name, entry in DATASETS.items()
            },
        ),
        "data": Command(
            "The data sets that runs can name.",
            {
                "list": Command("What there is of each.", "fourdhands.cli.data:list_sets"),
                "check": Command("Read and verify them.", "fourdhands.cli.data:check_sets"),
            },
        ),
        "protocols": Command(
            "The benchmarks that eval.py can go by.", "fourdhands.cli.protocols:list_protocols"
        ),
        "submission": Command(
            "Files for benchmarks' servers.",
            {
                "check": Command(
                    "Read one back and tell what is wrong.", "fourdhands.cli.submission:check"
                )
            },
        ),
        "export": Command("Write a checkpoint for others to use.", "fourdhands.cli.export:export"),
        "import-weights": Command(
            "Convert the weights of others.", "fourdhands.cli.export:import_foreign"
        ),
        "reconstruct": Command(
            "Reconstruct the hands of a video.", "fourdhands.cli.reconstruct:reconstruct"
        ),
        "view": Command("Look at a reconstruction in the browser.", "fourdhands.cli.view:view"),
        "predict": Command(
            "Reconstruct the hands in photographs.", "fourdhands.cli.predict:predict"
        ),
        "refine": Command(
            "Turn predictions into smooth, physical hands in the world.",
            "fourdhands.cli.refine:refine",
        ),
    },
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the `fourdhands` command."""
    return run("fourdhands", COMMANDS, args)


def run(prog: str, command: Command, args: Sequence[str] | None = None) -> int:
    """Run a command line; what users do wrong becomes one line on stderr.

    The environment variable FOURDHANDS_TRACEBACK=1 shows where an error came from.

    Args:
        prog: the program's name.
        command: what it can do.
        args: the command line without the program's name; the process's own if None.

    Returns:
        The exit status: 0, 1 after an error, 130 after an interrupt.
    """
    try:
        _dispatch(prog, command, sys.argv[1:] if args is None else args)
    except (ValueError, OSError) as error:
        if os.environ.get("FOURDHANDS_TRACEBACK"):
            raise
        print(f"{prog}: error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    return 0


def one_line(error: BaseException) -> str:
    """What an error says, in one line; of one from a data worker only its own words."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__


def _spelling(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum()) or name


def _dispatch(prog: str, command: Command, args: Sequence[str]) -> None:
    for flag, other in command.switches.items():
        if flag in args:
            rest = [word for word in args if word != flag]
            return _dispatch(f"{prog} {flag}", other, rest)
    if isinstance(command.target, str):
        module, _, name = command.target.partition(":")
        function = getattr(importlib.import_module(module), name)
        if command.argument is not None:
            function = function(command.argument)
        config.call(function, args, prog=prog)
        return
    parser = argparse.ArgumentParser(prog=prog, description=command.help)
    parser.add_argument("--version", action="version", version=f"fourdhands {__version__}")
    names = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for name, choice in command.target.items():
        names.add_parser(name, help=choice.help, add_help=False)
    # HO3D-v2 is ho3d_v2: people write names as they know them
    spellings = {_spelling(name): name for name in command.target}
    first = [spellings.get(_spelling(word), word) for word in args[:1]]
    chosen = parser.parse_args(first).name
    _dispatch(f"{prog} {chosen}", command.target[chosen], args[1:])
