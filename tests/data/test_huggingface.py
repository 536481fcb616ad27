"""Hugging Face's data sets: written by its library, read by ours."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from neuron_path.data.huggingface import HuggingFaceDataset
from neuron_path.errors import NeuronPathError
from tests import pictures

datasets: Any = pytest.importorskip("datasets")


def transform(picture: Image.Image) -> Tensor:
    """Pixels in [0, 1]."""
    return pil_to_tensor(picture.convert("RGB")) / 255


def open_set(root: str | Path, **options: Any) -> HuggingFaceDataset:
    return HuggingFaceDataset(root, transform, preprocessing={"mean": [0.0]}, **{"split": "test", **options})


def table(n: int = 4, **columns: Any) -> Any:
    """n pictures with labels of three classes."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])}
    rows = {"image": [pictures.picture(seed) for seed in range(n)], "label": [seed % 3 for seed in range(n)]}
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict({**rows, **columns}, features=datasets.Features(features))


def save(rows: Any, folder: Path, split: str | None = None) -> Path:
    (datasets.DatasetDict({split: rows}) if split else rows).save_to_disk(folder)
    return folder


@pytest.fixture(autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bars, no network, and a cache of the tests' own."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("huggingface"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def refusal(root: str | Path, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as caught:
        open_set(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", [None, "test"])
def test_a_saved_data_set(split: str | None, tmp_path: Path) -> None:
    data = open_set(save(table(), tmp_path / "set", split))
    assert data.sample_ids == [f"test/{row:08d}" for row in range(4)]
    assert (data.labels, data.classes, data.is_indexed) == ([0, 1, 2, 0], ["ant", "bee", "cat"], False)
    for row in range(4):
        image = data[row]["image"]
        assert image is not None
        assert torch.equal(image, transform(pictures.picture(row)))
    data.check()


def test_a_part_of_a_shuffled_set_keeps_its_rows(tmp_path: Path) -> None:
    rows = table(6).shuffle(seed=1).select(range(5))
    seeds = list(rows["label"])
    data = open_set(save(rows, tmp_path / "set"), classes=["bee"])
    assert data.sample_ids == [f"test/{row:08d}" for row in range(5) if seeds[row] == 1]
    for place, name in enumerate(data.sample_ids):
        image = data[place]["image"]
        assert image is not None
        assert torch.equal(image, transform(rows[int(name[5:])]["image"]))


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table().to_parquet(tmp_path / "set" / "test-00000.parquet")
    data = open_set(tmp_path / "set")
    assert (len(data), data.labels) == (4, [0, 1, 2, 0])
    assert data[3]["problem"] is None


def test_names_from_a_column(tmp_path: Path) -> None:
    root = save(table(file=["b", "a", "d", "c"]), tmp_path / "set")
    assert open_set(root, id_column="file").sample_ids == ["b", "a", "d", "c"]
    assert "no column 'name' (data.id_column). Columns: image, label, file" in refusal(root, id_column="name")
    twice = save(table(file=["b", "a", "d", "a"]), tmp_path / "twice")
    assert "The column 'file' holds names twice" in refusal(twice, id_column="file")


def test_labels_by_a_class_index(tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"ant": 4, "bee": 0, "cat": 9}))
    data = open_set(save(table(), tmp_path / "set"), class_index=index)
    assert (data.labels, data.classes[4], data.is_indexed) == ([4, 0, 9, 4], "ant", True)


def test_labels_that_are_numbers_or_names(tmp_path: Path) -> None:
    rows = table().remove_columns("label")
    numbers = save(rows.add_column("y", [7, 0, 7, 2]), tmp_path / "numbers")
    data = open_set(numbers, label_column="y")
    assert (data.labels, len(data.classes), data.is_indexed) == ([7, 0, 7, 2], 8, True)
    names = save(rows.add_column("y", ["b", "a", "b", "c"]), tmp_path / "names")
    data = open_set(names, label_column="y")
    assert (data.labels, data.classes, data.is_indexed) == ([1, 0, 1, 2], ["a", "b", "c"], False)


def test_images_without_labels(tmp_path: Path) -> None:
    rows = table().remove_columns("label")
    plain = save(rows, tmp_path / "plain")
    assert open_set(plain, label_column=None).labels == [None] * 4
    assert "no column of labels: name one with data.label_column=NAME, or data.label_column=null" in refusal(plain)
    assert "no column 'label' (data.label_column)" in refusal(plain, label_column="label")
    hidden = save(rows.add_column("label", [-1] * 4), tmp_path / "hidden")
    assert (open_set(hidden).labels, open_set(hidden).classes) == ([None] * 4, [])
    some = save(rows.add_column("label", [1, -1, 0, 1]), tmp_path / "some")
    assert "1 of 4 images have no 'label'" in refusal(some)


def renamed(n: int = 4) -> Any:
    """The same with names of columns that say little, and a column of text beside them."""
    return table(n, note=["label"] * n).rename_columns({"image": "pixel_values", "label": "y"})


def test_columns_are_told_by_their_kind(tmp_path: Path) -> None:
    data = open_set(save(renamed(), tmp_path / "set"))
    assert (data.labels, data.classes, data[3]["problem"]) == ([0, 1, 2, 0], ["ant", "bee", "cat"], None)
    held = {"bytes": [pictures.save(tmp_path / "a.png").read_bytes()], "y": [0]}
    kinds = {"bytes": datasets.Value("binary"), "y": datasets.ClassLabel(names=["ant"])}
    binary = datasets.Dataset.from_dict(held, features=datasets.Features(kinds))
    assert open_set(save(binary, tmp_path / "binary"))[0]["problem"] is None


def test_columns_of_one_kind_must_be_named(tmp_path: Path) -> None:
    rows = renamed()
    both = rows.add_column("coarse", [0] * 4).cast_column("coarse", datasets.ClassLabel(names=["animal"]))
    root = save(both, tmp_path / "labels")
    assert "several columns of labels (y, coarse): name one with data.label_column" in refusal(root)
    assert open_set(root, label_column="y").labels == [0, 1, 2, 0]
    mask = datasets.concatenate_datasets(
        [rows, rows.select_columns(["pixel_values"]).rename_column("pixel_values", "mask")], axis=1
    )
    root = save(mask, tmp_path / "images")
    assert "several columns of images (pixel_values, mask): name one with data.image_column" in refusal(root)
    assert open_set(root, image_column="mask")[0]["problem"] is None
    assert "no column of images" in refusal(save(rows.remove_columns("pixel_values"), tmp_path / "none"))


def test_several_labels_for_an_image_are_refused_by_that_name(tmp_path: Path) -> None:
    rows = table().remove_columns("label").add_column("label", [[1], [0, 2], [1], [2]])
    assert "The column 'label' holds several labels for an image" in refusal(save(rows, tmp_path / "set"))


@pytest.mark.parametrize("labels", [[0.5] * 4, [True] * 4, [-2, 0, 1, 2], [10**9] * 4])
def test_labels_of_another_kind_are_refused(labels: list[Any], tmp_path: Path) -> None:
    rows = table().remove_columns("label").add_column("label", labels)
    assert re.search("The column 'label' holds no|is no class index", refusal(save(rows, tmp_path / "set")))


def test_broken_pictures_are_named_problems(tmp_path: Path) -> None:
    good = {"bytes": pictures.save(tmp_path / "a.png").read_bytes(), "path": None}
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"hello", "path": None}, None, good]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    data = open_set(save(rows, tmp_path / "set"), label_column=None)
    problems = [data[row]["problem"] for row in range(3)]
    assert problems == ["its format is not known", "the row holds no image", None]
    with pytest.raises(NeuronPathError, match=r"File 'test/00000000' is no image .* .its format is not known"):
        data.check()


def test_a_folder_of_pictures_is_read_where_they_lie(tmp_path: Path) -> None:
    root = pictures.class_folders(tmp_path / "set" / "test", classes=2).parent
    data = open_set(root)
    assert (data.labels, data.classes) == ([0, 1], ["00", "01"])
    assert data[1]["problem"] is None
    (root / "test" / "01" / "a.png").unlink()
    assert "No such file" in str(data[1]["problem"])


def test_columns_without_images_are_refused(tmp_path: Path) -> None:
    root = save(table(file=list("abcd")), tmp_path / "set")
    assert "The column 'label' holds no images" in refusal(root, image_column="label")
    assert "The column 'file' holds no images" in refusal(root, image_column="file")
    assert "no column 'img' (data.image_column). Columns: image" in refusal(root, image_column="img")


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    root = save(table(), tmp_path / "set", "train")
    assert "No split of the data set" in refusal(root)
    assert f"There is no folder '{tmp_path}/none'" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refusal(tmp_path / "empty")
    assert "cannot be loaded" in refusal("nobody/has-this-set")
    (tmp_path / "set" / "train" / "state.json").write_text("{")
    assert "cannot be loaded" in refusal(root, split="train")


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "cannot be loaded" in refusal(folder)
    assert not (tmp_path / "ran").exists()


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    root = save(table(), tmp_path / "set")
    monkeypatch.setattr(builtins, "__import__", lacking)
    assert refusal(root) == "Hugging Face's datasets is not installed: pip install 'neuron-path[huggingface]'."
