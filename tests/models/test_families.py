"""Every family's adapter, on every specimen of the zoo, against timm's own forward pass and plain hooks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, adapt
from neuron_path.models.guard import frozen
from tests import oracle, zoo
from tests.zoo import ScopeName, Specimen

Models = dict[str, nn.Module]
pytestmark = pytest.mark.covering  # every specimen by default, each in one of its scopes


@pytest.fixture(scope="module")
def models() -> Models:
    """Each specimen's model, made when first asked for."""
    return {}


@pytest.fixture(params=zoo.CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Specimen, ScopeName]:
    name, scope = request.param
    return zoo.SPECIMENS[name], scope


@pytest.fixture
def specimen(case: tuple[Specimen, ScopeName]) -> Specimen:
    return case[0]


@pytest.fixture
def scope(case: tuple[Specimen, ScopeName]) -> zoo.Scope:
    return case[0].scopes[case[1]]


@pytest.fixture
def model(specimen: Specimen, models: Models) -> Iterator[nn.Module]:
    """The specimen's model with frozen weights."""
    if specimen.name not in models:
        models[specimen.name] = specimen.make()
    with frozen(models[specimen.name]):
        yield models[specimen.name]


@pytest.fixture
def adapter(case: tuple[Specimen, ScopeName], model: nn.Module) -> Adapter:
    return adapt(model, case[1])


# Of every specimen, the typical ones by default: what depends on how a family reads its blocks, not on each variation.
typical_cases = pytest.mark.parametrize(
    "case", [pytest.param(case.values, marks=case.marks, id=case.id) for case in zoo.CASE_PARAMS], indirect=True
)


def through(adapter: Adapter, h: Tensor) -> Tensor:
    """Logits from what enters the first block."""
    for index in range(len(adapter.blocks)):
        h = adapter.run(index, h)
    return adapter.head(h)


def test_the_blocks_and_their_neurons_are_the_familys(
    adapter: Adapter, specimen: Specimen, scope: zoo.Scope, model: nn.Module
) -> None:
    assert tuple(block.n_neurons for block in adapter.blocks) == scope.n_neurons
    assert adapter.scope.pooled == scope.pooled
    assert adapt(model).scope.name == specimen.default_scope
    assert adapter.n_classes == zoo.N_CLASSES
    assert adapter.special
    adapter.check_images(specimen.images(1))


@torch.no_grad()
def test_block_by_block_is_the_model(adapter: Adapter, specimen: Specimen, model: nn.Module) -> None:
    images = specimen.images(3)
    torch.testing.assert_close(through(adapter, adapter.embed(images)), model(images), rtol=1e-10, atol=1e-10)


@torch.no_grad()
@typical_cases
def test_what_embed_keeps_holds_for_batches_of_any_size(adapter: Adapter, specimen: Specimen, model: nn.Module) -> None:
    images = specimen.images(3)
    h = adapter.embed(images)
    adapter.embed(images[:2])
    torch.testing.assert_close(through(adapter, h), model(images), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_activations_are_what_hooks_on_timms_modules_see(
    case: tuple[Specimen, ScopeName], adapter: Adapter, model: nn.Module
) -> None:
    specimen, name = case
    images = specimen.images(2)
    seen = [oracle.clean_activations(specimen.literal(model, name), image) for image in images]
    h = adapter.embed(images)
    for index, block in enumerate(adapter.blocks):
        scoped, live = adapter.split(index, h)
        torch.testing.assert_close(
            block.activations(scoped),
            torch.stack([activations[index] for activations in seen]),
            rtol=specimen.precision,
            atol=specimen.precision,
        )
        both = adapter.scope.join(block.feed(scoped), live)
        h = adapter.run(index, h)
        torch.testing.assert_close(both, h, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@typical_cases
def test_the_projection_is_affine_with_these_columns_and_this_pullback(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(0)
    for block in adapter.blocks:
        n_neurons = block.n_neurons
        a = torch.randn(1, 1, n_neurons, generator=generator, dtype=torch.float64)
        bumped = block.project(a + torch.eye(n_neurons, dtype=torch.float64).unsqueeze(1)) - block.project(a)
        columns = block.columns(torch.arange(n_neurons).unsqueeze(0))[0]
        torch.testing.assert_close(bumped.squeeze(1), columns, rtol=1e-10, atol=1e-10)
        assert columns.abs().amax(1).min() > 0
        torch.testing.assert_close(block.project(3 * a) - block.project(a), 2 * a @ columns, rtol=1e-10, atol=1e-10)
        g = torch.randn(2, 3, columns.shape[1], generator=generator, dtype=torch.float64)
        torch.testing.assert_close(block.pullback(g), g @ columns.t(), rtol=1e-10, atol=1e-10)
        some = torch.tensor([[0, n_neurons - 1, 3], [5, 5, 1]])
        assert torch.equal(block.columns(some), columns[some])


@typical_cases
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # from torch's own first forward mode
def test_both_modes_of_differentiation_agree(adapter: Adapter, specimen: Specimen) -> None:
    h = adapter.embed(specimen.images(2))
    generator = torch.Generator().manual_seed(0)
    tangent = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, zoo.N_CLASSES, generator=generator, dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        forward = torch.func.jvp(partial(through, adapter), (h,), (tangent,))[1]
    h.requires_grad_()
    (reverse,) = torch.autograd.grad((through(adapter, h) * weights).sum(), h)
    scale = float((reverse * tangent).abs().sum())
    assert scale > 0
    torch.testing.assert_close(
        (forward * weights).sum(), (reverse * tangent).sum(), rtol=0, atol=specimen.precision * scale
    )


@typical_cases
def test_gradients_reach_the_image_as_they_do_in_the_model(
    adapter: Adapter, specimen: Specimen, model: nn.Module
) -> None:
    images = specimen.images(2).requires_grad_()
    (ours,) = torch.autograd.grad(through(adapter, adapter.embed(images))[:, 1].sum(), images)
    (theirs,) = torch.autograd.grad(model(images)[:, 1].sum(), images)
    torch.testing.assert_close(
        ours, theirs, rtol=specimen.precision, atol=specimen.precision * float(theirs.abs().max())
    )


FREE_OF_SIZE = [
    "vit-dynamic",
    "eva-dinov3",
    "sam-neck",
    "naflex-cls",
    "naflex-rope",
    "naflex-rope_mixed",
    "gemma4-avg",
    "deepseek-avg",
    "qwen3-avg",
]


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in FREE_OF_SIZE if name in zoo.SPECIMENS])
def test_images_of_another_size(name: str, models: Models) -> None:
    specimen = zoo.SPECIMENS[name]
    model = models[name] if name in models else specimen.make()
    adapter = adapt(model)
    images = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    adapter.check_images(images)
    torch.testing.assert_close(through(adapter, adapter.embed(images)), model(images), rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gemma4-avg", {"encoder_pool": "soft", "pooling_kernel_size": 2, "standardize": True}),
        ("gemma4-avg", {"use_clipped_linears": True, "num_kv_heads": 1}),
        ("deepseek-avg", {"encoder_pool": "align", "out_features": 12}),
        ("qwen3-avg", {"encoder_pool": "merge", "out_features": 12}),
    ],
)
def test_what_an_encoder_does_behind_its_blocks_is_part_of_the_head(name: str, options: dict[str, Any]) -> None:
    known = zoo.SPECIMENS[name]
    specimen = replace(known, model=zoo.Timm(known.model.path, {**known.model.arguments, **options}))
    model, images = specimen.make(), specimen.images(3)
    adapter = adapt(model)
    h = adapter.embed(images)
    adapter.embed(images[:1])
    tolerance = max(1e-10, specimen.precision, 1e-5 * ("soft" in options.values()))  # timm pools in float32
    torch.testing.assert_close(through(adapter, h), model(images), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", zoo.SPECIMEN_PARAMS)
def test_a_model_is_left_as_it_was(name: str, models: Models) -> None:
    specimen = zoo.SPECIMENS[name]
    model = models[name] if name in models else specimen.make()
    weights = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    names = [name for name, _ in model.named_modules()]
    adapter = adapt(model)
    through(adapter, adapter.embed(specimen.images(2))).sum().backward()
    model.zero_grad()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert weights.keys() == model.state_dict().keys()
    assert flags == ([module.training for module in model.modules()], [p.requires_grad for p in model.parameters()])
    assert names == [name for name, _ in model.named_modules()]


# What other kinds of module than the family's adapter can read, by their specimens' first word.
AS_THEY_ARE = ("vit", "deit", "eva", "beit", "relpos", "hybrid", "vitamin", "naflex", "deepseek", "qwen3")
NOT_AS_THEY_ARE = ("parallel", "res_post", "post_norm")


@torch.no_grad()
@pytest.mark.parametrize("name", zoo.SPECIMEN_PARAMS)
def test_a_subclass_with_a_forward_of_its_own_is_read_as_it_is_or_refused(name: str, models: Models) -> None:
    specimen = zoo.SPECIMENS[name]
    model = copy.copy(models[name] if name in models else specimen.make())
    family = adapt(model)

    class Own(type(model)):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    model.__class__ = Own
    if not name.startswith(AS_THEY_ARE) or any(kind in name for kind in NOT_AS_THEY_ARE):
        with pytest.raises(NeuronPathError, match=r"not supported: the class changes|cannot be read as they are"):
            adapt(model)
        return
    adapter, images = adapt(model), specimen.images(3)
    torch.testing.assert_close(through(adapter, adapter.embed(images)), model(images), rtol=1e-10, atol=1e-10)
    assert adapter.scope == family.scope
    assert [block.n_neurons for block in adapter.blocks] == [block.n_neurons for block in family.blocks]
