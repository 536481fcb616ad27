"""Products with frozen weights on a CPU, from weights that oneDNN has laid out once for its kernels.

A plain product lays its weight out anew each time. A search multiplies by the same weights hundreds of times, forwards
and backwards, so they are laid out before it, both ways, which takes twice the room of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_LEAST = 2**18  # numbers of a weight: smaller ones do not repay the calls


class _Pack(NamedTuple):
    """A weight (out, in) laid out for going forwards, and its transpose for going back, opaque to all but oneDNN."""

    weight: Tensor
    transposed: Tensor
    source: Tensor  # kept, so that no other tensor takes its identity


@contextmanager
def packed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Take products with the model's large float32 weights from laid out copies, to rounding the same.

    Nothing happens on other devices, for models without such weights, and with a torch that lacks oneDNN's products.
    The weights must not change meanwhile, nor want gradients.
    """
    packs: dict[int, _Pack] = {}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        packs = _pack(model)
    if not packs:
        yield
        return
    with _Products(packs):
        yield


def _pack(model: nn.Module) -> dict[int, _Pack]:
    """By the identity of the weight."""
    # Hooks before a pass change the weight, as those of `torch.nn.utils` do.
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and not layer._forward_pre_hooks]
    try:
        lay_out = torch.ops.mkldnn._reorder_linear_weight
        return {
            id(weight): _Pack(lay_out(weight.detach()), lay_out(weight.detach().t().contiguous()), weight)
            for weight in (layer.weight for layer in layers)
            if weight.dtype == torch.float32 and weight.numel() >= _LEAST
        }
    except (AttributeError, RuntimeError):  # the operators are torch's own affair, and may go
        return {}


class _Products(TorchFunctionMode):
    """Stands in for `F.linear` where its weight was laid out."""

    def __init__(self, packs: dict[int, _Pack]) -> None:
        super().__init__()
        self._packs = packs

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and not torch.is_autocast_enabled("cpu"):
            x, weight, *bias = args
            pack = self._packs.get(id(weight))
            if pack is not None and x.dtype == torch.float32:
                return _Product.apply(x, pack, bias[0] if bias else None)
        return func(*args, **(kwargs or {}))


class _Product(torch.autograd.Function):
    """x Wᵀ + b, with the gradient of x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pack: _Pack, bias: Tensor | None) -> Tensor:
        ctx.pack = pack
        return _multiply(x, pack.weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _multiply(grad_outputs[0], ctx.pack.transposed, None), None, None


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
