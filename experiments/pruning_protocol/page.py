"""The tables of the paper's pruning protocol, and its published numbers: beside ours only where they compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from neuron_path.report.cells import mean_cell, to_records
from neuron_path.report.markdown import escape, markdown_table
from pruning_protocol.summary import published_numbers

MEASURES: Final = {"accuracy": "accuracy, %", "probability": "mean target probability"}


def ablation_table(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A row for each size of path and masked share, a column for each depth; all cells are text.

    Args:
        summary: of one model and protocol, from `summarise_protocol`.
        measure: a key of `MEASURES`.
    """
    depths = sorted(set(summary["depth"]))
    rows = []
    for _, own in summary.groupby(["top_k", "share"], sort=True):
        records = to_records(own)
        top_k, share = records[0]["top_k"], records[0]["share"]
        cells = {row["depth"]: _cell(row, measure) for row in records}
        shown = "none" if not share else f"{100 * share:.0f} %"
        rows.append([str(top_k), shown, *(cells.get(depth, "–" if share else "") for depth in depths)])
    names = [f"first {depth} blocks" if depth < depths[-1] else f"all {depth} blocks" for depth in depths]
    return pd.DataFrame(rows, columns=["k", "masked", *names])


def published_table() -> pd.DataFrame:
    """The paper's numbers; all cells are text."""
    rows = []
    for row in to_records(published_numbers()):
        whole = pd.isna(row["top_k"])
        rows.append(
            [
                row["model"],
                "–" if whole else str(row["top_k"]),
                "–" if pd.isna(row["depth"]) else str(row["depth"]),
                "none" if not row["share"] else f"{100 * row['share']:.0f} %",
                f"{row['probability']:.4f}",
                str(row["status"]).replace("_", " "),
            ]
        )
    return pd.DataFrame(rows, columns=["model", "k", "depth", "masked", MEASURES["probability"], "known"])


def beside_table(beside: pd.DataFrame) -> pd.DataFrame:
    """The rows of `beside_published` that were measured; all cells are text."""
    rows = []
    for row in to_records(beside.loc[beside["n"] > 0]):
        masked = f"{100 * row['share']:.0f} %" if row["share"] else "none"
        size, depth = ("–" if pd.isna(row[name]) else str(int(row[name])) for name in ("top_k", "depth"))
        paper = f"{row['published']:.3f}" + ("" if row["status"] == "exact" else " (read off)")
        ours = _cell(row, "probability")
        rows.append([row["model"], size, depth, masked, ours, paper, row["verdict"], row["direction"], str(row["n"])])
    names = ["model", "k", "depth", "masked", "ours", "paper", "paper's number", "direction", "n"]
    return pd.DataFrame(rows, columns=names)


def _count(beside: pd.DataFrame) -> str:
    measured = beside.loc[beside["n"] > 0]
    directed = measured.loc[measured["direction"] != ""]
    ours, theirs = (set(table["top_k"].dropna().astype(int)) for table in (measured, beside))
    lacking = ", ".join(map(str, sorted(theirs - ours)))
    return (
        f"Of the {len(beside)} numbers that the paper has of these models, {len(measured)} were measured: "
        f"{(measured['verdict'] == 'within').sum()} lie within our interval, and masking changes the probability to "
        f"the same side in {(directed['direction'] == 'same').sum()} of {len(directed)}."
        + (
            f" The others ask for {f'top_k={lacking} or ' if lacking else ''}other shares and depths."
            if len(measured) < len(beside)
            else ""
        )
    )


def protocol_page(
    summary: pd.DataFrame, published: Mapping[str, str | None], figures: Mapping[str, str], beside: pd.DataFrame
) -> str:
    """The whole page as Markdown.

    Args:
        summary: from `summarise_protocol`.
        published: for each model its name in the paper, or None where model or data are others.
        figures: for each model the file of its figure, relative to the page.
        beside: from `beside_published`.
    """
    parts = ["# The paper's pruning protocol"]
    for _, own in summary.groupby(["model", "protocol"], sort=True):
        model, protocol = str(own["model"].iloc[0]), str(own["protocol"].iloc[0])
        seeds, images = own["n_seeds"].iloc[0], own["n"].iloc[0]
        parts += [
            f"## {escape(model)}, protocol {protocol}",
            f"Means with 95 % intervals over {seeds} seed(s) and {images} images. {_explained(protocol)}",
            f"![What masking does]({figures[model]})",
        ]
        for measure, words in MEASURES.items():
            parts += [f"### {words[:1].upper()}{words[1:]}", markdown_table(ablation_table(own, measure))]
    if len(beside):
        parts += ["## Beside the published numbers", _count(beside), markdown_table(beside_table(beside))]
    if not all(published.values()):
        parts += [
            "## Published, on another model or other data",
            "From Wang et al., ICLR 2025, on ImageNet: not to be compared with the numbers above. Their accuracy is "
            "the mean target probability; some numbers were read off a figure.",
            markdown_table(published_table()),
        ]
    return "\n\n".join(parts) + "\n"


def _explained(protocol: str) -> str:
    if protocol == "corrected":
        return "Images that gave the class paths are not among these; a class path has k distinct neurons."
    return (
        "As the authors do it: of each class one image that gave the class path is evaluated as well, and a class path "
        "may name a neuron twice."
    )


def _cell(row: Mapping[str, Any], measure: str) -> str:
    return mean_cell(*(row[f"{measure}{end}"] for end in ("", "_low", "_high")), sign=False)
