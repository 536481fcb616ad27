"""Rules that integrate a gradient over α from 0 to 1: nodes α_k and weights ω_k, Σω = 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from neuron_path.errors import NeuronPathError, unknown_name

_MOST = 4096  # far past convergence; a Gauss–Legendre rule takes the square of it in memory
_Nodes = tuple[np.ndarray, np.ndarray]


def _uniform(offset: float) -> Callable[[int], _Nodes]:
    def rule(m: int) -> _Nodes:
        return (np.arange(m) + offset) / m, np.full(m, 1 / m)

    return rule


def _trapezoid(m: int) -> _Nodes:
    weights = np.full(m, 1 / (m - 1))
    weights[[0, -1]] /= 2
    return np.arange(m) / (m - 1), weights


def _gauss_legendre(m: int) -> _Nodes:
    nodes, weights = np.polynomial.legendre.leggauss(m)
    return (nodes + 1) / 2, weights / 2


RULES: dict[str, Callable[[int], _Nodes]] = {
    "riemann_left": _uniform(0.0),
    "riemann_right": _uniform(1.0),
    "midpoint": _uniform(0.5),
    "trapezoid": _trapezoid,
    "gauss_legendre": _gauss_legendre,
}


@dataclass(frozen=True)
class Quadrature:
    """A quadrature rule with its number of nodes.

    With k = 0 … m−1: `riemann_left` α = k/m, `riemann_right` (k+1)/m, `midpoint` (k+½)/m, all ω = 1/m; `trapezoid`
    α = k/(m−1), ω = 1/(m−1) with halves at the ends; `gauss_legendre` on [0, 1].

    Args:
        rule: one of the names above.
        n_steps: m, the number of nodes; at least 1, for `trapezoid` at least 2.

    Raises:
        NeuronPathError: no such rule, or too few nodes.

    >>> Quadrature("trapezoid", 3).nodes()
    (array([0. , 0.5, 1. ]), array([0.25, 0.5 , 0.25]))
    """

    rule: str = "gauss_legendre"
    n_steps: int = 8

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("quadrature rule", self.rule, RULES)
        least = 2 if self.rule == "trapezoid" else 1
        if not isinstance(self.n_steps, Integral) or self.n_steps < least:
            raise NeuronPathError(f"n_steps is {self.n_steps}; the rule '{self.rule}' needs at least {least}.")
        if self.n_steps > _MOST:
            raise NeuronPathError(f"n_steps is {self.n_steps}; expected at most {_MOST}: more nodes change no digit.")

    @staticmethod
    def of(rule: str | Quadrature, n_steps: int = 8) -> Quadrature:
        """A named rule with its number of nodes; a finished `Quadrature` is taken as it is."""
        return Quadrature(rule, n_steps) if isinstance(rule, str) else rule

    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes and the weights, each (m,) float64."""
        return RULES[self.rule](self.n_steps)
