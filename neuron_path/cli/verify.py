"""`neuron-path verify`: check a finished run against its own record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from neuron_path.cli.arguments import parse_arguments, whole_number
from neuron_path.config import stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.records.verify import SAMPLE, moved, verify
from neuron_path.store.layout import RUN_FILE
from neuron_path.store.reader import read_json

USAGE = f"""\
Check a finished run against its own record.

usage: neuron-path verify DIR [--sample=N] [--seed=N] [--root=DIR] [--checkpoint=FILE]

  DIR           a run directory
  --sample      how many of its images are searched again; default: {SAMPLE}
  --seed        which ones; default: 0
  --root        where the data lies now, if it has moved (data.root)
  --checkpoint  where the weights lie now, if they have moved (model.checkpoint)

Checked, in this order:

  record  run.json and the tables agree on what made them, and the tables have their columns
  files   no file has changed since the run, and none is missing in SHA256SUMS
  rows    each image is there once for each method, in every table
  source  the model, its weights, the images (names, labels, some contents) and preprocessing are the run's
  paths   a random sample is searched again: the same paths, and scores within 1e-5

It exits with 1 when a check fails.
"""


def show(arguments: list[str]) -> None:
    """Check the run that the arguments name, and print a line for each check.

    Raises:
        NeuronPathError: wrong arguments, or a check that fails.
    """
    known = ("--sample", "--seed", "--root", "--checkpoint")
    directories, options = parse_arguments("verify", arguments, known)
    if len(directories) != 1:
        raise NeuronPathError("neuron-path verify needs one run directory: give it as neuron-path verify DIR.")
    run_dir = Path(directories[0])
    sample = whole_number("--sample", options.get("--sample", str(SAMPLE)))
    seed = whole_number("--seed", options.get("--seed", "0"))
    places = (options.get("--root"), options.get("--checkpoint"))
    if any(places) and (stored := read_json(run_dir / RUN_FILE).get("config")):
        moved(stored_config(stored), *places)  # what the run cannot take is a wrong argument, and no failed check
    console = Console(highlight=False, soft_wrap=True)
    failed = []
    for check in verify(run_dir, sample, seed, *places):
        console.print(f"{'ok' if check.is_good else 'FAILED':<7} {check.name:<7} {check.finding}", markup=False)
        failed += [] if check.is_good else [check]
    if failed:
        names = ", ".join(check.name for check in failed)
        raise NeuronPathError(f"Run '{run_dir}' is not what it says: {names} failed.") from failed[0].cause
