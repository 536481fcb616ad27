"""One pruned model from a ranking, and what a model says of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.models.guard import exact, frozen
from neuron_path.pruning.allocation import Allocation, Scores, keep_neurons
from neuron_path.pruning.slicing import slice_ffn


def prune_model(
    model: nn.Module,
    ranking: Scores,
    keep: float,
    allocation: Allocation = "uniform",
    *,
    then: Scores | None = None,
    mean_activations: Sequence[Tensor] | None = None,
    token_scope: str | None = None,
) -> tuple[nn.Module, list[Int[Tensor, "_n"]]]:
    """A smaller copy of a model with a share of its neurons, and which these are; see `keep_neurons` and `slice_ffn`.

    Args:
        model: a timm vision transformer; left exactly as it was.
        ranking, keep, allocation, then: as for `keep_neurons`.
        mean_activations, token_scope: as for `slice_ffn`.

    Raises:
        NeuronPathError: as both.
    """
    kept = keep_neurons(ranking, keep, allocation, then=then)
    return slice_ffn(model, kept, mean_activations, token_scope=token_scope), kept


def class_probabilities(
    model: nn.Module, images: Float[Tensor, "B c H W"], batch_size: int = 64
) -> Float[Tensor, "B C"]:
    """Softmax probabilities in float64 on the CPU; the batch size changes them by rounding only.

    Args:
        model: any classifier; left exactly as it was.
        images: (B, channels, height, width) preprocessed; moved to the model batch by batch.
        batch_size: images per pass.
    """
    like = next(model.parameters())
    with frozen(model), exact(like.device):
        parts = [model(batch.to(like)).to("cpu", torch.float64).softmax(1) for batch in images.split(batch_size)]
    return torch.cat(parts)
