"""Every neuron's activations at every token that the FFN sees, block by block: what pruning has to look at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuron_path.models.adapter import Adapter
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session


def forward_with_activations(
    adapter: Adapter, embedded: Float[Tensor, "N T D"]
) -> tuple[list[Float[Tensor, "N _T _F"]], Float[Tensor, "N C"]]:
    """The untouched network's activations (N, T, F) of each block, at all tokens that its FFN sees, and the logits."""
    activations: list[Tensor] = []
    h = embedded
    for index, block in enumerate(adapter.blocks):
        live = None
        if block.feeds_all:
            u = block.mix(h)
        else:
            u, live = adapter.split(index, h)
        a = block.activations(u)
        activations.append(a)
        fed = block.residual(u) + block.after(block.project(a))
        h = fed if live is None else adapter.scope.join(fed, live)
    return activations, adapter.head(h)


def mean_activations(
    model: nn.Module, images: Float[Tensor, "B c H W"], *, token_scope: str | None = None
) -> list[Float[Tensor, "_F"]]:
    """Each neuron's mean activation over images and tokens, for `slice_ffn` to fold into the bias.

    The mean is over every token that the FFN sees, because pruning removes a neuron at every token.

    Args:
        model: a timm vision transformer; left exactly as it was.
        images: (B, channels, height, width) preprocessed, of selection: never those that the pruned model is tested on.
        token_scope: whose blocks, for models with blocks of the class token's own; None follows the model's head.

    Returns:
        For each block (F,), float64, in the units of the activations.

    Raises:
        NeuronPathError: an unsupported model, or images that do not fit it.
    """
    return _averaged(Session(model, token_scope), images, lambda a: a)


def mean_magnitudes(
    model: nn.Module, images: Float[Tensor, "B c H W"], *, token_scope: str | None = None
) -> list[Float[Tensor, "_F"]]:
    """Each neuron's mean absolute activation over images and tokens; as `mean_activations`."""
    return _averaged(Session(model, token_scope), images, Tensor.abs)


def _averaged(session: Session, images: Tensor, of: Callable[[Tensor], Tensor]) -> list[Tensor]:
    session.check_images(images)
    blocks = session.adapter.blocks
    sums = [torch.zeros(block.n_neurons, dtype=torch.float64) for block in blocks]
    counts = [0] * len(blocks)
    with session.active():
        for run, _ in chunks(session, images, 1):
            embedded = session.adapter.embed(session.images(images[run]))
            activations, _ = forward_with_activations(session.adapter, embedded)
            for index, a in enumerate(activations):
                sums[index] += of(a).sum((0, 1), dtype=torch.float64).cpu()
                counts[index] += a.shape[0] * a.shape[1]
    return [total / count for total, count in zip(sums, counts, strict=True)]
