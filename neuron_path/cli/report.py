"""`neuron-path report`: make the report of a finished run."""

from __future__ import annotations

from neuron_path.cli.arguments import parse_arguments
from neuron_path.errors import NeuronPathError
from neuron_path.report.run_page.page import REPORT_FILE, write_report

USAGE = f"""\
Make the report of a finished run: one HTML page that opens without a network.

usage: neuron-path report DIR [--out=FILE]

  DIR    the directory of a finished run
  --out  the page's file; default: {REPORT_FILE} in DIR

The page tells what was run and what the paths do, has the figures, and lets you explore the paths of classes, images
and methods. It needs neither model nor data. Figures that the run's files are enough for are drawn again, into
DIR/figures, each with its data as CSV.

example:
  neuron-path report outputs/demo
"""

_OPTIONS = ("--out",)


def show(arguments: list[str]) -> None:
    """Make the report of the run that the arguments name, and say where it is.

    Raises:
        NeuronPathError: no directory or several, an unknown option, or a run that cannot be reported.
    """
    directories, options = parse_arguments("report", arguments, _OPTIONS)
    if len(directories) != 1:
        found = f"{len(directories)} directories" if directories else "none"
        raise NeuronPathError(f"neuron-path report takes one finished run, but got {found}: neuron-path report DIR.")
    print(f"Report: {write_report(directories[0], options.get('--out'))}")
