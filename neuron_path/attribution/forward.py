"""Forward passes: the clean one that records the neurons, edited ones, and the target's probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.models.adapter import Adapter, Scope


@dataclass(frozen=True)
class CleanPass:
    """What one untouched forward pass leaves for later.

    Attributes:
        embedded: (B, T, D) the residual stream that enters block 0.
        activations: per block (B, S, F): w, the clean activations in scope.
        ffn: per block (B, S, D): what the FFN adds in scope at the clean activations.
        logits: (B, C).
    """

    embedded: Float[Tensor, "B T D"]
    activations: list[Float[Tensor, "B S F"]]
    ffn: list[Float[Tensor, "B S D"]]
    logits: Float[Tensor, "B C"]

    def chosen(self, index: int, neurons: Int[Tensor, "B k"]) -> Float[Tensor, "B S k"]:
        """Clean activations of the given neurons of block `index`."""
        w = self.activations[index]
        return w.gather(2, neurons.unsqueeze(1).expand(-1, w.shape[1], -1))


def clean_pass(adapter: Adapter, scope: Scope, images: Float[Tensor, "B c H W"]) -> CleanPass:
    """One forward pass of the untouched network, recording the neurons in scope."""
    embedded = h = adapter.embed(images)
    activations, ffn = [], []
    for index, block in enumerate(adapter.blocks):
        rows = adapter.rows(index, scope)
        u = block.mix(h, rows)
        a = block.activations(u)
        f = block.ffn(a)
        in_scope = adapter.in_scope(index, scope)
        activations.append(a[:, in_scope].clone())  # a copy: a view would keep every token's activations alive
        ffn.append(f[:, in_scope].clone())
        h = u + f
    return CleanPass(embedded, activations, ffn, adapter.head(h))


def edited_logits(
    adapter: Adapter,
    scope: Scope,
    images: Float[Tensor, "B c H W"],
    edit: Callable[[int, Tensor], Tensor],
) -> Float[Tensor, "B C"]:
    """Logits of the live network in which `edit(block, (B, S, F) activations)` replaces the neurons in scope."""
    h = adapter.embed(images)
    for index, block in enumerate(adapter.blocks):
        rows = adapter.rows(index, scope)
        u = block.mix(h, rows)
        a = block.activations(u)
        edited = edit(index, a[:, adapter.in_scope(index, scope)])
        a = edited if rows is not None else scope.join(edited, a[:, scope.live])
        h = u + block.ffn(a)
    return adapter.head(h)


def target_probability(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Softmax probability of each row's own target class.

    Written as exp(log sigmoid(z_y − logsumexp of the others)), so that the gradient p(1 − p) keeps its relative
    precision when p is near 1: softmax loses it to cancellation.
    """
    return F.logsigmoid(log_odds(logits, targets)).exp()


def log_odds(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """log p_y / (1 − p_y) of each row's own target class: z_y − logsumexp of the other logits."""
    index = targets.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).logsumexp(1)
    return logits.gather(1, index).squeeze(1) - others
