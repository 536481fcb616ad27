"""A short training of a pruned model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.fine_tuning import Recipe, fine_tune
from neuron_path.pruning.slicing import slice_model


@pytest.fixture(scope="module")
def pruned() -> nn.Module:
    """A quarter of the embedded model's neurons, the first ones."""
    return slice_model(neuron_path.load_model(), [range(48)] * 12)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    images, labels = neuron_path.load_digits("val")
    return images[:96], labels[:96]


def trained(model: nn.Module, digits: tuple[Tensor, Tensor], seed: int = 0, **settings: float) -> nn.Module:
    recipe = Recipe(**{"epochs": 2, "learning_rate": 1e-3, **settings})  # pyright: ignore[reportArgumentType]
    return fine_tune(copy.deepcopy(model), *digits, recipe, seed=seed, accelerator="cpu")


def loss(model: nn.Module, digits: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(digits[0]), digits[1]))


def test_it_learns_and_gives_a_frozen_model(pruned: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model = trained(pruned, digits, shift=1)
    assert loss(model, digits) < 0.8 * loss(pruned, digits)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_same_seed_gives_the_same_weights(pruned: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    state = torch.get_rng_state()
    one, two, other = (trained(pruned, digits, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_no_epoch_changes_nothing(pruned: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    model = trained(pruned, digits, epochs=0)
    assert all(torch.equal(value, pruned.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"batch_size": 0}, {"learning_rate": 0.0}, {"shift": -1}])
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(NeuronPathError, match=rf"fine_tune\.{next(iter(wrong))} is .*; expected"):
        Recipe(**wrong)  # pyright: ignore[reportArgumentType]
