"""The paper's pruning experiment: the sweep of `conf/experiment/pruning_paper.yaml`, then masks, table and figure."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.discovery import find_runs
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_text
from neuron_path.store.parquet import write_parquet
from neuron_path.store.reader import read_provenance
from pruning_protocol.figure import protocol_curve_figure
from pruning_protocol.measure import ProtocolSettings, measure_protocol
from pruning_protocol.page import protocol_page
from pruning_protocol.summary import beside_published, published_as, summarise_protocol
from sweep import sweep_and_gather

OWN = ("protocol", "shares", "depths", "seeds", "selection_share")


def gather(folder: str, settings: ProtocolSettings) -> int:
    """Apply the protocol to every run below a folder."""
    runs, missing = find_runs([folder])
    code = write_protocol(folder, runs, settings)
    for run in missing:
        print(f"Missing: {run.run_dir}: {run.reason}")
    return code


def write_protocol(folder: str, runs: Sequence[Path], settings: ProtocolSettings) -> int:
    """Write table.md, table.csv, published.csv, records.parquet and figures of some runs; returns the exit code."""
    out = Path(folder) / f"protocol_{settings.protocol}"
    try:
        if not runs:
            raise NeuronPathError(f"'{folder}' holds no finished run.")
        records = pd.concat([measure_protocol(str(run), settings) for run in runs], ignore_index=True)
        published = {str(one["model"]): published_as(one) for one in map(read_provenance, runs)}
        summary = summarise_protocol(records)
        beside = beside_published(summary, published)
        write_parquet(
            out / "records.parquet",
            pa.Table.from_pandas(records, preserve_index=False),
            {"settings": vars(settings), "runs": [str(run) for run in runs]},
        )
        for name, table in (("table.csv", summary), ("published.csv", beside)):
            write_text(out / name, table.to_csv(index=False, float_format="%.12g", lineterminator="\n"))
        figures = {}
        for model, own in summary.groupby("model"):
            name = str(model).replace("/", "_")
            figures[str(model)] = save_figure(protocol_curve_figure(own), out / name)[0].name
        page = protocol_page(summary, published, figures, beside)
        write_text(out / "table.md", page)
    except NeuronPathError as error:
        print(f"{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)
        return 1
    print(page)
    print(f"Table and figures: {out}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Split off the script's own settings, run the sweep and gather; returns the exit code."""
    own = [argument for argument in arguments if argument.partition("=")[0] in OWN]
    try:
        settings = ProtocolSettings(**dict(_setting(argument) for argument in own))
    except (NeuronPathError, ValueError, TypeError) as error:
        print(f"pruning_paper: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    rest = [argument for argument in arguments if argument not in own]
    return sweep_and_gather("pruning_paper", rest, lambda folder: gather(folder, settings), made="table and figures")


def _setting(argument: str) -> tuple[str, Any]:
    """A setting and its value, as `seeds=[0,1]`."""
    name, _, value = argument.partition("=")
    return name, value if name == "protocol" else json.loads(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
