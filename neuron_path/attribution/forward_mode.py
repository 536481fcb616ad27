"""Forward mode: a function's value with its derivative in one direction, in one pass.

torch derives every function forwards, but not well: its rule for a linear layer adds tensors of zeros, that for a norm
makes many passes, and the fused attention kernels have none. Where the time goes, the rules here stand in: a linear
layer costs its value and one product more, attention four small products more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

with warnings.catch_warnings(), forward_ad.dual_level():
    # With the first dual tensor torch loads decompositions of its own, and warns of how it makes them.
    warnings.simplefilter("ignore", FutureWarning)
    forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def push(f: Callable[[Tensor], Any], x: Tensor, dx: Tensor) -> tuple[Any, Any]:
    """f(x) and its derivative in the direction dx; each a tensor or a tuple of tensors, as f returns them.

    No graph is recorded, and f's weights have no direction.
    """
    # Attention that the rule does not take goes to torch's plain kernel: the fused ones have no derivative forwards.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), _Rules():
        values, structure = tree_flatten(f(forward_ad.make_dual(x, dx)))
        pairs = [forward_ad.unpack_dual(value) for value in values]
        value = tree_unflatten([pair.primal for pair in pairs], structure)
        tangents = [torch.zeros_like(p) if t is None else t for p, t in pairs]
        return value, tree_unflatten(tangents, structure)


class _Rules(TorchFunctionMode):
    """Asks the rules below before torch's own."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = _RULES.get(func)
        result = None if rule is None else rule(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is None else result


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    x, dx = forward_ad.unpack_dual(x)
    return None if dx is None else forward_ad.make_dual(F.linear(x, weight, bias), F.linear(dx, weight))


def _layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    x, dx = forward_ad.unpack_dual(x)
    if dx is None or len(normalized_shape) != 1:
        return None
    y, mean, reciprocal = torch.native_layer_norm(x, normalized_shape, weight, bias, eps)
    normed = (x - mean).mul_(reciprocal)
    centred = dx - dx.mean(-1, keepdim=True)
    along = torch.linalg.vecdot(normed, centred).div_(x.shape[-1])
    dy = centred.addcmul_(normed, along.unsqueeze(-1), value=-1).mul_(reciprocal)
    return forward_ad.make_dual(y, dy if weight is None else dy.mul_(weight))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """softmax(QKᵀ + mask)V with the tangent ȦV + AV̇, Ȧ = A(Ṡ − ⟨A, Ṡ⟩), Ṡ = Q̇Kᵀ + QK̇ᵀ."""
    (q, dq), (k, dk), (v, dv) = (forward_ad.unpack_dual(x) for x in (query, key, value))
    is_plain = q.ndim == 4 and q.dtype in (torch.float32, torch.float64)
    is_plain = is_plain and not (dropout_p or is_causal or enable_gqa)
    is_plain = is_plain and (attn_mask is None or attn_mask.is_floating_point())
    if not is_plain or dq is None or dk is None or dv is None:
        return None
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    q, dq = q * factor, dq * factor
    a = q @ k.transpose(-1, -2)
    if attn_mask is not None:
        mask, dmask = forward_ad.unpack_dual(attn_mask)
        if dmask is not None:
            return None
        a = a + mask
    a = a.softmax(-1)
    da = _add_product(dq @ k.transpose(-1, -2), q, dk.transpose(-1, -2))
    da = da.sub_(torch.linalg.vecdot(a, da).unsqueeze(-1)).mul_(a)
    return forward_ad.make_dual(a @ v, _add_product(a @ dv, da, v))


def _add_product(total: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """total + one @ two, in its place."""
    total.flatten(0, 1).baddbmm_(one.flatten(0, 1), two.flatten(0, 1))
    return total


_RULES: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.scaled_dot_product_attention: _attention,
}
