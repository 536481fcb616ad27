"""Every ranking by its name, for comparison at the same budget and from the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from neuron_path.pruning.ranking import By, Ranking, hidden_widths, path_ranking
from neuron_path.pruning.torch_pruning import torch_pruning_ranking

BY: Final[dict[str, By]] = {"path": "both", "path_frequency": "frequency", "path_score": "score"}
"""The rankings that come from neuron paths, and what of them counts."""


@dataclass(frozen=True)
class Selection:
    """What all rankings see: a model and the images that select.

    Attributes:
        model: a timm vision transformer.
        images: (B, channels, height, width) preprocessed.
        targets: (B,) the class of each.
        paths: the table of one method's paths, of these images only.
        seed: of what is drawn.
        token_scope: whose blocks; None follows the model's head.
    """

    model: nn.Module
    images: Float[Tensor, "B c H W"]
    targets: Int[Tensor, "B"]
    paths: pd.DataFrame
    seed: int = 0
    token_scope: str | None = None


def _by_paths(by: By) -> Callable[[Selection], Ranking]:
    return lambda one: path_ranking(one.paths, hidden_widths(one.model, one.token_scope), by)


_RANKINGS: Final[dict[str, Callable[[Selection], Ranking]]] = {
    **{name: _by_paths(by) for name, by in BY.items()},
    "random": lambda one: random_ranking(one.model, one.seed, token_scope=one.token_scope),
    "magnitude": lambda one: magnitude_ranking(one.model, token_scope=one.token_scope),
    "activation": lambda one: activation_ranking(one.model, one.images, token_scope=one.token_scope),
    "taylor": lambda one: taylor_ranking(one.model, one.images, one.targets, token_scope=one.token_scope),
    "torch_pruning_magnitude": lambda one: torch_pruning_ranking(
        one.model, "magnitude", one.images, one.targets, token_scope=one.token_scope
    ),
    "torch_pruning_taylor": lambda one: torch_pruning_ranking(
        one.model, "taylor", one.images, one.targets, token_scope=one.token_scope
    ),
}
METHODS: Final = tuple(_RANKINGS)


def check_method(name: str) -> None:
    """Raise a NeuronPathError unless this is a method's name, or two of them joined by a plus."""
    first, plus, second = name.partition("+")
    for part in (first, second) if plus else (first,):
        if part not in METHODS:
            raise unknown_name("pruning method", part, METHODS)
    if plus and first == second:
        other = next(method for method in METHODS if method != first)
        raise NeuronPathError(
            f"The pruning method '{name}' decides its ties by itself: name another behind the plus, as {first}+{other}."
        )


def rank(name: str, selection: Selection) -> tuple[Ranking, Ranking]:
    """The named method's ranking, and the one that decides among neurons which it rates alike.

    Neurons that lie on no path are all rated 0. ``A+B`` ranks by A and decides by B, as in ``path+taylor``; A alone
    decides by chance, so that nothing but A is measured.

    Args:
        name: one of `METHODS`, or two joined by a plus.
        selection: what the rankings see.

    Raises:
        NeuronPathError: no such method, or what it itself refuses.
    """
    check_method(name)
    first, plus, second = name.partition("+")
    # A seed of its own: chance as a tie-breaker is not the method `random`.
    then = (
        _RANKINGS[second](selection)
        if plus
        else random_ranking(selection.model, selection.seed + 2**31, token_scope=selection.token_scope)
    )
    return _RANKINGS[first](selection), then
