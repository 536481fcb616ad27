"""The rules of forward mode against torch's own derivatives, in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuron_path.attribution import forward_mode
from neuron_path.attribution.forward_mode import push

pytestmark = pytest.mark.covering

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


W, BIAS, MASK = normal(24, 8), normal(24), normal(1, 2, 5, 5)
NORM = nn.LayerNorm(8, dtype=torch.float64).requires_grad_(False)
NORM.weight.copy_(normal(8))


def heads(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = F.linear(x, W, BIAS).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


RULED: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.linear(x, W, BIAS),
    "linear without bias": lambda x: F.linear(x, W),
    "norm": NORM,
    "norm without weights": lambda x: F.layer_norm(x, (8,), eps=0.1),
    "attention": lambda x: F.scaled_dot_product_attention(*heads(x)),
    "attention with a mask": lambda x: F.scaled_dot_product_attention(*heads(x), attn_mask=MASK),
    "attention with a scale": lambda x: F.scaled_dot_product_attention(*heads(x), scale=0.3),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "norm of two dimensions": lambda x: F.layer_norm(x, (5, 8)),
    "causal attention": lambda x: F.scaled_dot_product_attention(*heads(x), is_causal=True),
    "attention with a mask of bools": lambda x: F.scaled_dot_product_attention(*heads(x), attn_mask=MASK > -1),
    "attention with a mask that moves": lambda x: F.scaled_dot_product_attention(
        *heads(x), attn_mask=x[:, None, :, :5]
    ),
    "attention of a fixed query": lambda x: F.scaled_dot_product_attention(
        MASK[..., :4].expand(3, -1, -1, -1), *heads(x)[1:]
    ),
    "a linear layer of something fixed": lambda x: x[..., :1] * F.linear(BIAS[:8], W),
}


@pytest.mark.parametrize("name", [*RULED, *OTHERS])
def test_value_and_tangent_are_torchs(name):
    f = (RULED | OTHERS)[name]
    x, dx = normal(3, 5, 8), normal(3, 5, 8)
    with sdpa_kernel(SDPBackend.MATH):
        expected = jvp(f, (x,), (dx,))
    torch.testing.assert_close(push(f, x, dx), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULED)
def test_the_rule_is_what_gives_it(name, monkeypatch):
    """Torch's own rules are slow, not wrong: nothing else would tell that ours are passed over."""
    taken = []

    def spy(rule):
        return lambda *args, **kwargs: taken.append(rule(*args, **kwargs)) or taken[-1]

    monkeypatch.setattr(forward_mode, "_RULES", {f: spy(rule) for f, rule in forward_mode._RULES.items()})
    push(RULED[name], normal(3, 5, 8), normal(3, 5, 8))
    assert taken
    assert all(result is not None for result in taken)


def test_what_does_not_depend_on_x_stands_still():
    values, tangents = push(lambda x: (x * 2, BIAS), normal(3), normal(3))
    assert torch.equal(values[1], BIAS)
    assert torch.equal(tangents[1], torch.zeros_like(BIAS))


def test_no_graph_is_left():
    weight = nn.Parameter(W.clone())
    value, tangent = push(lambda x: F.linear(x, weight), normal(2, 8), normal(2, 8))
    assert not value.requires_grad
    assert not tangent.requires_grad
