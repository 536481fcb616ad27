"""Slicing: an ordinary timm model whose FFNs have only the neurons that stay."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.ffns import FfnLayers, ffn_layers

Neurons = Tensor | np.ndarray | Sequence[int]


def slice_ffn(
    model: nn.Module,
    kept: Sequence[Neurons],
    mean_activations: Sequence[Tensor] | None = None,
    *,
    token_scope: str | None = None,
) -> nn.Module:
    """A smaller copy of a model, without the neurons that are not kept.

    In each block the other neurons' rows of W₁ and b₁ (of value and gate, where an FFN is gated) and columns of W₂ are
    cut out. This removes them at every token, class and patch tokens alike, and gives the logits of the model in which
    they are zero everywhere. Folding stands a constant in for what they added: ``b₂ ← b₂ + W₂[:, removed] · mean``; a
    layer scale multiplies the bias as well and stays as it is. A second layer without a bias gets one.

    Args:
        model: a timm vision transformer; left exactly as it was.
        kept: for each block, the neurons that stay, in any order; see `keep_neurons`. At least one. They stay in the
            order that they had.
        mean_activations: for each block (F,) what to fold in, from `neuron_path.pruning.activations.mean_activations`;
            None: nothing.
        token_scope: whose blocks, for models with blocks of the class token's own ("cls") behind the main ones
            ("patch"); None follows the model's head.

    Returns:
        A model of the same class, device, dtype and mode.

    Raises:
        NeuronPathError: a model that is not supported; an FFN that cannot be sliced (with a norm over its neurons, or
            not made of plain linear layers); neurons that a block does not have, names twice or keeps none of; means
            of another shape.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> small = slice_ffn(model, [range(96)] * 12)
    >>> small.blocks[0].mlp.fc1.out_features, model.blocks[0].mlp.fc1.out_features
    (96, 192)
    """
    pruned = copy.deepcopy(model)
    blocks = ffn_layers(pruned, token_scope)
    masks = _masks(kept, [sum(ffn.width for ffn in ffns) for ffns in blocks])
    means = None if mean_activations is None else _means(mean_activations, masks)
    with torch.no_grad():
        for index, (ffns, mask) in enumerate(zip(blocks, masks, strict=True)):
            parts = [ffn.width for ffn in ffns]
            own = None if means is None else means[index].split(parts)
            for which, (ffn, part) in enumerate(zip(ffns, mask.split(parts), strict=True)):
                if own is not None and not part.all():
                    _fold(ffn, part, own[which])
                ffn.keep(part)
    return pruned


def _fold(ffn: FfnLayers, kept: Bool[Tensor, "F"], mean: Tensor) -> None:
    # In float64, so that thousands of small contributions add up as they should.
    columns = ffn.second_weight().to("cpu", torch.float64)
    ffn.add_to_bias(columns[:, ~kept] @ mean[~kept])


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


def _means(means: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    found = [torch.as_tensor(mean).detach().to("cpu", torch.float64) for mean in means]
    shapes, expected = ([tuple(value.shape) for value in values] for values in (found, masks))
    if shapes != expected:
        raise NeuronPathError(
            f"Mean activations have shapes {shapes}; expected {expected}: one for each neuron of the model before "
            "pruning."
        )
    if not all(mean.isfinite().all() for mean in found):
        raise NeuronPathError("Mean activations hold NaN or infinity: compute them again on the selection images.")
    return found
