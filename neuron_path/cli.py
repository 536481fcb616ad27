"""The command line: `neuron-path COMMAND …`; every foreseeable mistake is one line and a non-zero exit."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from neuron_path import __version__
from neuron_path.errors import NeuronPathError, nearest

HYDRA_COMMANDS = {
    "run": "search, then check by remove and enhance, then write figures and a report",
    "search": "search only: paths.parquet, run.json, metrics.json",
}

_USAGE = """\
Find influential neuron paths in vision transformers.

usage: neuron-path COMMAND [KEY=VALUE …]

commands:
{commands}

examples:
  neuron-path run                                              the embedded model on the embedded digits
  neuron-path run hydra.run.dir=outputs/mine data.limit=32     a part of the data, into a folder of your choice
  neuron-path search model=timm model.name=vit_base_patch16_224 model.pretrained=true \\
                     data=image_folder data.root=DIR           your pictures
  neuron-path run --help                                       all settings
  neuron-path run --cfg job                                    show the configuration and stop
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of `python -m neuron_path`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE.format(commands="\n".join(f"  {name:<10} {text}" for name, text in HYDRA_COMMANDS.items())))
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(f"neuron-path {__version__}")
        return
    command, *rest = arguments
    if command not in HYDRA_COMMANDS:
        known = ", ".join(HYDRA_COMMANDS)
        _fail(f"No command is named '{command}'.{nearest(command, HYDRA_COMMANDS)} Known: {known}.", code=2)
    _hydra_app(command, rest)


def _hydra_app(command: str, overrides: list[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on, and the lines below say what they mean
    from neuron_path.hydra_app import explain, launch

    try:
        launch(command, overrides)
    except NeuronPathError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("Interrupted. What was finished is kept in the run directory.", code=130)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _fail(line)


def _fail(line: str, code: int = 1) -> None:
    print(f"neuron-path: error: {line}", file=sys.stderr)
    sys.exit(code)
