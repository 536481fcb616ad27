"""The seam between NeuronPath and a model family: what the maths needs to know of a vision transformer.

A family is one file in `neuron_path.models.families` with an `Adapter`; most take their blocks from
`neuron_path.models.blocks`. Nothing else in the package knows an attribute name of a model.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.classes import count_classes
from neuron_path.models.guard import check_not_quantised
from neuron_path.models.unsupported import why_not
from neuron_path.models.wrappers import unwrapped
from neuron_path.registry import Registry
from neuron_path.types import TokenScopeName, UnitsName


def _resized(size: Sequence[int]) -> str:
    """How to give images this height and width, in Python."""
    return f"resize them, torch.nn.functional.interpolate(images, size={tuple(size)})"


class Block(ABC):
    """One transformer block, cut at its neurons: ``block(x) = residual(u) + after(project(a))`` with ``u = mix(x)`` and
    ``a = activations(u)``.

    What is said of neurons here and wherever paths are searched holds for attention heads, where these are the units:
    of them `channels` activations that lie side by side are one.

    Contract: `mix` is where tokens exchange information (attention and its residual); all else acts on each token
    alone. `project` is affine. All methods are differentiable in both modes and never change the model.

    Attributes:
        n_neurons: F, from which a path takes its own.
        channels: activations that each neuron has: 1, of an attention head as many as it writes.
        feeds_all: whether the FFN sees every token; else those in scope alone, as in class attention, and the others
            leave `mix` as they leave the block.
    """

    n_neurons: int
    channels: int = 1
    feeds_all: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """W = F · channels, the number of activations at each token."""
        return self.n_neurons * self.channels

    def places(self, neurons: Int[Tensor, "n k"]) -> Int[Tensor, "n c"]:
        """Where among the W activations those of the given neurons are; −1 stands for none."""
        if self.channels == 1:
            return neurons
        first = neurons.unsqueeze(2) * self.channels
        every = first + torch.arange(self.channels, device=neurons.device)
        return every.where(first >= 0, -1).flatten(1)

    def per_neuron(self, values: Float[Tensor, "*N W"]) -> Float[Tensor, "*N F"]:
        """Of values of each activation the sum over each neuron's own."""
        return values if self.channels == 1 else values.unflatten(-1, (-1, self.channels)).sum(-1)

    def strength(self, a: Float[Tensor, "*N W"]) -> Float[Tensor, "*N F"]:
        """How active each neuron is: its activation, of several their Euclidean norm."""
        return a if self.channels == 1 else a.unflatten(-1, (-1, self.channels)).norm(dim=-1)

    @abstractmethod
    def mix(self, x: Float[Tensor, "N T D"], rows: slice | None = None) -> Float[Tensor, "N R E"]:
        """Everything before the FFN branch, at the tokens `rows` (all by default); it reads all tokens.

        The number of tokens may change. The result may be wider than the stream, to carry what `activations` reads.
        """

    def residual(self, u: Float[Tensor, "N R E"]) -> Float[Tensor, "N R D"]:
        """What the FFN's output is added to."""
        return u

    @abstractmethod
    def activations(self, u: Float[Tensor, "N R E"]) -> Float[Tensor, "N R W"]:
        """The neurons: the input of the FFN's second linear layer; of heads, that of the output projection."""

    @abstractmethod
    def project(self, a: Float[Tensor, "N R W"]) -> Float[Tensor, "N R D"]:
        """The second linear layer, bias and layer scale included."""

    @abstractmethod
    def pullback(self, g: Float[Tensor, "*N D"]) -> Float[Tensor, "*N W"]:
        """Gradient with respect to the activations, from that with respect to their projection."""

    @abstractmethod
    def columns(self, places: Int[Tensor, "B c"]) -> Float[Tensor, "B c D"]:
        """What one unit of each activation adds to the projection."""

    def after(self, z: Float[Tensor, "N R D"]) -> Float[Tensor, "N R D"]:
        """What the projection passes before it is added, where that is not affine: a norm."""
        return z

    def feed(self, u: Float[Tensor, "N R E"]) -> Float[Tensor, "N R D"]:
        """The block's output from that of `mix`."""
        return self.residual(u) + self.after(self.project(self.activations(u)))


def taken(a: Float[Tensor, "n S W"], places: Int[Tensor, "n c"]) -> Float[Tensor, "n S c"]:
    """The activations at the given places; 0 where that is −1, for none."""
    index = places.clamp(min=0).unsqueeze(1).expand(-1, a.shape[1], -1)
    return a.gather(2, index) * (places >= 0).unsqueeze(1)


def listed(places: Int[Tensor, "n c"], width: int) -> Bool[Tensor, "n 1 W"]:
    """Which of a block's activations are at the given places; −1 stands for none."""
    # The place behind the last one takes what stands for none.
    index = torch.where(places < 0, width, places).unsqueeze(1)
    mask = torch.zeros((len(places), 1, width + 1), dtype=torch.bool, device=places.device)
    return mask.scatter(2, index, True)[..., :width]


@dataclass(frozen=True)
class Scope:
    """Which tokens count: the tokens in scope are a contiguous run at the start or the end of the sequence.

    Attributes:
        name: "cls" or "patch".
        tokens: the run in scope.
        live: all other tokens; their activations are never frozen.
        first: whether the run in scope comes before the live tokens.
        pooled: whether tokens are pooled between blocks, so that sums over blocks take each block's mean over tokens.
    """

    name: TokenScopeName
    tokens: slice
    live: slice
    first: bool
    pooled: bool = False

    @staticmethod
    def cls(n_tokens: int = 1) -> Scope:
        """The class token, and the distillation token where there is one."""
        return Scope("cls", slice(0, n_tokens), slice(n_tokens, None), first=True)

    @staticmethod
    def patch(n_prefix_tokens: int = 0, *, pooled: bool = False) -> Scope:
        """All tokens but the class and register tokens, which come first."""
        return Scope("patch", slice(n_prefix_tokens, None), slice(0, n_prefix_tokens), first=False, pooled=pooled)

    def join(self, scoped: Tensor, live: Tensor) -> Float[Tensor, "N T D"]:
        """Put the two groups of tokens back in sequence order."""
        return torch.cat((scoped, live) if self.first else (live, scoped), dim=1)


class Adapter(ABC):
    """A vision transformer as NeuronPath sees it: embed, run blocks, read the head.

    Args:
        model: a timm module, left exactly as it was; on the meta device nothing is computed.
        token_scope: "cls", "patch", or None for what follows from the head.

    Attributes:
        name: the family's.
        special: what is special about the family, in a few words.
        closeness: how nearly the model's own logits must be computed, in float32 and wider.
        modules: timm's modules whose models the family takes; where there are none, the one of the family's name.
        kind: the class of these models, no subclass of it; for families whose `handles` is the usual one.
        blocks: the blocks that a path runs through, from input to output; what comes before and after them is part of
            `embed` and `head`.
        scope: the tokens that count.
        n_classes: C.
        head_rows: the tokens whose final values the head reads (None: all), so that the last block can skip the rest.
        units: what a path consists of.

    Raises:
        NeuronPathError: names the part of the model that is not supported, or a scope that it does not have.
    """

    name: ClassVar[str]
    special: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[type[nn.Module] | None] = None
    closeness: ClassVar[float] = 1e-4
    blocks: Sequence[Block]
    scope: Scope
    n_classes: int
    head_rows: slice | None = None
    units: UnitsName = "ffn"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        """Whether this family's adapter is the one for `model`."""
        return type(model) is cls.kind

    @abstractmethod
    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        self.model = model
        self.n_classes = count_classes(model)
        if self.n_classes < 1:
            raise NeuronPathError(
                "The model's head has 0 classes; a path drives one of them: load the model with its classifier "
                "(num_classes >= 1), or give it one with head=file head.path=FILE or head=linear_probe (in Python: "
                "neuron_path.attach_head(model, neuron_path.load_head(FILE)))."
            )

    @abstractmethod
    def embed(self, images: Float[Tensor, "N c H W"]) -> Float[Tensor, "N T D"]:
        """The residual stream that enters the first block; what blocks need beside it is computed here, once."""

    def head(self, h: Float[Tensor, "N R D"]) -> Float[Tensor, "N C"]:
        """Logits from the last block's output, at all tokens or at `head_rows` only."""
        return self.model.forward_head(self.model.norm(h))

    def logits(self, images: Float[Tensor, "N c H W"]) -> Float[Tensor, "N C"]:
        """Logits by the model's own forward pass."""
        return self.model(images)

    def tolerance(self, dtype: torch.dtype) -> float:
        """How nearly logits of a type must agree with the model's own."""
        return 1e-2 if dtype in (torch.float16, torch.bfloat16) else self.closeness

    @property
    def gated(self) -> bool:
        """Whether a neuron's value is a factor on all its activations, 1 at every token of the untouched network,
        because there is no one activation to take for it: where heads are among the units."""
        return self.units != "ffn"

    def input_shape(self) -> tuple[int, int | None, int | None]:
        """Channels, height and width of the images that the model takes; None where any will do."""
        first = next(module for module in self.model.modules() if isinstance(module, nn.Conv2d))
        patch_embed = self.model.patch_embed
        free = getattr(self.model, "dynamic_img_size", False) or not getattr(patch_embed, "strict_img_size", True)
        height, width = (None if free else getattr(patch_embed, "img_size", None)) or (None, None)
        return first.in_channels, height, width

    def check_images(self, images: Float[Tensor, "N c H W"]) -> None:
        """Raise a NeuronPathError unless the images have the model's own shape."""
        expected = self.input_shape()
        found = tuple(images.shape[1:])
        if any(size is not None and size != own for size, own in zip(expected, found, strict=True)):
            text = ", ".join("HW"[index - 1] if size is None else str(size) for index, size in enumerate(expected))
            sizes = [own if size is None else size for size, own in zip(expected[1:], found[1:], strict=True)]
            advice = f"{_resized(sizes)}, or load the model with another img_size"
            if expected[0] not in (None, found[0]):
                same = f"repeat it, images.expand(-1, {expected[0]}, -1, -1)" if found[0] == 1 else "give its channels"
                advice = f"{same}, or load the model with in_chans={found[0]}"
            raise NeuronPathError(
                f"Images have shape {tuple(images.shape)}, but this model takes (B, {text}): {advice}."
            )
        patch_embed = getattr(self.model, "patch_embed", None)
        patch = getattr(patch_embed, "patch_size", None)
        pads = getattr(patch_embed, "dynamic_img_pad", False)
        if (
            isinstance(patch, tuple)
            and not pads
            and any(own % size for own, size in zip(found[1:], patch, strict=True))
        ):
            sizes = [max(1, round(own / size)) * size for size, own in zip(patch, found[1:], strict=True)]
            raise NeuronPathError(
                f"Images have shape {tuple(images.shape)}, but this model cuts patches of {patch[0]} × {patch[1]} "
                f"pixels: {_resized(sizes)}."
            )

    def rows(self, index: int) -> slice | None:
        """The tokens at which block `index` must be evaluated: all (None), but in the last block only what is read."""
        is_last = index == len(self.blocks) - 1
        return self.head_rows if is_last and self.head_rows == self.scope.tokens else None

    def split(
        self, index: int, h: Float[Tensor, "N T D"], feed: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Float[Tensor, "N S E"], Float[Tensor, "N R D"]]:
        """Block `index` but for its neurons: the tokens in scope before the FFN, the live ones after the block.

        `feed` may stand in for the block's own at live tokens.
        """
        block, rows = self.blocks[index], self.rows(index)
        u = block.mix(h, rows)
        scoped, live = (u, u[:, :0]) if rows is not None else (u[:, self.scope.tokens], u[:, self.scope.live])
        if block.feeds_all:
            live = (feed or block.feed)(live) if live.shape[1] else block.residual(live)
        return scoped, live

    def run(self, index: int, h: Float[Tensor, "N T D"]) -> Float[Tensor, "N R D"]:
        """The whole block `index`, at `rows`."""
        block = self.blocks[index]
        if block.feeds_all:
            return block.feed(block.mix(h, self.rows(index)))
        scoped, live = self.split(index, h)
        return self.scope.join(block.feed(scoped), live)

    def _choose_scope(self, name: str | None, *scopes: Scope) -> Scope:
        """The named scope among those that the model has, the head's own first.

        Raises:
            NeuronPathError: no such scope, or not of this model.
        """
        if name is None:
            return scopes[0]
        for scope in scopes:
            if scope.name == name:
                return scope
        if name == "cls":
            raise NeuronPathError(
                "Token scope 'cls' needs a class token that the logits depend on, and this model has none: use 'patch'."
            )
        raise NeuronPathError(f"No token scope is named '{name}'. Known: cls, patch.")


families: Registry[Adapter] = Registry("model family", "neuron_path.models.families")


def adapt(model: nn.Module, token_scope: str | None = None, units: str = "ffn") -> Adapter:
    """Wrap a model, looked through what wraps it, in its family's adapter.

    Args:
        model: the model.
        token_scope: "cls", "patch", or None for what follows from the model's head.
        units: "ffn", "heads" or "ffn+heads".

    Raises:
        NeuronPathError: no family handles the model, or its heads; the message says why and which ones there are.
    """
    from neuron_path.models.attention import with_heads  # which is built on this module

    model = unwrapped(model)
    if isinstance(model, nn.Module):
        check_not_quantised(model)
    adapter = check_supported(model)(model, token_scope)
    return adapter if units == "ffn" else with_heads(adapter, units)


def check_supported(model: nn.Module) -> type[Adapter]:
    """The family that handles a model, which may still have to be given a classifier.

    Raises:
        NeuronPathError: there is none; the message says why and which ones there are.
    """
    from neuron_path.models.objects import ObjectAdapter  # which is built on this module

    for family in (*(family for _, family in families), ObjectAdapter):
        if isinstance(model, nn.Module) and family.handles(model):
            return family
    raise NeuronPathError(
        f"{why_not(model)} Supported families: {', '.join(families.names())}; neuron-path models lists the models."
    )
