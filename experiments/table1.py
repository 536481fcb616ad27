"""Table 1: the sweep of `conf/experiment/table1.yaml`, then the table. That file says the cost and what to expect."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

USAGE = "usage: python experiments/table1.py [DIR] [KEY=VALUE …]    runs and tables go to DIR, default outputs/table1"


def main(arguments: Sequence[str]) -> int:
    """Run the sweep into DIR with the given overrides, and compare what it left; returns the exit code."""
    if "-h" in arguments or "--help" in arguments:
        print(USAGE)
        return 0
    folders = [argument for argument in arguments if "=" not in argument]
    if len(folders) > 1 or any(folder.startswith("-") for folder in folders):
        print(USAGE, file=sys.stderr)
        return 2
    folder = folders[0] if folders else "outputs/table1"
    overrides = [argument for argument in arguments if "=" in argument]
    searched = _run("run", "experiment=table1", f"hydra.sweep.dir={folder}", *overrides)
    if searched < 0 or searched > 1:  # stopped; 1 is a job that failed, and the table says what is missing
        return abs(searched)
    return _run("compare", folder) or searched


def _run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "neuron_path", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
