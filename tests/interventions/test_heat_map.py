"""Heat maps against plain autograd loops on timm's own modules, and what every such map must do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.types import TargetName
from tests import oracle, tiny, zoo

N_STEPS = 5


def entering(model: VisionTransformer, image: Tensor) -> Tensor:
    """(T, D), what enters the first block."""
    seen = []
    handle = model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        model(image.unsqueeze(0))
    handle.remove()
    return seen[0]


def effect(setting: oracle.Setting, h: Tensor, image: Tensor, path: list[list[int]], target: int) -> Tensor:
    """f − f(path removed), with h in place of what enters the first block."""
    model = setting.model
    assert isinstance(model, VisionTransformer)

    def remove(index: int, where: slice, a: Tensor) -> Tensor:
        kept = torch.ones(a.shape[1:], dtype=a.dtype)
        for neuron in path[index]:
            kept[setting.tokens, neuron] = 0
        return a * kept

    handle = model.blocks[0].register_forward_pre_hook(lambda _, args: (h.unsqueeze(0),))
    try:
        clean = oracle.target_values(setting, model(image.unsqueeze(0)), target)[0]
        with oracle.hooked(setting, remove):
            return clean - oracle.target_values(setting, model(image.unsqueeze(0)), target)[0]
    finally:
        handle.remove()


def literal_map(
    setting: oracle.Setting, image: Tensor, blank: Tensor, path: list[list[int]], target: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(T,) contributions, and the effects of the image and of the baseline."""
    model = setting.model
    assert isinstance(model, VisionTransformer)
    end, start = entering(model, image), entering(model, blank)
    contributions = torch.zeros(len(end), dtype=torch.float64)
    for alpha, weight in zip(setting.alpha, setting.weights, strict=True):
        h = (start + alpha * (end - start)).requires_grad_()
        (gradient,) = torch.autograd.grad(effect(setting, h, image, path, target), h)
        contributions += weight * ((end - start) * gradient).sum(1)
    with torch.no_grad():
        found, blank_found = (effect(setting, h, image, path, target) for h in (end, start))
    return contributions, found, blank_found


def quick_map(
    model: VisionTransformer,
    images: Tensor,
    paths: Tensor | tuple[int, int],
    targets: Tensor,
    block: int | None = None,
) -> Tensor:
    """The map of the effect with a few nodes."""
    settings: dict[str, Any] = {"quadrature": "gauss_legendre", "n_steps": N_STEPS, "block": block}
    return neuron_path.heat_map(model, images, paths, targets, **settings).values


@pytest.mark.core
@pytest.mark.parametrize("target", ["probability", "margin"])
def test_the_map_of_an_effect_is_that_of_plain_autograd(
    case: tiny.Case, images: Tensor, targets: Tensor, target: TargetName
) -> None:
    model, scope = case
    paths = tiny.random_paths(model, 3, 2)
    paths[0, 1] = -1
    setting = tiny.literal(model, scope, n_steps=N_STEPS, target_function=target)
    blanks = 0.3 * tiny.make_images(3, seed=9)
    found = neuron_path.heat_map(
        model, images, paths, targets, baseline_images=blanks, quadrature="gauss_legendre", n_steps=N_STEPS,
        target=target, token_scope=scope,
    )  # fmt: skip
    assert found.convergence_deltas is not None
    for row in range(3):
        path = [[neuron for neuron in block if neuron >= 0] for block in paths[row].tolist()]
        contributions, end, start = literal_map(setting, images[row], blanks[row], path, int(targets[row]))
        patches = contributions[model.num_prefix_tokens :].view(2, 2)
        delta = contributions.sum() - (end - start)
        for ours, theirs in (
            (found.values, patches),
            (found.effects, end),
            (found.baseline_effects, start),
            (found.convergence_deltas, delta),
        ):
            assert ours is not None
            torch.testing.assert_close(ours[row], theirs, rtol=0, atol=1e-9)


@pytest.mark.core
def test_the_map_of_activations_is_what_the_neurons_have_at_the_patches(case: tiny.Case, images: Tensor) -> None:
    model, scope = case
    paths = tiny.random_paths(model, 3, 2)
    found = neuron_path.heat_map(model, images, paths, quantity="activation", token_scope=scope)
    everywhere = oracle.everywhere(tiny.literal(model, scope))
    for row in range(3):
        w = oracle.clean_activations(everywhere, images[row])
        expected = sum(w[index][model.num_prefix_tokens :, paths[row, index]].sum(1) for index in range(len(w)))
        torch.testing.assert_close(found.values[row].flatten(), torch.as_tensor(expected), rtol=0, atol=1e-9)
    assert found.convergence_deltas is None


def test_a_block_and_one_neuron_are_paths_with_none_elsewhere(
    model: VisionTransformer, images: Tensor, targets: Tensor
) -> None:
    paths = tiny.random_paths(model, 3, 2)
    alone = torch.full_like(paths, -1)
    alone[:, 1] = paths[:, 1]
    of_block = quick_map(model, images, paths, targets, block=1)
    torch.testing.assert_close(of_block, quick_map(model, images, alone, targets))
    one = torch.full((3, 3), -1)
    one[:, 2] = 7
    torch.testing.assert_close(quick_map(model, images, (2, 7), targets), quick_map(model, images, one, targets))


def test_with_enough_nodes_the_map_sums_to_the_difference_of_effects(
    model: VisionTransformer, images: Tensor, targets: Tensor
) -> None:
    paths = tiny.random_paths(model, 3, 2)
    found = neuron_path.heat_map(model, images, paths, targets)
    assert found.effects is not None
    assert found.baseline_effects is not None
    total, mass = found.values.sum((1, 2)), found.values.abs().sum((1, 2))
    assert ((total - (found.effects - found.baseline_effects)).abs() <= 0.01 * mass).all()
    rough = neuron_path.heat_map(model, images, paths, targets, quadrature="gauss_legendre", n_steps=2)
    assert rough.convergence_deltas is not None
    assert (rough.convergence_deltas.abs() > 0.01 * mass).any()  # which nodes are doubled for


def test_an_image_has_its_own_map_whatever_the_batch(model: VisionTransformer, images: Tensor, targets: Tensor) -> None:
    paths = tiny.random_paths(model, 3, 1)
    whole = quick_map(model, images, paths, targets)
    order = [2, 0]
    some = quick_map(model, images[order], paths[order], targets[order])
    torch.testing.assert_close(some, whole[order], rtol=0, atol=1e-12)


def test_other_weights_have_another_map(images: Tensor, targets: Tensor) -> None:
    """The sanity check of Adebayo et al. (NeurIPS 2018): random weights, layer by layer from the head down."""
    model = tiny.make()
    paths = tiny.random_paths(model, 3, 2)
    before = quick_map(model, images, paths, targets)
    for layer in (tiny.classifier(model), model.blocks[2], model.blocks[0]):
        torch.manual_seed(0)
        layer.apply(lambda module: module.reset_parameters() if isinstance(module, nn.Linear) else None)
        after = quick_map(model, images, paths, targets)
        unlike = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        assert (unlike > 0.1).all()
        before = after


def test_float32_and_the_model_stay_what_they_were(images: Tensor, targets: Tensor) -> None:
    model = tiny.make(dtype=torch.float32)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    paths = tiny.random_paths(model, 3, 1)
    found = quick_map(model, images.float(), paths, targets)
    assert found.dtype == torch.float32
    exact = quick_map(tiny.make(dtype=torch.float32).double(), images.float().double(), paths, targets)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-8)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("name", "scope"), [("hiera-plain", "patch"), ("cait-token", "cls")])
def test_a_model_without_a_grid_of_patches_is_refused_in_one_line(name: str, scope: zoo.ScopeName) -> None:
    specimen = zoo.SPECIMENS[name]
    paths = torch.tensor(specimen.random_paths(1, 1, scope))
    with pytest.raises(NeuronPathError, match="are no grid of patches") as caught:
        neuron_path.heat_map(specimen.make(), specimen.images(1), paths, token_scope=scope)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantity": "heat"}, "No quantity is named 'heat'"),
        ({"block": 3}, "block is 3; expected one of this model, 0 … 2"),
        ({"paths": (0, 99)}, "neuron 99 in block 0"),
        ({"paths": (1, 2, 3)}, r"expected paths of neurons, or \(block, neuron\)"),
        ({"baseline_images": torch.zeros(2, 3, 8, 8)}, "one for all or one for each"),
        ({"n_steps": 0}, "n_steps is 0"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    model: VisionTransformer, images: Tensor, given: dict[str, object], message: str
) -> None:
    arguments = {"paths": tiny.random_paths(model, 3, 1)} | given
    with pytest.raises(NeuronPathError, match=message):
        neuron_path.heat_map(model, images, **arguments)  # pyright: ignore[reportArgumentType]
