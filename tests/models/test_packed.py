"""Products with weights that were laid out: the plain ones, to rounding, and nothing else is touched."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils import prune

import neuron_path
from neuron_path.models import packed as module
from neuron_path.models.packed import packed

CPU = torch.device("cpu")


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(512, 640).requires_grad_(False)


def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes that oneDNN's products are asked for from now on."""
    seen: list[torch.Size] = []
    multiply = module._multiply

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(x.shape)
        return multiply(x, weight, bias)

    monkeypatch.setattr(module, "_multiply", counted)
    return seen


@pytest.mark.parametrize("shape", [(512,), (3, 512), (2, 5, 512), (0, 5, 512)])
def test_value_and_gradient_are_the_plain_ones(
    layer: nn.Linear, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(shape, requires_grad=True)
    expected = layer(x)
    seen = calls(monkeypatch)
    with packed(layer, CPU):
        found = layer(x)
    weights = torch.randn_like(found)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    assert seen == [torch.Size(shape), torch.Size((*shape[:-1], 640))]


def test_strided_inputs_and_a_missing_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(512, 640, bias=False).requires_grad_(False)
    x = torch.randn(7, 3, 512).transpose(0, 1)[:, 1::2]
    seen = calls(monkeypatch)
    with packed(layer, CPU):
        found = layer(x)
    torch.testing.assert_close(found, layer(x), rtol=1e-5, atol=1e-5)
    assert len(seen) == 1


def test_other_products_are_left_alone(layer: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    small, double = nn.Linear(8, 8), copy.deepcopy(layer).double()
    seen = calls(monkeypatch)
    with packed(nn.Sequential(layer, small, double), CPU):
        small(torch.ones(2, 8))
        double(torch.ones(2, 512, dtype=torch.float64))
        F.linear(torch.ones(2, 512), layer.weight.clone(), layer.bias)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.ones(2, 512)).dtype == torch.bfloat16
    layer(torch.ones(2, 512))
    assert seen == []


@pytest.mark.parametrize("change", ["masks", "hook"])
def test_weights_that_change_before_every_pass_are_left_alone(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(640, 640).requires_grad_(False)
    if change == "masks":
        prune.random_unstructured(layer, "weight", 0.5)  # sets the weight anew
    else:
        layer.register_forward_pre_hook(lambda *_: None)
    seen = calls(monkeypatch)
    with packed(layer, CPU):
        layer(torch.ones(2, 640))
    assert seen == []


def test_a_torch_without_these_operators_computes_as_ever(layer: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        """An operator's namespace that has lost it."""

    monkeypatch.setattr(torch.ops, "mkldnn", Without())
    x = torch.ones(2, 512)
    with packed(layer, CPU):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("scorer", ["joint_attribution", "complete_attribution", "integrated_gradients"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_search_finds_the_same_paths(pool: str, scorer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=384, depth=3, num_heads=6, num_classes=7, global_pool=pool,  # pyright: ignore[reportArgumentType]
        fc_norm=False,
    ).eval()  # fmt: skip
    images = torch.randn(3, 3, 32, 32)
    options = {"scorer": scorer, "n_steps": 4}
    plain = neuron_path.find_paths(model, images, memory_budget="4GB", **options)  # a budget leaves no room for copies
    seen = calls(monkeypatch)
    found = neuron_path.find_paths(model, images, **options)
    assert len(seen) >= 9 * 2  # each weight forwards, and back
    assert found.paths.tolist() == plain.paths.tolist()
    torch.testing.assert_close(found.scores, plain.scores, rtol=1e-5, atol=1e-9)
