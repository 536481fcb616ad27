"""Score × search: the sweep of `conf/experiment/search_ablation.yaml`, then its table and figure, in DIR/comparison."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from sweep import sweep_and_gather

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.searches import compare_searches
from neuron_path.report.figures import search_gain_figure
from neuron_path.report.markdown import escape, markdown_table
from neuron_path.report.style import save_figure
from neuron_path.report.tables.searches import LEGEND, search_table
from neuron_path.store.atomic import write_json, write_text


def gather(folder: str) -> int:
    """Compare the searches of a sweep, and write table.md, table.csv, gain.png, gain.svg and comparison.json."""
    try:
        comparison = compare_searches([folder])
        out = Path(folder) / "comparison"
        missing = [f"{run.run_dir}: {run.reason}" for run in comparison.missing]
        lines = [markdown_table(search_table(comparison)), LEGEND]
        lines += [f"- {escape(note)}" for note in comparison.notes]
        lines += [f"- Missing: {escape(run)}" for run in missing]
        write_text(out / "table.md", "\n\n".join(lines) + "\n")
        write_text(out / "table.csv", comparison.rows.to_csv(index=False, float_format="%.12g", lineterminator="\n"))
        write_json(
            out / "comparison.json", {"notes": comparison.notes, "missing": [asdict(run) for run in comparison.missing]}
        )
        save_figure(search_gain_figure(comparison.rows), out / "gain")
    except NeuronPathError as error:
        print(f"search_ablation: error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    print(f"\nTable and figure: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(sweep_and_gather("search_ablation", sys.argv[1:], gather, made="table and figure"))
