"""Any folder of pictures: one sub-folder per class, or a flat folder without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from neuron_path.data.part import choose_part
from neuron_path.errors import NeuronPathError

ON_ERROR = ("raise", "skip")


class FolderItem(TypedDict):
    """One picture; `image` is None, and `problem` says why, where its file cannot be decoded."""

    image: Tensor | None
    label: int | None
    sample_id: str
    problem: str | None


class ImageFolderDataset(Dataset[FolderItem]):
    """The pictures below a folder, named by their relative path, in the order of those names.

    With sub-folders, each is a class, and classes are numbered in the order of their names (as for ImageNet's);
    pictures directly in the folder have no label. Hidden files are left out; any other file must be a picture.

    Args:
        root: the folder.
        transform: from a picture to the model's input.
        preprocessing: what the transform does, in values that JSON can hold.
        class_index: JSON file {folder name: class index}, where the folders are not all the model's classes in order.
        classes: names of the classes to take; None takes all.
        limit: at most so many pictures, spread evenly; None takes all.

    Attributes:
        labels, sample_ids: of the pictures taken.
        classes: class names by index; empty for a flat folder.
        preprocessing: as given.

    Raises:
        NeuronPathError: no such folder, no files, pictures beside class folders, a bad class index.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Image.Image], Tensor],
        *,
        preprocessing: Mapping[str, Any],
        class_index: str | Path | None = None,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.preprocessing = dict(preprocessing)
        self._transform = transform
        files, folders = _scan(self.root)
        numbers = {folder: number for number, folder in enumerate(folders)}
        if class_index is not None:
            numbers = _read_class_index(Path(class_index).expanduser(), folders)
        by_number = {number: folder for folder, number in numbers.items()}
        self.classes = [by_number.get(number, str(number)) for number in range(max(by_number, default=-1) + 1)]
        labels = [numbers.get(file.split("/")[0]) if folders else None for file in files]
        part = choose_part(labels, self.classes, only=classes, limit=limit)
        if not part:
            raise NeuronPathError(f"Folder '{self.root}' holds no picture of the classes {list(classes or [])}.")
        self.sample_ids = [files[index] for index in part]
        self.labels = [labels[index] for index in part]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, index: int) -> FolderItem:
        name, label = self.sample_ids[index], self.labels[index]
        picture = self._open(name, decode=True)
        if isinstance(picture, str):
            return FolderItem(image=None, label=label, sample_id=name, problem=picture)
        return FolderItem(image=self._transform(picture), label=label, sample_id=name, problem=None)

    def check(self) -> None:
        """Raise a NeuronPathError that names the first file which is no picture, by the headers alone."""
        for name in self.sample_ids:
            problem = self._open(name, decode=False)
            if isinstance(problem, str):
                raise unreadable(name, problem)

    def _open(self, name: str, *, decode: bool) -> Image.Image | str:
        """A picture, or why there is none."""
        try:
            with Image.open(self.root / name) as picture:
                if decode:
                    picture.load()
                return picture
        except Exception as error:  # damaged files make the decoders raise anything
            return " ".join(str(error).split()) or type(error).__name__


def unreadable(name: str, reason: str) -> NeuronPathError:
    """The error for a file that is no picture."""
    return NeuronPathError(
        f"File '{name}' is no image that can be read ({reason}): mend or remove it, or set data.on_error=skip."
    )


def _scan(root: Path) -> tuple[list[str], list[str]]:
    """All visible files below the folder as sorted relative names, and the class folders."""
    if not root.is_dir():
        raise NeuronPathError(f"No image folder '{root}': expected a folder of pictures or of class folders.")
    files = []
    for directory, folders, names in os.walk(root, followlinks=True, onerror=_unlistable):
        visible = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in visible if not _leads_back(Path(directory, name)))
        relative = Path(directory).relative_to(root)
        files += [(relative / name).as_posix() for name in names if not name.startswith(".")]
    folders = sorted({name.split("/")[0] for name in files if "/" in name})
    flat = [name for name in files if "/" not in name]
    if not files:
        raise NeuronPathError(f"Folder '{root}' is empty: expected pictures, or class folders with pictures.")
    if odd := [name for name in files if not _is_text(name)]:
        raise NeuronPathError(f"File name {odd[0]!r} in folder '{root}' is not UTF-8: rename it.")
    if folders and flat:
        raise NeuronPathError(
            f"Folder '{root}' holds both class folders and the file '{sorted(flat)[0]}' beside them: expected one or "
            "the other; move the file."
        )
    return sorted(files), folders


def _is_text(name: str) -> bool:
    """Whether a name can be stored: a byte that is no UTF-8 reaches Python as half a character."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def _unlistable(error: OSError) -> None:
    raise NeuronPathError(f"Folder '{error.filename}' cannot be listed: {error.strerror}.") from error


def _leads_back(folder: Path) -> bool:
    """Whether a link leads to a folder that it was reached through, round and round."""
    return folder.is_symlink() and folder.resolve() in [parent.resolve() for parent in folder.absolute().parents]


def _read_class_index(file: Path, folders: Sequence[str]) -> dict[str, int]:
    try:
        numbers = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NeuronPathError(f"Class index '{file}' cannot be read: {error}.") from error
    if not isinstance(numbers, dict) or not all(isinstance(n, int) and n >= 0 for n in numbers.values()):
        raise NeuronPathError(f"Class index '{file}' must map folder names to class indices, as in {{\"cat\": 0}}.")
    if absent := [folder for folder in folders if folder not in numbers]:
        raise NeuronPathError(f"Class index '{file}' lacks the folder '{absent[0]}' ({len(absent)} in all).")
    return {folder: numbers[folder] for folder in folders}
