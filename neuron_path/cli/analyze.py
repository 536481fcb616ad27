"""`neuron-path analyze`: what the paths of one or several runs say about classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuron_path.classes.runs import Settings, analyze_runs
from neuron_path.cli.arguments import parse_arguments
from neuron_path.errors import NeuronPathError
from neuron_path.report.classes.files import headline_table, write_analysis
from neuron_path.report.classes.sentences import method_in_words, pairs_in_words

USAGE = f"""\
Say what the paths of one or several runs tell about classes, from what is on disk: no model is needed.

usage: neuron-path analyze DIR… [--out=DIR] [--by=KIND] [--scorer=NAME] [--distances=FILE] [--shuffles=N]
                           [--seed=N] [--no-figures]

  DIR           a run directory, or a folder above several, such as a sweep's
  --out         where the results go; default: the folder analysis in the first DIR
  --by          what classes are: auto (labels where every image has one, else targets), label or target
  --scorer      analyse this scorer's paths only; default: all that the runs hold
  --distances   semantic distances between classes: a matrix as .csv, a tree as .json, or wordnet
  --shuffles    of the permutation tests; default: {Settings.n_permutations}
  --seed        of all draws; default: {Settings.seed}
  --no-figures  tables only

Several methods or models are analysed on the images that all of them have, and compared with each other.

examples:
  neuron-path analyze outputs/mine
  neuron-path analyze outputs/mine --scorer=joint_attribution --distances=classes.json
  neuron-path analyze outputs/sweeps/2026-01-31_12-00-00 --out=tables

It writes each table as CSV and Parquet (summary, methods, classes, class_pairs, concentration, usage, neurons, images),
figures/, analysis.md and analysis.json.
"""

_OPTIONS = ("--out", "--by", "--scorer", "--distances", "--shuffles", "--seed", "--no-figures")


def show(arguments: list[str]) -> None:
    """Analyse the runs that the arguments name, write the results and print the headline.

    Raises:
        NeuronPathError: no directory, an unknown option, or runs that cannot be analysed.
    """
    directories, options = _parse(arguments)
    analysis = analyze_runs(directories, _settings(options))
    out = Path(options.get("--out", Path(directories[0]) / "analysis"))
    write_analysis(analysis, out, figures="--no-figures" not in options)
    console = Console(highlight=False)
    headline = headline_table(analysis).drop(columns=["Images", "Classes", "Recognised, %"], errors="ignore")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(headline.columns):
        table.add_column(name, justify="right" if place else "left")
    for row in headline.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))
    paths = analysis.methods[0].paths
    console.print(f"{paths.n_images} images of {paths.n_classes} classes, which are their {paths.source}s")
    console.print(table)
    sentences = pairs_in_words(analysis) if len(analysis.methods) > 1 else method_in_words(analysis.methods[0])
    for line in [*sentences, *(f"Note: {note}" for note in analysis.notes)]:
        console.print(f"- {line}", markup=False)
    for run in analysis.missing:
        console.print(f"Without paths: {run.run_dir}: {run.reason}", markup=False)
    print(f"\nAnalysis: {out / 'analysis.md'}")  # never wrapped: it is to be copied


def _parse(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    directories, options = parse_arguments("analyze", arguments, _OPTIONS, flags=("--no-figures",))
    if not directories:
        raise NeuronPathError(
            "neuron-path analyze needs run directories, or a folder above them: neuron-path analyze DIR."
        )
    return directories, options


def _settings(options: dict[str, str]) -> Settings:
    given: dict[str, Any] = {name: options[f"--{name}"] for name in ("scorer", "distances") if f"--{name}" in options}
    if "--by" in options:
        kinds = get_args(get_type_hints(Settings)["by"])
        if options["--by"] not in kinds:
            raise NeuronPathError(f"The option '--by' is '{options['--by']}'; expected {', '.join(kinds)}.")
        given["by"] = options["--by"]
    for name, setting, least in (("--shuffles", "n_permutations", 1), ("--seed", "seed", 0)):
        if name in options:
            if not options[name].isdecimal() or int(options[name]) < least:
                raise NeuronPathError(f"The option '{name}' is '{options[name]}'; expected a number from {least} on.")
            given[setting] = int(options[name])
    return Settings(**given)
