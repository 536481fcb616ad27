"""One pruned model from a ranking, and what a model says of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.models.guard import exact, frozen
from neuron_path.pruning.allocation import Allocation, Scores, keep_neurons, keep_operations
from neuron_path.pruning.cost import UnitCosts
from neuron_path.pruning.slicing import slice_model


def prune_model(
    model: nn.Module,
    ranking: Scores,
    keep: float,
    allocation: Allocation = "uniform",
    *,
    then: Scores | None = None,
    mean_activations: Sequence[Tensor] | None = None,
    token_scope: str | None = None,
    units: str = "ffn",
    costs: UnitCosts | None = None,
) -> tuple[nn.Module, list[Int[Tensor, "_n"]]]:
    """A smaller copy of a model with a share of its neurons, and which these are; see `keep_neurons` and `slice_model`.

    Args:
        model: a timm vision transformer; left exactly as it was.
        ranking, keep, allocation, then: as for `keep_neurons`.
        mean_activations, token_scope, units: as for `slice_model`.
        costs: of `unit_costs`: `keep` is then the share of the model's operations, as of `keep_operations`.

    Raises:
        NeuronPathError: as these.
    """
    if costs is None:
        kept = keep_neurons(ranking, keep, allocation, then=then)
    else:
        kept = keep_operations(ranking, keep, costs, allocation, then=then)
    return slice_model(model, kept, mean_activations, token_scope=token_scope, units=units), kept


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
