"""`neuron-path rerun`: run again what a run directory's record says, and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuron_path.cli.arguments import parse_arguments
from neuron_path.config import stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline import run
from neuron_path.pipeline.sameness import compare_paths
from neuron_path.pipeline.verify import moved
from neuron_path.store.layout import PATHS_FILE, RUN_FILE
from neuron_path.store.reader import load_paths, read_json

USAGE = """\
Run again what a run directory's run.json says, into another directory, and compare the paths.

usage: neuron-path rerun DIR [--out=DIR] [--accelerator=auto|cpu|gpu] [--root=DIR] [--checkpoint=FILE]

  DIR            a run directory, finished or not; run.json is enough
  --out          where the new run goes; default: DIR-rerun. A rerun that was stopped goes on there
  --accelerator  another device than the run's
  --root         where the data lies now, if it has moved (data.root)
  --checkpoint   where the weights lie now, if they have moved (model.checkpoint)

Model, weights, data, preprocessing and every setting must be those of the run: a difference is shown, and nothing is
searched. It exits with 1 when a path differs, and with 75 when it was asked to end: the same command goes on.
"""


def show(arguments: list[str]) -> None:
    """Run again, and print how the paths of both runs agree.

    Raises:
        NeuronPathError: wrong arguments, a run that cannot be made again, or other paths.
    """
    known = ("--out", "--accelerator", "--root", "--checkpoint")
    directories, options = parse_arguments("rerun", arguments, known)
    if len(directories) != 1:
        raise NeuronPathError("neuron-path rerun needs one run directory: give it as neuron-path rerun DIR.")
    before = Path(directories[0])
    out = Path(options.get("--out", f"{before.resolve()}-rerun"))
    if out.resolve() == before.resolve():
        raise NeuronPathError(f"--out is the run itself, '{before}': give another directory, or leave it out.")
    if not (before / RUN_FILE).exists():
        raise NeuronPathError(f"There is no {RUN_FILE} in '{before}': give the directory of a run.")
    made = read_json(before / RUN_FILE)
    command = made.get("command")
    if not (isinstance(made.get("identity"), dict) and isinstance(command, str) and command in run.COMMANDS):
        raise NeuronPathError(f"{RUN_FILE} in '{before}' is of an older version, or of something else than a run.")
    paths = load_paths(before) if (before / PATHS_FILE).exists() else None
    config = moved(stored_config(made.get("config")), options.get("--root"), options.get("--checkpoint"))
    trainer = replace(config.trainer, accelerator=options.get("--accelerator", config.trainer.accelerator))
    config = replace(config, trainer=trainer, resume=None, resume_mode="same")
    run.COMMANDS[command](config, out, made["identity"])
    if paths is None:
        print("The run itself has not finished: there is nothing to compare with.")
        return
    sameness = compare_paths(paths, load_paths(out))
    if not sameness.is_same:
        raise NeuronPathError(f"The run again gives other paths than '{before}': {sameness}.")
    print(f"Same:   {sameness}")
