"""The embedded data set: scikit-learn's handwritten digits, split once and for all.

The 1,797 images of 8 × 8 pixels come inside scikit-learn, so nothing is downloaded. A stratified split with a fixed
seed gives 1,077 images to train, 360 to validate and 360 to test; within a split the images stand in ascending order of
their index in scikit-learn's data set, and that index is each image's stable name.

Shapes: n images, one grey channel, 8 rows, 8 columns.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.datasets import load_digits as sklearn_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset

from neuron_path.errors import unknown_name

PIXEL_MAX: Final = 16.0
"""Largest grey value in scikit-learn's digits (0 is paper, 16 is ink)."""
MEAN: Final = 0.5
"""Subtracted from a pixel that was scaled to [0, 1]."""
STD: Final = 0.5
"""Divides after the mean is subtracted, so that a pixel ends in [−1, 1]."""
IMAGE_SIZE: Final = 8
"""Height and width of an image, in pixels."""
CLASSES: Final = tuple("0123456789")
"""Class names; the position is the label."""
SPLITS: Final = ("train", "val", "test")
"""Names of the splits: 60 %, 20 % and 20 % of the images."""
SPLIT_SEED: Final = 0
"""Seed of the stratified split. With another, the shipped weights would have seen test images."""
_HELD_OUT: Final = 360  # images in val, and in test


class DigitsItem(TypedDict):
    """One image with its label and stable name."""

    image: Float[Tensor, "1 8 8"]
    label: int
    sample_id: str


def preprocessing(split: str) -> dict[str, Any]:
    """Describe how the images of a split are made from scikit-learn's, in values that JSON can hold.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        NeuronPathError: if no split has that name.

    >>> preprocessing("test")["mean"]
    0.5
    """
    _check(split)
    return {
        "source": "sklearn.datasets.load_digits",
        "size": [IMAGE_SIZE, IMAGE_SIZE],
        "channels": 1,
        "pixel_max": PIXEL_MAX,
        "mean": MEAN,
        "std": STD,
        "split": split,
        "split_seed": SPLIT_SEED,
    }


def digits_indices(split: str = "test") -> np.ndarray:
    """Return which of scikit-learn's digits belong to a split.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        int64 array (n,), ascending, each in 0..1796. The three splits share no index and together hold every one.

    Raises:
        NeuronPathError: if no split has that name.

    >>> {split: len(digits_indices(split)) for split in SPLITS}
    {'train': 1077, 'val': 360, 'test': 360}
    """
    _check(split)
    return _split_indices()[split].copy()


def load_digits(split: str = "test") -> tuple[Float[Tensor, "n 1 8 8"], Int64[Tensor, " n"]]:
    """Load the images and labels of a split, preprocessed as (pixel / 16 − 0.5) / 0.5.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The images, float32 (n, 1, 8, 8) in [−1, 1] where −1 is paper and 1 is ink, and their labels, int64 (n,) in
        0..9, in the order of :func:`digits_indices`. Both are fresh: changing them in place changes no later call.

    Raises:
        NeuronPathError: if no split has that name.

    >>> images, labels = load_digits("test")
    >>> images.shape, labels.shape, images.min().item(), images.max().item()
    (torch.Size([360, 1, 8, 8]), torch.Size([360]), -1.0, 1.0)
    """
    _check(split)
    pixels, labels = _all_digits()
    indices = _split_indices()[split]
    scaled = torch.tensor(pixels[indices], dtype=torch.float32).unsqueeze(1) / PIXEL_MAX
    return (scaled - MEAN) / STD, torch.tensor(labels[indices], dtype=torch.int64)


class DigitsDataset(Dataset[DigitsItem]):
    """A split of the digits as a map-style data set.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.

    Attributes:
        labels: label of each image, 0..9.
        sample_ids: stable name of each image, ``digits/`` and its four-digit index in scikit-learn's data set.
        classes: class names; the position is the label.
        preprocessing: what was done to the pixels, and which split this is; see :func:`preprocessing`.

    Raises:
        NeuronPathError: if no split has that name.

    >>> data = DigitsDataset("test")
    >>> item = data[0]
    >>> len(data), item["image"].shape, item["label"] == data.labels[0], item["sample_id"] == data.sample_ids[0]
    (360, torch.Size([1, 8, 8]), True, True)
    """

    def __init__(self, split: str = "test") -> None:
        self._images, labels = load_digits(split)
        self.labels: list[int] = labels.tolist()
        self.sample_ids: list[str] = [f"digits/{index:04d}" for index in digits_indices(split)]
        self.classes: list[str] = list(CLASSES)
        self.preprocessing: dict[str, Any] = preprocessing(split)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> DigitsItem:
        # A clone: whoever edits an item in place must not change the data set.
        return DigitsItem(image=self._images[index].clone(), label=self.labels[index], sample_id=self.sample_ids[index])


def _check(split: str) -> None:
    if split not in SPLITS:
        raise unknown_name("digits split", split, SPLITS)


@cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the raw pixels (1797, 8, 8) and labels (1797,), read once per process. Callers must not edit them."""
    pixels, labels = (np.asarray(array) for array in sklearn_digits(return_X_y=True))
    return pixels.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), labels


@cache
def _split_indices() -> dict[str, np.ndarray]:
    _, labels = _all_digits()
    everything = np.arange(len(labels), dtype=np.int64)
    rest, test = train_test_split(everything, test_size=_HELD_OUT, stratify=labels, random_state=SPLIT_SEED)
    train, val = train_test_split(rest, test_size=_HELD_OUT, stratify=labels[rest], random_state=SPLIT_SEED)
    return {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}
