"""The adapter computes what timm computes, and refuses what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from timm.layers.hybrid_embed import HybridEmbed
from timm.layers.mlp import SwiGLU
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn
from torchvision.models import resnet18

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from tests import tiny


@torch.no_grad()
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_blocks_compute_what_timms_do(name: str, images: Tensor) -> None:
    model = tiny.make(name)
    adapter = adapt(model)
    h = expected = adapter.embed(images)
    for block, theirs in zip(adapter.blocks, model.blocks, strict=True):
        h, expected = block(h), theirs(expected)
        torch.testing.assert_close(h, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(adapter.head(h), model(images), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 4), slice(1, None)], ids=str)
def test_a_block_at_some_tokens_is_the_block_at_those_tokens(name: str, rows: slice) -> None:
    model = tiny.make(name)
    x = tiny.make_images(2, size=8).reshape(2, 12, 16)
    for block in adapt(model).blocks:
        torch.testing.assert_close(block(x, rows), block(x)[:, rows], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_pullback_and_columns_are_the_ffns_derivatives(name: str) -> None:
    block = adapt(tiny.make(name)).blocks[1]
    a = torch.linspace(-1, 1, 2 * 3 * 24, dtype=torch.float64).view(2, 3, 24).requires_grad_()
    g = torch.linspace(1, -2, 2 * 3 * 16, dtype=torch.float64).view(2, 3, 16)
    (expected,) = torch.autograd.grad(block.ffn(a), a, g)
    torch.testing.assert_close(block.pullback(g), expected, rtol=1e-12, atol=1e-12)
    neurons = torch.tensor([[3, 7], [0, 23]])
    for image, row in enumerate(neurons):
        for slot, neuron in enumerate(row):
            bumped = a.detach().clone()
            bumped[..., neuron] += 1
            moved = (block.ffn(bumped) - block.ffn(a.detach()))[0, 0]
            torch.testing.assert_close(block.columns(neurons)[image, slot], moved, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "scope", "rows"),
    [("cls", "cls", slice(0, 1)), ("avg", "patch", None), ("registers", "cls", slice(0, 1))],
)
def test_scope_follows_from_the_head(name: str, scope: str, rows: slice | None) -> None:
    adapter = adapt(tiny.make(name))
    assert adapter.default_scope == adapter.scope().name == scope
    assert adapter.head_rows == rows


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_scope_and_live_tokens_are_all_tokens(name: str, images: Tensor) -> None:
    model = tiny.make(name)
    adapter = adapt(model)
    tokens = torch.arange(4 + model.num_prefix_tokens).view(1, -1, 1)
    scope = adapter.scope("patch")
    assert tokens[:, scope.tokens].shape[1] == 4  # patches, neither class nor register tokens
    assert torch.equal(scope.join(tokens[:, scope.tokens], tokens[:, scope.live]), tokens)
    if adapter.has_class_token:
        scope = adapter.scope("cls")
        assert tokens[:, scope.tokens].flatten().tolist() == [0]
        assert torch.equal(scope.join(tokens[:, scope.tokens], tokens[:, scope.live]), tokens)


class Backbone(nn.Sequential):
    """The start of a hybrid: a convolution before the patches are cut."""

    num_features = 6


def test_channels_are_counted_before_a_hybrids_backbone() -> None:
    backbone = Backbone(nn.Conv2d(1, 6, 2, stride=2), nn.ReLU())
    model = small(in_chans=1, embed_layer=partial(HybridEmbed, backbone=backbone, feature_size=(4, 4), feature_ratio=2))
    adapter = adapt(model)
    assert adapter.embed(torch.zeros(2, 1, 8, 8)).shape[0] == 2
    with pytest.raises(NeuronPathError, match=r"takes \(B, 1, 8, 8\)"):
        adapter.embed(torch.zeros(2, 3, 8, 8))


class Doubled(VisionTransformer):
    """A subclass with a forward pass of its own."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * super().forward(x, **options)


def small(**options: Any) -> VisionTransformer:
    return VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2, **options)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (resnet18, "torchvision.models.resnet.ResNet are not supported. Supported families: "),
        (lambda: MlpMixer(img_size=8, patch_size=4, num_blocks=1, embed_dim=16), "MlpMixer are not supported"),
        (lambda: nn.Linear(2, 2), "Linear are not supported"),
        (lambda: Doubled(img_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2), "Doubled are not supported"),
        (lambda: small(global_pool="map"), "global_pool='map' are not supported"),
        (lambda: small(global_pool="max"), "global_pool='max' are not supported"),
        (lambda: small(num_classes=0), "head has 0 classes"),
        (lambda: small(block_fn=ParallelScalingBlock), "Block 0 is a ParallelScalingBlock"),
        (lambda: small(mlp_layer=SwiGLU), "FFN of block 0 is a SwiGLU"),
    ],
)
def test_what_is_not_covered_is_named_in_one_line(make: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        adapt(make())
    assert told in str(error.value)
    assert "\n" not in str(error.value)
