"""Rankings that need no path: chance, weights, activations, gradients. All are scores of a block's F neurons."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuron_path.models.activations import block_activations
from neuron_path.models.adapter import adapt
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session, Targets
from neuron_path.pruning.activations import mean_magnitudes
from neuron_path.pruning.layers import UnitLayers, unit_layers
from neuron_path.pruning.ranking import Ranking


def random_ranking(model: nn.Module, seed: int = 0, *, token_scope: str | None = None, units: str = "ffn") -> Ranking:
    """Scores drawn evenly from [0, 1): the null that every other ranking has to beat.

    Args:
        model: a timm vision transformer.
        seed: the same seed gives the same scores, on every device.
        token_scope: whose blocks, for models with blocks of the class token's own; None follows the model's head.
        units: what is ranked, "ffn", "heads" or "ffn+heads".

    Raises:
        NeuronPathError: an unsupported model.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = adapt(model, token_scope, units).blocks
    return [torch.rand(block.n_neurons, generator=generator, dtype=torch.float64) for block in blocks]


def magnitude_ranking(model: nn.Module, *, token_scope: str | None = None, units: str = "ffn") -> Ranking:
    """The norm of all weights that are a neuron's own: ``√(Σ ‖W₁ row‖² + ‖γ ∘ W₂ column‖²)``.

    The sum runs over the neuron's rows of every first layer, a gate's row included; of a head, over its rows of
    queries, keys and values and its columns of the output projection. γ is the layer scale, without which blocks could
    not be compared with one another.

    Args:
        model: a timm vision transformer; left exactly as it was.
        token_scope, units: as for `random_ranking`.

    Raises:
        NeuronPathError: an unsupported model, or an FFN or attention whose first layers are not known.
    """
    scores = []
    blocks = adapt(model, token_scope, units).blocks
    with torch.no_grad():
        for block, parts in zip(blocks, unit_layers(model, token_scope, units), strict=True):
            device = parts[0].second.weight.device
            every = torch.arange(block.width, device=device).unsqueeze(0)
            squares = block.columns(every)[0].to(torch.float64).square().sum(1)
            for runs in zip(*(_squares(part) for part in parts), strict=True):
                squares = squares + torch.cat(runs)
            scores.append(block.per_neuron(squares).sqrt().cpu())
    return scores


def activation_ranking(
    model: nn.Module, images: Float[Tensor, "B c H W"], *, token_scope: str | None = None, units: str = "ffn"
) -> Ranking:
    """Mean absolute activation, of a head the norm of its output, over images and all tokens.

    Absolute, because a gated FFN's activations have both signs: a mean near 0 would not tell of an idle neuron.

    Args:
        model: a timm vision transformer; left exactly as it was.
        images: (B, channels, height, width) preprocessed, of selection.
        token_scope, units: as for `random_ranking`.

    Raises:
        NeuronPathError: an unsupported model, or images that do not fit it.
    """
    return mean_magnitudes(model, images, token_scope=token_scope, units=units)


def taylor_ranking(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    targets: Targets = None,
    *,
    token_scope: str | None = None,
    units: str = "ffn",
) -> Ranking:
    """How much the loss would change, to first order, were the neuron zero: ``mean over images of |Σ_t a_t ∂L/∂a_t|``.

    L is each image's own cross-entropy (Molchanov et al., ICLR 2017, arXiv 1611.06440). The sum runs over all tokens,
    since pruning removes the neuron at all of them at once, and over all activations of a head (Michel et al., NeurIPS
    2019, arXiv 1905.10650); the absolute value is taken image by image, so that images on which a neuron helps and
    those on which it harms do not cancel.

    Args:
        model: a timm vision transformer; left exactly as it was.
        images: (B, channels, height, width) preprocessed, of selection.
        targets: (B,) labels of the loss; None takes each image's predicted class.
        token_scope, units: as for `random_ranking`.

    Raises:
        NeuronPathError: an unsupported model, images that do not fit it, or targets that are not its classes.
    """
    session = Session(model, token_scope, units)
    session.check_images(images)
    labels = session.check_targets(targets, len(images))
    scores = [torch.zeros(block.n_neurons, dtype=torch.float64) for block in session.adapter.blocks]
    with session.active():
        for run, _ in chunks(session, images, 1):
            embedded = session.adapter.embed(session.images(images[run]))
            with torch.enable_grad():
                activations, outputs = zip(*block_activations(session.adapter, embedded.requires_grad_()), strict=True)
                logits = session.adapter.head(outputs[-1])
                own = logits.detach().argmax(1) if labels is None else labels[run]
                loss = nn.functional.cross_entropy(logits, own, reduction="sum")
            gradients = torch.autograd.grad(loss, activations)
            for index, (a, gradient) in enumerate(zip(activations, gradients, strict=True)):
                change = (a.detach() * gradient).sum(1, dtype=torch.float64)
                scores[index] += session.adapter.blocks[index].per_neuron(change).abs().sum(0).cpu()
    return [total / len(images) for total in scores]


def _squares(part: UnitLayers) -> list[Float[Tensor, "W"]]:
    """Squared norms of the units' rows in each first layer."""
    return [weight.to(torch.float64).square().sum(1) for weight in part.first_weights()]
