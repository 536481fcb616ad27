"""What a search is compared with: the oracle, the same search in plain autograd, and the roofline.

The oracle (`tests/oracle.py`) runs a whole forward pass for every step and one gradient for every visited block. Plain
autograd (`benchmarks/plain_autograd.py`) asks for all of a step's gradients in one backward pass. The roofline is one
forward and one input-only backward pass of the same sequences through the blocks after l, summed over l, with timm's
own blocks, fused attention and the micro-batch that is fastest for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from benchmarks import plain_autograd
from benchmarks.harness import interleaved
from neuron_path.attribution.quadrature import Quadrature
from tests import oracle

PAPER = Quadrature("riemann_left", 20)
PAPER_NAME, DEFAULT = "left Riemann, 20", "Gauss–Legendre, 8"
RULES = {
    PAPER_NAME: PAPER,
    DEFAULT: Quadrature("gauss_legendre", 8),
    "adaptive": Quadrature("adaptive"),
}
ORACLE, ROOFLINE = "oracle", "roofline"
PLAIN = {name: f"plain autograd, {name}" for name in (PAPER_NAME, DEFAULT)}
"""The calls in plain autograd, by the rule whose nodes they take."""
MICRO_BATCHES = (2, 4, 8, 16)


def literal_search(model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature) -> Tensor:
    """Paths of the images by the oracle, with the final score, as the authors' scripts give them."""
    alpha, weights = (torch.from_numpy(x).float() for x in quadrature.nodes())
    tokens = oracle.cls_tokens(model) if model.global_pool == "token" else oracle.patch_tokens(model)
    setting = oracle.Setting(model, tokens, alpha, weights)
    paths = []
    for image, target in zip(images, targets.tolist(), strict=True):
        path, _ = oracle.greedy_path(setting, image, target)
        oracle.joint_score(setting, image, target, path)
        paths.append(torch.tensor(path).squeeze(1))
    return torch.stack(paths)


def plain_calls(
    model: VisionTransformer, images: Tensor, targets: Tensor
) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """The searches in plain autograd, and the micro-batch of each."""
    sizes = {
        call: plain_autograd.fastest_micro_batch(model, images, targets, RULES[name]) for name, call in PLAIN.items()
    }
    calls = {
        call: partial(plain_autograd.plain_search, model, images, targets, RULES[name], sizes[call])
        for name, call in PLAIN.items()
    }
    return calls, sizes


def tail(model: Any, first: int, h: Tensor, micro_batch: int) -> None:
    """One forward and one input-only backward of the sequences h through blocks `first` … L−1."""
    for part in h.split(micro_batch):
        x = part.clone().requires_grad_()
        y = x
        for block in model.blocks[first:]:
            y = block(y)
        torch.autograd.grad(y.sum(), x)


def roofline(model: Any, h: Tensor, micro_batch: int) -> None:
    """The tails behind every block."""
    for first in range(1, len(model.blocks)):
        tail(model, first, h, micro_batch)


def fastest_micro_batch(model: Any, h: Tensor) -> int:
    """The micro-batch that is fastest for the roofline, told by its longest part."""
    sizes = [size for size in MICRO_BATCHES if size < len(h)] + [len(h)]
    seconds, _ = interleaved({str(size): partial(tail, model, 1, h, size) for size in sizes}, 3, quiet=True)
    return min(sizes, key=lambda size: min(seconds[str(size)]))


def roofline_sequences(model: VisionTransformer, images: Tensor) -> Tensor:
    """(N, T, D): as many sequences as a search of these images by the default rule has."""
    n_tokens = model.patch_embed.num_patches + model.num_prefix_tokens
    return torch.randn(RULES[DEFAULT].n_steps * len(images), n_tokens, model.embed_dim)
