"""The command line: `neuron-path COMMAND …`; every foreseeable mistake is one line and a non-zero exit."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

from neuron_path import __version__
from neuron_path.errors import NeuronPathError, nearest
from neuron_path.stopping import RESUMABLE, Terminated, stoppable

HYDRA_COMMANDS = {
    "run": "search, then check by remove and enhance, then write figures and a report",
    "search": "search only: paths.parquet, run.json, metrics.json",
    "evaluate": "measure stored paths again, without searching: run_dir=DIR",
    "prune": "cut a model down to the neurons that its paths show to matter: run_dir=DIR keep=0.5",
}
RESUMED = ("run", "search", "rerun")  # commands that continue where a run directory was left
COMMANDS = {
    **HYDRA_COMMANDS,
    "compare": "gather runs into one table of methods, with intervals and paired tests",
    "analyze": "what the paths of one or several runs say about classes: tables and figures",
    "app": "a page in the browser: drop a picture, see its path, edit it",
    "report": "make the report of a finished run: one page that opens without a network",
    "verify": "check a finished run against its own record",
    "rerun": "run again what a run's record says, and compare",
    "models": "list the supported models, or explain one",
    "embed-text": "make classes of prompts: a zero-shot head for a CLIP or SigLIP tower",
    "words": "name words for a run's neurons, by a vocabulary that embed-text has embedded",
}

_USAGE = """\
Find influential neuron paths in vision transformers.

usage: neuron-path COMMAND [KEY=VALUE …] [--debug]

  --debug    show where in the program an error comes from

commands:
{commands}

examples:
  neuron-path run                                              the embedded model on the embedded digits
  neuron-path run hydra.run.dir=outputs/mine data.limit=32     a part of the data, into a folder of your choice
  neuron-path search model=timm model.name=vit_base_patch16_224 model.pretrained=true \\
                     data=image_folder data.root=DIR           your pictures
  neuron-path compare outputs/sweeps/DATE                      all methods and measures of a sweep in one table
  neuron-path prune run_dir=outputs/mine keep=0.5              a smaller model, its costs and its accuracy
  neuron-path analyze outputs/mine                             what the paths say about classes
  neuron-path app                                              drop pictures on a page, and edit their paths
  neuron-path report outputs/demo                              one run's report again
  neuron-path models dinov3                                    the supported models of that name
  neuron-path models vit_base_patch16_224                      where its neurons are, and what a search costs
  neuron-path run --help                                       all settings
  neuron-path run --cfg job                                    show the configuration and stop
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of `python -m neuron_path`."""
    try:
        with stoppable(), _one_line_warnings():
            sys.exit(_command(list(sys.argv[1:] if argv is None else argv)))
    except BrokenPipeError:  # whoever read the output has left, as `head` does
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _command(arguments: list[str]) -> int:
    if "--version" in arguments:
        print(f"neuron-path {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE.format(commands="\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())))
        return 0 if arguments else 2
    debug = "--debug" in arguments[1:]
    command, *rest = (argument for argument in arguments if not debug or argument != "--debug")
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        _say("error", f"No command is named '{command}'.{nearest(command, COMMANDS)} Known: {known}.")
        return 2
    return (_hydra_app if command in HYDRA_COMMANDS else _plain)(command, rest, debug)


def _plain(command: str, arguments: list[str], debug: bool) -> int:
    """A command without Hydra: a module with its `USAGE`, and `show`, which takes the arguments."""
    try:
        module = import_module(f"neuron_path.cli.{command.replace('-', '_')}")
        if "-h" in arguments or "--help" in arguments:
            print(module.USAGE)
            return 0
        module.show(arguments)
    except NeuronPathError as error:
        _show(error, debug)
        return 1
    except KeyboardInterrupt as error:
        kept = ["What was finished is kept: the same command goes on."] if command in RESUMED else []
        return _stopped(command, error, kept)
    return 0


def _hydra_app(command: str, overrides: list[str], debug: bool) -> int:
    try:
        from neuron_path.cli.hydra_app import launch

        failures = launch(command, overrides)
    except NeuronPathError as error:
        failures = [error]
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])  # how to continue, where that can be done
        return _stopped(command, error, ["What was finished is kept in the run directory.", *notes])
    for failure in failures:
        _show(failure, debug)
    return 1 if failures else 0


def _stopped(command: str, error: KeyboardInterrupt, kept: Sequence[str]) -> int:
    """A line for a command that was asked to end, and its exit code."""
    how, code = ("Terminated", 143) if isinstance(error, Terminated) else ("Interrupted", 130)
    _say("error", " ".join([f"{how}.", *kept]))
    return RESUMABLE if isinstance(error, Terminated) and command in RESUMED else code


def _show(error: NeuronPathError, debug: bool) -> None:
    """An error's line, below its traceback where that is asked for."""
    if debug:
        traceback.print_exception(error)
    _say("error", str(error))


def _say(kind: str, text: str) -> None:
    """One line on standard error, whatever line breaks a file's name or an outside message holds."""
    print(f"neuron-path: {kind}: {' '.join(text.split())}", file=sys.stderr)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show a Python warning as a line without the source that raised it."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _say("warning", str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
