"""How far the `adaptive` rule is from the integral, and which decisions that leaves in doubt.

With m Gauss–Legendre nodes come the first m coefficients of the integrand's Legendre series, at no cost. For an
analytic function they fall geometrically, c_k ~ ρ^k, and the rule misses what lies beyond degree 2m − 1: an error of
the order of ρ^2m (Trefethen, *Approximation Theory and Approximation Practice*, chapter 19). The first and the last
coefficients tell ρ. It is an estimate and no bound: how often it misleads is measured, see docs/performance.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Of the estimate, which has two powers of ρ to spare. On 200 digits with 4 to 8 nodes the smallest share that misses no
# wrong choice is 0.34.
_SHARE = 0.5


def integration_error(terms: Float[Tensor, "4 *n"], n_steps: int) -> Float[Tensor, "*n"]:
    """The estimated error of integrals by m = `n_steps` nodes, from their coefficients 0, 1, m−2 and m−1.

    Rounding is not in it, of which more nodes take nothing away: only what float32's alone does is its least.
    """
    exact = terms if terms.dtype == torch.float64 else terms.float()
    squares, info = exact.square(), torch.finfo(exact.dtype)
    whole = squares.sum(0).sqrt()  # the integrand's size, by its first and last coefficients
    fallen = squares[2:].sum(0).sqrt() / whole.clamp(min=info.tiny)  # ρ^(m−2)
    # (ρ^(m−2)) to the power 2 + 2/(m−2) is ρ^(2m−2): two powers fewer than the theory has, on the safe side.
    missed = _SHARE * whole * fallen ** (2 + 2 / (n_steps - 2))
    return missed.clamp(min=info.eps * whole).to(terms)


def integral(terms: Float[Tensor, "..."], n_dims: int) -> Float[Tensor, "..."]:
    """The integral itself, of n_dims dimensions, with or without error terms beside it."""
    return terms if terms.ndim == n_dims else terms[0]
