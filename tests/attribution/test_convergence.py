"""The estimated error of an integral against the true one, for functions whose integral is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.quadrature import Quadrature

pytestmark = pytest.mark.covering

SMOOTH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda x: np.exp(3 * x),
    "pole": lambda x: 1 / (0.2 + x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-12 * (x - 0.4))),
    "gaussian": lambda x: np.exp(-20 * (x - 0.3) ** 2),
    "wave": lambda x: 1 + np.sin(9 * x),
    "cubic": lambda x: x**3 - x,
}


@pytest.mark.parametrize("m", [4, 5, 8, 11, 16])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_is_not_underestimated(name: str, m: int) -> None:
    nodes, weights = Quadrature("adaptive", m).nodes()
    terms = torch.from_numpy(weights @ SMOOTH[name](nodes))
    exact, _ = quad(SMOOTH[name], 0, 1, epsabs=1e-14)
    assert abs(terms[0].item() - exact) <= 2 * integration_error(terms, m).item() + 1e-13


def test_the_estimate_falls_with_the_nodes() -> None:
    errors = []
    for m in (4, 8, 16):
        nodes, weights = Quadrature("adaptive", m).nodes()
        errors.append(integration_error(torch.from_numpy(weights @ SMOOTH["pole"](nodes)), m).item())
    assert errors[0] > 30 * errors[1] > 900 * errors[2] > 0


def test_what_is_zero_has_no_error() -> None:
    assert integration_error(torch.zeros(4, 3), 4).tolist() == [0, 0, 0]


def test_every_element_has_its_own() -> None:
    terms = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    every = integration_error(terms, 6)
    assert every.shape == (2, 3)
    assert every[1, 2] == integration_error(terms[:, 1, 2], 6)


def test_the_integral_stands_first() -> None:
    terms = torch.arange(12.0).view(4, 3)
    assert integral(terms, 1).tolist() == [0, 1, 2]
    assert integral(terms, 2) is terms


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_a_short_type_rounds_is_no_error_of_the_integral(dtype: torch.dtype) -> None:
    """Else no number of nodes would do: bfloat16 rounds more than the usual tolerance."""
    nodes, weights = Quadrature("adaptive", 8).nodes()
    terms = torch.from_numpy(weights @ SMOOTH["exponential"](nodes)).to(dtype)
    error = integration_error(terms, 8)
    assert error.dtype == dtype
    assert 0 < error.item() < 1e-3 * terms[0].item()
