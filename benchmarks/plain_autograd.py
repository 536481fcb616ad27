"""The greedy search as one writes it well in plain autograd: what the engine's own mathematics has to beat.

The oracle of the tests takes one gradient for every visited block, and so do the authors' scripts. This search asks for
the gradients at all visited blocks in one backward pass. It also

- computes the clean activations and the embedded images once;
- runs the quadrature nodes of all images as sequences of a batch, at the micro-batch that is fastest for it;
- uses timm's own blocks with fused attention, whose parameters need no gradient;
- gives an FFN whose patch tokens' activations are overwritten the other tokens only.

What it does not have are the steps that the engine adds: a prefix that is kept from one block to the next, its tangent
in forward mode, and products without autograd at the candidate block. So each block takes a forward pass from the
embedded images through the whole network, and a backward pass to the first block.

Shapes: B images, m nodes, N = B·m sequences (n of them in a pass), T tokens, S of them in scope, D channels, F neurons
of a block, L blocks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuron_path.attribution.quadrature import Quadrature

MICRO_BATCHES = (2, 4, 8, 16, 32)


class Found(NamedTuple):
    """Paths (B, L) and their final joint attribution scores (B,)."""

    paths: Tensor
    scores: Tensor


class _Clean(NamedTuple):
    """Of the untouched network: the embedded images (B, T, D), and w of each block at the tokens in scope (B, S, F)."""

    embedded: Tensor
    activations: list[Tensor]


class _Sequences(NamedTuple):
    """(n,) each: the image of a sequence, and the node and weight of the integral."""

    image: Tensor
    alpha: Tensor
    weight: Tensor


def plain_search(
    model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature, micro_batch: int | None = None
) -> Found:
    """The greedy paths and their final scores; the tokens in scope follow from the model's pooling.

    Args:
        model: its parameters frozen, in eval mode.
        images: (B, 3, height, width).
        targets: (B,) classes.
        quadrature: a rule with a fixed number of nodes.
        micro_batch: sequences in one pass; None takes all at once.
    """
    clean = _clean_pass(model, images)
    passes = _passes(images, quadrature, micro_batch)
    paths = targets.new_empty(len(images), 0)
    for w in clean.activations:
        earlier, rated = _integrals(model, clean, targets, passes, paths, is_search=True)
        weight = _path_activations(clean, paths)
        objective = ((weight.unsqueeze(2) + w) * (earlier.unsqueeze(2) + rated)).mean(1)  # (B, F)
        paths = torch.cat((paths, objective.argmax(1, keepdim=True)), 1)
    gradients, _ = _integrals(model, clean, targets, passes, paths, is_search=False)
    return Found(paths, (_path_activations(clean, paths) * gradients).mean(1))


def fastest_micro_batch(
    model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature, rounds: int = 2
) -> int:
    """The micro-batch at which the gradients at all blocks take least time."""
    clean = _clean_pass(model, images)
    n_sequences = len(images) * quadrature.n_steps
    sizes = [size for size in MICRO_BATCHES if size < n_sequences] + [n_sequences]
    seconds = dict.fromkeys(sizes, float("inf"))
    paths = targets.new_zeros(len(images), len(clean.activations))
    for _ in range(rounds):
        for size in sizes:
            start = time.perf_counter()
            _integrals(model, clean, targets, _passes(images, quadrature, size), paths, is_search=False)
            seconds[size] = min(seconds[size], time.perf_counter() - start)
    return min(sizes, key=lambda size: seconds[size])


def _clean_pass(model: VisionTransformer, images: Tensor) -> _Clean:
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor]) -> None:
        seen.append(args[0])

    scope = _scope(model)
    with ExitStack() as hooks, torch.no_grad():
        for layer in (model.blocks[0], *(block.get_submodule("mlp.fc2") for block in model.blocks)):
            hooks.callback(layer.register_forward_pre_hook(keep).remove)
        model(images)
    return _Clean(seen[0], [a[:, scope].clone() for a in seen[1:]])


def _scope(model: VisionTransformer) -> slice:
    """The class token where the head reads it, else all tokens but the class and register tokens."""
    return slice(0, 1) if model.global_pool == "token" else slice(model.num_prefix_tokens, None)


def _passes(images: Tensor, quadrature: Quadrature, micro_batch: int | None) -> list[_Sequences]:
    """All sequences, an image's nodes one after another, in passes of at most `micro_batch`."""
    alpha, weight = (torch.from_numpy(x).to(images).repeat(len(images)) for x in quadrature.nodes())
    image = torch.arange(len(images)).repeat_interleave(quadrature.n_steps)
    size = micro_batch or len(image)
    return [_Sequences(*part) for part in zip(image.split(size), alpha.split(size), weight.split(size), strict=True)]


def _path_activations(clean: _Clean, paths: Tensor) -> Tensor:
    """W, (B, S): the sum of the clean activations of the neurons of paths (B, l)."""
    total = torch.zeros_like(clean.activations[0][..., 0])
    for w, neurons in zip(clean.activations, paths.unbind(1), strict=False):
        total += _of_neurons(w, neurons)
    return total


def _of_neurons(values: Tensor, neurons: Tensor) -> Tensor:
    """(n, S) of (n, S, F): the values of one neuron (n,) each."""
    return values.gather(2, neurons.view(-1, 1, 1).expand(-1, values.shape[1], 1)).squeeze(2)


def _integrals(
    model: VisionTransformer,
    clean: _Clean,
    targets: Tensor,
    passes: Sequence[_Sequences],
    paths: Tensor,
    *,
    is_search: bool,
) -> tuple[Tensor, Tensor]:
    """Σ_k ω_k ∂p/∂a: (B, S) summed over the neurons of paths (B, l), and (B, S, F) of the next block's candidates.

    Args:
        model, clean, targets, passes: the model, its clean pass, and the sequences.
        paths: whose neurons are scaled in the first l blocks.
        is_search: whether all neurons of block l are scaled as well; without, the second value means nothing.
    """
    n_visited = paths.shape[1]
    earlier = torch.zeros_like(clean.activations[0][..., 0])
    rated = torch.zeros_like(clean.activations[n_visited if is_search else 0])
    for image, alpha, weight in passes:
        own = paths[image]
        leaves = [_scaled(clean.activations[n][image], own[:, n], alpha) for n in range(n_visited)]
        if is_search:
            leaves.append(clean.activations[n_visited][image] * alpha.view(-1, 1, 1))
        for leaf in leaves:
            leaf.requires_grad_()
        with _frozen(model, leaves), torch.enable_grad():
            logits = model.forward_head(model.norm(model.blocks(clean.embedded[image])))
            p = logits.softmax(1).gather(1, targets[image].unsqueeze(1)).squeeze(1)
            gradients = torch.autograd.grad((weight * p).sum(), leaves)
        for gradient, neurons in zip(gradients, own.unbind(1), strict=False):
            earlier.index_add_(0, image, _of_neurons(gradient, neurons))
        if is_search:
            rated.index_add_(0, image, gradients[-1])
    return earlier, rated


def _scaled(w: Tensor, neurons: Tensor, alpha: Tensor) -> Tensor:
    """(n, S, F): the activations w, which it may change, with one neuron (n,) of each sequence multiplied by α (n,)."""
    index = neurons.view(-1, 1, 1).expand(-1, w.shape[1], 1)
    return w.scatter_(2, index, w.gather(2, index) * alpha.view(-1, 1, 1))


@contextmanager
def _frozen(model: VisionTransformer, leaves: Sequence[Tensor]) -> Iterator[None]:
    """In it the leaves are the activations in scope of the first blocks."""
    scope = _scope(model)
    overwrite = _overwrite_first if scope.start == 0 and scope.stop is not None else _overwrite_last
    with ExitStack() as hooks:
        for block, leaf in zip(model.blocks, leaves, strict=False):
            for handle in overwrite(block.get_submodule("mlp"), scope, leaf):
                hooks.callback(handle.remove)
        yield


def _overwrite_first(mlp: nn.Module, scope: slice, leaf: Tensor) -> list[RemovableHandle]:
    """The leaf in place of the first tokens' activations, which the FFN computes all the same: they are few."""
    project = mlp.get_submodule("fc2")

    def join(_: nn.Module, __: tuple[Tensor], out: Tensor) -> Tensor:
        return torch.cat((project(leaf), out[:, scope.stop :]), 1)

    return [mlp.register_forward_hook(join)]


def _overwrite_last(mlp: nn.Module, scope: slice, leaf: Tensor) -> list[RemovableHandle]:
    """The leaf in place of the last tokens' activations; the FFN gets the other tokens only."""
    project = mlp.get_submodule("fc2")

    def leave_out(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        return args[0][:, : scope.start]

    def join(_: nn.Module, __: tuple[Tensor], out: Tensor) -> Tensor:
        return torch.cat((out, project(leaf)), 1)

    return [mlp.register_forward_pre_hook(leave_out), mlp.register_forward_hook(join)]
