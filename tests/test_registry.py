"""Registered parts are found by name, made with their options, and missed in one line."""

from __future__ import annotations

import pytest

from neuron_path.attribution.scorer import scorers
from neuron_path.attribution.scorers.random import Random
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import families
from neuron_path.registry import Registry
from neuron_path.search.search import searches


def test_every_part_is_found_without_importing_it() -> None:
    assert {"activation", "influence_pattern", "joint_attribution", "random"} <= set(scorers.names())
    assert "greedy" in searches.names()
    assert "vision_transformer" in families.names()
    assert scorers.names() == sorted(scorers.names())


def test_a_part_knows_its_name() -> None:
    assert all(cls.name == name for name, cls in scorers)
    assert all(cls.name == name for name, cls in searches)


def test_options_reach_the_part() -> None:
    assert scorers.create("random", seed=7) == Random(seed=7)
    finished = Random(seed=3)
    assert scorers.create(finished) is finished


def test_a_new_part_is_one_decorated_class() -> None:
    registry: Registry[object] = Registry("scorer", "neuron_path.attribution.scorers")

    @registry.register("mine")
    class Mine:
        name: str

    assert "mine" in registry.names()
    assert isinstance(registry.create("mine"), Mine)
    assert Mine.name == "mine"


@pytest.mark.parametrize(
    ("registry", "name", "told"),
    [
        (scorers, "joint_atribution", "No scorer is named 'joint_atribution'. Did you mean 'joint_attribution'?"),
        (searches, "gredy", "No search is named 'gredy'. Did you mean 'greedy'?"),
        (scorers, "xyzzy", "Known: ablation, activation, activation_matched_random, "),
    ],
)
def test_an_unknown_name_is_one_line(registry: Registry, name: str, told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        registry.create(name)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_option_is_one_line() -> None:
    with pytest.raises(NeuronPathError, match=r"scorer 'random' has no option 'sed'\. Its options: seed"):
        scorers.create("random", sed=1)
    with pytest.raises(NeuronPathError, match=r"has no option 'seed'\. Its options: none"):
        scorers.create("activation", seed=1)
