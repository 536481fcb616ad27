"""The images of a run: from the configuration to a data module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from torch import nn

from neuron_path.config import (
    Config,
    DataConfig,
    DigitsConfig,
    HuggingFaceConfig,
    ImageFolderConfig,
    PicturesConfig,
    WebDatasetConfig,
)
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.data.huggingface import HuggingFaceDataset
from neuron_path.data.pictures import ON_ERROR, PictureDataset
from neuron_path.data.shards import ShardDataset
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.lightning.datamodule import DigitsDataModule, ImageDataModule
from neuron_path.models.classes import known_classes
from neuron_path.models.preprocessing import image_transform

# Of each kind of pictures, the data set and the settings that only it has.
_OWN: dict[type[PicturesConfig], tuple[Callable[..., PictureDataset], tuple[str, ...]]] = {
    ImageFolderConfig: (ImageFolderDataset, ("labels", "labels_only", "each_label", "cache")),
    WebDatasetConfig: (ShardDataset, ("label_key", "image_key", "cache")),
    HuggingFaceConfig: (HuggingFaceDataset, ("split", "subset", "image_column", "label_column", "id_column")),
}


def build_data(config: Config, model: nn.Module, *, is_fitted: bool = False) -> ImageDataModule:
    """The data module that the configuration names, with pictures prepared for `model`.

    Args:
        config: the configuration.
        model: with its classifier, unless that is fitted later.
        is_fitted: whether the classifier has classes of its own, by the order of the data's names, as one has that is
            fitted later; else the data's classes are numbered by the model's names of them, or ImageNet's synsets as it
            has them.
    """
    data = config.data
    if data.on_error not in ON_ERROR:
        raise unknown_name("way to treat broken images (data.on_error)", data.on_error, ON_ERROR)
    for name, least in (("batch_size", 1), ("num_workers", 0), ("max_skipped", 0), ("max_pixels", 1)):
        if (found := getattr(data, name, None)) is not None and found < least:
            raise NeuronPathError(f"data.{name} is {found}; expected at least {least}.")
    if isinstance(data, PicturesConfig):
        return _with_pictures(data, model, preprocessing_of(config), is_fitted=is_fitted)
    loading = {name: getattr(data, name) for name in ("batch_size", "num_workers")}
    return DigitsDataModule(data.split, classes=data.classes, limit=data.limit, **loading)


def build_folder(root: str, data: DataConfig, model: nn.Module, preprocessing: Mapping[str, Any]) -> ImageDataModule:
    """Another folder of pictures, read and prepared as the images of a run are.

    Args:
        root: the folder, with class folders.
        data: the settings of the run's images.
        model: that the pictures are prepared for.
        preprocessing: as the overrides of `image_transform`.
    """
    names = ("batch_size", "num_workers", "on_error", "max_pixels")
    folder = ImageFolderConfig(root=root, **{name: getattr(data, name) for name in names if hasattr(data, name)})
    return _with_pictures(folder, model, preprocessing, is_fitted=True)


def reference_of(data: DataConfig, name: str) -> DataConfig:
    """The settings of a reference: another split, where the data has splits, else another folder of the same kind."""
    changed: dict[str, Any] = {"classes": None, "limit": None}
    if isinstance(data, DigitsConfig | HuggingFaceConfig):
        changed["split"] = name
    else:
        changed |= {"root": name, "class_index": None}
    if isinstance(data, ImageFolderConfig):
        changed |= {"labels": None, "labels_only": False, "each_label": False}
    return replace(data, **changed)


def preprocessing_of(config: Config) -> dict[str, Any]:
    """The preprocessing that the configuration asks for: the data's own settings before those of its group."""
    chosen = asdict(config.preprocessing)
    return chosen | {
        name: getattr(config.data, name) for name in chosen if getattr(config.data, name, None) is not None
    }


def _with_pictures(
    data: PicturesConfig, model: nn.Module, preprocessing: Mapping[str, Any], *, is_fitted: bool
) -> ImageDataModule:
    transform, described = image_transform(model, preprocessing)
    kind, own = _OWN[type(data)]
    pictures = kind(
        data.root,
        transform,
        preprocessing=described,
        class_index=data.class_index,
        known=partial(known_classes, model=model, is_named=not is_fitted),
        classes=data.classes,
        limit=data.limit,
        **{name: getattr(data, name) for name in own},
    )
    pictures.max_pixels = data.max_pixels
    pictures.check(strict=data.on_error == "raise")
    return ImageDataModule(pictures, batch_size=data.batch_size, num_workers=data.num_workers)
