"""Sliced models against hooks that silence the same neurons in timm's own, for every architecture of the zoo."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.pruning.activations import mean_activations
from neuron_path.pruning.allocation import keep_neurons
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from neuron_path.pruning.ranking import hidden_widths
from neuron_path.pruning.slicing import slice_model
from tests import oracle, tiny
from tests.pruning.masking import SLICEABLE, WITH_A_NORM, replaced, some_neurons
from tests.zoo import SPECIMENS, ScopeName, Specimen

every_case = pytest.mark.parametrize(("name", "scope"), SLICEABLE)


def close(specimen: Specimen, found: Tensor, expected: Tensor) -> None:
    tolerance = max(1e-9, 10 * specimen.precision * (specimen.precision > 1e-9))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@every_case
def test_a_sliced_model_is_the_one_with_the_other_neurons_silenced(name: str, scope: ScopeName) -> None:
    specimen = SPECIMENS[name]
    model, images, kept = specimen.make(), specimen.images(2), some_neurons(specimen, scope)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        clean = model(images)
    sliced = slice_model(model, kept, token_scope=scope)
    assert type(sliced) is type(model)
    assert hidden_widths(sliced, scope) == [len(neurons) for neurons in kept]
    with torch.no_grad():
        found = sliced(images)
    close(specimen, found, replaced(specimen, scope, model, images, kept))
    assert (found - clean).abs().max() > 1e-4
    assert model.state_dict().keys() == before.keys() == sliced.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hidden_widths(model, scope) == list(specimen.scopes[scope].n_neurons)
    n_before, n_after = (sum(weight.numel() for weight in one.parameters()) for one in (model, sliced))
    assert n_after < n_before


@every_case
def test_folding_puts_constants_in_the_removed_neurons_place(name: str, scope: ScopeName) -> None:
    specimen = SPECIMENS[name]
    model, images, kept = specimen.make(), specimen.images(2), some_neurons(specimen, scope)
    generator = torch.Generator().manual_seed(5)
    # Within ±1, between which the layers of `gemma4-clipped` clip.
    means = [
        torch.rand(width, generator=generator, dtype=torch.float64) * 2 - 1
        for width in specimen.scopes[scope].n_neurons
    ]
    sliced = slice_model(model, kept, means, token_scope=scope)
    with torch.no_grad():
        found = sliced(images)
    close(specimen, found, replaced(specimen, scope, model, images, kept, means))


@pytest.mark.parametrize("name", sorted(WITH_A_NORM))
def test_a_norm_over_the_neurons_is_refused(name: str) -> None:
    model, specimen = SPECIMENS[name].make(), SPECIMENS[name]
    with pytest.raises(NeuronPathError, match=r"The FFN of block 0 \(\w+\) cannot be sliced: it has a norm") as error:
        slice_model(model, some_neurons(specimen, specimen.default_scope))
    assert "\n" not in str(error.value)


def test_keeping_everything_changes_nothing() -> None:
    model, images = tiny.make(), tiny.make_images()
    sliced = slice_model(model, [range(24)] * 3, [torch.ones(24)] * 3)
    torch.testing.assert_close(sliced(images), model(images))


def test_folding_leaves_an_ffns_mean_output_as_it_was() -> None:
    """Over the images and all the tokens that the means were taken on, when its block alone is pruned."""
    model: Any = neuron_path.load_model("digits_vit")
    images, _ = neuron_path.load_digits("train")
    images = images[:50]
    kept = [range(0, 192, 2) if index == 4 else range(192) for index in range(12)]
    plain: Any = slice_model(model, kept)
    folded: Any = slice_model(model, kept, mean_activations(model, images))
    outputs: list[Tensor] = []
    for one in (model, plain, folded):
        one.blocks[4].mlp.fc2.register_forward_hook(lambda _, args, out: outputs.append(out.mean((0, 1))))
        with torch.no_grad():
            one(images)
    full, cut, mended = outputs
    assert (cut - full).norm() > 0.1 * full.norm()
    assert (mended - full).norm() < 1e-5 * full.norm()


def test_a_parallel_ffn_may_lose_all_its_neurons() -> None:
    specimen = SPECIMENS["vit-parallel_things"]
    model, images = specimen.make(), specimen.images(2)
    kept = [list(range(24))] * 3  # the first FFN's
    sliced = slice_model(model, kept)
    with torch.no_grad():
        close(specimen, sliced(images), replaced(specimen, "cls", model, images, kept))


def test_a_model_can_be_sliced_again() -> None:
    model, images = tiny.make(), tiny.make_images()
    once = slice_model(model, [[1, 4, 7, 20], [2, 3], [5]])
    twice = slice_model(once, [[0, 3], [1], [0]])
    torch.testing.assert_close(twice(images), slice_model(model, [[1, 20], [3], [5]])(images))


def test_mode_type_and_trainable_weights_stay() -> None:
    model: Any = tiny.make(dtype=torch.bfloat16).train()
    model.blocks[0].mlp.fc1.requires_grad_(False)
    sliced: Any = slice_model(model, [[0, 1]] * 3, [torch.ones(24)] * 3)
    assert all(module.training for module in sliced.modules())
    assert {parameter.dtype for parameter in sliced.parameters()} == {torch.bfloat16}
    assert [name for name, parameter in sliced.named_parameters() if not parameter.requires_grad] == [
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc1.bias",
    ]


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([[0]] * 2, "Kept neurons are given for 2 block(s), but this model has 3"),
        ([[0], [], [0]], "No neuron of block 1 is kept"),
        ([[0], [24], [0]], "Block 1 has neurons 0 … 23, but 24 is to be kept"),
        ([[-1], [0], [0]], "Block 0 has neurons 0 … 23, but -1 is to be kept"),
        ([[0, 3, 0], [0], [0]], "Kept neurons of block 0 name one twice"),
        ([[0.5], [0], [0]], "expected a list of integer indices"),
        ([["a"], [0], [0]], "Kept neurons of block 0 are no list of integers"),
        ([torch.ones(24, dtype=torch.bool)] * 3, "expected a list of integer indices"),
    ],
)
def test_wrong_neurons_are_one_clear_line(kept: Any, message: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        slice_model(tiny.make(), kept)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("means", "message"),
    [
        ([torch.zeros(24)] * 2, "Mean activations have shapes"),
        ([torch.zeros(23)] * 3, "Mean activations have shapes"),
        ([torch.full((24,), torch.nan)] * 3, "Mean activations hold NaN"),
    ],
)
def test_wrong_means_are_one_clear_line(means: list[Tensor], message: str) -> None:
    with pytest.raises(NeuronPathError, match=message):
        slice_model(tiny.make(), [[0]] * 3, means)


def test_an_ffn_of_two_blocks_is_refused() -> None:
    model: Any = tiny.make()
    model.blocks[2].mlp = model.blocks[0].mlp
    with pytest.raises(NeuronPathError, match="Blocks 0 and 2 share one FFN"):
        slice_model(model, [[0]] * 3)


def test_a_wrapped_first_layer_is_refused() -> None:
    model: Any = tiny.make()
    model.blocks[1].mlp.fc1 = nn.Sequential(model.blocks[1].mlp.fc1)
    with pytest.raises(NeuronPathError, match=r"block 1 \(Mlp\) cannot be sliced: one of its layers is a Sequential"):
        slice_model(model, [[0]] * 3)


@pytest.mark.parametrize(("name", "scope"), [("vit-cls", "cls"), ("vit-swiglu", "cls"), ("hiera-plain", "patch")])
def test_paths_of_a_sliced_model_are_the_oracles(name: str, scope: ScopeName) -> None:
    """Also where its blocks have other widths."""
    specimen = SPECIMENS[name]
    sliced = slice_model(specimen.make(), some_neurons(specimen, scope), token_scope=scope)
    images, targets = specimen.images(2), torch.tensor([3, 1])
    widths = hidden_widths(sliced, scope)
    assert len(set(widths)) > 1
    found = neuron_path.find_paths(sliced, images, targets, token_scope=scope, n_steps=5)
    setting = specimen.literal(sliced, scope)
    for image, target, path in zip(images, targets.tolist(), found.paths.tolist(), strict=True):
        expected, _ = oracle.greedy_path(setting, image, target)
        assert [[neuron] for neuron in path] == expected
    logits = neuron_path.intervene(sliced, images, found.paths, "remove", scope)
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("name", ["vit-parallel_scaling_mlp_bias", "vit-parallel_scaling_fused", "vit-parallel_things"])
def test_paths_of_other_sliced_blocks_can_be_searched(name: str) -> None:
    specimen = SPECIMENS[name]
    kept = some_neurons(specimen, "cls")
    sliced = slice_model(specimen.make(), kept)
    found = neuron_path.find_paths(sliced, specimen.images(2), top_k=2)
    assert found.paths.shape == (2, 3, 2)
    assert (found.paths.amax((0, 2)) < torch.tensor([len(neurons) for neurons in kept])).all()


def test_on_every_device(device: torch.device) -> None:
    model, images = tiny.make(dtype=torch.float32).to(device), tiny.make_images(dtype=torch.float32)
    rankings = [
        random_ranking(model),
        magnitude_ranking(model),
        activation_ranking(model, images),
        taylor_ranking(model, images),
    ]
    assert all(scores.device.type == "cpu" for ranking in rankings for scores in ranking)
    kept = keep_neurons(rankings[3], 0.5, "global", then=rankings[1])
    sliced = slice_model(model, kept, mean_activations(model, images))
    assert {parameter.device.type for parameter in sliced.parameters()} == {device.type}
    same = slice_model(model.cpu(), kept, mean_activations(model.cpu(), images))
    with torch.no_grad():
        torch.testing.assert_close(sliced(images.to(device)).cpu(), same(images), rtol=1e-2, atol=1e-2)
