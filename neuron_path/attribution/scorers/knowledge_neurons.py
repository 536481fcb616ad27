"""Baseline: knowledge neurons, integrated gradients of one neuron at a time (Dai et al., ACL 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from neuron_path.attribution.forward import clean_blocks
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers
from neuron_path.attribution.shortlist import Shortlist, shortlists
from neuron_path.attribution.tail import tail_gradients


@scorers.register("knowledge_neurons")
@dataclass(frozen=True)
class KnowledgeNeurons(Scorer):
    """w_j · ∫ ∂f/∂a_j dα with neuron j alone scaled, at all its tokens in scope, and summed over them.

    With an exact integral this is `ablation`'s f(clean) − f(neuron zeroed), which needs no gradient and one pass where
    this needs m of them. In float64, as `ablation` is, so that no rounding decides who is on the list.

    Args:
        shortlist: rate only that many neurons of each block, the first ones by gradient × activation; None rates all.
        n_steps: Gauss–Legendre nodes of its own: along one neuron f is so smooth that few will do. None takes the
            run's quadrature.
    """

    in_double = True

    shortlist: int | None = 8
    n_steps: int | None = 3

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Scale each neuron in turn."""
        lists, nodes, scores = shortlists(problem, self.shortlist), problem.nodes(), []
        if self.n_steps is not None or problem.quadrature.is_adaptive:
            n_steps = self.n_steps or problem.quadrature.n_steps
            nodes = replace(problem, quadrature=Quadrature("gauss_legendre", n_steps)).nodes()
        for index, residual, live in clean_blocks(problem.adapter, problem.clean):
            listed, parts = Shortlist(problem, index, lists[index]), []
            sequences = listed.sequences(*nodes)
            for _, rows, alpha in sequences.passes():
                images, written = listed.image(rows), listed.written(rows)
                z = problem.clean.projected[index][images] - (1 - alpha).view(-1, 1, 1) * written
                gradient = tail_gradients(problem, index, residual[images], live[images], z, images)[1]
                parts.append((gradient * written).sum((1, 2)))
            scores.append(listed.spread(sequences.integrate(torch.cat(parts))))
        return BlockwiseScoring(problem, scores)
