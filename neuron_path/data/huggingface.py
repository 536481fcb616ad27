"""Data sets in the format of Hugging Face's `datasets`, from a folder or from its hub; an optional dependency."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from torch import Tensor

from neuron_path.data.labels import Classes, KnownClasses, number_classes, numbered
from neuron_path.data.pictures import PictureDataset
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.progress import hushed

AUTO = "auto"
"""The column that is of the kind that is looked for."""


class HuggingFaceDataset(PictureDataset):
    """A split of a data set with a column of images, named SPLIT/ROW or by a column of names.

    Args:
        root: a folder written by `save_to_disk`, any folder that `load_dataset` reads, or a name on the hub.
        transform, preprocessing: as for `PictureDataset`.
        split: its name.
        subset: the configuration's name, of data sets that have several.
        image_column: its name; "auto" is the one column of images.
        label_column: its name; "auto" is the one column of class labels, or the one named `label`. None, or labels that
            are all −1, is a data set without labels.
        id_column: a column of names that are all different; None numbers the rows as they are stored.
        class_index, known: how classes are numbered, where their column has no order of its own or is to have another;
            see `neuron_path.data.labels.number_classes`.
        classes, limit: as for `ImageFolderDataset`.

    Raises:
        NeuronPathError: without `datasets`, no such data set or split, no such column, or some images without a label.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Image.Image], Tensor],
        *,
        preprocessing: Mapping[str, Any],
        split: str,
        subset: str | None = None,
        image_column: str = AUTO,
        label_column: str | None = AUTO,
        id_column: str | None = None,
        class_index: str | Path | None = None,
        known: KnownClasses | None = None,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(transform, preprocessing)
        rows = _open(str(root), subset, split)
        self._column = _image_column(rows, image_column)
        names = _names(rows, split, id_column)
        column = _label_column(rows) if label_column == AUTO else label_column
        keys, numbering = _labels(rows, column, class_index, known)
        self._rows = rows.select_columns([self._column]).cast_column(self._column, _library().Image(decode=False))
        self._places = self._take(names, keys, numbering, only=classes, limit=limit, where=f"'{root}'")

    def _source(self, index: int) -> Path | BinaryIO:
        held = self._rows[self._places[index]][self._column]
        if held is None:
            raise ValueError("the row holds no image")
        return io.BytesIO(held["bytes"]) if held["bytes"] is not None else Path(held["path"])


def _open(root: str, subset: str | None, split: str) -> Any:
    """The split's rows, by position."""
    datasets = _library()
    path = Path(root).expanduser()
    is_saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    if not path.exists() and root.startswith(("/", ".", "~")):
        raise NeuronPathError(f"There is no folder '{root}': expected a data set, or its name on the Hugging Face hub.")
    try:
        with _quiet(datasets):
            if not is_saved:
                return datasets.load_dataset(str(path) if path.exists() else root, subset, split=split)
            held = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a reader of files or the network makes of it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NeuronPathError(f"The data set '{root}' cannot be loaded ({reason.rstrip('.')}).") from error
    if isinstance(held, datasets.DatasetDict):
        if split not in held:
            raise unknown_name(f"split of the data set '{root}' (data.split)", split, [str(name) for name in held])
        return held[split]
    return held


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise NeuronPathError(
            "Hugging Face's datasets is not installed: pip install 'neuron-path[huggingface]'."
        ) from error
    return datasets


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep its progress bars off the screen, and how often the hub was asked."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with hushed("huggingface_hub"):
            yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _names(rows: Any, split: str, id_column: str | None) -> list[str]:
    if id_column is None:
        return [f"{split}/{row:08d}" for row in range(len(rows))]
    names = [str(name) for name in _values(rows, id_column, "data.id_column")]
    if len(set(names)) < len(names):
        raise NeuronPathError(
            f"The column '{id_column}' holds names twice: expected another for each image; data.id_column=null numbers "
            "them."
        )
    return names


def _labels(
    rows: Any, column: str | None, class_index: str | Path | None, known: KnownClasses | None
) -> tuple[Sequence[str | None], Classes]:
    """The class key of each image, and the classes."""
    if column is None:
        return [None] * len(rows), Classes()
    values = _values(rows, column, "data.label_column")
    n_lacking = sum(value is None or value == -1 for value in values)
    if n_lacking == len(values):
        return [None] * len(rows), Classes()
    if n_lacking:
        raise NeuronPathError(
            f"{n_lacking} of {len(values)} images have no '{column}': expected a label for each, or for none; "
            "data.label_column=null leaves all unlabelled."
        )
    if any(isinstance(value, list) for value in values):
        raise NeuronPathError(
            f"The column '{column}' holds several labels for an image: name a column of single ones with "
            "data.label_column=NAME, or data.label_column=null leaves all unlabelled."
        )
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        raise NeuronPathError(
            f"The column '{column}' holds no labels: expected class indices or names; data.label_column=null leaves "
            "all unlabelled."
        )
    feature = rows.features[column]
    if isinstance(feature, _library().ClassLabel):
        return _own_classes(list(feature.names), values, class_index, known)
    keys = [str(value) for value in values]
    classes = numbered(keys) if class_index is None and isinstance(values[0], int) else None
    if classes is None and class_index is None and isinstance(values[0], int):
        raise NeuronPathError(
            f"The column '{column}' holds no class indices: they begin at 0, and −1 is none; data.label_column=null "
            "leaves all unlabelled."
        )
    return keys, classes or number_classes(keys, class_index=class_index, known=known)


def _own_classes(
    names: list[str], values: list[int], class_index: str | Path | None, known: KnownClasses | None
) -> tuple[Sequence[str | None], Classes]:
    """The same for a column that has names for its numbers, which are all classes, also those without an image."""
    keys = [names[value] for value in values]
    if class_index is not None:
        return keys, number_classes(keys, class_index=class_index)
    classes = known(names) if known is not None else None
    return keys, Classes(*classes) if classes else Classes({name: place for place, name in enumerate(names)}, names)


def _values(rows: Any, column: str, setting: str) -> list[Any]:
    if column not in rows.column_names:
        raise NeuronPathError(
            f"The data set has no column '{column}' ({setting}). Columns: {', '.join(rows.column_names)}."
        )
    return rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()


def _image_column(rows: Any, column: str) -> str:
    """The column of images that is named, or the only one."""
    images = [name for name, feature in rows.features.items() if isinstance(feature, _library().Image)]
    binary = [name for name, feature in rows.features.items() if getattr(feature, "dtype", None) == "binary"]
    if column == AUTO:
        found = images or binary
        if len(found) != 1:
            held = f"has several columns of images ({', '.join(found)})" if found else "has no column of images"
            raise NeuronPathError(
                f"The data set {held}: name one with data.image_column={(found or ['NAME'])[0]}. Columns: "
                f"{', '.join(rows.column_names)}."
            )
        return found[0]
    if column not in rows.column_names:
        raise NeuronPathError(
            f"The data set has no column '{column}' (data.image_column). Columns: {', '.join(rows.column_names)}."
        )
    if column not in (*images, *binary):
        usual = next(iter([*images, *binary]), "NAME")
        raise NeuronPathError(
            f"The column '{column}' holds no images: name one that does, as data.image_column={usual}."
        )
    return column


def _label_column(rows: Any) -> str:
    """The only column of class labels; without one, the column named label."""
    found = [name for name, feature in rows.features.items() if isinstance(feature, _library().ClassLabel)]
    if not found and "label" in rows.column_names:
        return "label"
    if len(found) != 1:
        held = f"several columns of labels ({', '.join(found)})" if found else "no column of labels"
        raise NeuronPathError(
            f"The data set has {held}: name one with data.label_column={(found or ['NAME'])[0]}, or "
            f"data.label_column=null leaves all unlabelled. Columns: {', '.join(rows.column_names)}."
        )
    return found[0]
