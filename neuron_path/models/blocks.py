"""The blocks that most families share, cut at their neurons: attention and an FFN, each with its residual.

The classes here know timm's layers (`timm.layers`), the families know timm's models.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention, AttentionRope
from timm.layers.mlp import GatedMlp, GluMlp, Mlp, SwiGLU
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.gemma4_vit import Gemma4GatedMlp
from timm.models.vision_transformer_relpos import RelPosAttention
from timm.models.vitamin import GeGluMlp
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Block

Map = Callable[[Tensor], Tensor]
Attend = Callable[[Any, Tensor], Tensor]  # of a layer of attention and its input
Gamma = Callable[[], "Tensor | None"]


def _mlp(m: Any, y: Tensor) -> Tensor:
    return m.norm(m.act(m.fc1(y)))


def _glu(m: Any, y: Tensor) -> Tensor:
    one, two = m.fc1(y).chunk(2, dim=-1)
    return m.norm(one * m.act(two) if m.gate_last else m.act(one) * two)


def _swiglu(m: Any, y: Tensor) -> Tensor:
    return m.norm(m.act(m.fc1_g(y)) * m.fc1_x(y))


def _geglu(m: Any, y: Tensor) -> Tensor:
    y = m.norm(y)
    return m.act(m.w0(y)) * m.w1(y)


def _gemma(m: Any, y: Tensor) -> Tensor:
    a, second = m.act(m.gate_proj(y)) * m.up_proj(y), m.down_proj
    return a.clamp(second.input_min, second.input_max) if second.use_clipped else a


# Per type of FFN: its neurons as a function of its input, and where its second linear layer is.
_FFNS: dict[type[nn.Module], tuple[Callable[[Any, Tensor], Tensor], str]] = {
    Mlp: (_mlp, "fc2"),
    GluMlp: (_glu, "fc2"),
    SwiGLU: (_swiglu, "fc2"),
    GatedMlp: (_mlp, "fc2"),  # without its gate, which mixes tokens
    GeGluMlp: (_geglu, "w2"),
    Gemma4GatedMlp: (_gemma, "down_proj.linear"),  # the family clips what comes out
}


class Branch:
    """The end of a block's branch, a linear layer and a layer scale γ: ``γ · linear(a)`` is added to the stream.

    Args:
        linear: the layer.
        gamma: gives the layer scale of this moment; None where there is none.
    """

    def __init__(self, linear: nn.Linear, gamma: Gamma) -> None:
        self.linear, self.gamma = linear, gamma

    @property
    def width(self) -> int:
        """W, of its input."""
        return self.linear.in_features

    def project(self, a: Tensor) -> Tensor:
        """(…, D) what is added."""
        gamma, out = self.gamma(), self.linear(a)
        return out if gamma is None else out * gamma

    def pullback(self, g: Tensor) -> Tensor:
        """(…, W) gradient at the input."""
        gamma = self.gamma()
        return (g if gamma is None else g * gamma) @ self.linear.weight

    def columns(self, places: Tensor) -> Tensor:
        """(B, c, D) what one unit of each input adds."""
        gamma, columns = self.gamma(), self.linear.weight.t()[places]
        return columns if gamma is None else columns * gamma


class Ffn(Branch):
    """An FFN cut at its neurons: ``a = neurons(y)``, then ``γ · linear(a)`` is added to the residual stream.

    Args:
        mlp: one of timm's token-wise FFN modules.
        gamma: gives the layer scale γ of this moment; None where there is none.

    Attributes:
        mlp: timm's module.
        linear: its second linear layer.
        gamma: as given.

    Raises:
        NeuronPathError: an FFN of another kind, or one that mixes tokens.
    """

    def __init__(self, mlp: Any, gamma: Gamma = lambda: None) -> None:
        kind = _FFNS.get(type(mlp))
        linear = None if kind is None else attrgetter(kind[1])(mlp)
        if kind is None or not isinstance(linear, nn.Linear) or not isinstance(_gate(mlp), nn.Identity):
            known = ", ".join(kind.__name__ for kind in _FFNS)
            raise NeuronPathError(
                f"An FFN of this model is a {type(mlp).__name__} whose neurons are not known; supported are timm's "
                f"token-wise {known} with linear layers."
            )
        super().__init__(linear, gamma)
        self.mlp, (self._neurons, _) = mlp, kind

    def neurons(self, y: Tensor) -> Tensor:
        """(…, F) activations."""
        return self._neurons(self.mlp, y)


# Layers of attention whose output projection reads the heads' outputs side by side; others mix heads or channels, keep
# what they computed in a pass, or are called on something else than tokens.
_ATTENTIONS = (Attention, AttentionRope, EvaAttention, BeitAttention, RelPosAttention)
# Those of them whose forward pass takes any number of heads; the others expect heads that are as wide as the stream.
_OF_ANY_NUMBER = (Attention, AttentionRope)


class Heads(Branch):
    """Attention cut at its heads: ``a = outputs(y)``, then ``after(γ · linear(a))`` is added to the residual stream.

    Args:
        attn: one of timm's layers of attention.
        attend: how it is called, on its normalised input; None: on that alone.
        gamma: gives the layer scale of this moment; None where there is none.
        after: a norm behind it, or None.

    Attributes:
        attn: timm's layer.
        n_heads: how many there are; head h writes the h-th slice of a.
        any_number: whether timm's layer works with fewer of them as well.
        after: as given.

    Raises:
        NeuronPathError: attention of another kind.
    """

    def __init__(
        self, attn: Any, attend: Attend | None = None, gamma: Gamma = lambda: None, after: Map | None = None
    ) -> None:
        if type(attn) not in _ATTENTIONS or not isinstance(attn.proj, nn.Linear):
            raise NeuronPathError(
                f"Attention of this model is a {type(attn).__name__}, and it is not known which part of "
                "its output projection's input each of its heads writes, or there is none: use units=ffn."
            )
        super().__init__(attn.proj, gamma)
        self.attn, self.n_heads, self.after = attn, int(attn.num_heads), after
        self.any_number = isinstance(attn, _OF_ANY_NUMBER)
        # The same layer, on the same weights, without its last part, and in eval mode, which a copy does not follow.
        bare = copy.copy(attn)
        bare.training = False
        bare._modules = {**attn._modules, "proj": nn.Identity(), "proj_drop": nn.Identity()}
        self._attend = bare if attend is None else partial(attend, bare)

    def outputs(self, y: Tensor, rows: slice | None = None) -> Tensor:
        """(N, R, W) every head's output, at the tokens `rows` (all by default)."""
        return self._attend(y) if rows is None else attend_from(self._attend, y, rows)


class BranchBlock(Block):
    """A block whose activations are what the last layer of a branch reads.

    Args:
        branch: the branch.
        after: a norm behind it, or None.
    """

    def __init__(self, branch: Branch, after: Map | None = None) -> None:
        self._branch, self._after = branch, after

    def project(self, a: Tensor) -> Tensor:
        return self._branch.project(a)

    def after(self, z: Tensor) -> Tensor:
        return z if self._after is None else self._after(z)

    def pullback(self, g: Tensor) -> Tensor:
        return self._branch.pullback(g)

    def columns(self, places: Tensor) -> Tensor:
        return self._branch.columns(places)


class ResidualBlock(BranchBlock):
    """``u = x + after1(attend(before1(x)))``, ``a = neurons(before2(u))``, ``out = u + after2(γ · linear(a))``.

    Args:
        attend: attention, from its normalised input to what the residual adds, but for `after1`.
        ffn: the FFN with its layer scale.
        before1, after1, before2: norms and layer scales, at each token.
        after2: a norm behind the FFN, or None.
        heads: makes the cut of the attention at its heads; None: it is not known.
    """

    def __init__(
        self,
        attend: Map,
        ffn: Ffn,
        before1: Map,
        after1: Map,
        before2: Map,
        after2: Map | None = None,
        heads: Callable[[], Heads] | None = None,
    ) -> None:
        super().__init__(ffn, after2)
        self._attend, self._ffn, self.heads = attend, ffn, heads
        self.before1, self._after1, self._before2 = before1, after1, before2
        self.n_neurons = ffn.width

    @property
    def ffns(self) -> list[Ffn]:
        """The one FFN."""
        return [self._ffn]

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        y = self.before1(x)
        if rows is None:
            return x + self._after1(self._attend(y))
        return x[:, rows] + self._after1(attend_from(self._attend, y, rows))

    def activations(self, u: Tensor) -> Tensor:
        return self._ffn.neurons(self._before2(u))


def pre_norm(block: Any, attend: Attend | None = None) -> ResidualBlock:
    """timm's usual block: `norm1`, `attn`, `norm2`, `mlp`, each branch with a layer scale or none.

    `attend` says how the block's attention is called, if not on its input alone.
    """
    attn, gamma = block.attn, gamma_of(block, 1)
    return ResidualBlock(
        attn if attend is None else partial(attend, attn),
        Ffn(block.mlp, gamma_of(block, 2)),
        block.norm1,
        scale(gamma),
        block.norm2,
        heads=lambda: Heads(attn, attend, gamma),
    )


def post_norm(block: Any, attend: Attend | None = None) -> ResidualBlock:
    """A block whose norms come after attention and FFN, before the residuals; `attend` as for `pre_norm`."""
    attn = block.attn
    return ResidualBlock(
        attn if attend is None else partial(attend, attn),
        Ffn(block.mlp),
        identity,
        block.norm1,
        identity,
        block.norm2,
        lambda: Heads(attn, attend, after=block.norm1),
    )


# timm's names, then those of open_clip and Hugging Face.
_GAMMAS = ("ls", "gamma_", "gamma", "ls_", "layer_scale", "lambda_")


def gamma_of(block: Any, branch: int | str) -> Gamma:
    """The layer scale of a block's branch (1, 2, or "" for the only one), under any library's name for it."""
    names = [name for prefix in _GAMMAS if hasattr(block, name := f"{prefix}{branch}")]
    if not names:
        return lambda: None

    def gamma() -> Tensor | None:
        value = getattr(block, names[0])  # the factors, a layer that has them, or nothing of either kind
        value = getattr(value, "gamma", getattr(value, "lambda1", value))
        return value if isinstance(value, Tensor) else None

    return gamma


def scale(gamma: Gamma) -> Map:
    """Multiplication by a layer scale, if there is one."""

    def apply(x: Tensor) -> Tensor:
        factor = gamma()
        return x if factor is None else x * factor

    return apply


def identity(x: Tensor) -> Tensor:
    """The map that changes nothing."""
    return x


def attend_from(attend: Map, y: Tensor, rows: slice) -> Tensor:
    """Attention at the tokens `rows` only; keys and values come from every token."""
    attn: Any = attend
    if type(attn) is not Attention or type(attn.qkv) is not nn.Linear or getattr(attn, "gate", None) is not None:
        return attend(y)[:, rows]
    n_tokens, width = y.shape[1], attn.num_heads * attn.head_dim
    weight, bias = attn.qkv.weight, attn.qkv.bias
    q = F.linear(y[:, rows], weight[:width], None if bias is None else bias[:width])
    kv = F.linear(y, weight[width:], None if bias is None else bias[width:])
    q = q.unflatten(-1, (attn.num_heads, attn.head_dim)).transpose(1, 2)
    k, v = kv.view(-1, n_tokens, 2, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    out = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v)
    out = out.transpose(1, 2).flatten(2)
    return attn.proj(getattr(attn, "norm", nn.Identity())(out))


class ParallelBlock(Block):
    """FFNs side by side behind attention; their neurons are joined.

    Args:
        attend: all that attention adds to the stream.
        ffns: each with the norm before it.
    """

    def __init__(self, attend: Map, ffns: list[tuple[Map, Ffn]]) -> None:
        self._attend, self._ffns = attend, ffns
        self._widths = [ffn.width for _, ffn in ffns]
        self.n_neurons = sum(self._widths)

    @property
    def ffns(self) -> list[Ffn]:
        """The FFNs in the order in which their neurons lie."""
        return [ffn for _, ffn in self._ffns]

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        u = x + self._attend(x)
        return u if rows is None else u[:, rows]

    def activations(self, u: Tensor) -> Tensor:
        return torch.cat([ffn.neurons(norm(u)) for norm, ffn in self._ffns], dim=-1)

    def project(self, a: Tensor) -> Tensor:
        parts = a.split(self._widths, dim=-1)
        return torch.stack([ffn.project(part) for (_, ffn), part in zip(self._ffns, parts, strict=True)]).sum(0)

    def pullback(self, g: Tensor) -> Tensor:
        return torch.cat([ffn.pullback(g) for _, ffn in self._ffns], dim=-1)

    def columns(self, places: Tensor) -> Tensor:
        every = [ffn.columns(torch.arange(ffn.width, device=places.device)) for _, ffn in self._ffns]
        return torch.cat(every)[places]


def _gate(mlp: Any) -> nn.Module:
    gate = getattr(mlp, "gate", None)
    return gate if isinstance(gate, nn.Module) else nn.Identity()
