"""The prefix in forward mode: state and tangent advance one block at a time, and no backward ever enters them."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuron_path.attribution.forward import target_probability
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.tail import tail_gradient
from neuron_path.types import Measure

with warnings.catch_warnings(), forward_ad.dual_level():
    # With the first dual tensor torch loads decompositions of its own, and warns of how it makes them.
    warnings.simplefilter("ignore", FutureWarning)
    forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


class TangentPrefix(Prefix):
    """Carries h(α) and its tangent in the direction c on every chosen neuron; see `Prefix`.

    With ȯut the tangent at the open block's output, the path sum is ⟨∂p_y/∂out, ȯut⟩, summed over tokens in scope.
    """

    def __init__(self, problem: Problem, measure: Measure = "joint", *, at_zero: bool = False) -> None:
        super().__init__(problem, measure, at_zero=at_zero)
        n_nodes = len(self.sequences.alpha)
        # Before the first choice all nodes agree and the tangent is zero: one evaluation serves them all.
        self._state = tuple(x.repeat(n_nodes, 1, 1) for x in self._split(0, problem.clean.embedded))
        self._tangent = tuple(torch.zeros_like(x) for x in self._state)
        self._is_open = True
        self._h: Tensor = problem.clean.embedded
        self._dh: Tensor = torch.zeros_like(self._h)

    def candidate_gradients(self) -> tuple[Tensor, Tensor]:
        self._open()
        path_sum, at_output = [], []
        scope, in_scope = self.scope, self.adapter.in_scope(self.depth, self.scope)
        for run, images, alpha in self.sequences.passes():
            scoped, live = (x[run] for x in self._state)
            out = scope.join(scoped + self._candidate_ffn(images, alpha), live)
            targets = self.problem.targets[images]
            gradient = tail_gradient(self.adapter, scope, out, self.depth + 1, targets)
            tangent = scope.join(*(x[run] for x in self._tangent))
            path_sum.append((gradient * tangent).sum((1, 2)))
            at_output.append(gradient[:, in_scope])
        integral = self.sequences.integrate(torch.cat(at_output))
        block = self.adapter.blocks[self.depth]
        return self.sequences.integrate(torch.cat(path_sum)).unsqueeze(1), block.pullback(integral)

    def choose(self, neurons: Tensor) -> None:
        self._open()
        w = self.problem.clean.chosen(self.depth, neurons)
        columns = self.adapter.blocks[self.depth].columns(neurons)
        direction = w if self.measure == "complete" else torch.ones_like(w)
        n_nodes = len(self.sequences.alpha)
        missing = (1 - self.sequences.alpha).repeat_interleave(self.problem.n_images).view(-1, 1, 1)
        ffn = self.problem.clean.ffn[self.depth].repeat(n_nodes, 1, 1) - missing * (w @ columns).repeat(n_nodes, 1, 1)
        scoped, live = self._state
        self._h = self.scope.join(scoped + ffn, live)
        scoped, live = self._tangent
        self._dh = self.scope.join(scoped + (direction @ columns).repeat(n_nodes, 1, 1), live)
        self.depth += 1
        self._is_open = False

    def path_gradient(self) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "m B"]]:
        sums, probabilities = [], []
        for run, images, _ in self.sequences.passes():
            targets = self.problem.targets[images]

            def probability(h: Tensor, targets: Tensor = targets) -> Tensor:
                return target_probability(self.adapter.head(h), targets)

            p, dp, *_ = jvp(probability, (self._h[run],), (self._dh[run],))
            sums.append(dp)
            probabilities.append(p)
        path_sum = self.sequences.integrate(torch.cat(sums)).unsqueeze(1)
        return path_sum, torch.cat(probabilities).unflatten(0, (-1, self.problem.n_images))

    def _open(self) -> None:
        """Carry state and tangent through the next block, up to its FFN in scope."""
        if self._is_open:
            return

        def split(h: Tensor) -> tuple[Tensor, Tensor]:
            return self._split(self.depth, h)

        states, tangents = [], []
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
            for run, _, _ in self.sequences.passes():
                state, tangent, *_ = jvp(split, (self._h[run],), (self._dh[run],))
                states.append(state)
                tangents.append(tangent)
        self._state = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        self._tangent = tuple(torch.cat(parts) for parts in zip(*tangents, strict=True))
        self._is_open = True
