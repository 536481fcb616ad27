"""Slicing: an ordinary timm model that has only the FFN neurons, or attention heads, that stay."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.layers import UnitLayers, unit_layers

Neurons = Tensor | np.ndarray | Sequence[int]


def slice_model(
    model: nn.Module,
    kept: Sequence[Neurons],
    mean_activations: Sequence[Tensor] | None = None,
    *,
    token_scope: str | None = None,
    units: str = "ffn",
) -> nn.Module:
    """A smaller copy of a model, without the neurons or heads that are not kept.

    In each block the other neurons' rows of W₁ and b₁ (of value and gate, where an FFN is gated) and columns of W₂ are
    cut out. This removes them at every token, class and patch tokens alike, and gives the logits of the model in which
    they are zero everywhere. Folding stands a constant in for what they added: ``b₂ ← b₂ + W₂[:, removed] · mean``; a
    layer scale multiplies the bias as well and stays as it is. A second layer without a bias gets one.

    Of a head go its rows of the layers of queries, keys and values (and of a gate) and its columns of the output
    projection: the logits are those of the model in which its output is zero, or the constant, at every token.

    Args:
        model: a timm vision transformer; left exactly as it was.
        kept: for each block, the neurons that stay, in any order; see `keep_neurons`. At least one. They stay in the
            order that they had.
        mean_activations: for each block (W,) what to fold in, from `neuron_path.pruning.activations.mean_activations`;
            None: nothing.
        token_scope: whose blocks, for models with blocks of the class token's own ("cls") behind the main ones
            ("patch"); None follows the model's head.
        units: what is kept of each block, "ffn", "heads" or "ffn+heads", whose blocks are heads and FFN in turn.

    Returns:
        A model of the same class, device, dtype and mode.

    Raises:
        NeuronPathError: a model that is not supported; an FFN that cannot be sliced (with a norm over its neurons, or
            not made of plain linear layers), or attention (with a norm over its heads, or whose forward pass takes all
            of them); neurons that a block does not have, names twice or keeps none of; means of another shape.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> small = slice_model(model, [range(96)] * 12)
    >>> small.blocks[0].mlp.fc1.out_features, model.blocks[0].mlp.fc1.out_features
    (96, 192)
    """
    pruned = copy.deepcopy(model)
    blocks = unit_layers(pruned, token_scope, units)
    masks = _masks(kept, [sum(part.width for part in parts) for parts in blocks])
    means = None if mean_activations is None else _means(mean_activations, blocks)
    with torch.no_grad():
        for index, (parts, mask) in enumerate(zip(blocks, masks, strict=True)):
            own = None if means is None else means[index].split([part.size for part in parts])
            for which, (part, stays) in enumerate(zip(parts, mask.split([part.width for part in parts]), strict=True)):
                if own is not None and not stays.all():
                    _fold(part, stays, own[which])
                part.keep(stays)
    return pruned


def _fold(part: UnitLayers, kept: Bool[Tensor, "F"], mean: Tensor) -> None:
    # In float64, so that thousands of small contributions add up as they should.
    columns = part.second_weight().to("cpu", torch.float64)
    removed = ~kept.repeat_interleave(part.channels)
    part.add_to_bias(columns[:, removed] @ mean[removed])


def _masks(kept: Sequence[Neurons], widths: Sequence[int]) -> list[Bool[Tensor, "_F"]]:
    if len(kept) != len(widths):
        raise NeuronPathError(
            f"Kept neurons are given for {len(kept)} block(s), but this model has {len(widths)}: give a list for each."
        )
    masks = []
    for index, (neurons, width) in enumerate(zip(kept, widths, strict=True)):
        try:
            chosen = torch.as_tensor(neurons if isinstance(neurons, Tensor) else list(neurons)).cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise NeuronPathError(f"Kept neurons of block {index} are no list of integers: {error}.") from error
        if not chosen.numel():
            raise NeuronPathError(f"No neuron of block {index} is kept; keep at least one.")
        if chosen.ndim != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise NeuronPathError(
                f"Kept neurons of block {index} have shape {tuple(chosen.shape)} and dtype {chosen.dtype}; expected a "
                "list of integer indices."
            )
        wrong = chosen[(chosen < 0) | (chosen >= width)]
        if len(wrong):
            raise NeuronPathError(
                f"Block {index} has neurons 0 … {width - 1}, but {int(wrong[0])} is to be kept: take the model that "
                "was ranked."
            )
        mask = torch.zeros(width, dtype=torch.bool)
        mask[chosen] = True
        if int(mask.sum()) < len(chosen):
            raise NeuronPathError(f"Kept neurons of block {index} name one twice: give each once.")
        masks.append(mask)
    return masks


def _means(means: Sequence[Tensor], blocks: Sequence[Sequence[UnitLayers]]) -> list[Tensor]:
    found = [torch.as_tensor(mean).detach().to("cpu", torch.float64) for mean in means]
    shapes, expected = [tuple(mean.shape) for mean in found], [(sum(part.size for part in parts),) for parts in blocks]
    if shapes != expected:
        raise NeuronPathError(
            f"Mean activations have shapes {shapes}; expected {expected}: one for each neuron of the model before "
            "pruning."
        )
    if not all(mean.isfinite().all() for mean in found):
        raise NeuronPathError("Mean activations hold NaN or infinity: compute them again on the selection images.")
    return found
