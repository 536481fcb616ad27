"""What a neuron answers to: the images, and the patches over the real image, that activate it most."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.matrix import name_classes
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import FAINT, INK, MUTED, VERMILION, axes_in_inches, figure_style, new_figure
from neuron_path.report.text import printable, shorten, wrap
from neuron_path.store.evidence import PATCHES_ARE, thumbnails_of

_EDGE: Final = 0.12
_SIDE: Final = 1.05
_GAP: Final = 0.16
_ABOVE: Final = 0.18
_BELOW: Final = 0.3
_ROW_TITLE: Final = 0.17
_TITLE: Final = 0.36
_LEAST: Final = 3.6
_SMALL: Final = 64
_NOTE: Final = 6.5
_LEADING: Final = 0.12
_COLUMNS: Final = (
    "block",
    "neuron",
    "kind",
    "rank",
    "sample_id",
    "activation",
    "patch_activation",
    "left",
    "thumbnail",
)
_TITLES: Final = {"image": "images by the activation in scope", "patch": PATCHES_ARE}


def neuron_evidence_figure(
    evidence: pd.DataFrame,
    block: int,
    neuron: int,
    *,
    classes: pd.DataFrame | None = None,
    class_names: ClassNames | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw the images that activate a neuron most, and its strongest patches, outlined on the image that holds them.

    Above each picture stands the activation that it is ranked by, beneath it the image's name. Patches are those of the
    same neuron at patch tokens; in scope ``cls`` the path counts its activation at the class token.

    Args:
        evidence: a whole table, as :func:`neuron_path.store.evidence.load_evidence` returns it.
        block: 0 … L − 1.
        neuron: one that the table covers.
        classes: the classes whose paths the neuron is on, ``class`` and ``frequency``, as
            :func:`neuron_path.classes.neurons.neuron_classes` lists them; the first six are named beneath.
        class_names: names of classes by index.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, the table has nothing of this neuron, or no such units.
    """
    if missing := [name for name in _COLUMNS if name not in evidence.columns]:
        raise NeuronPathError(
            f"The table of evidence lacks the column(s) {', '.join(missing)}; give load_evidence(DIR)."
        )
    own = evidence.loc[(evidence["block"] == block) & (evidence["neuron"] == neuron)]
    if not len(own):
        raise NeuronPathError(
            f"The table of evidence has nothing of neuron {neuron} of block {block}: it covers the neurons on paths, "
            "of each block the most used."
        )
    files = thumbnails_of(evidence)
    pictures = {name: _pixels(files[name]) for name in own["sample_id"].unique() if name in files}
    with figure_style():
        return _draw(own, block, neuron, unit_of(units), pictures, _on_paths(classes, class_names))


def _pixels(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"))


def _on_paths(classes: pd.DataFrame | None, names: ClassNames | None) -> str:
    if classes is None:
        return ""
    if not len(classes):
        return "It is on no path of these images."
    first = classes.iloc[:6]
    words = name_classes(first["class"].to_numpy(), names)
    named = [f"{word} ({100 * share:.0f} %)" for word, share in zip(words, first["frequency"].tolist(), strict=True)]
    more = f" and {len(classes) - 6} more" if len(classes) > 6 else ""
    return f"On the paths of (share of the class's images): {', '.join(named)}{more}."


def _draw(
    own: pd.DataFrame, block: int, neuron: int, unit: str, pictures: Mapping[str, np.ndarray], note: str
) -> Figure:
    counts = Counter(own["kind"].tolist())
    kinds = [kind for kind in _TITLES if counts[kind]]
    n_columns = max(counts.values())
    tallest = max((_shape(picture)[0] for picture in pictures.values()), default=_SIDE)
    row = _ROW_TITLE + _ABOVE + tallest + _BELOW
    width = max(2 * _EDGE + n_columns * (_SIDE + _GAP) - _GAP, _LEAST)
    lines = wrap(note, width - 2 * _EDGE, _NOTE, lines=3) if note else []
    foot = 0.06 + _LEADING * len(lines)
    figure = new_figure(width, foot + len(kinds) * row + _TITLE)
    height = figure.get_figheight()
    for place, kind in enumerate(kinds):
        upper = height - _TITLE - place * row
        rows = own.loc[own["kind"] == kind].sort_values("rank")
        title = _TITLES[kind].replace("neuron", unit)
        figure.text(_EDGE / width, (upper - 0.02) / height, title, fontsize=7.5, color=MUTED, va="top")
        for column, record in enumerate(rows.to_dict("records")):
            left = _EDGE + column * (_SIDE + _GAP)
            _draw_one(figure, left, upper - _ROW_TITLE - _ABOVE, record, pictures.get(str(record["sample_id"])))
    figure.text(
        _EDGE / width,
        1 - 0.08 / height,
        f"Block {block}, {unit} {neuron}: what activates it most",
        fontsize=9,
        fontweight="bold",
        va="top",
    )
    for place, line in enumerate(reversed(lines)):
        figure.text(_EDGE / width, (0.06 + _LEADING * place) / height, line, fontsize=_NOTE, color=MUTED)
    return figure


def _shape(picture: np.ndarray) -> tuple[float, float]:
    """Height and width on paper, inches."""
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    return height * scale, width * scale


def _draw_one(figure: Figure, left: float, top: float, record: Mapping[Any, Any], picture: np.ndarray | None) -> None:
    right, up = 1 / figure.get_size_inches()
    value = record["activation"] if record["kind"] == "image" else record["patch_activation"]
    figure.text(left * right, (top + 0.04) * up, f"{value:.3g}".replace("-", "−"), fontsize=7, color=INK)
    height, width = (_SIDE, _SIDE) if picture is None else _shape(picture)
    axes = axes_in_inches(figure, left, top - height, width, height)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=FAINT)
    if picture is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=7, color=MUTED)
    else:
        smooth = "none" if max(picture.shape[:2]) <= _SMALL else "antialiased"
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=smooth, aspect="auto", extent=(0, 1, 1, 0))
        if record["kind"] == "patch" and pd.notna(record["left"]):
            _outline(axes, record)
    name = printable(str(record["sample_id"]))
    shown = shorten(name, _SIDE, 6.5, keep="end")
    figure.text(left * right, (top - height - 0.13) * up, shown, fontsize=6.5, color=MUTED)


def _outline(axes: Axes, record: Mapping[Any, Any]) -> None:
    """The patch's box, in white below the colour, so that it stands out on any picture."""
    corner = float(record["left"]), float(record["top"])
    size = float(record["right"]) - corner[0], float(record["bottom"]) - corner[1]
    for colour, line in (("white", 3.2), (VERMILION, 1.6)):
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=line, clip_on=False, zorder=3))
