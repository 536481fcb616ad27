"""The folder `figures` of a run: each figure as PNG and SVG, with the data behind it as CSV, and a list of captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_json, write_text
from neuron_path.store.reader import read_json

FOLDER: Final = "figures"
_LIST: Final = "figures.json"
_DIGITS: Final = "%.9g"


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure in the folder.

    Attributes:
        name: of its files, without a suffix.
        caption: what it shows.
    """

    name: str
    caption: str


def keep_figure(run_dir: Path, name: str, figure: Figure, caption: str, data: pd.DataFrame) -> Entry:
    """Write a figure and the data behind it.

    Args:
        run_dir: a run directory.
        name: of the files.
        figure: emptied afterwards.
        caption: what it shows.
        data: what is drawn, as a table.

    Raises:
        NeuronPathError: when a file cannot be written.
    """
    place = run_dir / FOLDER / name
    save_figure(figure, place)
    text = data.to_csv(index=False, float_format=_DIGITS, lineterminator="\n")
    write_text(place.with_name(f"{name}.csv"), text)
    return Entry(name, caption)


def list_figures(run_dir: Path, entries: Sequence[Entry] = ()) -> list[Entry]:
    """Return the figures of a run, and enter new ones: they come after those that were there, or take their place.

    Raises:
        NeuronPathError: for a list that is torn, or that cannot be written.
    """
    file = run_dir / FOLDER / _LIST
    held = read_json(file).get("figures", [])
    try:
        known = [Entry(str(entry["name"]), str(entry["caption"])) for entry in held]
    except (TypeError, KeyError) as error:
        raise NeuronPathError(f"'{file}' is no list of figures: remove it, and draw them again.") from error
    names = {entry.name for entry in entries}
    kept = [entry for entry in known if entry.name not in names and _has_picture(run_dir, entry.name)]
    if entries:
        write_json(file, {"figures": [asdict(entry) for entry in [*kept, *entries]]})
    return [*kept, *entries]


def _has_picture(run_dir: Path, name: str) -> bool:
    """Whether it is one of the folder's own files: a list from elsewhere must not read others."""
    return Path(name).name == name and (run_dir / FOLDER / f"{name}.png").is_file()
