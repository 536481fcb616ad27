"""The method written down literally: hooks on timm's own modules and plain autograd.

Shares no code with the package. One image at a time, its m quadrature nodes as a batch; for every step a whole forward
pass and one gradient per visited block, nothing kept from one step to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

Hook = Callable[[int, Tensor], "Tensor | None"]


@dataclass
class Setting:
    """What the literal computations need: a timm VisionTransformer, the in-scope tokens, the nodes and weights."""

    model: VisionTransformer
    tokens: slice
    alpha: Tensor
    weights: Tensor


def cls_tokens(model: VisionTransformer) -> slice:
    return slice(0, 1)


def patch_tokens(model: VisionTransformer) -> slice:
    return slice(model.num_prefix_tokens, None)


@contextmanager
def hooked(model: VisionTransformer, hook: Hook) -> Iterator[None]:
    """Run `hook(block index, activations)` on the input of every FFN's second linear layer; it may return another."""
    layers = [module for name, module in model.named_modules() if name.endswith("mlp.fc2")]
    handles = [
        layer.register_forward_pre_hook(lambda _, args, index=index: hook(index, args[0]))
        for index, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def clean_activations(setting: Setting, image: Tensor) -> list[Tensor]:
    """w of every block: (S, F)."""
    seen: dict[int, Tensor] = {}

    def keep(index: int, a: Tensor) -> None:
        seen[index] = a.detach().clone()

    with hooked(setting.model, keep), torch.no_grad():
        setting.model(image.unsqueeze(0))
    return [seen[index][0, setting.tokens] for index in range(len(seen))]


def frozen_gradients(setting: Setting, image: Tensor, target: int, leaves: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """∂p/∂leaf for every visited block, and p, at all nodes: leaves (m, S, F) replace the in-scope activations."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]

    def replace(index: int, a: Tensor) -> Tensor | None:
        if index >= len(leaves):
            return None
        a = a.clone()
        a[:, setting.tokens] = leaves[index]
        return a

    with hooked(setting.model, replace):
        logits = setting.model(image.expand(len(setting.alpha), *image.shape))
    p = logits.softmax(1)[:, target]
    gradients = [torch.autograd.grad(p.sum(), leaf, retain_graph=True)[0] for leaf in leaves]
    return gradients, p.detach()


def scaled(setting: Setting, w: Tensor, neurons: list[int] | None) -> Tensor:
    """(m, S, F): the activations w with the given neurons (all when None) multiplied by α."""
    leaf = w.expand(len(setting.alpha), *w.shape).clone()
    chosen = slice(None) if neurons is None else neurons
    leaf[:, :, chosen] = leaf[:, :, chosen] * setting.alpha.view(-1, 1, 1)
    return leaf


def integral(setting: Setting, values: Tensor) -> Tensor:
    """Σ_k ω_k values_k over the first dimension."""
    return torch.einsum("m,m...->...", setting.weights, values)


def greedy_path(setting: Setting, image: Tensor, target: int, k: int = 1) -> tuple[list[list[int]], Tensor]:
    """The layer-progressive search: the path, k neurons a block, and all candidates' objectives (L, F)."""
    w = clean_activations(setting, image)
    path: list[list[int]] = []
    objectives = []
    for index in range(len(w)):
        leaves = [scaled(setting, w[n], path[n]) for n in range(index)] + [scaled(setting, w[index], None)]
        gradients, _ = frozen_gradients(setting, image, target, leaves)
        earlier = sum((gradients[n][:, :, path[n]].sum(-1) for n in range(index)), torch.zeros(1).to(w[0]))
        weight = sum((w[n][:, path[n]].sum(-1) for n in range(index)), torch.zeros(1).to(w[0]))
        total = integral(setting, earlier.unsqueeze(-1) + gradients[index])
        objective = ((weight.unsqueeze(-1) + w[index]) * total).mean(0)
        objectives.append(objective)
        path.append(objective.argsort(descending=True, stable=True)[:k].tolist())
    return path, torch.stack(objectives)


def path_gradients(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> tuple[list[Tensor], Tensor]:
    """Gradients of every block and p at all nodes with only the path's neurons scaled."""
    w = clean_activations(setting, image)
    leaves = [scaled(setting, w[n], path[n]) for n in range(len(w))]
    return frozen_gradients(setting, image, target, leaves)


def joint_score(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> Tensor:
    """JAS of a path."""
    w = clean_activations(setting, image)
    gradients, _ = path_gradients(setting, image, target, path)
    activation = torch.stack([w[n][:, path[n]].sum(-1) for n in range(len(w))]).sum(0)
    gradient = torch.stack([gradients[n][:, :, path[n]].sum(-1) for n in range(len(w))]).sum(0)
    return (activation * integral(setting, gradient)).mean()


def complete_score(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The complete variant and its convergence delta."""
    w = clean_activations(setting, image)
    gradients, _ = path_gradients(setting, image, target, path)
    parts = [(w[n][:, path[n]] * integral(setting, gradients[n][:, :, path[n]])).sum() for n in range(len(w))]
    attribution = torch.stack(parts).sum()
    zero = Setting(setting.model, setting.tokens, torch.zeros(1).to(w[0]), torch.ones(1).to(w[0]))
    _, zeroed = path_gradients(zero, image, target, path)
    with torch.no_grad():
        clean = setting.model(image.unsqueeze(0)).softmax(1)[0, target]
    return attribution, attribution - (clean - zeroed[0])


def influence_pattern(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F) integrals of the live network's gradients over inputs α·x, summed over tokens in scope."""
    seen: dict[int, Tensor] = {}

    def keep(index: int, a: Tensor) -> Tensor:
        seen[index] = a
        return a

    inputs = (setting.alpha.view(-1, 1, 1, 1) * image).requires_grad_()
    with hooked(setting.model, keep):
        p = setting.model(inputs).softmax(1)[:, target]
    gradients = torch.autograd.grad(p.sum(), [seen[index] for index in range(len(seen))])
    return torch.stack([integral(setting, g[:, setting.tokens].sum(1)) for g in gradients])


def intervened(setting: Setting, image: Tensor, path: list[list[int]], factor: float) -> Tensor:
    """(C,) logits with the path's neurons multiplied by `factor` in the live network."""

    def edit(index: int, a: Tensor) -> Tensor:
        a = a.clone()
        for neuron in path[index]:
            a[:, setting.tokens, neuron] *= factor
        return a

    with hooked(setting.model, edit), torch.no_grad():
        return setting.model(image.unsqueeze(0))[0]
