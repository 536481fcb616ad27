"""Small models, and what is asked of every file of weights that is loaded into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint import open_checkpoint, put

WIDTH, DEPTH, HEADS, CLASSES = 24, 2, 3, 5
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}

Weights = dict[str, Tensor]


def make(name: str = "vit_base_patch16_224", *, seed: int | None = None, **options: Any) -> nn.Module:
    """A small model; with a seed, every weight of it is random, biases and norms too."""
    model = timm.create_model(name, **{**SMALL, "num_classes": CLASSES, **options}).eval()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


def logits(model: nn.Module, size: int = 32) -> Tensor:
    pictures = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(pictures)


def load(model: nn.Module, file: Path, *, key: str | None = None) -> None:
    """Load a file's weights into a timm model."""
    put(model, open_checkpoint(file, key=key))


def assert_loads(file: Path, source: nn.Module, *, key: str | None = None, **options: Any) -> None:
    """The file gives a fresh model of these options the logits of its source."""
    model = make(**options)
    load(model, file, key=key)
    torch.testing.assert_close(logits(model), logits(source), atol=1e-6, rtol=0)


def refusal(file: Path, model: nn.Module | None = None, *, key: str | None = None) -> str:
    """The one line of the refusal, after which the model is as it was."""
    model = model or make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NeuronPathError) as caught:
        load(model, file, key=key)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900
    return str(caught.value)


def as_google(model: nn.Module, *, head: bool = True) -> dict[str, np.ndarray]:
    """As Google's ViT-B_16.npz names and shapes its arrays."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    depth, width = len([*model.get_submodule("blocks").children()]), state["cls_token"].shape[-1]
    heads = model.get_submodule("blocks.0.attn").num_heads
    held = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    if head:
        held |= {"head/kernel": state["head.weight"].T, "head/bias": state["head.bias"]}
    for block in range(depth):
        theirs, ours = f"Transformer/encoderblock_{block}/", f"blocks.{block}."
        held |= {
            f"{theirs}LayerNorm_0/scale": state[f"{ours}norm1.weight"],
            f"{theirs}LayerNorm_0/bias": state[f"{ours}norm1.bias"],
            f"{theirs}LayerNorm_2/scale": state[f"{ours}norm2.weight"],
            f"{theirs}LayerNorm_2/bias": state[f"{ours}norm2.bias"],
            f"{theirs}MlpBlock_3/Dense_0/kernel": state[f"{ours}mlp.fc1.weight"].T,
            f"{theirs}MlpBlock_3/Dense_0/bias": state[f"{ours}mlp.fc1.bias"],
            f"{theirs}MlpBlock_3/Dense_1/kernel": state[f"{ours}mlp.fc2.weight"].T,
            f"{theirs}MlpBlock_3/Dense_1/bias": state[f"{ours}mlp.fc2.bias"],
        }
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            held[f"{attention}{name}/kernel"] = state[f"{ours}attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            held[f"{attention}{name}/bias"] = state[f"{ours}attn.qkv.bias"][rows].reshape(heads, -1)
        held[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        held[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
    return held


def save_npz(file: Path, held: dict[str, Any]) -> Path:
    np.savez(file, **held)
    return file


def as_hugging_face(model: nn.Module, kind: str = "vit") -> Weights:
    """As `transformers` names the weights of ViTForImageClassification, and DeiT's with a teacher."""
    state = model.state_dict()
    held = {
        f"{kind}.embeddings.cls_token": state["cls_token"],
        f"{kind}.embeddings.position_embeddings": state["pos_embed"],
        f"{kind}.embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        f"{kind}.embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        f"{kind}.layernorm.weight": state["norm.weight"],
        f"{kind}.layernorm.bias": state["norm.bias"],
    }
    for block in range(DEPTH):
        theirs, ours = f"{kind}.encoder.layer.{block}.", f"blocks.{block}."
        for of in ("weight", "bias"):
            query, key, value = state[f"{ours}attn.qkv.{of}"].split(WIDTH)
            held |= {
                f"{theirs}attention.attention.query.{of}": query.clone(),
                f"{theirs}attention.attention.key.{of}": key.clone(),
                f"{theirs}attention.attention.value.{of}": value.clone(),
                f"{theirs}attention.output.dense.{of}": state[f"{ours}attn.proj.{of}"],
                f"{theirs}intermediate.dense.{of}": state[f"{ours}mlp.fc1.{of}"],
                f"{theirs}output.dense.{of}": state[f"{ours}mlp.fc2.{of}"],
                f"{theirs}layernorm_before.{of}": state[f"{ours}norm1.{of}"],
                f"{theirs}layernorm_after.{of}": state[f"{ours}norm2.{of}"],
            }
    if "dist_token" in state:
        held[f"{kind}.embeddings.distillation_token"] = state["dist_token"]
        heads = {"cls_classifier": "head", "distillation_classifier": "head_dist"}
    else:
        heads = {"classifier": "head"}
    for theirs, ours in heads.items():
        held |= {f"{theirs}.{of}": state[f"{ours}.{of}"] for of in ("weight", "bias")}
    return held


def as_hugging_face_dinov2(model: nn.Module) -> Weights:
    """As `transformers` names the weights of Dinov2WithRegistersModel; positions count the class token."""
    state = model.state_dict()
    first = torch.full((1, 1, WIDTH), 0.5)
    held = {
        "embeddings.cls_token": state["cls_token"] - first,
        "embeddings.mask_token": torch.zeros(1, WIDTH),
        "embeddings.register_tokens": state["reg_token"],
        "embeddings.position_embeddings": torch.cat([first, state["pos_embed"]], dim=1),
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for block in range(DEPTH):
        theirs, ours = f"encoder.layer.{block}.", f"blocks.{block}."
        for of in ("weight", "bias"):
            query, key, value = state[f"{ours}attn.qkv.{of}"].split(WIDTH)
            held |= {
                f"{theirs}norm1.{of}": state[f"{ours}norm1.{of}"],
                f"{theirs}norm2.{of}": state[f"{ours}norm2.{of}"],
                f"{theirs}attention.attention.query.{of}": query.clone(),
                f"{theirs}attention.attention.key.{of}": key.clone(),
                f"{theirs}attention.attention.value.{of}": value.clone(),
                f"{theirs}attention.output.dense.{of}": state[f"{ours}attn.proj.{of}"],
                f"{theirs}mlp.fc1.{of}": state[f"{ours}mlp.fc1.{of}"],
                f"{theirs}mlp.fc2.{of}": state[f"{ours}mlp.fc2.{of}"],
            }
        held |= {f"{theirs}layer_scale{one}.lambda1": state[f"{ours}ls{one}.gamma"] for one in (1, 2)}
    return held
