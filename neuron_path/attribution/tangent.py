"""The prefix in forward mode: state and tangent advance one block at a time, and no backward ever enters them.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from neuron_path.attribution.forward_mode import push
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.tail import tail_gradients, tail_value

_Parts = tuple[Tensor, ...]  # of a block's output: tokens in scope, live tokens


class TangentPrefix(Prefix):
    """Carries h(α) and its tangent in the direction 1 on every chosen neuron; see `Prefix`.

    With ȯut the tangent at the open block's output, the path sum is ⟨∂f/∂out, ȯut⟩, summed over all tokens. Without
    the sum the state goes alone, and the path sum is 0.
    """

    def __init__(self, problem: Problem, *, with_sum: bool = True) -> None:
        super().__init__(problem)
        self._push = push if with_sum else _still
        n_nodes = len(self.sequences.alpha)
        # Before the first choice all nodes agree and the tangent is zero: one evaluation serves them all.
        state = tuple(x.repeat(n_nodes, 1, 1) for x in self._advance(problem.clean.embedded))
        # Either the stream and its tangent that enter the next block, or state and tangent up to its projection.
        self._streams: tuple[Tensor, Tensor] | None = None
        self._opened: tuple[_Parts, _Parts] | None = (state, tuple(torch.zeros_like(x) for x in state))

    def candidate_gradients(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # state: the next block's output without its FFN in scope; tangent: its derivative along the chosen neurons.
        state, tangent = self._open()  # each in scope (N, S, D) and live (N, R, D), N = m·B pairs of node and image
        path_sum, at_projection = [], []
        for run, images, alpha in self.sequences.passes(rows):
            scoped, live = (x[run] for x in state)
            # All F candidates are scaled by α at once: their projection is the clean one moved towards the bias.
            z = self.problem.scaled_projection(self.depth, images, alpha)
            at_out, at_z = tail_gradients(self.problem, self.depth, scoped, live, z, images)
            path_sum.append((at_out * self.scope.join(*(x[run] for x in tangent))).sum((1, 2)))
            at_projection.append(at_z)
        integral = self.sequences.integrate(torch.cat(path_sum)).unsqueeze(-1)  # (B, 1): one sum for all tokens
        return integral, self.sequences.integrate(torch.cat(at_projection))

    def choose(self, neurons: Tensor) -> None:
        state, tangent = self._open()
        written, direction = self._written(self.depth, neurons)
        n_nodes = len(self.sequences.alpha)
        # With the chosen neurons at α·w the projection lacks (1 − α) of what they write; the others stay clean.
        missing = (1 - self.sequences.alpha).repeat_interleave(self.problem.n_images).view(-1, 1, 1)
        z = self.problem.clean.projected[self.depth].repeat(n_nodes, 1, 1) - missing * written.repeat(n_nodes, 1, 1)
        # The tangent's direction: 1 in every chosen neuron's value, the same at all nodes.
        dz = direction.expand_as(written).repeat(n_nodes, 1, 1)
        z, dz = push(self.adapter.blocks[self.depth].after, z, dz)
        # Only the tokens in scope receive z; the live ones have been through their FFN already.
        self._streams = self.scope.join(state[0] + z, state[1]), self.scope.join(tangent[0] + dz, tangent[1])
        self._opened = None
        self.depth += 1

    def path_gradient(self) -> Float[Tensor, "*terms B 1"]:
        assert self._streams is not None
        h, dh = self._streams
        sums = []
        for run, images, _ in self.sequences.passes():

            def value(h: Tensor, images: Tensor = images) -> Tensor:
                return tail_value(self.problem, h, self.depth, images)

            sums.append(self._push(value, h[run], dh[run])[1])
        return self.sequences.integrate(torch.cat(sums)).unsqueeze(-1)

    def _open(self) -> tuple[_Parts, _Parts]:
        """State and tangent up to the next block's projection: tokens in scope, live tokens."""
        if self._opened is None:
            assert self._streams is not None
            h, dh = self._streams
            whole: list[Tensor] = []
            for run, _, _ in self.sequences.passes():
                state, tangent = self._push(self._advance, h[run], dh[run])
                parts = [*state, *tangent]
                if len(state[0]) == len(h):  # one pass holds them all
                    whole = parts
                    break
                whole = whole or [part.new_empty(len(h), *part.shape[1:]) for part in parts]
                for one, part in zip(whole, parts, strict=True):
                    one[run] = part
            self._opened = (whole[0], whole[1]), (whole[2], whole[3])
            self._streams = None
        return self._opened

    def _advance(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The next block's output but for the FFN in scope: tokens in scope, live tokens."""
        scoped, live = self.adapter.split(self.depth, h)
        return self.adapter.blocks[self.depth].residual(scoped), live


def _still(f: Callable[[Tensor], Any], x: Tensor, dx: Tensor) -> tuple[Any, Any]:
    """f(x), and no tangent: zeros that take no room."""
    value = f(x)
    return value, tree_map(lambda part: part.new_zeros(()).expand_as(part), value)
