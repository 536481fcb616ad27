"""Pictures, folders and labels as people have them, each read as it is or refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from neuron_path.config import Config, ImageFolderConfig, PreprocessingConfig
from neuron_path.data.pictures import PictureDataset
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.images import build_data
from neuron_path.pipeline.report import picture
from tests import pictures
from tests.models.test_pixels import as_bytes, noise, png, tiff

PLAIN = {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "nearest"}
SQUARE = (16, 16)


@cache
def model(channels: int) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model("test_vit", in_chans=channels, img_size=16, num_classes=1000)


def bring(folder: Path, files: dict[str, bytes], channels: int = 3, **settings: Any) -> PictureDataset:
    """The data set that a run makes of these files, with pixels in [0, 1]."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    own = {"mean": [0.0] * channels, "std": [1.0] * channels, "batch_size": 1}
    for name in ("labels", "class_index"):
        if name in settings and (folder / settings[name]).is_file():
            settings[name] = str(folder / settings[name])
    options: dict[str, Any] = PLAIN | own | {"root": str(folder / settings.pop("root", ""))} | settings
    data = ImageFolderConfig(**options)
    dataset = build_data(Config(data=data, preprocessing=PreprocessingConfig()), model(channels)).dataset
    assert isinstance(dataset, PictureDataset)
    return dataset


def lies(expected: np.ndarray) -> Callable[[Tensor], bool]:
    """Whether a picture holds these values (H, W, bands), in [0, 1]."""
    return lambda seen: np.allclose(seen.numpy(), expected.transpose(2, 0, 1), rtol=0, atol=1e-4)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


PHOTO = pictures.picture(size=SQUARE)
SMALL = as_bytes(PHOTO, "PNG")
GREY, COLOUR, FLOATS = noise(1), noise(3), np.random.default_rng(0).random((16, 16, 1)).astype("f4")
RGBA = noise(4, "u1", 256)
PAGES = [Image.fromarray(RGBA[..., band]) for band in range(4)]
LINE, LONG = (as_bytes(Image.linear_gradient("L").resize(size), "PNG") for size in ((400, 1), (1, 1001)))
ALPHA_ONLY = Image.merge("RGBA", [Image.new("L", SQUARE)] * 3 + [PAGES[3]])

SEEN: dict[str, tuple[bytes, int, dict[str, Any], np.ndarray]] = {
    "16-bit grey PNG": (png(GREY, 0), 3, {}, GREY / 65535),
    "16-bit grey TIFF": (tiff(GREY, ">"), 1, {}, GREY / 65535),
    "16-bit TIFF with white at 0": (tiff(GREY, t262=0), 3, {}, 1 - GREY / 65535),
    "16-bit colour PNG": (png(COLOUR, 2), 3, {}, COLOUR / 65535),
    "dark 16-bit colour PNG": (png(COLOUR % 200, 2), 3, {}, COLOUR % 200 / 65535),
    "16-bit colour TIFF": (tiff(COLOUR), 3, {}, COLOUR / 65535),
    "signed TIFF": (tiff((GREY.astype("i4") - 2**15).astype("i2")), 3, {}, GREY / 65535),
    "32-bit TIFF": (tiff(GREY.astype("u4") * 65537), 3, {}, GREY / 65535),
    "12-bit PGM": (b"P5 16 16 4095\n" + (GREY % 4096).astype(">u2").tobytes(), 3, {}, GREY % 4096 / 4095),
    "float TIFF": (tiff(FLOATS), 3, {}, FLOATS),
    "turned photograph": (as_bytes(PHOTO, "PNG", exif=exif(6)), 3, {}, np.rot90(np.asarray(PHOTO), -1) / 255),
    "mirrored photograph": (as_bytes(PHOTO, "PNG", exif=exif(2)), 3, {}, np.asarray(PHOTO)[:, ::-1] / 255),
    "turned photograph as stored": (
        as_bytes(PHOTO, "PNG", exif=exif(6)),
        3,
        {"orientation": "stored"},
        np.asarray(PHOTO) / 255,
    ),
    "RGBA for four channels": (as_bytes(Image.fromarray(RGBA), "PNG"), 4, {}, RGBA / 255),
    "16-bit RGBA for four channels": (png(noise(4), 6), 4, {}, noise(4) / 65535),
    "pages for four channels": (as_bytes(PAGES[0], "TIFF", save_all=True, append_images=PAGES[1:]), 4, {}, RGBA / 255),
    "CMYK of 16 bits": (
        tiff(noise(4), t262=5),
        3,
        {},
        np.asarray(Image.fromarray((noise(4) >> 8).astype("u1"), "CMYK").convert("RGB")) / 255,
    ),
    "float TIFF with white at 0": (tiff(FLOATS, t262=0), 3, {}, 1 - FLOATS),
    "picture above the limit": (SMALL, 3, {"max_pixels": 256}, np.asarray(PHOTO) / 255),
}


@pytest.mark.parametrize("kind", SEEN)
def test_a_picture_is_seen_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, channels, settings, expected = SEEN[kind]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 128 if "max_pixels" not in settings else 100)
    item = bring(tmp_path, {"a.png": data}, channels, **settings)[0]
    assert item["image"] is not None, item["problem"]
    assert lies(np.broadcast_to(expected, (16, 16, channels)))(item["image"])


PROBLEMS: dict[str, tuple[str, bytes, int, dict[str, Any], str]] = {
    "floats to 255": ("a.tif", tiff(FLOATS * 255), 3, {}, r"its floats reach from .* to 25.*; expected 0 to 1"),
    "floats below 0": ("a.tif", tiff(FLOATS - 1), 1, {}, r"its floats reach from -"),
    "not a number": ("a.tif", tiff(FLOATS * np.float32("nan")), 3, {}, "NaN or infinity"),
    "8 bits in 32": ("a.tif", tiff(GREY.astype("u4") % 256), 3, {}, "differ too little for the range of their type"),
    "16 bits in 32": ("a.tif", tiff(GREY.astype("i4")), 3, {}, "differ too little for the range of their type"),
    "five bands in a page": ("a.tif", tiff(noise(5), ">"), 5, {}, "TIFF file of 5 bands of integers of 16 bits in one"),
    "colours as floats": (
        "a.tif",
        tiff(COLOUR.astype("f4")),
        3,
        {},
        "3 bands of floats of 32 bits in one page.*: save it as RGB, of integers",
    ),
    "floats of 64 bits": ("a.tif", tiff(FLOATS.astype("f8")), 3, {}, "TIFF file of floats of 64 bits, which Pillow"),
    "low bits of premultiplied colours": ("a.tif", tiff(noise(4, high=200), t338=1), 3, {}, "differ too little"),
    "low bits of CMYK": ("a.tif", tiff(noise(4, high=200), t262=5), 3, {}, "differ too little"),
    "signed colours": ("a.tif", tiff(noise(3, "i2", 32768)), 3, {}, "3 bands of .*: save it as RGB, of integers"),
    "grey and another band": ("a.tif", tiff(noise(2)), 3, {}, "2 bands of .*: save it as a PNG of grey with"),
    "line with a border": (
        "a.png",
        LINE,
        3,
        {"crop_mode": "border"},
        r"400 × 1 .* data\.crop_mode=squash takes",
    ),
    "line that is cut": ("a.png", LONG, 3, {"crop_mode": "center"}, r"1 × 1001 pixels, .* 1000 times"),
    "half a TIFF file": ("a.tif", tiff(GREY)[:12], 3, {}, "a TIFF file that is damaged"),
    "pointer of Git LFS": ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid x", 3, {}, "git lfs pull"),
    "nothing": ("a.jpg", b"", 3, {}, "it is empty"),
    "16 bits in planes": ("a.tif", tiff(COLOUR, t284=2, t273=[8, 520, 1032], t279=[512] * 3), 3, {}, "separate planes"),
    "transparency alone": ("a.png", as_bytes(ALPHA_ONLY, "PNG"), 3, {}, "only its transparency differs"),
    "RGB for four channels": ("a.png", SMALL, 4, {}, r"it is RGB, and the model takes 4 .*: expected RGBA, or"),
    "three pages for four": (
        "a.tif",
        as_bytes(PAGES[0], "TIFF", save_all=True, append_images=PAGES[1:3]),
        4,
        {},
        "it is L, and the model takes 4",
    ),
    "too many pixels": ("a.png", SMALL, 3, {"max_pixels": 255}, r"too large: data\.max_pixels=256 allows it"),
    "HEIC": ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 3, {}, "not known: pip install pillow-heif"),
    "no picture": ("a.jpg", b"hello", 3, {"on_error": "raise"}, "File 'a.jpg' is no image that can be read"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_picture_that_cannot_be_seen_is_named(kind: str, tmp_path: Path) -> None:
    name, data, channels, settings, expected = PROBLEMS[kind]
    try:
        item = bring(tmp_path, {name: data}, channels, **{"on_error": "skip"} | settings)[0]
        told = str(item["problem"])
        assert item["image"] is None
    except NeuronPathError as error:
        told = str(error)
    assert re.search(expected, told)
    assert "\n" not in told


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_said_once(tmp_path: Path, name: str) -> None:
    moving = as_bytes(PAGES[0], name[2:], save_all=True, append_images=PAGES[1:])
    with pytest.warns(UserWarning, match=f"1 of the 1 pictures looked at have several frames, as '{name}'") as told:
        bring(tmp_path, {name: moving}, on_error="skip")
    assert len(told) == 1


S1, S2 = "n01440764", "n02099601"  # ImageNet's classes 0 and 207
LABELLED: dict[str, tuple[dict[str, bytes], dict[str, Any], list[int | None]]] = {
    "folders are indices": ({"7/a.png": SMALL, "10/a.png": SMALL}, {"class_index": "number"}, [10, 7]),
    "natural order": ({"2/a.png": SMALL, "10/a.png": SMALL}, {"class_index": "natural"}, [1, 0]),
    "order of letters": ({"2/a.png": SMALL, "10/a.png": SMALL}, {"class_index": "text"}, [0, 1]),
    "splits that are classes": ({"train/a.png": SMALL, "val/a.png": SMALL}, {"class_index": "text"}, [0, 1]),
    "LOC_val_solution.csv": (
        {"v/x_1.JPEG": SMALL, "l": f"ImageId,PredictionString\nx_1,{S2} 1 2 3 4 {S2} 5 6 7 8 \n".encode()},
        {"root": "v", "labels": "l"},
        [207],
    ),
    "val.txt": ({"v/x_1.JPEG": SMALL, "l": b"x_1.JPEG 65\nx_2.JPEG 970\n"}, {"root": "v", "labels": "l"}, [65]),
    "semicolons": ({"v/a.png": SMALL, "l": b"path;label\nv/a.png;3\n"}, {"root": "v", "labels": "l"}, [3]),
    "tabs": ({"v/a.png": SMALL, "l": b"a.png\t3\n"}, {"root": "v", "labels": "l"}, [3]),
    "no endings": ({"v/a.png": SMALL, "l": b"a,3\n"}, {"root": "v", "labels": "l"}, [3]),
    "absolute paths": ({"v/a.png": SMALL, "l": b"/data/v/a.png 3\n"}, {"root": "v", "labels": "l"}, [3]),
    "paths of Windows": ({"v/a.png": SMALL, "l": b"D:\\data\\v\\a.png,3\n"}, {"root": "v", "labels": "l"}, [3]),
    "UTF-16": ({"v/a.png": SMALL, "l": "file,class\na.png,3\n".encode("utf-16")}, {"root": "v", "labels": "l"}, [3]),
    "columns swapped": ({"v/a.png": SMALL, "l": b"3,a.png\n"}, {"root": "v", "labels": "l"}, [3]),
    "a remark above": ({"v/a.png": SMALL, "l": b"# made by hand\na.png,3\n"}, {"root": "v", "labels": "l"}, [3]),
    "names of several words": (
        {"v/a.png": SMALL, "v/b.png": SMALL, "l": b"a.png golden retriever\nb.png tench\n"},
        {"root": "v", "labels": "l"},
        [0, 1],
    ),
    "accents apart": (
        {"v/\N{LATIN SMALL LETTER A WITH DIAERESIS}.png": SMALL, "l": "a\N{COMBINING DIAERESIS}.png,3\n".encode()},
        {"root": "v", "labels": "l"},
        [3],
    ),
    "some pictures": (
        {"v/a.png": SMALL, "v/b.png": SMALL, "l": b"b.png,3\n"},
        {"root": "v", "labels": "l", "labels_only": True},
        [3],
    ),
    "numbers with a point": (
        {"v/a.png": SMALL, "v/b.png": SMALL, "l": b"file,class\na.png,10.0\nb.png,2.0\n"},
        {"root": "v", "labels": "l"},
        [10, 2],
    ),
    "spaces at the end": ({"v/a.png": SMALL, "l": b"a.png 3 \n"}, {"root": "v", "labels": "l"}, [3]),
    "comma at the end": ({"v/a.png": SMALL, "l": b"a.png,3,\n"}, {"root": "v", "labels": "l"}, [3]),
    "as many spaces in each name": (
        {"v/my cat.png": SMALL, "v/my dog.png": SMALL, "l": b"my cat.png 3\nmy dog.png 5\n"},
        {"root": "v", "labels": "l"},
        [3, 5],
    ),
    "label and its name": (
        {"v/a.png": SMALL, "l": b"image,label,label_name\na.png,3,cat\n"},
        {"root": "v", "labels": "l"},
        [3],
    ),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_are_read(kind: str, tmp_path: Path) -> None:
    files, settings, labels = LABELLED[kind]
    assert bring(tmp_path, files, **settings).labels == labels


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "README.txt", "labels.csv"])
def test_other_files_are_passed_over_and_counted(tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match=f"1 of 2 files in .* are passed over, .* such as '{name}'") as told:
        data = bring(tmp_path, {name: b"", "cat/a.png": SMALL})
    assert (data.sample_ids, len(told), data.left_out) == (["cat/a.png"], 1, {"other file": 1})


REFUSED: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "train and val": ({"train/c/a.png": SMALL, "val/c/a.png": SMALL}, {}, r"holds the splits train, val .*/val,"),
    "train alone": ({"train/c/a.png": SMALL, "train/d/a.png": SMALL}, {}, r"holds the split 'train' .*/train,"),
    "ImageNet's root": (
        {f"Data/CLS-LOC/{split}/{S1}/a.png": SMALL for split in ("train", "val")},
        {},
        r"splits train, val and no classes: .*data\.root=.*/Data/CLS-LOC/val, or",
    ),
    "train, val and more": (
        {f"{name}/c/a.png": SMALL for name in ("extra", "train", "val")},
        {},
        r"holds the splits train, val .*data\.root=.*/val,",
    ),
    "train and unlabeled": ({"train/c/a.png": SMALL, "unlabeled/a.png": SMALL}, {}, r"data\.root=.*/train,"),
    "folds": ({f"fold{number}/c/a.png": SMALL for number in (1, 2)}, {}, r"splits fold1, fold2 .*data\.root=.*/fold1,"),
    "word that is none": (
        {"1/a.png": SMALL},
        {"class_index": "Natural"},
        r"'Natural', which is no file\. Did you mean 'natural'\?",
    ),
    "gaps among numbers": (
        {"v/a.png": SMALL, "v/b.png": SMALL, "l": b"a.png,nan\nb.png,2.0\n"},
        {"root": "v", "labels": "l"},
        "label 'nan' is no class index",
    ),
    "several names": (
        {"v/a.png": SMALL, "l": b"a.png,tabby cat|dog\n"},
        {"root": "v", "labels": "l"},
        r"several labels \(dog, tabby cat\)",
    ),
    "a folder above": ({f"imgs/{name}/a.png": SMALL for name in (S1, S2)}, {}, r"deeper down: .*data\.root=.*/imgs,"),
    "only text": ({"a.txt": b"x"}, {}, "only files with other endings, as 'a.txt'"),
    "names as indices": ({"cat/a.png": SMALL}, {"class_index": "number"}, "the class 'cat' is none from 0"),
    "several boxes": (
        {"v/a.png": SMALL, "l": f"id,PredictionString\na,{S1} 1 2 3 4 {S2} 5 6 7 8\n".encode()},
        {"root": "v", "labels": "l"},
        f"give 'a.png' several labels \\({S1}, {S2}\\)",
    ),
    "several numbers": (
        {"v/a.png": SMALL, "l": b"a.png;3,5\n"},
        {"root": "v", "labels": "l"},
        r"several labels \(3, 5",
    ),
    "one column a class": (
        {"v/a.png": SMALL, "l": b"file,cat,dog\na.png,0,1\n"},
        {"root": "v", "labels": "l"},
        "have the columns 'file', 'cat', 'dog', split at commas: which holds the class is not clear",
    ),
    "another folder's": (
        {"v/a.png": SMALL, "l": b"x.png,1\n"},
        {"root": "v", "labels": "l"},
        "not clear that one names",
    ),
    "bars": (
        {"v/a.png": SMALL, "l": b"a.png|3\n"},
        {"root": "v", "labels": "l"},
        r"it begins with 'a.png\|3'; expected",
    ),
    "Latin-1": ({"v/a.png": SMALL, "l": b"a.png,j\xe4ger\n"}, {"root": "v", "labels": "l"}, "save it as UTF-8"),
    "some pictures": (
        {"v/a.png": SMALL, "v/b.png": SMALL, "l": b"b.png,3\n"},
        {"root": "v", "labels": "l"},
        r"lack the file 'a.png' \(1 of 2 .* data\.labels_only=true leaves the others out",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_clear_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    files, settings, expected = REFUSED[kind]
    with pytest.raises(NeuronPathError) as caught:
        bring(tmp_path, files, **settings)
    assert re.search(expected, str(caught.value))
    assert "\n" not in str(caught.value)


def test_one_class_that_holds_folders_is_remarked_on(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"one class, 'pets'; data\.root=\S*/pets takes the 2 folders below"):
        data = bring(tmp_path, {f"pets/{name}/a.png": SMALL for name in ("cat", "dog")})
    assert data.labels == [0, 0]


def test_the_advice_for_four_channels_works_when_followed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(as_bytes(Image.fromarray(RGBA), "PNG"))
    settings: dict[str, Any] = {"root": str(tmp_path)}
    for name in ("mean", "std"):
        with pytest.raises(NeuronPathError, match=f"3 value.* of {name}, but the model takes 4") as caught:
            build_data(Config(data=ImageFolderConfig(**settings), preprocessing=PreprocessingConfig()), model(4))
        advice = re.findall(r"'data\.(\w+)=\[(.*)\]'", str(caught.value))
        settings |= {key: [float(value) for value in values.split(",")] for key, values in advice}
    data = build_data(Config(data=ImageFolderConfig(**settings), preprocessing=PreprocessingConfig()), model(4))
    assert data.dataset[0]["image"].shape == (4, 16, 16)


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, (5, 6)), (2, (5, 6)), (3, (5, 6, 3)), (4, (5, 6, 3)), (7, (5, 6, 3))]
)
def test_the_report_shows_pictures_of_any_number_of_bands(channels: int, shown: tuple[int, ...]) -> None:
    made = {"mean": [0.5] * channels, "std": [0.5] * channels}
    assert picture(np.zeros((channels, 5, 6)), made).shape == shown
