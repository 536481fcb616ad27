"""What a notebook shows of results: HTML that stands on its own."""

from __future__ import annotations

import base64
import html
from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from neuron_path.report.style import svg_of

_SHOWN: Final = 5


def paths_as_html(paths: pd.DataFrame, title: str) -> str:
    """The paths of the first images as a small table.

    Args:
        paths: as `PathResult.to_frame` makes it.
        title: what it is, above the table.
    """
    columns = ["target", "prediction", "target_probability", "score"]
    shown = paths[paths["image"] < _SHOWN]
    table = shown.groupby("image")[columns].first().reset_index()
    slots = shown.groupby(["image", "block"])["neuron"].agg(lambda neurons: "/".join(map(str, neurons)))
    table["path"] = slots.groupby("image").agg(" ".join).to_numpy()
    with pd.option_context("display.max_colwidth", None):
        body = table.to_html(index=False, border=0, float_format="{:.3g}".format)
    n_left = len(set(paths["image"])) - len(table)
    more = f"<p>and {n_left} more: <code>to_frame()</code> has them all</p>" if n_left else ""
    return f"<p>{html.escape(title, quote=False)}</p>{body}{more}"


def figure_as_html(figure: Figure, description: str) -> str:
    """A figure as an image that holds its own SVG, so that nothing in it meets the names or styles of the page.

    Args:
        figure: from any of `neuron_path.report.figures`.
        description: for who cannot see it.
    """
    content = base64.b64encode(svg_of(figure)).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{content}" style="max-width: 100%">'
