"""Tiny random timm models, and the literal oracle's settings for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import roots_legendre
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from neuron_path.types import PathResult, TokenScopeName
from tests import oracle

Case = tuple[VisionTransformer, TokenScopeName]
N_CLASSES = 5
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cls": {},
    "registers": {"reg_tokens": 2},
    "layer_scale": {"init_values": 0.5},
    "qk_norm": {"qk_norm": True},
    "inner_norms": {"scale_attn_norm": True, "scale_mlp_norm": True, "qkv_bias": False},
    "avg": {"global_pool": "avg", "depth": 4},
    "avg_registers": {"global_pool": "avg", "reg_tokens": 2, "fc_norm": False},
    "avg_no_class_token": {"global_pool": "avg", "class_token": False},
}
# Every architecture with its own scope and, where it has one, the other.
SCOPES: tuple[TokenScopeName, ...] = ("cls", "patch")
CASES = [(name, scope) for name in ARCHITECTURES for scope in SCOPES if (name, scope) != ("avg_no_class_token", "cls")]


def make(name: str = "cls", seed: int = 0, dtype: torch.dtype = torch.float64, **overrides: Any) -> VisionTransformer:
    """A random model whose weights are so large that no gradient is tiny."""
    arguments: dict[str, Any] = {
        "img_size": 8,
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "mlp_ratio": 1.5,
        "num_classes": N_CLASSES,
    }
    model = VisionTransformer(**(arguments | ARCHITECTURES[name] | overrides)).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim in (2, 4):
                parameter.copy_(1.2 * noise / parameter[0].numel() ** 0.5)
            elif parameter.ndim == 3:
                parameter.copy_(0.5 * noise)
            elif parameter_name.endswith(("weight", "gamma")):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return model.to(dtype).eval()


def make_images(n: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64, size: int = 8) -> Tensor:
    """Random images; the same first ones for any number."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(3, size, size, generator=generator, dtype=torch.float64) for _ in range(n)]
    return torch.stack(images).to(dtype)


def classifier(model: VisionTransformer) -> nn.Linear:
    """The last layer."""
    head = model.get_classifier()
    assert isinstance(head, nn.Linear)
    return head


def select(result: PathResult, rows: Tensor | slice) -> PathResult:
    """Some images' part of a result."""
    columns: dict[str, Any] = {
        name: value[rows] if isinstance(value, Tensor) else value for name, value in vars(result).items()
    }
    return PathResult(**columns)


def literal(
    model: VisionTransformer,
    scope: str,
    rule: str = "gauss_legendre",
    n_steps: int = 5,
    target_function: str = "probability",
) -> oracle.Setting:
    """The oracle's setting, its quadrature from scipy or spelt out."""
    if rule == "gauss_legendre":
        nodes, weights = roots_legendre(n_steps)
        alpha, omega = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    else:
        assert rule == "riemann_left"
        alpha = torch.from_numpy(np.array([k / n_steps for k in range(n_steps)]))
        omega = torch.full_like(alpha, 1 / n_steps)
    tokens = oracle.cls_tokens(model) if scope == "cls" else oracle.patch_tokens(model)
    return oracle.Setting(model, tokens, alpha, omega, target_function=target_function)


def random_paths(model: VisionTransformer, n: int, k: int, seed: int = 2) -> Tensor:
    """(n, L, k) distinct random neurons."""
    generator = torch.Generator().manual_seed(seed)
    n_neurons = int(model.state_dict()["blocks.0.mlp.fc2.weight"].shape[1])
    draws = [torch.randperm(n_neurons, generator=generator)[:k] for _ in range(n * len(model.blocks))]
    return torch.stack(draws).unflatten(0, (n, -1))
