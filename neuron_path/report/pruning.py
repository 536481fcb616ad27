"""Tables and page of a pruned model: what it costs, how accurate it is, and where which ranking is better."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, Final

import pandas as pd

from neuron_path.evaluation.pruning import ORIGINAL
from neuron_path.report.cells import mean_cell, to_records
from neuron_path.report.effects import signed
from neuron_path.report.markdown import escape, markdown_table

UNITS: Final = {"ffn": "FFN neurons", "heads": "attention heads", "ffn+heads": "FFN neurons and attention heads"}
GROUPS: Final = {"all": "all images", "chosen": "images of the chosen classes", "others": "images of other classes"}


def cost_table(summary: pd.DataFrame, metrics: Mapping[str, Any], method: str, keep: float) -> pd.DataFrame:
    """What the saved model and the original cost, and their accuracy; all cells are text.

    Args:
        summary: from `summarise_pruning`.
        metrics: `parameters`, `flops`, `neurons` and perhaps `heads` of `original` and `pruned`, and `latency`.
        method: the saved model's.
        keep: likewise.
    """
    rows = [
        _change("FFN neurons", metrics["neurons"], "{:,.0f}"),
        *([_change("attention heads", metrics["heads"], "{:,.0f}")] if "heads" in metrics else []),
        _change("parameters", metrics["parameters"], "{:,.0f}"),
        _change("GFLOPs of an image", {name: n / 1e9 for name, n in metrics["flops"].items()}, "{:.4g}"),
    ]
    for one in metrics["latency"]:
        times = {name: 1000 * median(one[name]) for name in ("original", "pruned")}
        change = f"{one['speedup']:.2f}× faster" if one["speedup"] >= 1 else f"{1 / one['speedup']:.2f}× slower"
        name = f"ms for a batch of {one['batch_size']}, median"
        rows.append([name, *(f"{times[which]:.3g}" for which in ("original", "pruned")), change])
    for group, own in summary.groupby("group", sort=False):
        (before,) = to_records(own.loc[own["method"] == ORIGINAL])
        (after,) = to_records(own.loc[(own["method"] == method) & (own["keep"] == keep)])
        about = "" if group == "all" else f", {GROUPS[str(group)]}"
        changed = mean_cell(*(after[f"accuracy_deviation{end}"] for end in ("", "_low", "_high")))
        rows.append([f"accuracy, %{about}", _accuracy(before), _accuracy(after), f"{changed} points"])
    return pd.DataFrame(rows, columns=["", "original", "pruned", "change"])


def curve_table(summary: pd.DataFrame, group: str) -> pd.DataFrame:
    """Accuracy in percent against the kept share, a column per method; all cells are text."""
    own = summary.loc[(summary["group"] == group) & (summary["method"] != ORIGINAL)]
    methods = list(dict.fromkeys(own["method"]))
    cells = {(row["method"], row["keep"]): _accuracy(row) for row in to_records(own)}
    rows = [
        [f"{100 * keep:.4g} %", *(cells.get((method, keep), "–") for method in methods)]
        for keep in sorted(set(own["keep"]))
    ]
    return pd.DataFrame(rows, columns=["kept", *map(named, methods)])


def verdict_table(summary: pd.DataFrame, group: str, reference: str) -> pd.DataFrame:
    """How far the reference's accuracy is above each other method's, paired, in percentage points."""
    own = summary.loc[(summary["group"] == group) & (summary["verdict"] != "")]
    methods = list(dict.fromkeys(own["method"]))
    cells = {(row["method"], row["keep"]): _ahead(row) for row in to_records(own)}
    rows = [
        [f"{100 * keep:.4g} %", *(cells.get((method, keep), "–") for method in methods)]
        for keep in sorted(set(own["keep"]))
    ]
    return pd.DataFrame(rows, columns=["kept", *(f"{named(reference)} against {named(method)}" for method in methods)])


def pruning_page(
    summary: pd.DataFrame,
    metrics: Mapping[str, Any],
    method: str,
    keep: float,
    run: str,
    *,
    has_figure: bool,
    counted: str = UNITS["ffn"],
) -> str:
    """The whole page as Markdown; `counted` is what kept shares are of."""
    seen = summary.iloc[0]
    counts = metrics["images"]
    parts = [
        "# Pruned by neuron paths",
        f"From the paths in `{escape(run)}`. Method: {escape(named(method))}; {100 * keep:.4g}% of the {counted} are "
        f"kept. {seen['n_seeds']} seed(s), each with its own images: {_range(counts['selection'])} select, "
        f"{_range(counts['evaluation'])} others evaluate.",
        markdown_table(cost_table(summary, metrics, method, keep)),
        "The saved model is the first seed's; accuracies are over all seeds and images.",
    ]
    if has_figure:
        parts += ["![Accuracy against kept share](figures/pruning.png)"]
        for group in summary["group"].unique():
            parts += [
                f"## Accuracy in percent, {GROUPS[group]}",
                markdown_table(curve_table(summary, group)),
                f"{escape(named(method))} against the others, in percentage points of accuracy on the same images; it "
                "wins or loses where the interval does not hold 0:",
                markdown_table(verdict_table(summary, group, method)),
            ]
    parts.append(
        "Means with 95 % intervals: seeds and images are redrawn, each on its own. Removed neurons are gone at every "
        "token."
    )
    return "\n\n".join(parts) + "\n"


def named(method: str) -> str:
    """A method for readers.

    >>> named("path+taylor"), named("path_frequency"), named("ffn+heads:taylor")
    ('path, then taylor', 'path frequency', 'taylor (FFN+heads)')
    """
    units, colon, method = method.rpartition(":")
    about = f" ({units.replace('ffn', 'FFN')})" if colon else ""
    return method.replace("+", ", then ").replace("_", " ") + about


def _accuracy(row: Mapping[str, Any]) -> str:
    return mean_cell(*(row[f"accuracy{end}"] for end in ("", "_low", "_high")), sign=False, decimals=1)


def _ahead(row: Mapping[str, Any]) -> str:
    return f"{mean_cell(*(row[f'ahead{end}'] for end in ('', '_low', '_high')), decimals=1)} {row['verdict']}"


def _change(name: str, pair: Mapping[str, float], form: str) -> list[str]:
    change = pair["pruned"] / pair["original"] - 1
    return [
        name,
        form.format(pair["original"]),
        form.format(pair["pruned"]),
        f"{signed(100 * change, 0)} %",
    ]


def _range(counts: list[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"
