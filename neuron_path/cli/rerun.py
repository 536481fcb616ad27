"""`neuron-path rerun`: run again what a run directory's record says, and compare."""

from __future__ import annotations

from pathlib import Path

from neuron_path.cli.arguments import parse_arguments
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.records.rerun import rerun

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
    sameness = rerun(
        before,
        out,
        accelerator=options.get("--accelerator"),
        root=options.get("--root"),
        checkpoint=options.get("--checkpoint"),
    )
    if sameness is None:
        print("The run itself has not finished: there is nothing to compare with.")
        return
    if not sameness.is_same:
        raise NeuronPathError(f"The run again gives other paths than '{before}': {sameness}.")
    print(f"Same:   {sameness}")
