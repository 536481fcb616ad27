"""The paper's layer-progressive greedy search.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.choice import Choice, choices_of, found, pick, revised, spread
from neuron_path.search.search import Doubt, Found, Search, searches


@searches.register("greedy")
@dataclass(frozen=True)
class Greedy(Search):
    """From input to output, take each block's best candidates given the choices before (Wang et al., ICLR 2025).

    Without `per_block` the best of all blocks' candidates are taken at once, of scorers that rate blocks on their own.
    """

    any_blocks = True

    def run(
        self,
        problem: Problem,
        scorer: Scorer,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found:
        """One pass over the blocks; never revisits a choice."""
        scoring, n_steps = scorer.start(problem), problem.quadrature.n_steps
        if not per_block:
            widths = [block.n_neurons for block in problem.adapter.blocks]
            terms = torch.cat([scoring.candidates(index) for index in range(len(widths))], -1)
            choice = spread(pick(terms, top_k, n_steps), widths)
            return found(scoring, choice, list(integral(terms, 2).split(widths, 1)) if keep_candidates else None)
        choices, candidates = [], []
        for index in range(len(problem.adapter.blocks)):
            terms = scoring.candidates(index)
            choices.append(pick(terms, top_k, n_steps))
            scoring.choose(index, choices[-1].neurons)
            if keep_candidates:
                candidates.append(integral(terms, 2))
        return found(scoring, choices, candidates if keep_candidates else None)

    def revise(
        self,
        problem: Problem,
        scorer: Scorer,
        draft: Found,
        doubt: Doubt,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,  # as the draft did
    ) -> Found:
        """Rate again only the blocks in doubt, and all that follow a choice which turns out otherwise.

        What comes after an image's last doubt stays as in the draft, its score too.
        """
        scoring, n_steps = scorer.start(problem), problem.quadrature.n_steps
        if not per_block:
            if doubt.blocks.any():
                return self.run(problem, scorer, top_k=top_k, per_block=False, keep_candidates=keep_candidates)
            return replace(draft, scored=scoring.path_scores(draft.paths))
        choices = choices_of(draft)
        candidates = None if draft.candidates is None else list(draft.candidates)
        moved = torch.zeros_like(doubt.scores)  # images on another path than the draft's by now
        for index in range(len(choices)):
            if not (moved | doubt.scores | doubt.blocks[:, index:].any(1)).any():
                break
            rows = (doubt.blocks[:, index] | moved).nonzero().squeeze(1)
            if len(rows):
                terms, old = scoring.candidates(index, rows), choices[index]
                new = pick(terms, top_k, n_steps)
                moved[rows] |= (new.neurons != old.neurons[rows]).any(1)
                choices[index] = Choice(*(x.index_copy(0, rows, y.to(x)) for x, y in zip(old, new, strict=True)))
                if candidates is not None:
                    candidates[index] = candidates[index].index_copy(0, rows, integral(terms, 2))
            scoring.choose(index, choices[index].neurons)
        return revised(draft, scoring, choices, candidates, moved | doubt.scores)
