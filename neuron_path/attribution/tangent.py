"""The prefix in forward mode: state and tangent advance one block at a time, and no backward ever enters them."""

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
from neuron_path.types import Measure


class TangentPrefix(Prefix):
    """Carries h(α) and its tangent in the direction c on every chosen neuron; see `Prefix`.

    With ȯut the tangent at the open block's output, the path sum is ⟨∂f/∂out, ȯut⟩, summed over all tokens. Without a
    measure the state goes alone, and the path sum is 0.
    """

    def __init__(self, problem: Problem, measure: Measure | None = "joint", *, at_zero: bool = False) -> None:
        super().__init__(problem, measure, at_zero=at_zero)
        self._push = push if measure else _still
        n_nodes = len(self.sequences.alpha)
        # Before the first choice all nodes agree and the tangent is zero: one evaluation serves them all.
        self._state = tuple(x.repeat(n_nodes, 1, 1) for x in self._advance(problem.clean.embedded))
        self._tangent = tuple(torch.zeros_like(x) for x in self._state)
        self._is_open = True
        self._h: Tensor = problem.clean.embedded
        self._dh: Tensor = torch.zeros_like(self._h)

    def candidate_gradients(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._open()
        path_sum, at_projection = [], []
        for run, images, alpha in self.sequences.passes(rows):
            scoped, live = (x[run] for x in self._state)
            z = self.problem.scaled_projection(self.depth, images, alpha)
            at_out, at_z = tail_gradients(self.problem, self.depth, scoped, live, z, images)
            tangent = self.scope.join(*(x[run] for x in self._tangent))
            path_sum.append((at_out * tangent).sum((1, 2)))
            at_projection.append(at_z)
        integral = self.sequences.integrate(torch.cat(path_sum)).unsqueeze(-1)
        return integral, self.sequences.integrate(torch.cat(at_projection))

    def choose(self, neurons: Tensor) -> None:
        self._open()
        written, direction = self._written(self.depth, neurons)
        n_nodes = len(self.sequences.alpha)
        missing = (1 - self.sequences.alpha).repeat_interleave(self.problem.n_images).view(-1, 1, 1)
        z = self.problem.clean.projected[self.depth].repeat(n_nodes, 1, 1) - missing * written.repeat(n_nodes, 1, 1)
        dz = direction.expand_as(written).repeat(n_nodes, 1, 1)
        z, dz = push(self.adapter.blocks[self.depth].after, z, dz)
        scoped, live = self._state
        self._h = self.scope.join(scoped + z, live)
        scoped, live = self._tangent
        self._dh = self.scope.join(scoped + dz, live)
        self.depth += 1
        self._is_open = False

    def path_gradient(self) -> tuple[Float[Tensor, "*terms B 1"], Float[Tensor, "m B"]]:
        sums, values = [], []
        for run, images, _ in self.sequences.passes():

            def value(h: Tensor, images: Tensor = images) -> Tensor:
                return tail_value(self.problem, h, self.depth, images)

            f, df = self._push(value, self._h[run], self._dh[run])
            sums.append(df)
            values.append(f)
        path_sum = self.sequences.integrate(torch.cat(sums)).unsqueeze(-1)
        return path_sum, torch.cat(values).unflatten(0, (-1, self.problem.n_images))

    def _open(self) -> None:
        """Carry state and tangent through the next block, up to its projection in scope."""
        if self._is_open:
            return
        passes = [self._push(self._advance, self._h[run], self._dh[run]) for run, _, _ in self.sequences.passes()]
        states, tangents = zip(*passes, strict=True)
        self._state = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        self._tangent = tuple(torch.cat(parts) for parts in zip(*tangents, strict=True))
        self._is_open = True

    def _advance(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The next block's output but for the FFN in scope: tokens in scope, live tokens."""
        scoped, live = self.adapter.split(self.depth, h)
        return self.adapter.blocks[self.depth].residual(scoped), live


def _still(f: Callable[[Tensor], Any], x: Tensor, dx: Tensor) -> tuple[Any, Any]:
    """f(x), and no tangent: zeros that take no room."""
    value = f(x)
    return value, tree_map(lambda part: part.new_zeros(()).expand_as(part), value)
