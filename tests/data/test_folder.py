"""Folders of pictures: what is found, in which order, and what is refused."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from neuron_path.data.folder import ImageFolderDataset
from neuron_path.errors import NeuronPathError
from neuron_path.models.imagenet import imagenet_classes
from tests import pictures


def transform(picture: Image.Image) -> Tensor:
    """Pixels in [0, 1]."""
    return pil_to_tensor(picture.convert("RGB")) / 255


def open_folder(root: str | Path, **options: Any) -> ImageFolderDataset:
    return ImageFolderDataset(root, transform, preprocessing={"mean": [0.0]}, **options)


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as caught:
        open_folder(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_folders_are_labels_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/a.png", "cat/z.png"):
        pictures.save(tmp_path / name)
    data = open_folder(tmp_path)
    assert data.sample_ids == ["cat/z.png", "dog/a.png", "dog/b.png"]
    assert data.labels == [0, 1, 1]
    assert data.classes == ["cat", "dog"]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    data = open_folder(pictures.flat_folder(tmp_path))
    assert data.sample_ids == ["0.png", "1.png", "2.png"]
    assert data.labels == [None, None, None]
    assert data.classes == []


def test_an_item_is_the_transformed_picture(tmp_path: Path) -> None:
    pictures.save(tmp_path / "a.png", seed=3)
    data = open_folder(tmp_path)
    item = data[0]
    assert (item["label"], item["sample_id"], item["problem"]) == (None, "a.png", None)
    assert item["image"] is not None
    assert torch.equal(item["image"], transform(pictures.picture(seed=3)))
    assert data.preprocessing == {"mean": [0.0]}


def test_pictures_deeper_down_belong_to_the_class_folder_at_the_top(tmp_path: Path) -> None:
    pictures.save(tmp_path / "cat" / "indoors" / "a.png")
    pictures.save(tmp_path / "dog" / "a.png")
    data = open_folder(tmp_path)
    assert list(zip(data.sample_ids, data.labels, strict=True)) == [("cat/indoors/a.png", 0), ("dog/a.png", 1)]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    pictures.save(tmp_path / "cat" / "a.png")
    for name in (".DS_Store", "cat/.DS_Store", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert open_folder(tmp_path).sample_ids == ["cat/a.png"]


@pytest.mark.parametrize("name", ["PHOTO.JPG", "ä ü.png", "日本.png", "two\nlines.png", "a'b\"c.webp", "no_suffix"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    pictures.picture().save(tmp_path / name, format="PNG")
    data = open_folder(tmp_path)
    assert data.sample_ids == [name]
    assert data[0]["problem"] is None


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    pictures.picture().save(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    assert "is not UTF-8: rename it" in refusal(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_kind_of_picture_is_read(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "I;16") else "png"
    picture = pictures.picture(mode="L").convert("I;16") if mode == "I;16" else pictures.picture(mode=mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = open_folder(tmp_path)[0]["image"]
    assert image is not None
    assert image.shape == (3, 10, 12)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    file = pictures.save(tmp_path / "elsewhere" / "deep" / "a.png")
    root = tmp_path / "root"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "link.png").symlink_to(file)
    (root / "dog").symlink_to(file.parent)
    assert open_folder(root).sample_ids == ["cat/link.png", "dog/a.png"]


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    pictures.save(tmp_path / "a" / "x.png")
    pictures.save(tmp_path / "b" / "x.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "home").symlink_to(tmp_path)
    assert open_folder(tmp_path).sample_ids == ["a/to_b/x.png", "a/x.png", "b/to_a/x.png", "b/x.png"]


def test_the_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pictures.save(tmp_path / "photos" / "a.png")
    assert open_folder("~/photos").sample_ids == ["a.png"]


def test_a_class_index_gives_the_labels(tmp_path: Path) -> None:
    pictures.class_folders(tmp_path / "data", classes=2)
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"00": 7, "01": 3, "unused": 1}))
    data = open_folder(tmp_path / "data", class_index=index)
    assert data.labels == [7, 3]
    assert (data.classes[7], data.classes[3], data.classes[0], len(data.classes)) == ("00", "01", "0", 8)
    assert open_folder(tmp_path / "data", class_index=index, classes=["01"]).labels == [3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be read"),
        ("not json", "cannot be read"),
        ("[1, 2]", "must map folder names to class indices"),
        ('{"00": "x"}', "must map folder names to class indices"),
        ('{"00": -1}', "must map folder names to class indices"),
        ('{"00": 1}', r"lacks the folder '01' (1 in all)"),
    ],
)
def test_a_bad_class_index_is_refused(tmp_path: Path, text: str | None, expected: str) -> None:
    pictures.class_folders(tmp_path / "data", classes=2)
    index = tmp_path / "index.json"
    if text is not None:
        index.write_text(text)
    told = refusal(tmp_path / "data", class_index=index)
    assert expected in told
    assert str(index) in told


def test_classes_and_limit_take_a_part(tmp_path: Path) -> None:
    root = pictures.class_folders(tmp_path, classes=3, each=2)
    assert open_folder(root, classes=["02", "00"], limit=2).sample_ids == ["00/a.png", "02/a.png"]


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "class").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert f"No image folder '{tmp_path / 'missing'}'" in refusal(tmp_path / "missing")
    assert f"No image folder '{tmp_path / 'file'}'" in refusal(tmp_path / "file")
    assert f"Folder '{tmp_path / 'empty'}' is empty" in refusal(tmp_path / "empty")


def test_pictures_beside_class_folders_are_refused(tmp_path: Path) -> None:
    pictures.save(tmp_path / "cat" / "a.png")
    pictures.save(tmp_path / "stray.png")
    assert "the file 'stray.png' beside them" in refusal(tmp_path)


STRAY = ("Thumbs.db", "desktop.ini", "README.txt", "labels.csv", "cat/notes.v2.TXT", "cat/Thumbs.db")


@pytest.mark.parametrize("beside", ["root", "classes"])
def test_files_that_are_no_pictures_by_name_are_passed_over_and_counted_once(tmp_path: Path, beside: str) -> None:
    pictures.save(tmp_path / "cat" / "a.PNG")
    names = [name for name in STRAY if ("/" in name) == (beside == "classes")]
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.warns(UserWarning, match="are passed over") as told:
        data = open_folder(tmp_path)
    assert data.sample_ids == ["cat/a.PNG"]
    message = (
        f"{len(names)} of {len(names) + 1} files in '{tmp_path}' are passed over, as their endings are no picture's"
    )
    assert [message in str(one.message) for one in told] == [True]
    assert f"such as '{sorted(names)[0]}'" in str(told[0].message)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert "has only files with other endings, as 'a.txt': expected pictures" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("files", "told", "deeper"),
    [
        (("train/cat/a.png", "val/cat/b.png"), "holds the splits train, val and no classes", "val"),
        (("Train/a.png", "TEST/b.png"), "holds the splits TEST, Train and no classes", "TEST"),
        (
            ("train2017/cat/a.png", "val2017/cat/a.png", "test-set/a.png"),
            "holds the splits test-set, train2017, v",
            "val2017",
        ),
        (("train/cat/a.png", "train/dog/a.png"), "holds the split 'train' and no classes", "train"),
        (("train/cat/a.png",), "holds the split 'train'", "train"),
        (
            ("Data/CLS-LOC/train/n1/a.png", "Data/CLS-LOC/val/n1/a.png"),
            "holds the splits train, val",
            "Data/CLS-LOC/val",
        ),
        (("images/n01440764/a.png", "images/n02099601/a.png"), "holds the classes n01440764, n02099601, …", "images"),
    ],
)
def test_a_root_above_the_classes_is_refused(tmp_path: Path, files: tuple[str, ...], told: str, deeper: str) -> None:
    for name in files:
        pictures.save(tmp_path / name)
    known = partial(imagenet_classes, n_classes=1000)
    line = refusal(tmp_path, known=known)
    assert told in line
    assert f"as data.root={tmp_path}/{deeper}" in line
    named = line.partition("data.root=")[2].partition(", or")[0]
    assert open_folder(named, known=known).sample_ids  # the advice, followed
    assert open_folder(tmp_path, known=known, class_index="text").classes == sorted({f.split("/")[0] for f in files})


@pytest.mark.parametrize(
    "files", [("train/a.png", "bus/a.png"), ("trainer/a.png", "value/a.png"), ("cat/in/a.png", "cat/in/b.png")]
)
def test_classes_that_look_like_splits_are_classes(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        pictures.save(tmp_path / name)
    assert len(open_folder(tmp_path).sample_ids) == 2


def test_splits_with_labels_from_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("train/a.png", "val/b.png"):
        pictures.save(tmp_path / "data" / name)
    file = tmp_path / "labels.csv"
    file.write_text("a,cat\nb,dog\n")
    assert open_folder(tmp_path / "data", labels=file).classes == ["cat", "dog"]


def test_pictures_that_the_labels_lack_may_be_left_out(tmp_path: Path) -> None:
    pictures.flat_folder(tmp_path / "data", n=3)
    file = tmp_path / "labels.csv"
    file.write_text("2.png 7\n0.png 3\n")
    data = open_folder(tmp_path / "data", labels=file, labels_only=True)
    assert (data.sample_ids, data.labels) == (["0.png", "2.png"], [3, 7])
    assert "data.labels_only=true leaves the others out" in refusal(tmp_path / "data", labels=file)


def broken(folder: Path, kind: str) -> Path:
    """A folder with the good picture a.png and a broken file, whose path is returned."""
    pictures.save(folder / "a.png")
    file = folder / {"truncated": "b.jpg"}.get(kind, "b.png")
    if kind == "truncated":
        return pictures.truncated(file)
    if kind == "dangling link":
        file.symlink_to(folder / "nowhere")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes({"text": b"hello", "empty": b"", "bad palette": b"GIF89a\xff\xff\xff\xff\xff"}[kind])
    return file


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "dangling link", "pipe", "bad palette"])
def test_a_broken_file_is_a_named_problem_and_no_crash(tmp_path: Path, kind: str) -> None:
    file = broken(tmp_path, kind)
    data = open_folder(tmp_path)
    good, bad = data[0], data[1]
    assert good["problem"] is None
    assert (bad["sample_id"], bad["image"]) == (file.name, None)
    assert bad["problem"]


@pytest.mark.parametrize("kind", ["text", "empty", "dangling link", "pipe"])
def test_the_check_names_a_file_that_is_no_picture(tmp_path: Path, kind: str) -> None:
    file = broken(tmp_path, kind)
    with pytest.raises(NeuronPathError, match=rf"File '{file.name}' is no image .* set data\.on_error=skip"):
        open_folder(tmp_path).check()


def test_the_check_passes_pictures(tmp_path: Path) -> None:
    open_folder(pictures.flat_folder(tmp_path)).check()


def test_a_mistake_in_the_transform_is_no_broken_picture(tmp_path: Path) -> None:
    def fail(picture: Image.Image) -> Tensor:
        raise ValueError("std")

    data = ImageFolderDataset(pictures.flat_folder(tmp_path), fail, preprocessing={})
    with pytest.raises(ValueError, match="std"):
        data[0]


def test_labels_from_a_csv_go_before_the_folders(tmp_path: Path) -> None:
    pictures.save(tmp_path / "data" / "cat" / "a.png")
    pictures.save(tmp_path / "data" / "b.png")  # beside a folder, which is no class then
    file = tmp_path / "labels.csv"
    file.write_text("file,class\nb.png,zebra\ncat/a.png,ant\n")
    data = open_folder(tmp_path / "data", labels=file)
    assert (data.sample_ids, data.labels) == (["b.png", "cat/a.png"], [1, 0])
    assert (data.classes, data.is_indexed) == (["ant", "zebra"], False)
    assert open_folder(tmp_path / "data", labels=file, classes=["ant"]).sample_ids == ["cat/a.png"]


def test_labels_that_are_numbers_are_indices(tmp_path: Path) -> None:
    pictures.flat_folder(tmp_path / "data", n=2)
    file = tmp_path / "labels.csv"
    file.write_text("file,class\n0.png,7\n1.png,3\n")
    data = open_folder(tmp_path / "data", labels=file)
    assert (data.labels, data.is_indexed, len(data.classes)) == ([7, 3], True, 8)
    index = tmp_path / "index.csv"
    index.write_text("key,index,name\n7,1,seven\n3,0,three\n")
    data = open_folder(tmp_path / "data", labels=file, class_index=index)
    assert (data.labels, data.classes) == ([1, 0], ["three", "seven"])


def test_folders_that_are_known_classes_are_numbered_and_named(tmp_path: Path) -> None:
    for name in ("n02099601", "n01440764"):
        pictures.save(tmp_path / name / "a.png")
    data = open_folder(tmp_path, known=partial(imagenet_classes, n_classes=1000))
    assert (data.labels, data.is_indexed, len(data.classes)) == ([0, 207], True, 1000)
    assert data.classes[207] == "golden retriever"
    for name in ("n02099601", "golden retriever"):
        part = open_folder(tmp_path, known=partial(imagenet_classes, n_classes=1000), classes=[name])
        assert part.sample_ids == ["n02099601/a.png"]
    other = open_folder(tmp_path, known=partial(imagenet_classes, n_classes=2))
    assert (other.labels, other.is_indexed, other.classes[1]) == ([0, 1], False, "golden retriever")
