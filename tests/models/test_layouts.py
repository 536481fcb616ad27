"""The names of torchvision, of jeonsworld's port and of Hugging Face's DINOv3, and heads that no timm model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from tests.models.checkpoints import (
    CLASSES,
    DEPTH,
    WIDTH,
    Weights,
    as_hugging_face_dinov2,
    assert_loads,
    load,
    make,
    refusal,
)


def filled(model: nn.Module) -> Any:
    """Every weight random, biases and norms too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model.eval()


def torchvision_vit(**options: Any) -> Any:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": DEPTH, "num_heads": 3, "hidden_dim": WIDTH}
    return filled(VisionTransformer(**{**sizes, "mlp_dim": 4 * WIDTH, "num_classes": CLASSES, **options}))


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_torchvision_s_names(tmp_path: Path, prefix: str) -> None:
    source = torchvision_vit()
    torch.save({prefix + name: tensor for name, tensor in source.state_dict().items()}, tmp_path / "vit.pth")
    assert_loads(tmp_path / "vit.pth", source)


def test_torchvision_s_older_names(tmp_path: Path) -> None:
    source = torchvision_vit()
    renamed = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in source.state_dict().items()
    }
    torch.save(renamed, tmp_path / "vit.pth")
    assert_loads(tmp_path / "vit.pth", source)


@pytest.mark.parametrize("head", [nn.Linear(WIDTH, CLASSES), nn.Sequential(nn.Dropout(), nn.Linear(WIDTH, CLASSES))])
def test_torchvision_s_model_with_a_head_of_the_user(tmp_path: Path, head: nn.Module) -> None:
    source = torchvision_vit()
    source.heads = head.eval()
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    with pytest.warns(UserWarning, match="the classifier is taken from 'heads"):
        assert_loads(tmp_path / "vit.pth", source)


def test_torchvision_s_pictures_are_prepared_as_torchvision_does(tmp_path: Path) -> None:
    torch.save(torchvision_vit().state_dict(), tmp_path / "vit.pth")
    model: Any = make()
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    load(model, tmp_path / "vit.pth")
    found = model.pretrained_cfg
    assert (found["mean"], found["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (found["interpolation"], found["crop_pct"], found["crop_mode"]) == ("bilinear", 0.875, "center")


def test_a_torchvision_head_of_a_layer_more_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision_vit(representation_size=9).state_dict(), tmp_path / "vit.pth")
    assert "a layer that timm's models lack (pre_logits)" in refusal(tmp_path / "vit.pth")


def as_jeonsworld(model: nn.Module) -> Weights:
    """As jeonsworld's ViT-pytorch names the weights."""
    state = model.state_dict()
    before = "transformer."
    held = {
        f"{before}embeddings.cls_token": state["cls_token"],
        f"{before}embeddings.position_embeddings": state["pos_embed"],
    }
    for of in ("weight", "bias"):
        held[f"{before}embeddings.patch_embeddings.{of}"] = state[f"patch_embed.proj.{of}"]
        held[f"{before}encoder.encoder_norm.{of}"] = state[f"norm.{of}"]
        held[f"head.{of}"] = state[f"head.{of}"]
        for block in range(DEPTH):
            theirs, ours = f"{before}encoder.layer.{block}.", f"blocks.{block}."
            for part, value in zip(("query", "key", "value"), state[f"{ours}attn.qkv.{of}"].split(WIDTH), strict=True):
                held[f"{theirs}attn.{part}.{of}"] = value.clone()
            held |= {
                f"{theirs}attention_norm.{of}": state[f"{ours}norm1.{of}"],
                f"{theirs}ffn_norm.{of}": state[f"{ours}norm2.{of}"],
                f"{theirs}attn.out.{of}": state[f"{ours}attn.proj.{of}"],
                f"{theirs}ffn.fc1.{of}": state[f"{ours}mlp.fc1.{of}"],
                f"{theirs}ffn.fc2.{of}": state[f"{ours}mlp.fc2.{of}"],
            }
    return held


@pytest.mark.parametrize("prefix", ["", "module."])
def test_jeonsworld_s_names(tmp_path: Path, prefix: str) -> None:
    source = make(seed=0)
    torch.save({prefix + name: tensor for name, tensor in as_jeonsworld(source).items()}, tmp_path / "vit.bin")
    assert_loads(tmp_path / "vit.bin", source)


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_gated"])
def test_names_that_transformers_5_has_in_memory(tmp_path: Path, kind: str, prefix: str) -> None:
    """A bare state dict of it, other than what `save_pretrained` writes."""
    library: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 3, "image_size": 32}
    sizes |= {"patch_size": 8, "layer_norm_eps": 1e-6}
    options: dict[str, Any] = {"num_classes": 0}
    if kind == "vit":
        source = library.ViTForImageClassification(library.ViTConfig(**sizes, intermediate_size=96, num_labels=CLASSES))
        options = {}
    else:
        source = library.Dinov2Model(library.Dinov2Config(**sizes, use_swiglu_ffn=kind == "dinov2_gated"))
        options |= {"name": "vit_base_patch14_dinov2" if kind == "dinov2" else "vit_giant_patch14_dinov2"}
        options |= {"mlp_ratio": 4 if kind == "dinov2" else 128 / WIDTH + 0.01}
    filled(source)
    torch.save({prefix + name: value for name, value in source.state_dict().items()}, tmp_path / "vit.pt")
    model = make(**options)
    load(model, tmp_path / "vit.pt")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    output = source(images)
    expected = output.logits if kind == "vit" else output.pooler_output
    torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-5)


DINOV3: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": WIDTH,
    "depth": DEPTH,
    "num_heads": 2,
    "num_classes": 0,
    "global_pool": "token",
}


def as_hugging_face_dinov3(model: nn.Module) -> Weights:
    """As `transformers` names the weights of DINOv3ViTModel, whose keys have no bias."""
    state = model.state_dict()
    held = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": torch.zeros(1, 1, WIDTH),
        "embeddings.register_tokens": state["reg_token"],
    }
    for of in ("weight", "bias"):
        held[f"embeddings.patch_embeddings.{of}"] = state[f"patch_embed.proj.{of}"]
        held[f"norm.{of}"] = state[f"norm.{of}"]
    for block in range(DEPTH):
        theirs, ours = f"layer.{block}.", f"blocks.{block}."
        for part, value in zip("qkv", state[f"{ours}attn.qkv.weight"].split(WIDTH), strict=True):
            held[f"{theirs}attention.{part}_proj.weight"] = value.clone()
        for part in "qv":
            held[f"{theirs}attention.{part}_proj.bias"] = state.get(f"{ours}attn.{part}_bias", torch.zeros(WIDTH))
        for place in (1, 2):
            held[f"{theirs}layer_scale{place}.lambda1"] = state[f"{ours}gamma_{place}"]
        for of in ("weight", "bias"):
            held |= {
                f"{theirs}norm1.{of}": state[f"{ours}norm1.{of}"],
                f"{theirs}norm2.{of}": state[f"{ours}norm2.{of}"],
                f"{theirs}attention.o_proj.{of}": state[f"{ours}attn.proj.{of}"],
                f"{theirs}mlp.up_proj.{of}": state[f"{ours}mlp.fc1.{of}"],
                f"{theirs}mlp.down_proj.{of}": state[f"{ours}mlp.fc2.{of}"],
            }
    return held


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_hugging_face_s_dinov3(tmp_path: Path, name: str) -> None:
    source = filled(timm.create_model(name, **DINOV3))
    save_file(as_hugging_face_dinov3(source), tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors", source, name=name, **DINOV3)


def test_biases_of_dinov3_are_not_dropped(tmp_path: Path) -> None:
    source = filled(timm.create_model("vit_small_patch16_dinov3_qkvb", **DINOV3))
    save_file(as_hugging_face_dinov3(source), tmp_path / "model.safetensors")
    told = refusal(tmp_path / "model.safetensors", timm.create_model("vit_small_patch16_dinov3", **DINOV3))
    assert "4 unknown (blocks.0.attn.q_bias, blocks.0.attn.v_bias, " in told


def test_dinov2_s_classifier_of_two_vectors_is_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"name": "vit_base_patch14_reg4_dinov2"}
    source = make(seed=0, num_classes=0, **options)
    held = as_hugging_face_dinov2(source) | {"classifier.weight": torch.ones(5, 2 * WIDTH)}
    save_file(held, tmp_path / "model.safetensors")
    told = refusal(tmp_path / "model.safetensors", make(**options))
    assert "The file's classifier reads two vectors side by side, as DINOv2's do" in told
    assert "give num_classes=0 (+model.kwargs.num_classes=0), and fit another with head=linear_probe" in told
    assert_loads(tmp_path / "model.safetensors", source, num_classes=0, **options)


def test_a_file_of_a_known_size_suggests_the_model(tmp_path: Path) -> None:
    held = {"blocks.11.norm1.weight": torch.ones(384), "blocks.0.norm1.weight": torch.ones(384)}
    save_file(held | {"patch_embed.proj.weight": torch.ones(384, 3, 16, 16)}, tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "give model=timm model.name=vit_small_patch16_224 ('vit_small_patch16_224' in Python)." in told
