"""Preprocessing: timm's own for its models, the embedded model's for pictures of digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.dataset import ImageDataset
from timm.data.transforms_factory import create_transform
from torch import nn
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

from neuron_path.data.digits import load_digits
from neuron_path.errors import NeuronPathError
from neuron_path.models.loading import load_model
from neuron_path.models.preprocessing import CROP_MODES, INTERPOLATIONS, image_transform, input_size
from tests import pictures


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm.create_model("test_vit", num_classes=10)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's data set closes no file
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1"])
@pytest.mark.parametrize("size", [(160, 160), (400, 230), (17, 300)])
def test_it_is_what_timm_does(model: nn.Module, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    file = pictures.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), size=size, mode=mode)
    theirs = ImageDataset(str(tmp_path), transform=create_transform(**resolve_model_data_config(model)))
    ours, _ = image_transform(model)
    with Image.open(file) as picture:
        expected = torch.as_tensor(theirs[0][0])
        assert torch.equal(ours(picture), expected)


def test_the_description_is_json_and_says_what_is_done(model: nn.Module) -> None:
    _, described = image_transform(model)
    config = resolve_model_data_config(model)
    assert json.loads(json.dumps(described)) == described
    assert described["input_size"] == list(config["input_size"])
    assert described["mean"] == list(config["mean"])
    assert {"std", "interpolation", "crop_pct"} <= described.keys()


def test_the_size_is_that_of_the_model_as_it_was_built() -> None:
    ours, described = image_transform(timm.create_model("test_vit", img_size=96))
    assert described["input_size"] == [3, 96, 96]
    assert ours(pictures.picture(size=(300, 200))).shape == (3, 96, 96)


SIZES = {
    "vit_tiny_patch16_224": 224,
    "deit_tiny_distilled_patch16_224": 224,
    "eva02_tiny_patch14_224": 224,
    "beit_base_patch16_224": 224,
    "hiera_tiny_224": 224,
    "xcit_nano_12_p16_224": 224,
    "cait_xxs24_224": 224,
    "tnt_s_patch16_224": 224,
    "samvit_base_patch16_224": 224,
    "naflexvit_base_patch16_gap": 384,
}


@pytest.mark.covering
@pytest.mark.parametrize("kwargs", [{}, {"img_size": (192, 160)}, {"in_chans": 1}], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_every_family_gets_the_size_it_takes(name: str, kwargs: dict[str, Any]) -> None:
    with torch.device("meta"):
        built = timm.create_model(name, **kwargs).eval()
    channels, size = kwargs.get("in_chans", 3), (SIZES[name], SIZES[name])
    if not name.startswith("naflex"):  # takes any size, and keeps none
        size = kwargs.get("img_size", size)
    overrides = {"mean": [0.5] * channels, "std": [0.5] * channels}
    ours, described = image_transform(built, overrides)
    images = ours(pictures.picture(size=(30, 50))).unsqueeze(0)
    assert input_size(built) == tuple(images.shape[1:]) == tuple(described["input_size"]) == (channels, *size)
    with torch.no_grad():
        assert built(images.to("meta")).shape[0] == 1


PAPER = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "interpolation": "bilinear",
}


@pytest.mark.parametrize("size", [(500, 375), (224, 224), (100, 333)])
def test_a_squash_is_torchvision_s_plain_resize(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        built = timm.create_model("vit_base_patch16_224")
    ours, described = image_transform(built, PAPER)
    theirs = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(PAPER["mean"], PAPER["std"]),
        ]
    )
    picture = pictures.picture(size=size)
    assert torch.allclose(ours(picture), torch.as_tensor(theirs(picture)), rtol=0, atol=1e-6)
    assert {name: described[name] for name in PAPER} == PAPER


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("in_chans", [1, 3])
def test_every_crop_mode_works(in_chans: int, crop_mode: str) -> None:
    grey = {"mean": [0.5] * in_chans, "std": [0.5] * in_chans}
    ours, _ = image_transform(timm.create_model("test_vit", in_chans=in_chans), {"crop_mode": crop_mode} | grey)
    assert ours(pictures.picture(size=(99, 70))).shape == (in_chans, 160, 160)


def test_digits_drawn_as_pictures_are_the_embedded_digits() -> None:
    images, _ = load_digits("test")
    grey = ((images[0, 0] + 1) / 2 * 255).round().byte().numpy()
    ours, described = image_transform(load_model())
    assert described["input_size"] == [1, 8, 8]
    assert torch.allclose(ours(Image.fromarray(grey)), images[0], atol=1.01 / 255)


def test_overrides_take_the_place_of_the_model_s_own(model: nn.Module) -> None:
    overrides = {"mean": [0.0] * 3, "std": [1.0] * 3, "crop_pct": 1.0, "interpolation": "nearest"}
    ours, described = image_transform(model, overrides)
    assert {name: described[name] for name in overrides} == overrides
    picture = pictures.picture(size=(160, 160))
    assert torch.allclose(ours(picture), pil_to_tensor(picture) / 255)


def test_an_override_of_none_is_none(model: nn.Module) -> None:
    assert image_transform(model, {"mean": None, "crop_pct": None})[1] == image_transform(model)[1]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_works(model: nn.Module, interpolation: str) -> None:
    ours, _ = image_transform(model, {"interpolation": interpolation})
    assert ours(pictures.picture(size=(99, 70))).isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"mean": [0.5]}, "1 value(s) of mean, but the model takes 3 channel(s): set data.mean to a list of 3"),
        ({"std": [1.0, 1.0]}, "2 value(s) of std"),
        ({"std": [1.0, 0.0, 1.0]}, "data.std is [1.0, 0.0, 1.0]; expected numbers above 0"),
        ({"crop_pct": 0.0}, "data.crop_pct is 0.0"),
        ({"crop_pct": 1.5}, "data.crop_pct is 1.5"),
        ({"interpolation": "bicubik"}, "Did you mean 'bicubic'?"),
        ({"orientation": "exiff"}, "Did you mean 'exif'? Known: exif, stored"),
        ({"mean": [0.5] * 4}, "set data.mean to a list of 3, as in 'data.mean=[0.5,0.5,0.5]'"),
        ({"crop_mode": "squish"}, "Did you mean 'squash'? Known: border, center, squash"),
    ],
)
def test_settings_out_of_range_are_refused(model: nn.Module, overrides: dict[str, object], expected: str) -> None:
    with pytest.raises(NeuronPathError) as caught:
        image_transform(model, overrides)
    assert expected in str(caught.value)
