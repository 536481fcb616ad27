"""Baseline: what removing one neuron alone costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.forward import clean_blocks
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers
from neuron_path.attribution.shortlist import Shortlist, shortlists
from neuron_path.attribution.tail import tail_value

# A probability's difference is computed from log-odds: near 1 nothing would be left of it.
_LOG_ODDS = {"probability": "margin", "sigmoid": "logit"}
# A difference below so many units in the last place of the largest logit is none: such neurons tie.
_ROUNDING = 16


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

    by_nodes = False
    in_double = True

    shortlist: int | None = 16

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Zero each neuron in turn."""
        everyone = torch.arange(problem.n_images, device=problem.targets.device)
        target = problem.target
        precise = replace(problem, target=replace(target, name=_LOG_ODDS.get(target.name, target.name)))
        clean = precise.target_values(problem.clean.logits, everyone)
        noise = _ROUNDING * torch.finfo(clean.dtype).eps * problem.clean.logits.abs().amax(1)
        lists = shortlists(problem, self.shortlist)
        scores = []
        for index, residual, live in clean_blocks(problem.adapter, problem.clean):
            listed = Shortlist(problem, index, lists[index])
            block, parts = problem.adapter.blocks[index], []
            for _, rows, _ in listed.sequences(torch.zeros_like(clean[:1]), torch.ones_like(clean[:1])).passes():
                images, written = listed.image(rows), listed.written(rows)
                out = residual[images] + block.after(problem.clean.projected[index][images] - written)
                h = problem.scope.join(out, live[images])
                edited = tail_value(precise, h, index + 1, images)
                fallen = _difference(target.name, clean[images], edited)
                parts.append(torch.where((clean[images] - edited).abs() > noise[images], fallen, 0.0))
            scores.append(listed.spread(torch.cat(parts)))
        return BlockwiseScoring(problem, scores)


def _difference(target: str, clean: Float[Tensor, "n"], edited: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """f(clean) − f(edited), of a probability from the log-odds of each."""
    if target not in _LOG_ODDS:
        return clean - edited
    # p − q = (1 − q) − (1 − p): the form in which the larger numbers do not cancel.
    return torch.where(clean > 0, (-edited).sigmoid() - (-clean).sigmoid(), clean.sigmoid() - edited.sigmoid())
