"""Where a block's neurons lie in its linear layers, and how to take some of them out.

This module looks behind `neuron_path.models.blocks`, which knows an FFN's kind and its second linear layer, and adds
what only slicing needs: the layers before it.
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
from neuron_path.models.blocks import Ffn, ParallelBlock, ResidualBlock
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
_NORM_BEFORE = ("GeGluMlp",)  # whose norm is that of the FFN's input, D wide; all others' is F wide


@dataclass(frozen=True)
class FfnLayers:
    """The layers of one FFN and its F neurons' place in them.

    Attributes:
        width: F.
        first: each linear layer that feeds the neurons, with the outputs at which a run of F of them starts.
        second: the linear layer that reads the neurons.
        start: the first neuron's place among that layer's inputs.
        joint: timm's block whose layers FFN and attention share, or None.
    """

    width: int
    first: tuple[tuple[nn.Linear, tuple[int, ...]], ...]
    second: nn.Linear
    start: int = 0
    joint: Any = None

    def first_weights(self) -> list[Float[Tensor, "F _D"]]:
        """The neurons' rows of each first layer, gates included."""
        return [layer.weight[start : start + self.width] for layer, starts in self.first for start in starts]

    def second_weight(self) -> Float[Tensor, "D F"]:
        """The neurons' columns of the second layer, without the layer scale."""
        return self.second.weight[:, self.start : self.start + self.width]

    def keep(self, kept: Bool[Tensor, "F"]) -> None:
        """Take all other neurons out of the layers, in place."""
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
            self.joint.in_split = [int(kept.sum()), *self.joint.in_split[1:]]

    def add_to_bias(self, shift: Float[Tensor, "D"]) -> None:
        """Add to the second layer's bias, in place; a layer that has none gets one."""
        weight, bias = self.second.weight, self.second.bias
        if bias is None:
            self.second.bias = nn.Parameter(shift.to(weight), requires_grad=weight.requires_grad)
        else:
            _replace(self.second, "bias", (bias.to(torch.float64) + shift.to(bias.device, torch.float64)).to(bias))


def ffn_layers(model: nn.Module, token_scope: str | None = None) -> list[list[FfnLayers]]:
    """The FFNs of each block that a path of the model runs through: one, or several side by side.

    A block's neurons are its FFNs' in this order.

    Raises:
        NeuronPathError: a model that is not supported, or an FFN that cannot be sliced.
    """
    blocks = adapt(model, token_scope).blocks
    found = [_of_block(block, index) for index, block in enumerate(blocks)]
    seen: dict[int, int] = {}
    for index, ffns in enumerate(found):
        for ffn in ffns:
            first = seen.setdefault(id(ffn.second), index)
            if first != index:
                raise NeuronPathError(
                    f"Blocks {first} and {index} share one FFN, so their neurons cannot be pruned apart: give each "
                    "block its own layers first."
                )
    return found


def _of_block(block: Block, index: int) -> list[FfnLayers]:
    if isinstance(block, ScalingBlock):
        return [_of_joint(block.block, index)]
    if isinstance(block, ResidualBlock | ParallelBlock):
        return [_of_ffn(ffn, index) for ffn in block.ffns]
    raise _refusal(index, type(block).__name__, "its linear layers are not known")


def _of_ffn(ffn: Ffn, index: int) -> FfnLayers:
    mlp: Any = ffn.mlp
    kind = type(mlp).__name__
    if not type(mlp).__module__.startswith("timm."):
        raise _refusal(index, kind, "it is of another library, and only timm's are")
    if kind not in _FIRST:
        raise _refusal(index, kind, "its linear layers are not known")
    if kind not in _NORM_BEFORE and not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
        norm = type(mlp.norm).__name__
        raise _refusal(index, kind, f"it has a norm ({norm}) over its neurons, which would change with their number")
    names, runs = _FIRST[kind]
    starts = tuple(run * ffn.width for run in range(runs))
    first = tuple((attrgetter(name)(mlp), starts) for name in names)
    return _plain(FfnLayers(ffn.width, first, ffn.linear), index, kind)


def _of_joint(block: Any, index: int) -> FfnLayers:
    """Of a block whose FFN shares its first layer, and perhaps its second one, with attention."""
    width = block.in_split[0]
    fused = getattr(block, "out_proj", None)
    second: Any = block.mlp_out_proj if fused is None else fused
    found = FfnLayers(width, ((block.in_proj, (0,)),), second, second.in_features - width, block)
    return _plain(found, index, type(block).__name__)


def _plain(ffn: FfnLayers, index: int, kind: str) -> FfnLayers:
    """The same layers, if their weights are all there is to them."""
    for layer in (*(layer for layer, _ in ffn.first), ffn.second):
        if type(layer) is not nn.Linear:
            raise _refusal(index, kind, f"one of its layers is a {type(layer).__name__}, no plain linear layer")
    return ffn


def _refusal(index: int, kind: str, why: str) -> NeuronPathError:
    return NeuronPathError(
        f"The FFN of block {index} ({kind}) cannot be sliced: {why}. Choose a model without it, or silence neurons "
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
