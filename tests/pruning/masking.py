"""Neurons silenced by hooks on timm's own modules, at every token: what slicing must agree with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests import oracle
from tests.zoo import CASE_PARAMS, ScopeName, Specimen

WITH_A_NORM = {  # over the FFN's neurons
    "vit-inner_norms",
    "vit-swiglu_packed",
    "vit-swiglu_norm_avg",
    "eva-rope-swiglu_norm",
    "eva-post_norm-swiglu_norm",
    "beit-swiglu_norm",
    "naflex-rope",
}
SLICEABLE = [case for case in CASE_PARAMS if case.values[0] not in WITH_A_NORM]


def some_neurons(specimen: Specimen, scope: ScopeName, seed: int = 3) -> list[list[int]]:
    """For each block other neurons to keep, and another number of them, in no order."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for index, width in enumerate(specimen.scopes[scope].n_neurons):
        n = max(1, width // 2 - 3 * index)
        kept.append(torch.randperm(width, generator=generator)[:n].tolist())
    return kept


def replaced(
    specimen: Specimen,
    scope: ScopeName,
    model: nn.Module,
    images: Tensor,
    kept: Sequence[Sequence[int]],
    constants: Sequence[Tensor] | None = None,
) -> Tensor:
    """Logits with all other neurons' activations replaced by constants, or by zeros, at every token."""

    def replace(index: int, where: slice, a: Tensor) -> Tensor:
        edited = a.clone()
        for column in range(a.shape[-1]):
            neuron = where.start + column
            if neuron not in kept[index]:
                edited[..., column] = 0.0 if constants is None else constants[index][neuron]
        return edited

    with oracle.hooked(specimen.literal(model, scope), replace), torch.no_grad():
        return model(images)


def seen_activations(specimen: Specimen, scope: ScopeName, model: nn.Module, image: Tensor) -> list[Tensor]:
    """(T, F) of each block for one image."""
    seen: list[list[Tensor]] = [[] for _ in specimen.scopes[scope].blocks]

    def keep(index: int, where: slice, a: Tensor) -> None:
        seen[index].append(a[0].clone())

    with oracle.hooked(specimen.literal(model, scope), keep), torch.no_grad():
        model(image.unsqueeze(0))
    return [torch.cat(parts, -1) for parts in seen]


def literal_taylor(specimen: Specimen, scope: ScopeName, model: nn.Module, image: Tensor, label: int) -> list[Tensor]:
    """For each block (F,): |Σ_t a ∂L/∂a| of one image's cross-entropy."""
    seen: list[list[Tensor]] = [[] for _ in specimen.scopes[scope].blocks]

    def keep(index: int, where: slice, a: Tensor) -> Tensor:
        a.retain_grad()
        seen[index].append(a)
        return a

    with oracle.hooked(specimen.literal(model, scope), keep):
        loss = -model(image.unsqueeze(0)).log_softmax(1)[0, label]
        loss.backward()
    changes = []
    for parts in seen:
        for a in parts:
            assert a.grad is not None
        changes.append(torch.cat([(a * a.grad)[0].sum(0).abs().detach() for a in parts if a.grad is not None]))
    return changes
