"""Each neuron's mean activation over images and tokens: what pruning has to look at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuron_path.models.activations import block_activations
from neuron_path.models.adapter import Block
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session


def mean_activations(
    model: nn.Module, images: Float[Tensor, "B c H W"], *, token_scope: str | None = None, units: str = "ffn"
) -> list[Float[Tensor, "_W"]]:
    """Each neuron's mean activation over images and tokens, for `slice_model` to fold into the bias.

    The mean is over every token that the FFN sees, because pruning removes a neuron at every token.

    Args:
        model: a timm vision transformer; left exactly as it was.
        images: (B, channels, height, width) preprocessed, of selection: never those that the pruned model is tested on.
        token_scope: whose blocks, for models with blocks of the class token's own; None follows the model's head.
        units: whose activations: "ffn", "heads" or "ffn+heads".

    Returns:
        For each block (W,), of a head several, float64, in the units of the activations.

    Raises:
        NeuronPathError: an unsupported model, or images that do not fit it.
    """
    return _averaged(Session(model, token_scope, units), images, lambda _, a: a)


def mean_magnitudes(
    model: nn.Module, images: Float[Tensor, "B c H W"], *, token_scope: str | None = None, units: str = "ffn"
) -> list[Float[Tensor, "_F"]]:
    """Each neuron's mean absolute activation, or head's norm, over images and tokens; as `mean_activations`."""
    return _averaged(Session(model, token_scope, units), images, lambda block, a: block.strength(a).abs())


def _averaged(session: Session, images: Tensor, of: Callable[[Block, Tensor], Tensor]) -> list[Tensor]:
    session.check_images(images)
    blocks = session.adapter.blocks
    sums: list[Tensor | float] = [0.0] * len(blocks)
    counts = [0] * len(blocks)
    with session.active():
        for run, _ in chunks(session, images, 1):
            embedded = session.adapter.embed(session.images(images[run]))
            for index, (a, _) in enumerate(block_activations(session.adapter, embedded)):
                sums[index] += of(blocks[index], a).sum((0, 1), dtype=torch.float64).cpu()
                counts[index] += a.shape[0] * a.shape[1]
    return [torch.as_tensor(total) / count for total, count in zip(sums, counts, strict=True)]
