"""The adapter computes what timm computes, and refuses what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers.hybrid_embed import HybridEmbed
from timm.layers.mlp import GatedMlp, Mlp
from timm.models.mlp_mixer import MlpMixer, SpatialGatingUnit
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import resnet18

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from tests import tiny


@torch.no_grad()
@pytest.mark.parametrize("name", ["cls", "qk_norm", "inner_norms", "layer_scale"])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 4), slice(1, None)], ids=str)
def test_a_block_at_some_tokens_is_the_block_at_those_tokens(name: str, rows: slice) -> None:
    x = tiny.make_images(2, size=8).reshape(2, 12, 16)
    for block in adapt(tiny.make(name)).blocks:
        torch.testing.assert_close(block.mix(x, rows), block.mix(x)[:, rows], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "scope", "rows"),
    [("cls", "cls", slice(0, 1)), ("avg", "patch", None), ("registers", "cls", slice(0, 1))],
)
def test_scope_follows_from_the_head(name: str, scope: str, rows: slice | None) -> None:
    adapter = adapt(tiny.make(name))
    assert adapter.scope.name == scope
    assert adapter.head_rows == rows


@pytest.mark.parametrize(("name", "scope_name"), tiny.CASES)
def test_scope_and_live_tokens_are_all_tokens(name: str, scope_name: str) -> None:
    model = tiny.make(name)
    scope = adapt(model, scope_name).scope
    tokens = torch.arange(4 + model.num_prefix_tokens).view(1, -1, 1)
    # Patches, neither class nor register tokens; or the class token alone.
    expected = [0] if scope_name == "cls" else list(range(model.num_prefix_tokens, 4 + model.num_prefix_tokens))
    assert tokens[:, scope.tokens].flatten().tolist() == expected
    assert torch.equal(scope.join(tokens[:, scope.tokens], tokens[:, scope.live]), tokens)


class Backbone(nn.Sequential):
    """The start of a hybrid: a convolution before the patches are cut."""

    num_features = 6


def test_channels_are_counted_before_a_hybrids_backbone() -> None:
    backbone = Backbone(nn.Conv2d(1, 6, 2, stride=2), nn.ReLU())
    model = small(in_chans=1, embed_layer=partial(HybridEmbed, backbone=backbone, feature_size=(4, 4), feature_ratio=2))
    adapter = adapt(model)
    adapter.check_images(torch.zeros(2, 1, 8, 8))
    with pytest.raises(NeuronPathError, match=r"takes \(B, 1, 8, 8\)"):
        adapter.check_images(torch.zeros(2, 3, 8, 8))


def small(**options: Any) -> VisionTransformer:
    return VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2, **options)


class FiveTokens(SpatialGatingUnit):
    """A gate that mixes the five tokens of a small model."""

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, seq_len=5, **options)


class OtherMlp(Mlp):
    """An FFN that may do anything."""


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            resnet18,
            "Models of type torchvision.models.resnet.ResNet are not supported: no list of transformer blocks",
        ),
        (lambda: nn.Linear(2, 2), "nn.modules.linear.Linear are not supported"),
        (lambda: MlpMixer(img_size=8, patch_size=4, num_blocks=1, embed_dim=16), "an FFN in place of attention"),
        (lambda: timm.create_model("swin_tiny_patch4_window7_224"), "tokens are merged between stages"),
        (lambda: timm.create_model("resnet18"), "'resnet' (ResNet) are not supported: it is a convolutional network"),
        (lambda: timm.create_model("crossvit_tiny_240"), "branches of several resolutions"),
        (lambda: timm.create_model("qwen3_vit_88m_enc"), "use the model of the same name without _enc"),
        (lambda: small(num_classes=0), "head has 0 classes"),
        (lambda: small(mlp_layer=OtherMlp), "An FFN of this model is a OtherMlp whose neurons are not known"),
        (lambda: small(mlp_layer=partial(GatedMlp, gate_layer=FiveTokens)), "GatedMlp"),
    ],
)
def test_what_is_not_covered_is_named_in_one_line(make: Callable[[], nn.Module], told: str) -> None:
    with torch.device("meta"), pytest.raises(NeuronPathError) as error:
        adapt(make())
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_refusal_names_what_works() -> None:
    with pytest.raises(NeuronPathError, match=r"Supported families: beit, .*, xcit; neuron-path models lists"):
        adapt(nn.Linear(2, 2))
