"""Any folder of pictures: one sub-folder per class, or a flat folder, with labels from a CSV or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from sys import intern
from typing import Any

from PIL import Image
from torch import Tensor

from neuron_path.data.labels import KnownClasses, number_classes, numbered, read_labels
from neuron_path.data.listing import list_files
from neuron_path.data.pictures import PictureDataset
from neuron_path.errors import NeuronPathError


class ImageFolderDataset(PictureDataset):
    """The pictures below a folder, named by their relative path, in the order of those names.

    With sub-folders, each is a class; pictures directly in the folder have no label. Hidden files are left out; any
    other file must be a picture.

    Args:
        root: the folder.
        transform, preprocessing: as for `PictureDataset`.
        class_index, known: how classes are numbered; see `neuron_path.data.labels.number_classes`.
        labels: CSV with the columns file and class, which goes before the folders.
        classes: names of the classes to take, or of their folders; None takes all.
        limit: at most so many pictures, spread evenly; None takes all.
        cache: whether the listing of a large folder is remembered; see `neuron_path.data.listing.list_files`.

    Raises:
        NeuronPathError: no such folder, no files, pictures beside class folders, bad labels or class index.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Image.Image], Tensor],
        *,
        preprocessing: Mapping[str, Any],
        class_index: str | Path | None = None,
        labels: str | Path | None = None,
        known: KnownClasses | None = None,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
        cache: bool = True,
    ) -> None:
        super().__init__(transform, preprocessing)
        self.root = Path(root).expanduser()
        files = list_files(self.root, cached=cache)
        if not files:
            raise NeuronPathError(f"Folder '{self.root}' is empty: expected pictures, or class folders with pictures.")
        index_file = None if class_index is None else Path(class_index).expanduser()
        if labels is None:
            keys = _folder_keys(files, self.root)
            own = None
        else:
            keys = read_labels(Path(labels).expanduser(), files)
            own = numbered(keys) if index_file is None else None
        numbering = own or number_classes(keys, class_index=index_file, known=known)
        self._take(files, keys, numbering, only=classes, limit=limit, where=f"Folder '{self.root}'")

    def _source(self, index: int) -> Path:
        file = self.root / self.sample_ids[index]
        if not S_ISREG(file.stat().st_mode):  # a pipe would be waited for, and for ever
            raise ValueError("it is no ordinary file")
        return file


def _folder_keys(files: Sequence[str], root: Path) -> list[str | None]:
    """The class folder of each file; None for all files of a flat folder."""
    keys = [intern(folder) if inside else None for folder, inside, _ in (file.partition("/") for file in files)]
    n_flat = keys.count(None)
    if 0 < n_flat < len(keys):
        raise NeuronPathError(
            f"Folder '{root}' holds both class folders and the file '{files[keys.index(None)]}' beside them: expected "
            "one or the other; move the file."
        )
    return keys
