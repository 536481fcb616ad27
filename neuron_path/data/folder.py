"""Any folder of pictures: one sub-folder per class, or a flat folder, with labels from a CSV or without."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from os.path import commonpath, dirname
from pathlib import Path
from stat import S_ISREG
from sys import intern
from typing import Any

from PIL import Image
from torch import Tensor

from neuron_path.data.label_files import read_labels
from neuron_path.data.labels import KnownClasses, number_classes, numbered
from neuron_path.data.listing import list_files
from neuron_path.data.pictures import ENDINGS, PictureDataset
from neuron_path.errors import NeuronPathError

_SPLIT = re.compile(
    r"(train|training|val|valid|validation|eval|dev|test|testing|unlabell?ed)([-_ ]?(\d{4}|set|images))?|fold[-_ ]?\d+",
    re.IGNORECASE,
)
_MEASURED = ("val", "test", "eval", "dev", "train")  # the sooner the better


class ImageFolderDataset(PictureDataset):
    """The pictures below a folder, named by their relative path, in the order of those names.

    With sub-folders, each is a class; pictures directly in the folder have no label. Hidden files are left out, and so
    are files with an ending that is no picture's, which one warning counts; any other file must be a picture.

    Args:
        root: the folder.
        transform, preprocessing: as for `PictureDataset`.
        class_index, known: how classes are numbered; see `neuron_path.data.labels.number_classes`.
        labels: table of files and classes, which goes before the folders; see `neuron_path.data.label_files`.
        labels_only: whether pictures that it lacks are left out.
        each_label: whether a picture counts once for each of its labels there, named by both: `a.png#cat`.
        classes: names of the classes to take, or of their folders; None takes all.
        limit: at most so many pictures, spread evenly; None takes all.
        cache: whether the listing of a large folder is remembered; see `neuron_path.data.listing.list_files`.

    Raises:
        NeuronPathError: no such folder, no files, pictures beside class folders, splits in the place of classes, bad
            labels or class index.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Image.Image], Tensor],
        *,
        preprocessing: Mapping[str, Any],
        class_index: str | Path | None = None,
        labels: str | Path | None = None,
        labels_only: bool = False,
        each_label: bool = False,
        known: KnownClasses | None = None,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
        cache: bool = True,
    ) -> None:
        super().__init__(transform, preprocessing)
        self.root = Path(root).expanduser()
        listed = list_files(self.root, cached=cache)
        files = _pictures(listed, self.root)
        self.left_out["other file"] = len(listed) - len(files)
        own = None
        if labels is None:
            if each_label:
                raise NeuronPathError(
                    "data.each_label is of pictures with several labels: give these, data.labels=FILE, or leave it out."
                )
            keys = _folder_keys(files, self.root)
            if class_index is None:
                _check_level(files, keys, self.root, known)
        else:
            found = read_labels(Path(labels).expanduser(), files, only=labels_only, several=each_label)
            if labels_only:
                self.left_out["unlabelled picture"] = found.count(frozenset())
            files = [file for file, own in zip(files, found, strict=True) for _ in own]
            keys = [key for own in found for key in sorted(own)]
            if each_label:
                names = [f"{file}#{key}" for file, key in zip(files, keys, strict=True)]
                self.pictures, files = dict(zip(names, files, strict=True)), names
            own = numbered(keys) if class_index is None else None
        numbering = own or number_classes(keys, class_index=class_index, known=known)
        self._take(files, keys, numbering, only=classes, limit=limit, where=f"Folder '{self.root}'")

    def _source(self, index: int) -> Path:
        name = self.sample_ids[index]
        file = self.root / self.pictures.get(name, name)
        if not S_ISREG(file.stat().st_mode):  # a pipe would be waited for, and for ever
            raise ValueError("it is no ordinary file")
        return file


def _pictures(files: Sequence[str], root: Path) -> list[str]:
    """The files that are pictures by their names: those without an ending too."""
    usual = ENDINGS | {ending.upper() for ending in ENDINGS}  # so that a million names take no more than a look
    found = [file for file in files if file.rpartition(".")[2] in usual or _may_be_picture(file)]
    n_others = len(files) - len(found)
    if not found:
        what = f"has only files with other endings, as '{files[0]}'" if files else "is empty"
        raise NeuronPathError(f"Folder '{root}' {what}: expected pictures, or class folders with pictures.")
    if n_others:
        taken = set(found)
        other = next(file for file in files if file not in taken)
        warnings.warn(
            f"{n_others} of {len(files)} files in '{root}' are passed over, as their endings are no picture's, such as "
            f"'{other}'.",
            stacklevel=3,
        )
    return found


def _may_be_picture(file: str) -> bool:
    _, dot, ending = file.rpartition("/")[2].rpartition(".")
    return not dot or ending.lower() in ENDINGS


def _check_level(files: Sequence[str], keys: Sequence[str | None], root: Path, known: KnownClasses | None) -> None:
    """Raise a NeuronPathError where the folders are no classes, but what holds them.

    Args:
        files: in the order of their names, so that the folders that all share are those that the ends share.
        keys: their class folders.
        root: names the folder.
        known: knows the classes of some models.
    """
    shared = commonpath([dirname(files[0]), dirname(files[-1])])
    begin = len(shared) + 1 if shared else 0
    folders = sorted({file[begin:].partition("/")[0] for file in files} if begin else {key for key in keys if key})
    if begin and any("/" not in file[begin:] for file in files):
        folders = []
    above = [part for part in shared.split("/") if part]
    split = next((place for place, part in enumerate(above) if _SPLIT.fullmatch(part)), None)
    splits = [folder for folder in folders if _SPLIT.fullmatch(folder)]
    others = [folder for folder in splits if not folder.lower().startswith("train")]
    if folders and (len(splits) == len(folders) or 0 < len(others) < len(splits)):
        layout = f"holds the splits {', '.join(splits)} and no classes"
        best = (folder for begin in _MEASURED for folder in splits if folder.lower().startswith(begin))
        deeper = Path(*above, next(best, splits[0]))
    elif split is not None:
        layout, deeper = f"holds the split '{above[split]}' and no classes", Path(*above[: split + 1])
    elif above and len(folders) > 1:
        layout, deeper = f"holds the classes {folders[0]}, {folders[1]}, … deeper down", Path(*above)
        if known is None or known(above[:1]) is not None or known(folders) is None:
            setting = shlex.quote(f"data.root={root / deeper}")
            warnings.warn(
                f"All pictures in '{root}' are of one class, '{above[0]}'; {setting} takes the {len(folders)} folders "
                f"below it for classes, such as '{folders[0]}'.",
                stacklevel=3,
            )
            return
    else:
        return
    setting = shlex.quote(f"data.root={root / deeper}")
    raise NeuronPathError(
        f"Folder '{root}' {layout}: take a folder of classes, as {setting}, or say with data.class_index=text that "
        "these are."
    )


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
