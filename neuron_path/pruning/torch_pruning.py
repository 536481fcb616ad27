"""The rankings of the library Torch-Pruning (Fang et al., CVPR 2023, arXiv 2301.12900), where they apply."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.budget import chunks
from neuron_path.models.guard import exact
from neuron_path.models.session import Session, Targets
from neuron_path.pruning.layers import UnitLayers, unit_layers
from neuron_path.pruning.ranking import Ranking

Importance = Literal["magnitude", "taylor"]


def torch_pruning_ranking(
    model: nn.Module,
    importance: Importance,
    images: Float[Tensor, "B c H W"],
    targets: Targets = None,
    *,
    token_scope: str | None = None,
    units: str = "ffn",
) -> Ranking:
    """Torch-Pruning's group importance of each neuron: of its rows in W₁ and b₁ and its column of W₂ together.

    `magnitude` is its `GroupMagnitudeImportance`, `taylor` its `GroupTaylorImportance` with the gradients of the summed
    cross-entropy; both with the library's defaults. The layer scale has no part in it. A head's is the mean over its
    channels, as where the library itself prunes heads.

    Args:
        model: a timm vision transformer whose FFNs have one first layer (no gate); left exactly as it was.
        importance: "magnitude" or "taylor".
        images: (B, channels, height, width) preprocessed, of selection.
        targets: (B,) labels of the loss; None takes each image's predicted class.
        token_scope: whose blocks, for models with blocks of the class token's own; None follows the model's head.
        units: what is ranked, "ffn", "heads" or "ffn+heads".

    Raises:
        NeuronPathError: Torch-Pruning is not installed, or cannot trace or rate this model; an unknown importance.
    """
    if importance not in get_args(Importance):
        raise unknown_name("importance of Torch-Pruning", str(importance), get_args(Importance))
    try:
        import torch_pruning
    except ImportError as error:
        raise NeuronPathError("Torch-Pruning's rankings need its package: pip install torch-pruning.") from error
    session = Session(model, token_scope)
    session.check_images(images)
    double: Any = copy.deepcopy(model).eval()
    rated = [_one_layer(parts, index) for index, parts in enumerate(unit_layers(double, token_scope, units))]
    rate = {
        "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
        "taylor": torch_pruning.importance.GroupTaylorImportance,
    }[importance]()
    try:
        with warnings.catch_warnings(), exact(session.device):
            warnings.simplefilter("ignore")  # about torch's own workings
            double.requires_grad_(True)
            with torch.enable_grad():
                example = images[:1].to(session.device, session.dtype)
                graph = torch_pruning.DependencyGraph().build_dependency(double, example_inputs=example)
            if importance == "taylor":
                _accumulate(session, double, images, session.check_targets(targets, len(images)))
            scores = [_rate(torch_pruning, graph, rate, part) for part in rated]
    except NeuronPathError:
        raise
    except Exception as error:  # the library's tracer raises anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise NeuronPathError(
            f"Torch-Pruning cannot rate this {type(model).__name__} ({reason}): leave its methods out."
        ) from error
    return scores


def _rate(library: Any, graph: Any, rate: Any, part: UnitLayers) -> Float[Tensor, "F"]:
    layer, side = part.first[0][0], library.prune_linear_out_channels
    if part.attn is not None:  # whose first layer has three rows for a channel
        layer, side = part.second, library.prune_linear_in_channels
    group = graph.get_pruning_group(layer, side, idxs=list(range(part.size)))
    return rate(group).detach().to("cpu", torch.float64).view(part.width, part.channels).mean(1)


def _accumulate(session: Session, double: Any, images: Tensor, labels: Tensor | None) -> None:
    """Leave the gradients of the summed cross-entropy in the copy's parameters."""
    with session.active():
        runs = [run for run, _ in chunks(session, images, 1)]
    double.requires_grad_(True)
    for run in runs:
        with torch.enable_grad():
            logits = double(images[run].to(session.device, session.dtype))
            own = logits.detach().argmax(1) if labels is None else labels[run]
            nn.functional.cross_entropy(logits, own, reduction="sum").backward()


def _one_layer(parts: list[UnitLayers], index: int) -> UnitLayers:
    starts = [start for part in parts for _, every in part.first for start in every]
    if parts[0].attn is None and (len(starts) > 1 or parts[0].joint is not None):
        raise NeuronPathError(
            f"Block {index} has a gate, or layers that FFN and attention share, which Torch-Pruning does not rate "
            "neuron by neuron: leave its methods out."
        )
    return parts[0]
