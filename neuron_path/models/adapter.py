"""The seam between NeuronPath and a model family: what the maths needs to know of a vision transformer.

A family is one file in `neuron_path.models.families` with a `Block` and an `Adapter`. Nothing else in the package
knows an attribute name of a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.registry import Registry
from neuron_path.types import TokenScopeName


class Block(ABC):
    """One transformer block, cut at its neurons: ``block(x) = u + ffn(a)`` with ``u = mix(x)``, ``a = activations(u)``.

    Contract: `mix` is where tokens exchange information (attention and its residual; its result may also carry what
    the FFN needs); `activations` and `ffn` act on each token alone; `ffn` is affine in the activations.
    All methods are differentiable in both modes and never change the model.
    """

    n_neurons: int

    @abstractmethod
    def mix(self, x: Float[Tensor, "N T D"], rows: slice | None = None) -> Float[Tensor, "N R D"]:
        """Everything before the FFN branch, at the tokens `rows` (all by default); it reads all tokens."""

    @abstractmethod
    def activations(self, u: Float[Tensor, "N R D"]) -> Float[Tensor, "N R F"]:
        """The neurons: the input of the FFN's second linear layer."""

    @abstractmethod
    def ffn(self, a: Float[Tensor, "N R F"]) -> Float[Tensor, "N R D"]:
        """What the FFN adds to the residual stream for given neuron activations (bias and layer scale included)."""

    @abstractmethod
    def pullback(self, g: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        """Gradient with respect to the activations, from the gradient with respect to the block's output."""

    @abstractmethod
    def columns(self, neurons: Int[Tensor, "B k"]) -> Float[Tensor, "B k D"]:
        """What one unit of each neuron's activation adds to the block's output."""

    def __call__(self, x: Float[Tensor, "N T D"], rows: slice | None = None) -> Float[Tensor, "N R D"]:
        """The whole block."""
        u = self.mix(x, rows)
        return u + self.ffn(self.activations(u))


@dataclass(frozen=True)
class Scope:
    """Which tokens count: the tokens in scope are a contiguous run at the start or the end of the sequence.

    Attributes:
        name: "cls" or "patch".
        tokens: the run in scope.
        live: all other tokens; their activations are never frozen.
        first: whether the run in scope comes before the live tokens.
    """

    name: TokenScopeName
    tokens: slice
    live: slice
    first: bool

    def join(self, scoped: Tensor, live: Tensor) -> Float[Tensor, "N T D"]:
        """Put the two groups of tokens back in sequence order."""
        return torch.cat((scoped, live) if self.first else (live, scoped), dim=1)


class Adapter(ABC):
    """A vision transformer as NeuronPath sees it: embed, run blocks, read the head.

    Attributes:
        name: the family's.
        model: the timm module, left exactly as it was.
        blocks: the blocks with neurons, from input to output.
        n_classes: C.
        n_prefix_tokens: tokens before the patches (class and register tokens).
        has_class_token: whether token 0 is a class token.
        head_rows: the tokens whose final values the head reads (None: all), so that the last block can skip the rest.
        default_scope: the token scope that follows from the head.
    """

    name: ClassVar[str]
    model: Any
    blocks: Sequence[Block]
    n_classes: int
    n_prefix_tokens: int
    has_class_token: bool
    head_rows: slice | None
    default_scope: TokenScopeName

    @classmethod
    @abstractmethod
    def handles(cls, model: nn.Module) -> bool:
        """Whether this family's adapter is the one for `model`."""

    @abstractmethod
    def __init__(self, model: nn.Module) -> None:
        """Wrap `model`; raise a NeuronPathError that names the part which is not supported, if there is one."""

    @abstractmethod
    def embed(self, images: Float[Tensor, "N c H W"]) -> Float[Tensor, "N T D"]:
        """The residual stream that enters block 0."""

    @abstractmethod
    def head(self, h: Float[Tensor, "N R D"]) -> Float[Tensor, "N C"]:
        """Logits from the last block's output, at all tokens or at `head_rows` only."""

    def scope(self, name: str | None = None) -> Scope:
        """The tokens of a named scope (the head's own by default).

        Raises:
            NeuronPathError: no such scope, or `cls` of a model without a class token.
        """
        name = name or self.default_scope
        if name == "cls":
            if not self.has_class_token:
                raise NeuronPathError("Token scope 'cls' needs a class token, and this model has none: use 'patch'.")
            return Scope("cls", slice(0, 1), slice(1, None), first=True)
        if name == "patch":
            n = self.n_prefix_tokens
            return Scope("patch", slice(n, None), slice(0, n), first=False)
        raise NeuronPathError(f"No token scope is named '{name}'. Known: cls, patch.")

    def rows(self, index: int, scope: Scope) -> slice | None:
        """The tokens at which block `index` must be evaluated: all (None), but in the last block only what is read."""
        is_last = index == len(self.blocks) - 1
        return self.head_rows if is_last and self.head_rows == scope.tokens else None

    def in_scope(self, index: int, scope: Scope) -> slice:
        """Where the tokens in scope lie in what block `index` returns for `rows`."""
        return scope.tokens if self.rows(index, scope) is None else slice(None)


families: Registry[Adapter] = Registry("model family", "neuron_path.models.families")


def adapt(model: nn.Module) -> Adapter:
    """Wrap a model in its family's adapter.

    Raises:
        NeuronPathError: no family handles the model; the message says which ones there are.
    """
    for _, family in families:
        if family.handles(model):
            return family(model)
    known = ", ".join(families.names())
    kind = f"{type(model).__module__}.{type(model).__name__}"
    raise NeuronPathError(f"Models of type {kind} are not supported. Supported families: {known}.")
