"""Baseline: what removing one neuron alone costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neuron_path.attribution.forward import clean_blocks
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers
from neuron_path.attribution.shortlist import Shortlist, shortlists
from neuron_path.attribution.tail import tail_value


@scorers.register("ablation")
@dataclass(frozen=True)
class Ablation(Scorer):
    """f(clean) − f(neuron j zeroed at the tokens in scope), everything else live.

    A forward pass through the later blocks for every neuron on the list, in float64: in float32 little is left of the
    difference of two nearly equal numbers.

    Args:
        shortlist: rate only that many neurons of each block, the first ones by gradient × activation, which is the
            effect's first order; None rates all.
    """

    in_double = True

    shortlist: int | None = 16

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Zero each neuron in turn."""
        everyone = torch.arange(problem.n_images, device=problem.targets.device)
        clean = problem.target_values(problem.clean.logits, everyone)
        lists = shortlists(problem, self.shortlist)
        scores = []
        for index, residual, live in clean_blocks(problem.adapter, problem.clean):
            listed = Shortlist(problem, index, lists[index])
            block, parts = problem.adapter.blocks[index], []
            for _, rows, _ in listed.sequences(torch.zeros_like(clean[:1]), torch.ones_like(clean[:1])).passes():
                images, written = listed.image(rows), listed.written(rows)
                out = residual[images] + block.after(problem.clean.projected[index][images] - written)
                h = problem.scope.join(out, live[images])
                parts.append(clean[images] - tail_value(problem, h, index + 1, images))
            scores.append(listed.spread(torch.cat(parts)))
        return BlockwiseScoring(problem, scores)
