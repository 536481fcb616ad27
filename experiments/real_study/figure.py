"""The study in figures: what edits of the paths do, what the neurons answer to, what small circuits keep."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from neuron_path.report.style import (
    INK,
    MUTED,
    VERMILION,
    MethodStyle,
    axes_in_inches,
    figure_style,
    method_styles,
    new_figure,
)
from real_study.methods import METHODS

_EDITS: Final = {
    "remove": "removed",
    "flipped": "removed from the\nflipped picture",
    "mean_ablation": "set to the mean",
    "resample_ablation": "set to another\npicture's",
    "enhance": "doubled",
}
_LABELS: Final = 2.05
_PANEL: Final = 1.12
_GAP: Final = 0.16
_LINE: Final = 0.19
_SIZE_GAP: Final = 0.3
_AROUND: Final = 0.02  # between a patch and the line around it, share of the picture
_LEAST: Final = 5  # photographs of a class of which a share is told


def effects_figure(effects: pd.DataFrame) -> Figure:
    """Mean change of the target's probability by method, edit (columns) and size (rows of panels), with intervals.

    Args:
        effects: from `effects_table`.
    """
    own = effects.loc[(effects["measure"] == "probability") & (effects["group"] == "right")]
    sizes = sorted(set(own["k"]))
    methods = {k: [name for name in METHODS if name in set(own.loc[own["k"] == k, "method"])] for k in sizes}
    styles = method_styles(METHODS)
    heights = {k: _LINE * len(methods[k]) for k in sizes}
    height = 0.5 + 0.55 + sum(heights.values()) + _SIZE_GAP * (len(sizes) - 1)
    width = _LABELS + len(_EDITS) * (_PANEL + _GAP) + 0.1
    with figure_style():
        figure = new_figure(width, height)
        top = height - 0.55
        for k in sizes:
            bottom = top - heights[k]
            for place, (edit, words) in enumerate(_EDITS.items()):
                axes = axes_in_inches(figure, _LABELS + place * (_PANEL + _GAP), bottom, _PANEL, heights[k])
                rows = own.loc[(own["k"] == k) & (own["edit"] == edit)].set_index("method")
                for line, name in enumerate(methods[k]):
                    _mark(axes, rows.loc[name], line, styles[name])
                axes.axvline(0, color=MUTED, linewidth=0.6, zorder=1)
                axes.set_ylim(len(methods[k]) - 0.4, -0.6)
                labels = [METHODS[name].label for name in methods[k]] if place == 0 else []
                axes.set_yticks(range(len(methods[k])) if labels else [], labels)
                axes.tick_params(axis="y", length=0, labelcolor=INK)
                axes.grid(axis="x", linewidth=0.4, color="#E4E7EB")
                axes.locator_params(axis="x", nbins=4)
                if k == sizes[0]:
                    axes.set_title(words, fontsize=7.5)
                if place == 0:
                    figure.text(0.1 / width, (top - 0.02) / height, f"k = {k}", fontsize=8, weight="bold", va="bottom")
            top = bottom - _SIZE_GAP
        n = ", ".join(f"{own.loc[own['k'] == k, 'n'].iloc[0]} at k = {k}" for k in sizes)
        note = f"Change of the target's probability, %: mean, 95 % interval over rightly classified photographs ({n})."
        figure.text(0.1 / width, 0.12 / height, note, fontsize=6.5, color=MUTED)
    return figure


def _mark(axes: object, row: pd.Series, line: int, look: MethodStyle) -> None:
    spread = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
    axes.errorbar(  # pyright: ignore[reportAttributeAccessIssue]
        [row["mean"]],
        [line],
        xerr=np.abs(np.nan_to_num(spread)),
        color=look.colour,
        marker=look.marker,
        markersize=3.6,
        elinewidth=1.0,
        zorder=3,
    )


def evidence_figure(evidence: pd.DataFrame, sheet: Image.Image) -> Figure:
    """The patches that activate the neurons on most paths most, each outlined in its photograph.

    Args:
        evidence, sheet: from `evidence_table`.
    """
    side, gap, line, columns = 0.66, 0.04, 1.0, 2
    n_units, n_patches = (int(evidence[name].to_numpy().max()) + 1 for name in ("line", "rank"))
    n_lines, pixels = -(-n_units // columns), np.asarray(sheet)
    size = pixels.shape[1] // n_patches
    column = n_patches * (side + gap) + 0.12
    with figure_style():
        figure = new_figure(columns * column, n_lines * line)
        width, height = figure.get_size_inches()
        for row in evidence.to_dict("records"):
            place, rank = row["line"], row["rank"]
            left = 0.06 + (place // n_lines) * column + rank * (side + gap)
            top = height - 0.22 - (place % n_lines) * line
            axes = axes_in_inches(figure, left, top - side, side, side)
            axes.set_axis_off()
            tile = pixels[place * size : (place + 1) * size, rank * size : (rank + 1) * size]
            axes.imshow(tile, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
            for colour, thickness in (("white", 2.2), (VERMILION, 1.1)):
                left_edge, top_edge = row["left"] - _AROUND, row["top"] - _AROUND
                box_size = row["right"] + _AROUND - left_edge, row["bottom"] + _AROUND - top_edge
                box = Rectangle((left_edge, top_edge), *box_size, fill=False, edgecolor=colour, linewidth=thickness)
                axes.add_patch(box)
            if not rank:
                words = f"block {row['block']}, neuron {row['neuron']}: on {row['uses']} of {row['n']} paths"
                if row["class_n"] >= _LEAST:
                    words += f", {row['of_class']} of {row['class_n']} of {row['class']}"
                figure.text(left / width, (top + 0.05) / height, words, fontsize=6.5, color=INK)
    return figure


def circuits_figure(curve: pd.DataFrame) -> Figure:
    """Faithfulness against the share of each block's neurons that is kept.

    Args:
        curve: from `circuits_table`.
    """
    styles = method_styles(METHODS)
    with figure_style():
        figure = new_figure(7.2, 3.1)
        axes = axes_in_inches(figure, 0.6, 0.75, 3.7, 2.2)
        for name in dict.fromkeys(curve["method"]):
            own = curve.loc[(curve["method"] == name) & (curve["size"] > 0)]
            look = styles[str(name)]
            label = METHODS[str(name)].label
            axes.plot(
                own["share"],
                own["faithfulness"],
                color=look.colour,
                marker=look.marker,
                markersize=3.4,
                linewidth=1.1,
                label=label,
                zorder=3,
            )
            axes.fill_between(own["share"], own["low"], own["high"], color=look.colour, alpha=0.12, linewidth=0)
        for height in (0, 1):
            axes.axhline(height, color=MUTED, linewidth=0.6, linestyle=(0, (4, 2)), zorder=1)
        lines = curve.loc[curve["size"] > 0, "faithfulness"]
        room = max(1.0, float(lines.max() - lines.min()) / 2)  # a ratio of small means has intervals of any width
        axes.set_ylim(min(0.0, float(lines.min())) - room, max(1.0, float(lines.max())) + room)
        axes.set_xscale("log")
        axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "all"])
        axes.set_xlabel("share of each block's neurons kept, the others another picture's")
        axes.set_ylabel("faithfulness")
        axes.grid(axis="y", linewidth=0.4, color="#E4E7EB")
        axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.02), borderaxespad=0)
        n = curve["n"].iloc[0]
        note = f"Of the target's lead over the next class; n = {n}, 95 % intervals shaded, cut where they are wide."
        figure.text(0.05, 0.04, note, fontsize=6.5, color=MUTED)
    return figure
