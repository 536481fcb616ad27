"""A sweep of `conf/experiment/NAME.yaml`, then what is gathered from its runs: what the scripts here have in common."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence


def sweep_and_gather(name: str, arguments: Sequence[str], gather: Callable[[str], int], *, made: str = "tables") -> int:
    """Run `experiment=NAME` into a folder with the given overrides, and gather what it left.

    Args:
        name: of the experiment.
        arguments: [DIR] [KEY=VALUE …]; DIR is outputs/NAME where none is given.
        gather: takes the folder, and returns an exit code.
        made: what it writes, for the usage line.

    Returns:
        The exit code: gather's, else the sweep's.
    """
    usage = (
        f"usage: python experiments/{name}.py [DIR] [KEY=VALUE …]    runs and {made} go to DIR, default outputs/{name}"
    )
    if "-h" in arguments or "--help" in arguments:
        print(usage)
        return 0
    folders = [argument for argument in arguments if "=" not in argument]
    if len(folders) > 1 or any(folder.startswith("-") for folder in folders):
        print(usage, file=sys.stderr)
        return 2
    folder = folders[0] if folders else f"outputs/{name}"
    overrides = [argument for argument in arguments if "=" in argument]
    swept = neuron_path("run", f"experiment={name}", f"hydra.sweep.dir={folder}", *overrides)
    if swept > 1:  # stopped; 1 is a job that failed, and what is gathered says what is missing
        return swept
    return gather(folder) or swept


def neuron_path(*arguments: str) -> int:
    """Run the command line in a process of its own, and return its exit code, as a shell does: 128 + N for signal N."""
    code = subprocess.run([sys.executable, "-m", "neuron_path", *arguments], check=False).returncode
    return code if code >= 0 else 128 - code
