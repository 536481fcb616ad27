"""One look for every figure: type, colours, and how a figure becomes a file.

The colours are Okabe and Ito's, which people with any common colour blindness can tell apart; what they say is said by
shape or length too, so that it survives grey printing. Figures are made with the object-oriented API only (a `Figure`
on an Agg canvas): drawing opens no window, needs no display and leaves pyplot's state alone.
"""

from __future__ import annotations

import io
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError

BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"

INK: Final = "#1A1A1A"
"""Text and the marks that carry the message."""
MUTED: Final = "#5F6670"
"""Axis labels, keys and everything that explains."""
FAINT: Final = "#C9CED6"
"""Axis lines, leaders and frames."""

FONT: Final = "DejaVu Sans"
"""Ships with matplotlib, so a figure looks the same on every machine."""

STYLE: Final[dict[str, Any]] = {
    "font.family": [FONT],
    "font.size": 8.0,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    # Text from data may hold a dollar sign: nothing is mathematics.
    "text.parse_math": False,
    # Letters as wide on any canvas as they are in print, so that measured text fits.
    "text.hinting": "no_hinting",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "neuron_path",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}

_METADATA: Final[dict[str, dict[str, None]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class MethodStyle:
    """How one method looks in every figure: a colour, and a marker that tells it apart in grey."""

    colour: str
    marker: str


_KNOWN_METHODS: Final = {
    "joint_attribution": MethodStyle(VERMILION, "o"),
    "activation": MethodStyle(BLUE, "s"),
    "influence_pattern": MethodStyle(GREEN, "D"),
    "random": MethodStyle(MUTED, "v"),
}
# One after the other differ in both, so that colour alone never tells two of few apart.
_OTHER_METHODS: Final = tuple(
    MethodStyle((PURPLE, ORANGE, SKY, BLACK)[(place + turn) % 4], marker)
    for turn in range(4)
    for place, marker in enumerate("^P<>")
)


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Give each method its look: the main ones always the same, the others in order of appearance.

    >>> method_styles(["random", "joint_attribution"])["joint_attribution"]
    MethodStyle(colour='#D55E00', marker='o')
    """
    others = itertools.cycle(_OTHER_METHODS)
    return {name: _KNOWN_METHODS.get(name) or next(others) for name in dict.fromkeys(names)}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the house style, whatever the user's matplotlibrc says; the settings before are restored."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, `width` × `height` inches, that belongs to no pyplot window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def axes_in_inches(figure: Figure, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes whose box is given in inches from the figure's lower left corner."""
    full_width, full_height = figure.get_size_inches()
    return figure.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height), **options
    )


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    formats: Sequence[str] = ("png", "svg"),
    *,
    dpi: int = 200,
    close: bool = True,
) -> tuple[Path, ...]:
    """Write a figure once per format, each file complete or absent, with the same bytes for the same figure.

    Args:
        figure: the figure to write.
        path: where, with or without one of the suffixes `.png`, `.svg`, `.pdf`; the formats decide what is written.
        formats: some of "png", "svg", "pdf".
        dpi: dots per inch of the PNG (and of pictures inside vector files).
        close: empty the figure afterwards, which frees its memory; False keeps it for another use.

    Returns:
        The files written, in the order of `formats`. Missing folders are made.

    Raises:
        NeuronPathError: a format is not known, or the place cannot be written.
    """
    for name in formats:
        if name not in _METADATA:
            raise NeuronPathError(f"Figures are not written as '{name}'. Known formats: {', '.join(_METADATA)}.")
    stem = Path(path)
    if stem.suffix.lower().lstrip(".") in _METADATA:
        stem = stem.with_suffix("")
    written = []
    with figure_style():
        for name in formats:
            target = stem.with_name(f"{stem.name}.{name}")
            _write(figure, target, name, dpi)
            written.append(target)
    if close:
        figure.clear()
    return tuple(written)


def svg_of(figure: Figure) -> bytes:
    """The figure as the SVG file that `save_figure` writes, without a file."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    return buffer.getvalue()


def _write(figure: Figure, target: Path, name: str, dpi: int) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(partial, format=name, dpi=dpi, metadata=_METADATA[name])
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise NeuronPathError(f"The figure {target} cannot be written: {error.strerror or error}.") from error
