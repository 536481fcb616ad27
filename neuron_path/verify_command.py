"""`neuron-path verify`: check a finished run against its own record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from neuron_path.arguments import parse_arguments, whole_number
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.verify import SAMPLE, verify

USAGE = f"""\
Check a finished run against its own record.

usage: neuron-path verify DIR [--sample=N] [--seed=N]

  DIR       a run directory
  --sample  how many of its images are searched again; default: {SAMPLE}
  --seed    which ones; default: 0

Checked, in this order:

  record  run.json and the tables agree on what made them, and the tables have their columns
  files   no file has changed since the run (SHA256SUMS)
  rows    each image is there once for each method, in every table
  source  the model, its weights, the images and their preprocessing are those of the run
  paths   a random sample is searched again: the same paths, and scores within 1e-5

It exits with 1 when a check fails.
"""


def show(arguments: list[str]) -> None:
    """Check the run that the arguments name, and print a line for each check.

    Raises:
        NeuronPathError: wrong arguments, or a check that fails.
    """
    directories, options = parse_arguments("verify", arguments, ("--sample", "--seed"))
    if len(directories) != 1:
        raise NeuronPathError("neuron-path verify needs one run directory: give it as neuron-path verify DIR.")
    run_dir = Path(directories[0])
    sample = whole_number("--sample", options.get("--sample", str(SAMPLE)))
    console = Console(highlight=False, soft_wrap=True)
    failed = []
    for check in verify(run_dir, sample, whole_number("--seed", options.get("--seed", "0"))):
        console.print(f"{'ok' if check.is_good else 'FAILED':<7} {check.name:<7} {check.told}", markup=False)
        failed += [] if check.is_good else [check.name]
    if failed:
        raise NeuronPathError(f"Run '{run_dir}' is not what it says: {', '.join(failed)} failed.")
