"""The methods that the study compares, by the names that its tables have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.errors import unknown_name
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method as _Parts
from neuron_path.search.search import Search, searches
from neuron_path.search.settings import SearchSettings
from neuron_path.searches import Linearized

PAPER: Final = "joint_attribution"
"""The paper's own: each block's best neuron by joint attribution, given the choices before."""
NULLS: Final = ("random", "activation_matched_random")


@dataclass(frozen=True)
class Method:
    """A way to a path.

    Attributes:
        label: for readers.
        scorer: its name.
        search: the search, or its name.
        n_steps: nodes of Gauss–Legendre's rule; None: as many as the study takes.
        is_ranking: whether each block is rated on its own, so that one search gives the paths of every size.
    """

    label: str
    scorer: str = PAPER
    search: str | Search = "greedy"
    n_steps: int | None = None
    is_ranking: bool = False

    def finder(self, session: Session, n_steps: int, **options: Any) -> PathFinder:
        """What searches by it; the options are those of `PathFinder`, and `top_k`."""
        rule = Quadrature.of("gauss_legendre", self.n_steps or n_steps)
        settings = SearchSettings(rule, top_k=options.pop("top_k", 1))
        parts = _Parts(scorers.create(self.scorer), searches.create(self.search))
        return PathFinder(session, parts, settings, **options)


METHODS: Final[dict[str, Method]] = {
    PAPER: Method("joint attribution, greedy (the paper's)"),
    "linearized_joint": Method("joint attribution, linearised", search=Linearized()),
    "linearized_complete": Method("complete attribution, linearised", search=Linearized(measure="complete")),
    "complete_attribution": Method("complete attribution, greedy", "complete_attribution"),
    "effect_remove": Method("effect of remove", search=Linearized(measure="effect")),
    "effect_mean": Method("effect of mean ablation", search=Linearized(measure="effect", operation="mean_ablation")),
    "gradient_x_activation": Method("gradient × activation", "gradient_x_activation", is_ranking=True),
    "integrated_gradients": Method("integrated gradients", "integrated_gradients", n_steps=4, is_ranking=True),
    "conductance": Method("conductance", "conductance", n_steps=4, is_ranking=True),
    "ablation": Method("ablation", "ablation", is_ranking=True),
    "knowledge_neurons": Method("knowledge neurons", "knowledge_neurons", is_ranking=True),
    "activation": Method("activation", "activation", is_ranking=True),
    "influence_pattern": Method("influence pattern", "influence_pattern", is_ranking=True),
    "guided_influence_pattern": Method("guided influence pattern", "guided_influence_pattern"),
    "random": Method("random", "random", is_ranking=True),
    "activation_matched_random": Method("random of like activation", "activation_matched_random"),
}


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        NeuronPathError: there is none.
    """
    if name not in METHODS:
        raise unknown_name("method of this study", name, list(METHODS))
    return METHODS[name]
