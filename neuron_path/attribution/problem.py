"""One chunk of images with everything a scorer needs to rate their neurons.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.forward import CleanPass, clean_pass
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.target import PROBABILITY, Target
from neuron_path.models.adapter import Adapter, Scope, taken

EXACT = Arithmetic()


@dataclass(frozen=True)
class Problem:
    """B images, their targets, the model and the settings.

    Attributes:
        adapter: the model, with the tokens that count.
        images: (B, c, H, W) preprocessed.
        targets: (B,) each image's target class.
        quadrature: the rule for the integral over α.
        micro_batch: most (node, image) pairs that one pass may hold.
        target: the function of the logits and the target class that is attributed.
        clean: the clean forward pass of these images.
        sample_ids: B names, where the scorer draws at random: drawn by name, no result depends on the batch.
        reference: (B, L, k) paths of the scorer's reference method, where it has one.
        replacements: per block (B or 1, S or 1, W) what neurons are set to, where a search maximises the effect of a
            mean or resample ablation.
        arithmetic: how the tails are computed.
        keeps_graphs: whether there is memory to keep the graphs of all sequences through visited blocks.
    """

    adapter: Adapter
    images: Float[Tensor, "B c H W"]
    targets: Int[Tensor, "B"]
    quadrature: Quadrature
    micro_batch: int
    target: Target
    clean: CleanPass
    sample_ids: Sequence[str]
    reference: Int[Tensor, "B L k"] | None = None
    replacements: Sequence[Float[Tensor, "_b _s W"]] | None = None
    arithmetic: Arithmetic = EXACT
    keeps_graphs: bool = True

    @staticmethod
    def pose(
        adapter: Adapter,
        images: Tensor,
        targets: Tensor | None,
        quadrature: Quadrature,
        micro_batch: int,
        target: Target = PROBABILITY,
        sample_ids: Sequence[str] = (),
        reference: Int[Tensor, "B L k"] | None = None,
        *,
        nudged: bool = True,
    ) -> Problem:
        """Run the clean pass; without targets, take the predicted classes.

        In float32 nudged copies run beside the images, so that their gradients tell how much it rounds; `nudged` is
        false where that is known.
        """
        nudged &= images.dtype == torch.float32
        clean = clean_pass(adapter, images, keep_graph=nudged, nudged=nudged)
        if targets is None:
            targets = clean.logits.argmax(1)
        return Problem(adapter, images, targets, quadrature, micro_batch, target, clean, sample_ids, reference)

    @property
    def n_images(self) -> int:
        """B."""
        return len(self.images)

    @property
    def every_image(self) -> Int[Tensor, "B"]:
        """0 … B−1."""
        return torch.arange(self.n_images, device=self.targets.device)

    @property
    def scope(self) -> Scope:
        """The tokens that count."""
        return self.adapter.scope

    @cached_property
    def first_split(self) -> tuple[Float[Tensor, "B S E"], Float[Tensor, "B R D"]]:
        """The first block but for its neurons in scope, which nothing that is done to neurons can change."""
        with torch.no_grad():
            return self.adapter.split(0, self.clean.embedded)

    @property
    def clean_gradients(self) -> list[Float[Tensor, "B S D"]]:
        """∂f/∂z of every block in the untouched network, z its projection in scope: one backward pass."""
        return [gradient[: self.n_images] for gradient in self._gradients]

    @property
    def nudged_gradients(self) -> list[Float[Tensor, "B S D"]]:
        """The same of the nudged copies, which ran beside the images: in float32 only."""
        return [gradient[self.n_images :] for gradient in self._gradients]

    @cached_property
    def _gradients(self) -> list[Float[Tensor, "n S D"]]:
        graph = self.clean.graph or clean_pass(self.adapter, self.images, keep_graph=True).graph
        assert graph is not None
        projections, logits = graph
        with torch.enable_grad():
            total = self.target_values(logits, self.every_image.repeat(len(logits) // self.n_images)).sum()
        return list(torch.autograd.grad(total, projections))

    def target_values(self, logits: Float[Tensor, "n C"], images: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """The target function of logits that belong to the given images."""
        against = None if self._against is None else self._against[images]
        return self.target.values(logits, self.targets[images], against)

    @cached_property
    def _against(self) -> Int[Tensor, "B"] | None:
        """See `Target.against`."""
        return self.target.against(self.clean.logits, self.targets)

    def values(self, index: int) -> Float[Tensor, "B s F"]:
        """Clean values of block `index`'s neurons as the joint objective takes them: activations, where tokens are
        pooled their mean; where the neurons are gated, 1."""
        a = self.pooled(self.clean.activations[index])
        return torch.ones_like(a[..., : self.adapter.blocks[index].n_neurons]) if self.adapter.gated else a

    def slopes(
        self, index: int, gradient: Float[Tensor, "*terms b S D"], rows: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "*terms b s F"]:
        """Gradients with respect to those values, from that at the projection of block `index`.

        Args:
            index: the block.
            gradient: ∂f/∂z, in scope.
            rows: of these images only.
        """
        block = self.adapter.blocks[index]
        if not self.adapter.gated:
            return block.pullback(self.pooled(gradient))
        a = self.clean.activations[index]
        return self.pooled(block.per_neuron((a if rows is None else a[rows]) * block.pullback(gradient)))

    def chosen_sum(self, index: int, neurons: Int[Tensor, "B k"]) -> Float[Tensor, "B S"]:
        """Sum of those values over the given neurons of block `index`."""
        if self.adapter.gated:
            return taken(self.values(index), neurons).sum(2)
        return self.pooled(self.clean.chosen(index, neurons)).sum(2)

    def pooled(self, values: Float[Tensor, "*B S n"]) -> Float[Tensor, "*B s n"]:
        """Values per token as the joint objective takes them: where tokens are pooled, their mean, s = 1."""
        return values.mean(-2, keepdim=True) if self.scope.pooled else values

    def scaled_projection(
        self, index: int, images: Int[Tensor, "n"], alpha: Float[Tensor, "n"]
    ) -> Float[Tensor, "n S D"]:
        """The projection of block `index`, all its neurons scaled by α: it is affine, so two values give it."""
        block = self.adapter.blocks[index]
        bias = block.project(self.clean.embedded.new_zeros(1, 1, block.width))
        return torch.lerp(bias, self.clean.projected[index][images], alpha.view(-1, 1, 1))

    def take(self, rows: Int[Tensor, "b"], quadrature: Quadrature) -> Problem:
        """Some of the images, at the nodes of another rule."""
        return replace(
            self,
            images=self.images[rows],
            targets=self.targets[rows],
            quadrature=quadrature,
            clean=self.clean.take(rows),
            sample_ids=[self.sample_ids[row] for row in rows.tolist()] if self.sample_ids else (),
            reference=None if self.reference is None else self.reference[rows],
            replacements=None
            if self.replacements is None
            else [values if len(values) == 1 else values[rows] for values in self.replacements],
        )

    def nodes(
        self, rule: Quadrature | None = None
    ) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"] | Float[Tensor, "4 m"]]:
        """Nodes and weights of a rule, the problem's own by default, on the images' device, in their dtype."""
        nodes, weights = (rule or self.quadrature).nodes()
        like = self.clean.embedded
        return torch.from_numpy(nodes).to(like), torch.from_numpy(weights).to(like)


@dataclass(frozen=True)
class Sequences:
    """The N = m·B (node, image) pairs of a problem, node by node, and how passes are cut from them.

    Attributes:
        alpha: (m,) nodes.
        weights: (m,) quadrature weights, of the `adaptive` rule (4, m), integral and error terms; 0 for a node that is
            only looked at.
        n_images: B.
        micro_batch: most pairs in a pass.
    """

    alpha: Float[Tensor, "m"]
    weights: Float[Tensor, "m"] | Float[Tensor, "4 m"]
    n_images: int
    micro_batch: int

    def passes(
        self, rows: Int[Tensor, "b"] | None = None
    ) -> Iterator[tuple[slice | Int[Tensor, "n"], Int[Tensor, "n"], Float[Tensor, "n"]]]:
        """For each pass: which pairs it holds, and each pair's image index and node.

        Args:
            rows: pairs of these images only.
        """
        n_nodes, device = len(self.alpha), self.alpha.device
        chosen = torch.arange(self.n_images, device=device) if rows is None else rows
        images, alpha = chosen.repeat(n_nodes), self.alpha.repeat_interleave(len(chosen))
        pairs = images + self.n_images * torch.arange(n_nodes, device=device).repeat_interleave(len(chosen))
        n_passes = math.ceil(len(pairs) / self.micro_batch)
        length = math.ceil(len(pairs) / n_passes)  # even passes: a small last one costs almost as much as a full one
        for start in range(0, len(pairs), length):
            run = slice(start, start + length)
            yield run if rows is None else pairs[run], images[run], alpha[run]

    def integrate(self, values: Float[Tensor, "N *S"]) -> Float[Tensor, "*terms b *S"]:
        """Σ_k ω_k · values at node k, for each row of weights; N covers whole images, node by node."""
        by_node = values.unflatten(0, (len(self.alpha), -1))
        return torch.tensordot(self.weights, by_node, dims=1)
