"""Names of classes: folders are numbered as the model names them, and as ImageNet does only where it is that."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuron_path.models.classes import class_names, known_classes, name_classes
from neuron_path.models.heads import LinearHead, attach_head
from neuron_path.models.imagenet import imagenet_classes
from tests.models.checkpoints import WIDTH, make


def named(*names: str) -> Any:
    return name_classes(make(num_classes=len(names)), names)


def test_folders_are_numbered_by_the_model_s_names() -> None:
    index, names, is_indexed = known_classes(["cat", "dog"], named("dog", "mouse", "cat")) or ({}, [], False)
    assert (index, names, is_indexed) == ({"cat": 2, "dog": 0}, ["dog", "mouse", "cat"], True)


@pytest.mark.parametrize("key", ["golden_retriever", "Golden Retriever", "golden-retriever"])
def test_spelling_makes_no_difference(key: str) -> None:
    found = known_classes([key], named("cat", "golden retriever"))
    assert found is not None
    assert found[0] == {key: 1}


def test_exact_names_go_before_alike_ones() -> None:
    found = known_classes(["a b", "a_b"], named("a_b", "a b"))
    assert found is not None
    assert found[0] == {"a b": 1, "a_b": 0}


@pytest.mark.parametrize("keys", [[], ["cat", "stranger"], ["crane"]])
def test_strangers_and_doubles_are_not_known(keys: list[str]) -> None:
    assert known_classes(keys, named("cat", "crane", "crane")) is None


def test_a_head_that_is_fitted_later_has_no_names_yet() -> None:
    assert known_classes(["cat", "dog"], named("dog", "cat"), is_named=False) is None


def test_names_of_another_number_of_classes_are_none() -> None:
    model = named("dog", "cat")
    model.reset_classifier(3)
    assert class_names(model) == ()


def test_names_by_number_and_words_for_them() -> None:
    model: Any = make(num_classes=2)
    words = {"n01440764": "tench", "n02099601": "golden retriever"}
    model.pretrained_cfg |= {"label_names": {"1": "n01440764", "0": "n02099601"}, "label_descriptions": words}
    assert class_names(model) == ("golden retriever", "tench")
    for keys in (["n01440764", "n02099601"], ["tench", "golden retriever"]):
        found = known_classes(keys, model)
        assert found is not None
        assert found[0] == dict(zip(keys, (1, 0), strict=True))


def test_synsets_are_the_model_s_only_if_its_names_are_imagenet_s() -> None:
    keys = ["n01440764", "n02099601"]
    own = imagenet_classes(keys, 1000)
    assert own is not None
    like = named(*(name.split(",")[0] for name in own[1]))
    assert known_classes(keys, like) == own
    assert known_classes(keys, named(*(f"class {place}" for place in range(1000)))) is None
    assert known_classes(keys, make(num_classes=1000)) == own


def test_another_head_has_other_names() -> None:
    model = named("dog", "cat")
    attach_head(model, LinearHead(torch.ones(2, WIDTH), torch.ones(2)))
    assert class_names(model) == ()
    attach_head(model, LinearHead(torch.ones(2, WIDTH), torch.ones(2), ("left", "right")))
    assert class_names(model) == ("left", "right")
