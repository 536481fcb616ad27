"""Quadrature rules against scipy and against what they must integrate exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.special import roots_legendre

from neuron_path.attribution.quadrature import RULES, Quadrature
from neuron_path.errors import NeuronPathError

FIXED = sorted(set(RULES) - {"adaptive"})


@given(st.sampled_from(FIXED), st.integers(2, 40))
def test_nodes_lie_in_the_unit_interval_and_weights_sum_to_one(rule: str, m: int) -> None:
    nodes, weights = Quadrature(rule, m).nodes()
    assert nodes.shape == weights.shape == (m,)
    assert nodes.dtype == weights.dtype == np.float64
    assert (nodes >= 0).all()
    assert (nodes <= 1).all()
    assert (np.diff(nodes) > 0).all()
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        ("riemann_left", [0, 0.25, 0.5, 0.75]),
        ("riemann_right", [0.25, 0.5, 0.75, 1]),
        ("midpoint", [0.125, 0.375, 0.625, 0.875]),
        ("trapezoid", [0, 1 / 3, 2 / 3, 1]),
    ],
)
def test_nodes_of_the_uniform_rules(rule: str, nodes: list[float]) -> None:
    np.testing.assert_allclose(Quadrature(rule, 4).nodes()[0], nodes, rtol=1e-15)


def degree(rule: str, m: int) -> int:
    """Highest degree that the rule is meant to integrate exactly."""
    return {"midpoint": 1, "trapezoid": 1, "gauss_legendre": 2 * m - 1}.get(rule, 0)


@given(st.sampled_from(FIXED), st.integers(2, 12))
def test_polynomials_are_exact_up_to_the_degree_and_not_beyond(rule: str, m: int) -> None:
    nodes, weights = Quadrature(rule, m).nodes()
    exact = degree(rule, m)
    for power in range(exact + 1):
        assert weights @ nodes**power == pytest.approx(1 / (power + 1), abs=1e-13)
    if m <= 4:  # the error of the next degree is visible
        assert abs(weights @ nodes ** (exact + 1) - 1 / (exact + 2)) > 1e-7


@pytest.mark.parametrize("m", [1, 2, 8, 33, 64])
def test_gauss_legendre_is_scipys(m: int) -> None:
    nodes, weights = Quadrature("gauss_legendre", m).nodes()
    roots, expected = roots_legendre(m)
    np.testing.assert_allclose(nodes, (roots + 1) / 2, atol=1e-14)
    np.testing.assert_allclose(weights, expected / 2, atol=1e-14)


@pytest.mark.parametrize("m", [2, 5, 20])
def test_trapezoid_is_scipys(m: int) -> None:
    nodes, weights = Quadrature("trapezoid", m).nodes()
    assert weights @ np.exp(nodes) == pytest.approx(trapezoid(np.exp(nodes), nodes), rel=1e-14)


@pytest.mark.parametrize(
    ("rule", "n_steps", "told"),
    [
        ("gauss_legender", 8, "Did you mean 'gauss_legendre'?"),
        ("riemann_left", 0, "n_steps is 0; the rule 'riemann_left' needs at least 1"),
        ("gauss_legendre", -3, "n_steps is -3"),
        ("trapezoid", 1, "needs at least 2"),
        ("gauss_legendre", True, "n_steps is True"),
    ],
)
def test_bad_rules_are_one_line(rule: str, n_steps: int, told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        Quadrature(rule, n_steps)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("m", [4, 5, 8, 16])
def test_the_adaptive_rule_gives_the_coefficients_of_a_legendre_series(m: int) -> None:
    nodes, weights = Quadrature("adaptive", m).nodes()
    np.testing.assert_array_equal(nodes, Quadrature("gauss_legendre", m).nodes()[0])
    np.testing.assert_allclose(weights[0], Quadrature("gauss_legendre", m).nodes()[1], atol=1e-15)
    values = np.exp(2 * nodes)
    series = np.polynomial.legendre.legfit(2 * nodes - 1, values, m - 1)
    np.testing.assert_allclose(weights @ values, series[[0, 1, m - 2, m - 1]], atol=1e-12)


def test_the_adaptive_rule_doubles_its_nodes_up_to_the_most() -> None:
    rule, seen = Quadrature("adaptive", 5, max_steps=32), []
    while rule is not None:
        seen.append(rule.n_steps)
        rule = rule.finer()
    assert seen == [5, 10, 20, 32]
    assert Quadrature("gauss_legendre", 5).finer() is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_steps": 3}, "n_steps is 3; the rule 'adaptive' needs at least 4"),
        ({"max_steps": 2}, "max_steps is 2"),
        ({"n_steps": 16, "max_steps": 8}, "max_steps is 8, fewer than the 16 of n_steps"),
        ({"tolerance": "1e-3"}, "tolerance is 1e-3; expected a relative error"),
        ({"tolerance": 0.0}, "tolerance is 0.0; expected a relative error from 1e-6"),
    ],
)
def test_bad_options_of_the_adaptive_rule_are_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError, match=told):
        Quadrature("adaptive", **options)


def test_a_number_of_nodes_beside_a_finished_rule_must_be_its_own() -> None:
    rule = Quadrature("midpoint", 6)
    assert Quadrature.of("midpoint", 6) == rule
    assert Quadrature.of(rule) is Quadrature.of(rule, 6) is rule
    with pytest.raises(NeuronPathError, match="n_steps is 4, but the quadrature that is given has 6 nodes"):
        Quadrature.of(rule, 4)


def test_a_rule_has_its_own_number_of_nodes() -> None:
    assert Quadrature().n_steps == 8
    assert Quadrature("adaptive").n_steps == 4
