"""`neuron-path compare`: gather run directories into one table of methods."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from neuron_path.cli.arguments import parse_arguments
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.comparison import compare
from neuron_path.evaluation.contrasts import Settings
from neuron_path.report.comparison.console import print_comparison
from neuron_path.report.comparison.files import write_comparison
from neuron_path.report.comparison.sections import make_sections

USAGE = f"""\
Compare the methods of several runs on the same images: means with intervals, paired tests, and what they show.

usage: neuron-path compare DIR… [--out=DIR] [--reference=SCORER]

  DIR          a run directory, or a folder above several, such as a sweep's
  --out        where the tables go; default: the folder comparison in the first DIR
  --reference  the scorer that every other one is tested against; default: {Settings.reference}

Runs of one model must agree in data, preprocessing, target, token scope and the options of their evaluation. Runs
without results are listed as missing.

examples:
  neuron-path compare outputs/sweeps/2026-01-31_12-00-00      a sweep over scorers, models or both
  neuron-path compare outputs/a outputs/b --out=tables        two runs, tables in a folder of your choice
  neuron-path compare outputs/demo --reference=activation     the methods of one run, against another one

It writes table.md, table.csv, table.tex, table.html, tests.csv (every paired test), classes.csv (class by class) and
comparison.json (which runs, with their provenance).
"""

_OPTIONS = ("--out", "--reference")


def show(arguments: list[str]) -> None:
    """Compare the runs that the arguments name, write the tables and print the main one.

    Raises:
        NeuronPathError: no directory, an unknown option, or runs that cannot be compared.
    """
    directories, options = parse_arguments("compare", arguments, _OPTIONS)
    if not directories:
        raise NeuronPathError(
            "neuron-path compare needs run directories, or a folder above them: neuron-path compare DIR."
        )
    comparison = compare(directories, options.get("--reference", Settings.reference))
    sections = make_sections(comparison)
    out = Path(options.get("--out", Path(directories[0]) / "comparison"))
    files = write_comparison(comparison, out, sections)
    console = Console(file=sys.stdout, highlight=False)
    print_comparison(console, comparison, sections)
    print(f"\nTables: {', '.join(file.name for file in files)}\nin      {out}")  # never wrapped: it is to be copied
