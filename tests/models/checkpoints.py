"""Small models, and what is asked of every file of weights that is loaded into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint import load_checkpoint

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


def assert_loads(file: Path, source: nn.Module, *, key: str | None = None, **options: Any) -> None:
    """The file gives a fresh model of these options the logits of its source."""
    model = make(**options)
    load_checkpoint(model, file, key=key)
    torch.testing.assert_close(logits(model), logits(source), atol=1e-6, rtol=0)


def refusal(file: Path, model: nn.Module | None = None, *, key: str | None = None) -> str:
    """The one line of the refusal, after which the model is as it was."""
    model = model or make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NeuronPathError) as caught:
        load_checkpoint(model, file, key=key)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900
    return str(caught.value)
