"""What an intervention makes of a block's activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.adapter import listed
from neuron_path.types import OperationName, TokensName

OPERATIONS: tuple[str, ...] = get_args(OperationName)
TOKENS: tuple[str, ...] = get_args(TokensName)
FACTOR = 2.0  # of enhance, as in the paper


class Operation(ABC):
    """An intervention at work on a batch of images."""

    @abstractmethod
    def edit(
        self, index: int, a: Float[Tensor, "B n W"], places: Int[Tensor, "B c"], *, in_scope: bool
    ) -> Float[Tensor, "B n W"]:
        """Block `index`'s activations with those at the path's places edited, at the n tokens in scope or at the other
        ones. A place of −1 stands for none."""


@dataclass(frozen=True)
class Scale(Operation):
    """Remove (× 0) and enhance (× 2, or any other factor).

    Attributes:
        factor: what the path's neurons are multiplied by.
    """

    factor: float

    def edit(self, index: int, a: Tensor, places: Tensor, *, in_scope: bool) -> Tensor:
        """Multiply the path's neurons."""
        return a * torch.ones_like(a[:, :1]).masked_fill(listed(places, a.shape[2]), self.factor)


class KeepOnly(Operation):
    """Silence all other neurons of all blocks."""

    def edit(self, index: int, a: Tensor, places: Tensor, *, in_scope: bool) -> Tensor:
        """Multiply the other neurons by 0."""
        return a * listed(places, a.shape[2])


@dataclass(frozen=True)
class MeanAblation(Operation):
    """Set the path's neurons to their mean over reference images.

    Attributes:
        means: per block the means (W,) over images and tokens, of the tokens in scope and of the other ones.
    """

    means: Sequence[tuple[Float[Tensor, "W"], Float[Tensor, "W"]]]

    def edit(self, index: int, a: Tensor, places: Tensor, *, in_scope: bool) -> Tensor:
        """Put the means in the path neurons' places, the same at every token."""
        return torch.where(listed(places, a.shape[2]), self.means[index][0 if in_scope else 1].to(a), a)


@dataclass(frozen=True)
class ResampleAblation(Operation):
    """Set the path's neurons to their activations on another image, token by token.

    Attributes:
        donated: per block the donors' activations (B, n, c) at the path's places, in scope and at the other tokens.
    """

    donated: Sequence[tuple[Float[Tensor, "B S c"], Float[Tensor, "B R c"]]]

    def edit(self, index: int, a: Tensor, places: Tensor, *, in_scope: bool) -> Tensor:
        """Put the donors' activations in the path neurons' places."""
        # The place behind the last one takes what stands for none.
        index_of = torch.where(places < 0, a.shape[2], places).unsqueeze(1).expand(-1, a.shape[1], -1)
        return F.pad(a, (0, 1)).scatter(2, index_of, self.donated[index][0 if in_scope else 1])[..., :-1]


def factor_of(operation: str, factor: float | None = None) -> float:
    """What `remove` or `enhance` multiplies by.

    Raises:
        NeuronPathError: a factor that is not finite, or one for an operation that takes none.
    """
    if factor is None:
        return 0.0 if operation == "remove" else FACTOR
    if operation != "enhance":
        raise NeuronPathError(f"The operation '{operation}' takes no factor: use 'enhance'.")
    if not isinstance(factor, Real) or not -float("inf") < factor < float("inf"):
        raise NeuronPathError(f"factor is {factor!r}; expected a finite number, such as 2.0.")
    return float(factor)


def check_operation(operation: str, tokens: str = "scope") -> None:
    """Raise a NeuronPathError for an operation, or tokens to edit at, that do not exist."""
    if operation not in OPERATIONS:
        raise unknown_name("operation", operation, OPERATIONS)
    if tokens not in TOKENS:
        raise unknown_name("choice of tokens", tokens, TOKENS)
