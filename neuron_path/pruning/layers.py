"""Where a block's units, FFN neurons or attention heads, lie in its linear layers, and how to take some of them out.

This module looks behind `neuron_path.models.blocks`, which knows an FFN's kind and its second linear layer, or a layer
of attention and its output projection, and adds what only slicing needs: the layers before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Block, adapt
from neuron_path.models.attention import FfnBlock, HeadsBlock
from neuron_path.models.blocks import Ffn, Heads, ParallelBlock, ResidualBlock
from neuron_path.models.families.vision_transformer import ScalingBlock

# Per kind of FFN that `Ffn` accepts: the layers that make its neurons, and in how many runs of F their outputs lie.
_FIRST: dict[str, tuple[tuple[str, ...], int]] = {
    "Mlp": (("fc1",), 1),
    "GatedMlp": (("fc1",), 1),
    "GluMlp": (("fc1",), 2),  # value and gate in one layer
    "SwiGLU": (("fc1_g", "fc1_x"), 1),
    "GeGluMlp": (("w0", "w1"), 1),
    "Gemma4GatedMlp": (("gate_proj.linear", "up_proj.linear"), 1),
}
_ANGLES_BY_HEAD = ("rope_mixed", "rope_is_mixed")
_NORM_BEFORE = ("GeGluMlp",)  # whose norm is that of the FFN's input, D wide; all others' is F wide


@dataclass(frozen=True)
class UnitLayers:
    """The layers of one FFN, or of one layer of attention, and its F units' place in them.

    Attributes:
        width: F.
        first: each linear layer that feeds the units, with the outputs at which a run of all of them starts.
        second: the linear layer that reads the units.
        start: the first unit's place among that layer's inputs.
        joint: timm's block whose layers FFN and attention share, or None.
        attn: timm's attention whose heads the units are, or None.
        channels: places that each unit has in a run, side by side: 1, of a head as many as it writes.
    """

    width: int
    first: tuple[tuple[nn.Linear, tuple[int, ...]], ...]
    second: nn.Linear
    start: int = 0
    joint: Any = None
    attn: Any = None
    channels: int = 1

    @property
    def size(self) -> int:
        """W = F · channels, the length of a run."""
        return self.width * self.channels

    def first_weights(self) -> list[Float[Tensor, "W _D"]]:
        """The units' rows of each first layer, gates included."""
        return [layer.weight[start : start + self.size] for layer, starts in self.first for start in starts]

    def second_weight(self) -> Float[Tensor, "D W"]:
        """The units' columns of the second layer, without the layer scale."""
        return self.second.weight[:, self.start : self.start + self.size]

    def keep(self, kept: Bool[Tensor, "F"]) -> None:
        """Take all other units out of the layers, in place."""
        n_kept = int(kept.sum())
        kept = kept.repeat_interleave(self.channels)
        for layer, starts in self.first:
            rows = _mask(layer.out_features, kept, starts)
            _replace(layer, "weight", layer.weight[rows])
            if layer.bias is not None:
                _replace(layer, "bias", layer.bias[rows])
            layer.out_features = int(rows.sum())
        columns = _mask(self.second.in_features, kept, (self.start,))
        _replace(self.second, "weight", self.second.weight[:, columns])
        self.second.in_features = int(columns.sum())
        if self.joint is not None:
            if self.joint.mlp_bias is not None:
                _replace(self.joint, "mlp_bias", self.joint.mlp_bias[kept])
            self.joint.in_split = [n_kept, *self.joint.in_split[1:]]
        if self.attn is not None:
            self.attn.num_heads, self.attn.attn_dim = n_kept, n_kept * self.channels
            if hasattr(self.attn, "num_kv_heads"):
                self.attn.num_kv_heads, self.attn.kv_dim = n_kept, n_kept * self.channels

    def add_to_bias(self, shift: Float[Tensor, "D"]) -> None:
        """Add to the second layer's bias, in place; a layer that has none gets one."""
        weight, bias = self.second.weight, self.second.bias
        if bias is None:
            self.second.bias = nn.Parameter(shift.to(weight), requires_grad=weight.requires_grad)
        else:
            _replace(self.second, "bias", (bias.to(torch.float64) + shift.to(bias.device, torch.float64)).to(bias))


def unit_layers(model: nn.Module, token_scope: str | None = None, units: str = "ffn") -> list[list[UnitLayers]]:
    """The FFNs, or the attention, of each block that a path of the model runs through: one, or several side by side.

    A block's units are theirs in this order.

    Raises:
        NeuronPathError: a model that is not supported, or an FFN or attention that cannot be sliced.
    """
    adapter = adapt(model, token_scope, units)
    found = [_of_block(block, index) for index, block in enumerate(adapter.blocks)]
    seen: dict[int, int] = {}
    for index, parts in enumerate(found):
        for part in parts:
            first = seen.setdefault(id(part.second), index)
            if first != index:
                kind, many = ("FFN", "neurons") if part.attn is None else ("attention", "heads")
                raise NeuronPathError(
                    f"Blocks {first} and {index} share one {kind}, so their {many} cannot be pruned apart: give each "
                    "block its own layers first."
                )
            if part.attn is not None and any(getattr(adapter.model, name, False) for name in _ANGLES_BY_HEAD):
                kind = type(part.attn).__name__
                raise _refusal(index, "attention", kind, "its heads have rotary angles of their own")
    return found


def _of_block(block: Block, index: int) -> list[UnitLayers]:
    if isinstance(block, HeadsBlock):
        return [_of_heads(block.heads, index)]
    block = block.block if isinstance(block, FfnBlock) else block
    if isinstance(block, ScalingBlock):
        return [_of_joint(block.block, index)]
    if isinstance(block, ResidualBlock | ParallelBlock):
        return [_of_ffn(ffn, index) for ffn in block.ffns]
    raise _refusal(index, "FFN", type(block).__name__, "its linear layers are not known")


def _of_heads(heads: Heads, index: int) -> UnitLayers:
    attn: Any = heads.attn
    why = ""
    if not heads.any_number:
        why = "its forward pass expects heads that together are as wide as the stream"
    elif not isinstance(attn.norm, nn.Identity):
        norm = type(attn.norm).__name__
        why = f"it has a norm ({norm}) over all heads' outputs, which would change with their number"
    elif getattr(attn, "num_kv_heads", attn.num_heads) != attn.num_heads:
        why = "its heads share keys and values"
    if why:
        raise _refusal(index, "attention", type(attn).__name__, why)
    size = attn.attn_dim
    apart = [] if attn.qkv is not None else [attn.q_proj, attn.k_proj, attn.v_proj]
    apart += [] if attn.gate is None else [attn.gate]
    first = () if attn.qkv is None else ((attn.qkv, (0, size, 2 * size)),)
    first += tuple((layer, (0,)) for layer in apart)
    found = UnitLayers(attn.num_heads, first, attn.proj, attn=attn, channels=attn.head_dim)
    return _plain(found, index, type(attn).__name__)


def _of_ffn(ffn: Ffn, index: int) -> UnitLayers:
    mlp: Any = ffn.mlp
    kind = type(mlp).__name__
    if not type(mlp).__module__.startswith("timm."):
        raise _refusal(index, "FFN", kind, "it is of another library, and only timm's are")
    if kind not in _FIRST:
        raise _refusal(index, "FFN", kind, "its linear layers are not known")
    if kind not in _NORM_BEFORE and not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
        norm = type(mlp.norm).__name__
        why = f"it has a norm ({norm}) over its neurons, which would change with their number"
        raise _refusal(index, "FFN", kind, why)
    names, runs = _FIRST[kind]
    starts = tuple(run * ffn.width for run in range(runs))
    first = tuple((attrgetter(name)(mlp), starts) for name in names)
    return _plain(UnitLayers(ffn.width, first, ffn.linear), index, kind)


def _of_joint(block: Any, index: int) -> UnitLayers:
    """Of a block whose FFN shares its first layer, and perhaps its second one, with attention."""
    width = block.in_split[0]
    fused = getattr(block, "out_proj", None)
    second: Any = block.mlp_out_proj if fused is None else fused
    found = UnitLayers(width, ((block.in_proj, (0,)),), second, second.in_features - width, block)
    return _plain(found, index, type(block).__name__)


def _plain(part: UnitLayers, index: int, kind: str) -> UnitLayers:
    """The same layers, if their weights are all there is to them."""
    for layer in (*(layer for layer, _ in part.first), part.second):
        if type(layer) is not nn.Linear:
            name = "FFN" if part.attn is None else "attention"
            raise _refusal(index, name, kind, f"one of its layers is a {type(layer).__name__}, no plain linear layer")
    return part


def _refusal(index: int, part: str, kind: str, why: str) -> NeuronPathError:
    units = "neurons" if part == "FFN" else "heads"
    return NeuronPathError(
        f"The {part} of block {index} ({kind}) cannot be sliced: {why}. Choose a model without it, or silence {units} "
        "with neuron_path.intervene."
    )


def _mask(length: int, kept: Bool[Tensor, "F"], starts: Sequence[int]) -> Bool[Tensor, "n"]:
    """Which of a layer's rows or columns stay: all but those of neurons that go."""
    mask = torch.ones(length, dtype=torch.bool)
    for start in starts:
        mask[start : start + len(kept)] = kept
    return mask


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    """A parameter of a new shape under the old name, trainable as the old one was."""
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(value.detach().clone(), requires_grad=old.requires_grad))
