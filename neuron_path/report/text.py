"""Text from data made safe to draw, and cut to the room there is for it."""

from __future__ import annotations

import functools

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from neuron_path.report.style import FONT


@functools.cache
def _known_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def printable(text: object) -> str:
    """Make any text from data safe to draw: one line, no control characters, nothing that the font lacks.

    >>> printable("train/cat\\n.png")
    'train/cat .png'
    """
    known = _known_characters()
    shown = (c for c in " ".join(str(text).split()) if c.isprintable())
    return "".join(c if ord(c) in known else "\N{WHITE SQUARE}" for c in shown)


def text_width(text: str, size: float) -> float:
    """Width of a line of text in inches, at `size` points."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=FONT, size=size), ismath=False)
    return float(width) / 72


def shorten(text: str, width: float, size: float, *, keep: str = "start") -> str:
    """Cut text to fit in `width` inches at `size` points; an ellipsis stands for what is cut.

    `keep` is the end that survives, "start" or "end" (file names say most at their end).

    >>> shorten("n01440764/ILSVRC_0001.JPEG", 1.0, 8, keep="end")
    '…VRC_0001.JPEG'
    """
    if text_width(text, size) <= width:
        return text
    kept = text
    while kept and text_width(kept + "…", size) > width:
        kept = kept[1:] if keep == "end" else kept[:-1]
    return "…" + kept.lstrip() if keep == "end" else kept.rstrip() + "…"


def wrap(text: str, width: float, size: float, *, lines: int) -> list[str]:
    """Break text between words into at most `lines` lines of `width` inches at `size` points, the last one shortened.

    >>> wrap("great white shark", 0.7, 8, lines=2)
    ['great white', 'shark']
    """
    words, wrapped = text.split(), []
    while words and len(wrapped) < lines - 1:
        n_words = 1
        while n_words < len(words) and text_width(" ".join(words[: n_words + 1]), size) <= width:
            n_words += 1
        wrapped.append(" ".join(words[:n_words]))
        words = words[n_words:]
    return [shorten(line, width, size) for line in [*wrapped, " ".join(words)] if line]
