"""Every ranking by its name, for comparison at the same budget and from the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from neuron_path.pruning.ranking import By, Ranking, hidden_widths, path_ranking, paths_of_units
from neuron_path.pruning.torch_pruning import torch_pruning_ranking
from neuron_path.types import UnitsName

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
        units: what is ranked: "ffn", "heads" or "ffn+heads".
        path_units: what the paths consist of.
    """

    model: nn.Module
    images: Float[Tensor, "B c H W"]
    targets: Int[Tensor, "B"]
    paths: pd.DataFrame
    seed: int = 0
    token_scope: str | None = None
    units: str = "ffn"
    path_units: str = "ffn"

    def options(self) -> dict[str, Any]:
        """Whose blocks, as all rankings take it."""
        return {"token_scope": self.token_scope, "units": self.units}


def _by_paths(by: By) -> Callable[[Selection], Ranking]:
    return lambda one: path_ranking(
        paths_of_units(one.paths, one.path_units, one.units), hidden_widths(one.model, **one.options()), by
    )


_RANKINGS: Final[dict[str, Callable[[Selection], Ranking]]] = {
    **{name: _by_paths(by) for name, by in BY.items()},
    "random": lambda one: random_ranking(one.model, one.seed, **one.options()),
    "magnitude": lambda one: magnitude_ranking(one.model, **one.options()),
    "activation": lambda one: activation_ranking(one.model, one.images, **one.options()),
    "taylor": lambda one: taylor_ranking(one.model, one.images, one.targets, **one.options()),
    "torch_pruning_magnitude": lambda one: torch_pruning_ranking(
        one.model, "magnitude", one.images, one.targets, **one.options()
    ),
    "torch_pruning_taylor": lambda one: torch_pruning_ranking(
        one.model, "taylor", one.images, one.targets, **one.options()
    ),
}
METHODS: Final = tuple(_RANKINGS)


def units_of(name: str, default: str) -> tuple[str, str]:
    """Which units a method's name is of, those before a colon if there are any, and the method.

    >>> units_of("ffn:taylor", "heads"), units_of("path+taylor", "heads")
    (('ffn', 'taylor'), ('heads', 'path+taylor'))
    """
    units, colon, method = name.rpartition(":")
    return units if colon else default, method


def check_method(name: str) -> None:
    """Raise a NeuronPathError unless this names a method, or two joined by a plus, perhaps behind units and a colon."""
    units, name = units_of(name, "ffn")
    if units not in get_args(UnitsName):
        raise unknown_name("choice of units", units, get_args(UnitsName))
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
        name: one of `METHODS`, or two joined by a plus; with a colon, as "heads:taylor", of other units than those of
            the selection.
        selection: what the rankings see.

    Raises:
        NeuronPathError: no such method, or what it itself refuses.
    """
    check_method(name)
    units, name = units_of(name, selection.units)
    selection = replace(selection, units=units)
    first, plus, second = name.partition("+")
    ranking = _RANKINGS[first](selection)
    if plus:
        return ranking, _RANKINGS[second](selection)
    # A seed of its own: chance as a tie-breaker is not the method `random`.
    return ranking, random_ranking(selection.model, selection.seed + 2**31, **selection.options())
