"""What `benchmarks.search_speed` has measured, as tables and as a figure: seconds, and ratios to the references."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from benchmarks import weights
from benchmarks.harness import Spread, Table, ratios, spread
from benchmarks.references import DEFAULT, ORACLE, PAPER_NAME, PLAIN, ROOFLINE, RULES
from neuron_path.report.style import BLUE, FAINT, MUTED, VERMILION, axes_in_inches, figure_style, new_figure


def compared(measured: dict[str, Any]) -> dict[str, dict[str, Spread | None]]:
    """For each rule the seconds per image, and the ratios to the references and to random weights."""
    n_images = measured["n_images"]
    seconds = {call: [x / n_images[call] for x in found] for call, found in measured["seconds"].items()}

    def ratio(one: str | None, other: str | None) -> Spread | None:
        return ratios(seconds[one], seconds[other]) if one in seconds and other in seconds else None

    return {
        rule: {
            "per_image": spread(seconds[rule]),
            "faster_than_oracle": ratio(ORACLE, rule),
            "faster_than_plain": ratio(PLAIN[PAPER_NAME], rule),
            "faster_at_equal_nodes": ratio(PLAIN.get(rule), rule),
            "over_roofline": ratio(rule, ROOFLINE) if rule == DEFAULT else None,
            "over_random": ratio(rule, weights.call_of(rule, weights.RANDOM)),
        }
        for rule in RULES
        if rule in seconds
    }


RATIOS = {
    "faster_than_oracle": "faster than the oracle",
    "faster_than_plain": "faster than plain autograd",
    "faster_at_equal_nodes": "faster than plain autograd, equal nodes",
    "over_roofline": "time / roofline",
}


def as_table(values: dict[str, dict[str, Any]]) -> Table:
    """A row for each model and rule."""
    rows = []
    for name, measured in values.items():
        for rule, found in compared(measured).items():
            equal = measured["neurons_equal_to_oracle"].get(rule)
            rows.append(
                [
                    name,
                    weights.nodes_text(rule, measured["mean_nodes"][rule]),
                    *_cells(found),
                    "–" if equal is None else f"{equal} of {measured['neurons']}",
                ]
            )
    return Table(("model", "rule, nodes", "per image", *RATIOS.values(), "the oracle's neurons"), rows)


def as_real_table(measured: dict[str, Any]) -> Table:
    """A row for each rule."""
    rows = []
    for rule, found in compared(measured).items():
        over = found["over_random"]
        assert over is not None
        again = (measured["again"][call] for call in (rule, weights.call_of(rule, weights.RANDOM)))
        rows.append(
            [
                weights.nodes_text(rule, measured["mean_nodes"][rule]),
                *_cells(found),
                over.text(2),
                *(shares.text() for shares in again),
            ]
        )
    told = (
        "time over the same architecture with random weights",
        "again in float64: choices, scores",
        "with random weights: the same",
    )
    return Table(("rule, nodes", "per image", *RATIOS.values(), *told), rows)


def _cells(found: dict[str, Spread | None]) -> list[str]:
    """Seconds per image and RATIOS."""
    per_image = found["per_image"]
    assert per_image is not None
    cells = [per_image.text(2, " s")]
    for key in RATIOS:
        value = found[key]
        units = (2, "") if key == "over_roofline" else (1, "×")
        cells.append("–" if value is None else value.text(*units))
    return cells


def draw(values: dict[str, dict[str, Any]]) -> Figure:
    """Three panels: how many times faster than oracle and plain autograd, and time over the roofline."""
    looks = {PAPER_NAME: (BLUE, "s"), DEFAULT: (VERMILION, "o"), "adaptive": (MUTED, "D")}
    panels = {
        "faster_than_oracle": "times faster than the oracle",
        "faster_than_plain": "… than plain autograd, 20 nodes",
        "over_roofline": "time / roofline (same nodes)",
    }
    height = 0.42 * len(values)
    with figure_style():
        figure = new_figure(7.0, height + 0.95)
        for column, (key, label) in enumerate(panels.items()):
            axes = axes_in_inches(figure, 1.75 + 1.8 * column, 0.5, 1.6, height)
            axes.set_xlabel(label)
            axes.set_ylim(len(values) - 0.5, -0.5)
            axes.set_yticks(range(len(values)), list(values) if column == 0 else [""] * len(values))
            axes.tick_params(axis="y", length=0)
            for row, measured in enumerate(values.values()):
                axes.axhline(row, color=FAINT, linewidth=0.4, zorder=0)
                for rule, found in compared(measured).items():
                    value, (colour, marker) = found[key], looks[rule]
                    if value is None:
                        continue
                    y = row + 0.2 * (list(RULES).index(rule) - 1)
                    axes.plot([value.low, value.high], [y, y], color=colour, linewidth=1.4)
                    axes.plot([value.median], [y], marker, color=colour, markersize=4.5)
            axes.set_xlim(left=0)
            axes.margins(x=0.1)
            axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
            if column == 0:
                for rule in RULES:
                    colour, marker = looks[rule]
                    axes.plot([], [], marker, color=colour, markersize=4.5, label=rule)
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handletextpad=0.2)
    return figure
