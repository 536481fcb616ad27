"""The zoo's word on where neurons are, and the literal oracle on every specimen: timm alone, without the package."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests import oracle, zoo
from tests.zoo import ScopeName, Specimen


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    """Each specimen's model, made when first asked for."""
    return {}


@pytest.fixture
def model(specimen: Specimen, models: dict[str, nn.Module]) -> nn.Module:
    if specimen.name not in models:
        models[specimen.name] = specimen.make()
    return models[specimen.name]


@pytest.fixture(params=zoo.SPECIMEN_PARAMS)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    return zoo.SPECIMENS[request.param]


every_scope = pytest.mark.parametrize(("specimen", "scope"), zoo.CASE_PARAMS, indirect=["specimen"])


@every_scope
def test_sites_see_the_tokens_and_neurons_that_are_expected(
    specimen: Specimen, scope: ScopeName, model: nn.Module
) -> None:
    where = specimen.scopes[scope]
    setting = specimen.literal(model, scope)
    seen: list[list[tuple[int, ...]]] = [[] for _ in where.blocks]
    order: list[int] = []

    def note(index: int, neurons: slice, a: Tensor) -> None:
        assert a.shape[0] == 2
        seen[index].append((a.shape[1], neurons.start, neurons.stop))
        order.append(index)

    with oracle.hooked(setting, note), torch.no_grad():
        logits = model(specimen.images(2))
    assert logits.shape == (2, zoo.N_CLASSES)
    assert order == sorted(order)
    for block, length, n_neurons, calls in zip(where.blocks, where.lengths, where.n_neurons, seen, strict=True):
        assert len(calls) == len(block)
        assert [call[0] for call in calls] == [length] * len(block)
        assert [call[1] for call in calls] == [0, *(call[2] for call in calls[:-1])]
        assert calls[-1][2] == n_neurons
        assert len(range(length)[where.tokens]) > 0
    activations = oracle.clean_activations(setting, specimen.images(1)[0])
    expected = [
        (len(range(length)[where.tokens]), n_neurons)
        for length, n_neurons in zip(where.lengths, where.n_neurons, strict=True)
    ]
    assert [tuple(w.shape) for w in activations] == expected


@every_scope
def test_clean_values_put_back_change_nothing(specimen: Specimen, scope: ScopeName, model: nn.Module) -> None:
    setting = specimen.literal(model, scope, target_function="logit")
    image = specimen.images(1)[0]
    with torch.no_grad():
        logits = model(image.unsqueeze(0))[0]
    leaves = [w.expand(len(setting.alpha), *w.shape) for w in oracle.clean_activations(setting, image)]
    for target in range(zoo.N_CLASSES):
        _, values = oracle.frozen_gradients(setting, image, target, leaves)
        assert (values - logits[target]).abs().max() < 1e-10


def test_no_activation_of_the_default_scope_is_without_gradient(specimen: Specimen, model: nn.Module) -> None:
    setting = specimen.literal(model, n_steps=1, target_function="logit")
    image = specimen.images(1)[0]
    leaves = [w.unsqueeze(0) for w in oracle.clean_activations(setting, image)]
    gradients, _ = oracle.frozen_gradients(setting, image, 1, leaves)
    for gradient in gradients:
        assert gradient.abs().min() > 1e-9
        assert gradient.abs().amax((0, 1)).min() > 1e-5


@every_scope
def test_the_frozen_graph_is_complete(specimen: Specimen, scope: ScopeName, model: nn.Module) -> None:
    setting = specimen.literal(model, scope, n_steps=48)
    (path,) = specimen.random_paths(1, k=2, scope=scope)
    score, delta = oracle.complete_score(setting, specimen.images(1)[0], 2, path)
    assert score.abs() > 1e-8
    assert delta.abs() < (1e-3 if specimen.kinks else 1e-10 if specimen.precision < 1e-8 else 1e-6)


def test_an_image_is_on_its_own_in_a_batch(specimen: Specimen, model: nn.Module) -> None:
    images = specimen.images(3)
    with torch.no_grad():
        together, again = model(images), model(images)
        alone = torch.cat([model(image.unsqueeze(0)) for image in images])
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, rtol=0, atol=max(1e-10, 1e-2 * (specimen.precision > 1e-9)))
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_seed_is_a_model(specimen: Specimen, model: nn.Module) -> None:
    same, other = specimen.make(), specimen.make(seed=1)
    image = specimen.images(1)
    with torch.no_grad():
        logits = model(image)
        assert torch.equal(same(image), logits)
        assert (other(image) - logits).abs().max() > 1e-3
    assert not any(module.training for module in same.modules())


def test_the_default_scope_is_one_of_the_scopes() -> None:
    for specimen in zoo.SPECIMENS.values():
        assert specimen.default_scope in specimen.scopes


# What the oracle can do beyond a plain block is checked on the specimens that have it.


def test_a_pooled_objective_multiplies_means() -> None:
    specimen = zoo.SPECIMENS["hiera-plain"]
    setting = specimen.literal(specimen.make())
    image = specimen.images(1)[0]
    path, objectives = oracle.greedy_path(setting, image, 1, k=2)
    w = oracle.clean_activations(setting, image)
    gradients, _ = oracle.path_gradients(setting, image, 1, path)
    weight = sum(w[n][:, j].mean() for n, neurons in enumerate(path) for j in neurons)
    slope = sum(
        omega * gradients[n][k, :, j].mean()
        for k, omega in enumerate(setting.weights)
        for n, neurons in enumerate(path)
        for j in neurons
    )
    torch.testing.assert_close(oracle.joint_score(setting, image, 1, path), weight * slope)
    counted = [row[~row.isnan()] for row in objectives]
    assert tuple(len(row) for row in counted) == specimen.scopes["patch"].n_neurons
    assert [row.topk(2).indices.tolist() for row in counted] == path


@pytest.mark.parametrize(
    "name", ["vit-cls", "vit-avg", "vit-parallel_things", "vit-parallel_scaling_fused", "hiera-plain"]
)
def test_target_functions(name: str) -> None:
    specimen = zoo.SPECIMENS[name]
    model, image = specimen.make(), specimen.images(1)[0]
    with torch.no_grad():
        logits = model(image.unsqueeze(0))[0].tolist()
    target = 3
    others = math.log(sum(math.exp(logit) for index, logit in enumerate(logits) if index != target))
    (path,) = specimen.random_paths(1)
    for function, clean in (("logit", logits[target]), ("margin", logits[target] - others)):
        setting = specimen.literal(model, n_steps=48, target_function=function)
        score, delta = oracle.complete_score(setting, image, target, path)
        nothing = oracle.path_gradients(setting, image, target, [[] for _ in path])[1]
        assert nothing[0].item() == pytest.approx(clean, abs=1e-12)
        assert delta.abs() < (1e-2 if specimen.kinks else 1e-6)
        assert score.abs() > 1e-6


@pytest.mark.parametrize("name", ["vit-parallel_scaling_fused", "vit-diff_parallel_scaling"])
def test_the_columns_of_a_fused_layer_are_those_behind_the_activation_function(name: str) -> None:
    specimen = zoo.SPECIMENS[name]
    activations = oracle.clean_activations(specimen.literal(specimen.make(), "patch"), specimen.images(1)[0])
    assert all(w.min() > -0.17 for w in activations)  # as low as GELU goes


@pytest.mark.parametrize("name", ["vit-parallel_things", "vit-parallel_scaling_fused", "sam-neck", "cait-token"])
def test_an_intervention_is_the_modules_own(name: str) -> None:
    """Scaling a neuron is scaling its column of the second linear layer, if every token is in scope."""
    specimen = zoo.SPECIMENS[name]
    model, image = specimen.make(), specimen.images(1)[0]
    setting = specimen.literal(model, "patch")
    setting.tokens = slice(None)
    (path,) = specimen.random_paths(1, k=2, scope="patch")
    edited = oracle.intervened(setting, image, path, 2.0)
    for block, neurons in zip(specimen.scopes["patch"].blocks, path, strict=True):
        layers = [(model.get_submodule(site.module), site.columns) for site in block]
        with torch.no_grad():
            columns = [column for layer, where in layers for column in next(layer.parameters())[:, where].unbind(1)]
            for neuron in neurons:
                columns[neuron].mul_(2.0)
    with torch.no_grad():
        torch.testing.assert_close(model(image.unsqueeze(0))[0], edited, rtol=1e-10, atol=1e-12)


def test_the_complete_search_rates_by_integrated_gradients() -> None:
    specimen = zoo.SPECIMENS["vit-avg"]
    setting = specimen.literal(specimen.make())
    image = specimen.images(1)[0]
    path, objectives = oracle.greedy_path(setting, image, 1, complete=True)
    w = oracle.clean_activations(setting, image)
    gradients, _ = oracle.frozen_gradients(setting, image, 1, [oracle.scaled(setting, w[0], None)])
    expected = sum(omega * (w[0] * gradients[0][k]).sum(0) for k, omega in enumerate(setting.weights))
    torch.testing.assert_close(objectives[0], expected)
    assert path[0] == [objectives[0].argmax().item()]
