"""Small pieces of Markdown, safe for text that comes from data."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def escape(text: object) -> str:
    r"""Keep text from data from becoming Markdown or HTML, on one line.

    >>> escape("a|b <i>\n*x*")
    'a\\|b &lt;i&gt; \\*x\\*'
    """
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*[]|":
        line = line.replace(mark, "\\" + mark)
    return line


def listed(parts: Sequence[str]) -> str:
    """Join as in prose.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def markdown_table(table: pd.DataFrame) -> str:
    """Print a table whose cells are text already."""
    return table.to_markdown(index=False, disable_numparse=True)
