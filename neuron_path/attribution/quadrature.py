"""Rules that integrate a gradient over α from 0 to 1: nodes α_k and weights ω_k, Σω = 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real

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


def _legendre_coefficients(m: int) -> _Nodes:
    """Gauss–Legendre nodes; a row of weights for each of the coefficients 0, 1, m−2 and m−1 of a Legendre series.

    The first coefficient is the integral, by the usual weights.
    """
    nodes, weights = np.polynomial.legendre.leggauss(m)
    degrees = np.array([0, 1, m - 2, m - 1])
    values = np.polynomial.legendre.legvander(nodes, m - 1)[:, degrees]
    return (nodes + 1) / 2, ((2 * degrees + 1) * values * weights[:, None] / 2).T


RULES: dict[str, Callable[[int], _Nodes]] = {
    "riemann_left": _uniform(0.0),
    "riemann_right": _uniform(1.0),
    "midpoint": _uniform(0.5),
    "trapezoid": _trapezoid,
    "gauss_legendre": _gauss_legendre,
    "adaptive": _legendre_coefficients,
}
_LEAST = {"trapezoid": 2, "adaptive": 4}
_DEFAULT = {"gauss_legendre": 8, "adaptive": 4, "trapezoid": 21}  # 20 intervals
_PAPER = 20


def is_whole(value: object) -> bool:
    """Whether it is a whole number, of any type but bool.

    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a real number, of any type but bool.

    >>> is_number(3), is_number(0.5), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Quadrature:
    """A quadrature rule with its number of nodes.

    With k = 0 … m−1: `riemann_left` α = k/m, `riemann_right` (k+1)/m, `midpoint` (k+½)/m, all ω = 1/m; `trapezoid`
    α = k/(m−1), ω = 1/(m−1) with halves at the ends; `gauss_legendre` on [0, 1]. `adaptive` is Gauss–Legendre that
    estimates its error and doubles the nodes of what is in doubt; see `neuron_path.attribution.convergence`.

    Args:
        rule: one of the names above.
        n_steps: m, the number of nodes, which `adaptive` begins with; at least 1, for `trapezoid` 2, for `adaptive` 4.
            None: 8 of `gauss_legendre`, 4 of `adaptive`, 21 of `trapezoid`, and of the others the paper's 20.
        tolerance: of `adaptive`: the relative error of a path's score.
        max_steps: of `adaptive`: nodes beyond which it takes what it has.

    Raises:
        NeuronPathError: no such rule, too few nodes, or a tolerance out of range.

    >>> Quadrature("trapezoid", 3).nodes()
    (array([0. , 0.5, 1. ]), array([0.25, 0.5 , 0.25]))
    """

    rule: str = "gauss_legendre"
    n_steps: int = None  # pyright: ignore[reportAssignmentType] - an int once made
    tolerance: float = 1e-3
    max_steps: int = 64

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("quadrature rule", self.rule, RULES)
        if self.n_steps is None:
            object.__setattr__(self, "n_steps", _DEFAULT.get(self.rule, _PAPER))
        least = _LEAST.get(self.rule, 1)
        for name in ("n_steps", "max_steps") if self.is_adaptive else ("n_steps",):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise NeuronPathError(f"{name} is {value!r}; the rule '{self.rule}' needs at least {least}.")
            if int(value) > _MOST:
                raise NeuronPathError(f"{name} is {value}; expected at most {_MOST}: more nodes change no digit.")
        if self.is_adaptive and self.max_steps < self.n_steps:
            raise NeuronPathError(
                f"max_steps is {self.max_steps}, fewer than the {self.n_steps} of n_steps that the rule 'adaptive' "
                f"begins with: set it to {self.n_steps} or more, or take fewer n_steps."
            )
        if not isinstance(self.tolerance, Real) or not 1e-6 <= self.tolerance < 1:
            raise NeuronPathError(f"tolerance is {self.tolerance}; expected a relative error from 1e-6 to below 1.")

    @staticmethod
    def of(rule: str | Quadrature, n_steps: int | None = None) -> Quadrature:
        """A named rule with its number of nodes; a finished `Quadrature` is taken as it is.

        Raises:
            NeuronPathError: also for a number of nodes beside a `Quadrature` that has another.
        """
        if isinstance(rule, str):
            return Quadrature(rule, n_steps)  # pyright: ignore[reportArgumentType]
        if not isinstance(rule, Quadrature):
            raise unknown_name("quadrature rule", rule, RULES)
        if n_steps not in (None, rule.n_steps):
            raise NeuronPathError(
                f"n_steps is {n_steps}, but the quadrature that is given has {rule.n_steps} nodes: give one of the two."
            )
        return rule

    @property
    def is_adaptive(self) -> bool:
        """Whether the nodes are as many as an image needs."""
        return self.rule == "adaptive"

    @property
    def most_steps(self) -> int:
        """The most nodes that an image may end with."""
        return max(self.n_steps, self.max_steps) if self.is_adaptive else self.n_steps

    def finer(self) -> Quadrature | None:
        """Twice the nodes; None where there shall be no more."""
        more = min(2 * self.n_steps, self.max_steps)
        return replace(self, n_steps=more) if self.is_adaptive and more > self.n_steps else None

    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes (m,) and the weights (m,), float64; of `adaptive` (4, m), those of the integral first."""
        return RULES[self.rule](self.n_steps)
