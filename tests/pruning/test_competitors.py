"""Rankings from chance, weights, activations and gradients, each against a literal reading of timm's own model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.activations import mean_activations
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from tests import tiny
from tests.pruning.masking import SLICEABLE, literal_taylor, seen_activations
from tests.zoo import SPECIMENS, ScopeName

every_case = pytest.mark.parametrize(("name", "scope"), SLICEABLE)


@every_case
def test_activations_are_averaged_over_images_and_all_tokens(name: str, scope: ScopeName) -> None:
    specimen = SPECIMENS[name]
    model, images = specimen.make(), specimen.images(3)
    each = [seen_activations(specimen, scope, model, image) for image in images]
    signed = mean_activations(model, images, token_scope=scope)
    absolute = activation_ranking(model, images, token_scope=scope)
    tolerance = max(1e-10, 10 * specimen.precision * (specimen.precision > 1e-9))
    for index, blocks in enumerate(zip(*each, strict=True)):
        every = torch.cat(blocks)
        torch.testing.assert_close(signed[index], every.mean(0), rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(absolute[index], every.abs().mean(0), rtol=tolerance, atol=tolerance)


@every_case
def test_taylor_is_the_mean_change_of_each_images_loss(name: str, scope: ScopeName) -> None:
    specimen = SPECIMENS[name]
    model, images, labels = specimen.make(), specimen.images(2), [3, 1]
    each = [literal_taylor(specimen, scope, model, image, label) for image, label in zip(images, labels, strict=True)]
    expected = [torch.stack(blocks).mean(0) for blocks in zip(*each, strict=True)]
    found = taylor_ranking(model, images, labels, token_scope=scope)
    tolerance = max(1e-9, 10 * specimen.precision * (specimen.precision > 1e-9))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)
        assert one.max() > 1e-6


def test_taylor_foretells_what_silencing_does() -> None:
    """For a neuron that adds next to nothing, the first order is all there is."""
    model: Any = tiny.make()
    images, labels = tiny.make_images(), torch.tensor([3, 0, 4])
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc2.weight[:, 5] *= 1e-5
    found = taylor_ranking(model, images, labels)
    for index, block in enumerate(model.blocks):
        before = nn.functional.cross_entropy(model(images), labels, reduction="none")
        column = block.mlp.fc2.weight[:, 5].clone()
        with torch.no_grad():
            block.mlp.fc2.weight[:, 5] = 0
        after = nn.functional.cross_entropy(model(images), labels, reduction="none")
        with torch.no_grad():
            block.mlp.fc2.weight[:, 5] = column
        torch.testing.assert_close(found[index][5], (after - before).abs().mean().detach(), rtol=1e-3, atol=0)


def test_without_labels_taylor_takes_predictions() -> None:
    model, images = tiny.make(), tiny.make_images()
    predicted = model(images).argmax(1)
    for one, two in zip(taylor_ranking(model, images), taylor_ranking(model, images, predicted), strict=True):
        assert torch.equal(one, two)


def test_no_ranking_depends_on_how_images_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny.make(), tiny.make_images(5)
    whole = [activation_ranking(model, images), taylor_ranking(model, images), mean_activations(model, images)]
    monkeypatch.setattr("neuron_path.models.budget.default_micro_batch", lambda *_: 2)
    cut = [activation_ranking(model, images), taylor_ranking(model, images), mean_activations(model, images)]
    for one, two in zip(whole, cut, strict=True):
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_ranking_leaves_the_model_as_it_was() -> None:
    model, images = tiny.make().train(), tiny.make_images()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    taylor_ranking(model, images)
    activation_ranking(model, images)
    magnitude_ranking(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def _plain(block: Any) -> tuple[list[Tensor], Tensor]:
    return [block.mlp.fc1.weight], block.mlp.fc2.weight


def _scaled(block: Any) -> tuple[list[Tensor], Tensor]:
    return [block.mlp.fc1.weight], block.ls2.gamma[:, None] * block.mlp.fc2.weight


def _packed(block: Any) -> tuple[list[Tensor], Tensor]:
    return [block.mlp.fc1.weight[:12], block.mlp.fc1.weight[12:]], block.mlp.fc2.weight


def _gated(block: Any) -> tuple[list[Tensor], Tensor]:
    return [block.mlp.fc1_g.weight, block.mlp.fc1_x.weight], block.ls2.gamma[:, None] * block.mlp.fc2.weight


def _joint(block: Any) -> tuple[list[Tensor], Tensor]:
    return [block.in_proj.weight[:24]], block.out_proj.weight[:, 16:]


def _side_by_side(block: Any) -> tuple[list[Tensor], Tensor]:
    first = torch.cat([part.mlp.fc1.weight for part in block.ffns])
    return [first], torch.cat([part.ls.gamma[:, None] * part.mlp.fc2.weight for part in block.ffns], 1)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("vit-cls", _plain),
        ("vit-layer_scale", _scaled),
        ("vit-glu", _packed),
        ("vit-swiglu", _gated),
        ("vit-parallel_scaling_fused", _joint),
        ("vit-parallel_things", _side_by_side),
    ],
)
def test_magnitude_is_the_norm_of_a_neurons_weights(
    name: str, weights: Callable[[Any], tuple[list[Tensor], Tensor]]
) -> None:
    model: Any = SPECIMENS[name].make()
    for block, scores in zip(model.blocks, magnitude_ranking(model), strict=True):
        first, second = weights(block)
        for neuron, score in enumerate(scores.tolist()):
            own = [value for part in first for value in part[neuron].tolist()] + second[:, neuron].tolist()
            assert score == pytest.approx(sum(value**2 for value in own) ** 0.5, rel=1e-12)


def test_random_scores_follow_the_seed_alone() -> None:
    model, same = tiny.make(), tiny.make(seed=4)
    one, two, other = random_ranking(model, 7), random_ranking(same, 7), random_ranking(model, 8)
    assert [len(scores) for scores in one] == [24] * 3
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1])


def test_wrong_labels_are_one_clear_line() -> None:
    with pytest.raises(NeuronPathError, match="Target 5 of image 1 is not a class of this model"):
        taylor_ranking(tiny.make(), tiny.make_images(), [0, 5, 0])
