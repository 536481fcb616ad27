"""The embedded digits: the split, the pixels and the data set, against scikit-learn read directly."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits

from neuron_path.data.digits import CLASSES, SPLITS, DigitsDataset, digits_indices, load_digits, preprocessing
from neuron_path.errors import NeuronPathError

SIZES = {"train": 1077, "val": 360, "test": 360}
# Of the indices as little-endian int64. The shipped weights and every stored sample id hold only for this split.
DIGESTS = {
    "train": "964322218286ccb9b869e130e52a2a1aa5362ab785da59cf5a8b629a0848b15a",
    "val": "1ed5327ce45f7a4c954be61fca7910e5af6d44026c652e87ded38addf9211e44",
    "test": "2fbaae31b8c6aad12464a07771b64269876d904bfed86f77a63c8265fa201621",
}


@pytest.fixture(scope="module")
def source() -> tuple[list[list[list[float]]], list[int]]:
    pixels, labels = (np.asarray(array) for array in sklearn_digits(return_X_y=True))
    rows = [[image[row * 8 : row * 8 + 8] for row in range(8)] for image in pixels.tolist()]
    return rows, labels.tolist()


def test_splits_are_disjoint_and_hold_every_image():
    for one, other in combinations(SPLITS, 2):
        assert not set(digits_indices(one)) & set(digits_indices(other))
    assert sorted(np.concatenate([digits_indices(split) for split in SPLITS])) == list(range(1797))


@pytest.mark.parametrize("split", SPLITS)
def test_split_is_the_one_the_weights_were_made_with(split):
    indices = digits_indices(split)
    assert len(indices) == SIZES[split]
    assert (np.diff(indices) > 0).all()
    assert hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest() == DIGESTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_split_is_stratified(split, source):
    everywhere = Counter(source[1])
    here = Counter(load_digits(split)[1].tolist())
    for label, count in everywhere.items():
        assert abs(here[label] - count * SIZES[split] / 1797) <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_images_and_labels_are_those_of_sklearn(split, source):
    images, labels = load_digits(split)
    pixels, targets = source
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (SIZES[split], 1, 8, 8)
    for position, index in enumerate(digits_indices(split).tolist()):
        expected = [[pixel / 8 - 1 for pixel in row] for row in pixels[index]]  # exact: grey values are 0..16
        assert images[position, 0].tolist() == expected
        assert labels[position] == targets[index]


@pytest.mark.parametrize("split", SPLITS)
def test_dataset_agrees_with_load_digits(split):
    data = DigitsDataset(split)
    images, labels = load_digits(split)
    assert len(data) == len(images)
    assert data.labels == labels.tolist()
    assert len(set(data.sample_ids)) == len(data)
    for position in range(len(data)):
        item = data[position]
        assert torch.equal(item["image"], images[position])
        assert (item["label"], item["sample_id"]) == (data.labels[position], data.sample_ids[position])
        assert item["sample_id"] == f"digits/{digits_indices(split)[position]:04d}"


def test_dataset_describes_itself():
    data = DigitsDataset("val")
    assert data.classes == list(CLASSES) == [str(digit) for digit in range(10)]
    assert json.loads(json.dumps(data.preprocessing)) == data.preprocessing == preprocessing("val")
    assert (data.preprocessing["split"], data.preprocessing["split_seed"]) == ("val", 0)
    assert all(re.fullmatch(r"digits/\d{4}", name) for name in data.sample_ids)


def test_dataset_ends():
    data = DigitsDataset("test")
    assert data[-1]["sample_id"] == data.sample_ids[-1]
    with pytest.raises(IndexError):
        data[len(data)]


def test_editing_a_result_changes_no_later_one():
    data = DigitsDataset("test")
    images, labels = load_digits("test")
    before = images.clone()
    data[0]["image"].fill_(7)
    images.fill_(7)
    labels.fill_(7)
    digits_indices("test")[:] = 7
    assert torch.equal(data[0]["image"], before[0])
    assert torch.equal(load_digits("test")[0], before)
    assert len(set(load_digits("test")[1].tolist())) == 10
    assert len(set(digits_indices("test"))) == 360


@pytest.mark.parametrize("ask", [load_digits, digits_indices, DigitsDataset, preprocessing])
def test_wrong_split_is_named_with_the_right_ones(ask):
    with pytest.raises(NeuronPathError, match=r"No digits split is named 'tset'.*'test'\? Known: test, train, val\."):
        ask("tset")
