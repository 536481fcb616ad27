"""A method: what finds the paths of a chunk of images, and finds them again where a choice is in doubt.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.exactness import TIE, Exactness
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import is_whole
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.errors import NeuronPathError
from neuron_path.search.chunk import Chunk
from neuron_path.search.search import Doubt, Found, Search
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult

_NODES_SPENT = (
    "With {} nodes, as many as max_steps allows, some choices are still within the estimated error of the integral: "
    "those paths may change with more. Raise max_steps."
)


class _Answer(NamedTuple):
    """What was found for b images of a chunk, and what tells whether it is to be trusted.

    Attributes:
        chunk: where they were searched: the chunk itself, or these images of it in float64.
        rows: (b,) which images of the chunk they are.
        problem: these images.
        found: their paths.
        exact: how far float32 is to be trusted with them; None where it is another type.
    """

    chunk: Chunk
    rows: Int[Tensor, "b"]
    problem: Problem
    found: Found
    exact: Exactness | None


@dataclass(frozen=True)
class Method:
    """A search with the scorer that rates its neurons.

    Raises:
        NeuronPathError: the two do not go together, or a scorer's option is out of range.
    """

    scorer: Scorer
    search: Search

    def __post_init__(self) -> None:
        scorer, search = self.scorer, self.search
        if not search.asks_scorer and scorer.name != "joint_attribution":
            raise NeuronPathError(
                f"The search '{search.name}' maximises a measure of its own and asks no scorer, but '{scorer.name}' is "
                f"given: leave the scorer out, or use the search 'greedy' with it."
            )
        shortlist = scorer.shortlist
        if shortlist is not None and (not is_whole(shortlist) or shortlist < 1):
            raise NeuronPathError(f"shortlist is {shortlist!r}; expected at least 1 neuron, or null for all.")
        if scorer.reference is not None and scorers.create(scorer.reference).reference is not None:
            raise NeuronPathError(
                f"The scorer '{scorer.reference}' cannot be a reference, as it has one itself: use 'joint_attribution'."
            )

    @property
    def reference(self) -> Method | None:
        """The method whose paths the scorer needs to know, if any."""
        return None if self.scorer.reference is None else Method(scorers.create(self.scorer.reference), self.search)

    @property
    def by_nodes(self) -> bool:
        """Whether choices are made by integrals over the quadrature's nodes."""
        return self.search.asks_scorer and self.scorer.by_nodes

    def check(self, settings: SearchSettings) -> None:
        """Whether it can do what the settings ask for.

        Raises:
            NeuronPathError: it cannot.
        """
        scorer, search = self.scorer, self.search
        if self.reference is not None:
            self.reference.check(settings)
        if not settings.per_block and not search.any_blocks:
            raise NeuronPathError(
                f"The search '{search.name}' picks neurons block by block, not of any blocks (per_block=false): use "
                "search=linearized (search='linearized' in Python)."
            )
        if not settings.per_block and search.asks_scorer and not scorer.blockwise:
            known = ", ".join(name for name, one in scorers if one.blockwise and one.reference is None)
            raise NeuronPathError(
                f"'{scorer.name}' rates a block given what was chosen before, and cannot pick neurons of any blocks at "
                f"once (per_block=false): use search=linearized (search='linearized' in Python) without it, or one of "
                f"{known}."
            )
        if scorer.shortlist is not None and settings.top_k > scorer.shortlist:
            raise NeuronPathError(
                f"top_k is {settings.top_k}, but '{scorer.name}' rates only {scorer.shortlist} neurons of a block: "
                "raise scorer.shortlist, or set it to null for all."
            )

    def find(
        self, chunk: Chunk, reference: Int[Tensor, "B L k"] | None = None, *, keep_candidates: bool = False
    ) -> PathResult:
        """Paths of one chunk, (B, L, k) also for one neuron a block.

        Args:
            chunk: images that fit one pass.
            reference: the paths of the method `reference`, where there is one.
            keep_candidates: also return every candidate's score.
        """
        own = chunk
        if self.scorer.in_double and chunk.session.dtype != torch.float64:
            chunk = chunk.in_double()
        session = chunk.session
        options: dict[str, Any] = {"top_k": chunk.settings.top_k, "keep_candidates": keep_candidates}
        if not chunk.settings.per_block:  # which not every search takes
            options["per_block"] = False
        with session.active():
            problem = chunk.problem()
            if reference is not None:
                problem = replace(problem, reference=reference.to(session.device))
            # The check comes first: it ends the clean pass's graph.
            exact = chunk.exactness(problem)
            found = self.search.run(problem, self.scorer, **options)
            result = self._result(problem, found)
            # Depth first: only one answer of each refinement is held at a time.
            refinements = [self._finer(_Answer(chunk, problem.every_image, problem, found, exact), options)]
            while refinements:
                finer = next(refinements[-1], None)
                if finer is None:
                    refinements.pop()
                    continue
                result = _overwrite(result, finer.rows, self._result(finer.problem, finer.found))
                refinements.append(self._finer(finer, options))
        if chunk is not own:
            return result.to(own.session.device, own.session.dtype)
        return replace(result, rounding=None if exact is None else exact.rounding)

    def _finer(self, answer: _Answer, options: Mapping[str, Any]) -> Iterator[_Answer]:
        """Those of the images again of which a choice or the score is in doubt: in float64, or with more nodes."""
        chunk, rows, problem, found, exact = answer
        is_sure = torch.ones_like(rows, dtype=torch.bool)
        if exact is not None:
            bar = exact.close_call
            close = torch.minimum(found.clearance, found.resolution.abs()) < bar.unsqueeze(1)
            if found.clearance.dtype == torch.float64:  # ratings that have no rounding to fear, as those of random
                close = torch.zeros_like(close)
            doubt = Doubt(close | exact.lost.unsqueeze(1), exact.blurs_scores, bar.masked_fill(exact.lost, torch.inf))
            is_sure = ~(doubt.blocks.any(1) | doubt.scores)
            for at in chunk.plan.in_double().groups((~is_sure).nonzero().squeeze(1), problem.quadrature.n_steps):
                double = chunk.take_in_double(rows[at], problem.quadrature)
                with double.session.active():
                    again = double.problem()
                    if problem.reference is not None:
                        again = replace(again, reference=problem.reference[at].to(again.targets))
                    yield _Answer(double, rows[at], again, self._revised(again, at, found, doubt, options), None)
        quadrature = problem.quadrature
        if not quadrature.is_adaptive:
            return
        scored = found.scored
        assert scored.errors is not None
        rough = scored.errors > quadrature.tolerance * scored.joint.abs()
        is_rough = rough & (scored.n_steps < quadrature.most_steps)
        doubt = Doubt(found.resolution < -TIE, is_rough, torch.full_like(scored.joint, torch.inf))
        finer = quadrature.finer()
        if finer is None:
            if doubt.blocks.any():
                warnings.warn(_NODES_SPENT.format(quadrature.n_steps), stacklevel=2)
            return
        is_rough = doubt.blocks.any(1) | doubt.scores
        with chunk.session.active():
            for at in chunk.plan.groups((is_sure & is_rough).nonzero().squeeze(1), finer.n_steps):
                again, left = problem.take(at, finer), None if exact is None else exact.take(at)
                yield _Answer(chunk, rows[at], again, self._revised(again, at, found, doubt, options), left)

    def _revised(
        self, again: Problem, at: Int[Tensor, "b"], found: Found, doubt: Doubt, options: Mapping[str, Any]
    ) -> Found:
        """The images `at` searched again, from what was found before."""
        like = again.clean.embedded
        return self.search.revise(again, self.scorer, found.take(at, like), doubt.take(at, like), **options)

    def _result(self, problem: Problem, found: Found) -> PathResult:
        logits = problem.clean.logits
        scored = found.scored
        broken = (~torch.isfinite(scored.joint)).nonzero()
        if len(broken):
            name = problem.sample_ids[int(broken[0])]
            raise NeuronPathError(
                f"The path score of image '{name}' is not finite: run the model in float32 or float64."
            )
        return PathResult(
            paths=found.paths,
            scores=scored.joint,
            margins=found.margins.to(logits.dtype),
            targets=problem.targets,
            predictions=logits.argmax(1),
            target_probabilities=problem.target.probability(logits, problem.targets),
            n_steps=scored.n_steps.clamp(min=problem.quadrature.n_steps if self.by_nodes else 0),
            score_errors=scored.errors,
            complete_scores=scored.complete,
            convergence_deltas=scored.deltas,
            measure=self.search.maximises,
            objectives=found.objectives,
            passes=found.passes,
            candidate_scores=None if found.candidates is None else _stack(found.candidates),
        )


def _stack(candidates: list[Float[Tensor, "B F"]]) -> Float[Tensor, "B L F"]:
    widest = max(scores.shape[1] for scores in candidates)
    padded = [torch.nn.functional.pad(scores, (0, widest - scores.shape[1]), value=torch.nan) for scores in candidates]
    return torch.stack(padded, dim=1)


def _overwrite(result: PathResult, rows: Int[Tensor, "b"], settled: PathResult) -> PathResult:
    """Put the settled images' results in their rows, in the result's own dtypes."""
    values = {
        name: value.index_copy(0, rows, getattr(settled, name).to(value)) if isinstance(value, Tensor) else value
        for name, value in vars(result).items()
    }
    return replace(result, **values)
