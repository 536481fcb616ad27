"""ImageNet's synsets: the model's indices, and names that tell all classes apart."""

from __future__ import annotations

import pytest
from timm.data.imagenet_info import ImageNetInfo

from neuron_path.models.imagenet import imagenet_classes

# Set → number of classes.
SETS = {"imagenet-1k": 1000, "imagenet-12k": 11821, "imagenet-22k": 21841, "imagenet-21k-miil": 11221}


@pytest.mark.parametrize("name", SETS)
def test_indices_are_those_of_timm_s_models(name: str) -> None:
    info = ImageNetInfo(name)
    synsets = [info.index_to_label_name(place) for place in range(0, SETS[name], 500)]
    found = imagenet_classes(synsets, SETS[name])
    assert found is not None
    index, names, is_indexed = found
    assert is_indexed
    assert [index[synset] for synset in synsets] == list(range(0, SETS[name], 500))
    assert len(names) == len(set(names)) == info.num_classes() == SETS[name]


def test_well_known_classes() -> None:
    found = imagenet_classes(["n02123045", "n02012849", "n03126707"], 1000)
    assert found is not None
    index, names, _ = found
    assert names[281] == "tabby, tabby cat"
    assert index["n02123045"] == 281
    assert (names[134], names[517]) == ("crane (n02012849)", "crane (n03126707)")


def test_other_models_take_the_names_in_the_order_of_the_folders() -> None:
    assert imagenet_classes(["n02979186", "n01440764"], 10) == (
        {"n01440764": 0, "n02979186": 1},
        ["tench, Tinca tinca", "cassette player"],
        False,
    )
    beyond = imagenet_classes(["n01440764", "n00004475"], 1000)  # the second is none of the 1,000
    assert beyond is not None
    assert beyond[1:] == (["organism, being", "tench, Tinca tinca"], False)


def test_a_synset_that_nobody_knows_keeps_its_number() -> None:
    assert imagenet_classes(["n99999999"], 2) == ({"n99999999": 0}, ["n99999999"], False)


@pytest.mark.parametrize("keys", [[], ["cat"], ["n01440764", "cat"], ["n0144076"], ["N01440764"], ["n014407645"]])
def test_other_folders_are_not_imagenet_s(keys: list[str]) -> None:
    assert imagenet_classes(keys, 1000) is None
