"""A model with its search settings: turns a batch of images into neuron paths, chunk by chunk.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.exactness import TIE, Exactness
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature, is_whole
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.attribution.target import Target
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.session import Session, Targets
from neuron_path.progress import progress_bar
from neuron_path.search.chunk import Chunk, Lender
from neuron_path.search.plan import Plan, is_out_of_memory
from neuron_path.search.planner import Planner
from neuron_path.search.search import Doubt, Found, Search
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


class PathFinder:
    """Finds the neuron paths of images; made once, used for many batches.

    Args:
        session: the model with its token scope.
        scorer, search, quadrature: the method.
        target: the function of the logits and the target class that is attributed.
        top_k: neurons a block, or in all.
        per_block: False: the `top_k` neurons are of any blocks.
        micro_batch: most sequences per pass; None suits it to the device.
        memory_budget: bytes above the loaded model; None: on a GPU most of what is free, else no limit.
        precision: of the tails: "fp32", "tf32" or "bf16".
        compile: whether to run the tails' blocks through torch.compile.
        keep_candidates: also return every candidate's score.
        lender: gives what a search that maximises the effect of a mean or resample ablation sets neurons to.

    Raises:
        NeuronPathError: an option out of range, or no lender for a search that needs one.
    """

    def __init__(
        self,
        session: Session,
        scorer: Scorer,
        search: Search,
        quadrature: Quadrature,
        *,
        target: str | Target = "probability",
        top_k: int = 1,
        per_block: bool = True,
        micro_batch: int | None = None,
        memory_budget: float | None = None,
        precision: str = "fp32",
        compile: bool = False,
        keep_candidates: bool = False,
        lender: Lender | None = None,
    ) -> None:
        if not isinstance(per_block, bool):
            raise NeuronPathError(f"per_block is {per_block!r}; expected True or False.")
        widths = [block.n_neurons for block in session.adapter.blocks]
        most, what = (min(widths), "the narrowest block") if per_block else (sum(widths), "all blocks together")
        if not is_whole(top_k) or not 1 <= top_k <= most:
            raise NeuronPathError(f"top_k is {top_k!r}; expected 1 … {most}, the neurons of {what}.")
        if not per_block and not search.any_blocks:
            raise NeuronPathError(
                f"The search '{search.name}' picks neurons block by block, not of any blocks (per_block=false): use "
                "search=linearized (search='linearized' in Python)."
            )
        if not per_block and search.asks_scorer and not scorer.blockwise:
            known = ", ".join(name for name, one in scorers if one.blockwise and one.reference is None)
            raise NeuronPathError(
                f"'{scorer.name}' rates a block given what was chosen before, and cannot pick neurons of any blocks at "
                f"once (per_block=false): use search=linearized (search='linearized' in Python) without it, or one of "
                f"{known}."
            )
        if micro_batch is not None and (not is_whole(micro_batch) or micro_batch < 1):
            raise NeuronPathError(f"micro_batch is {micro_batch!r}; expected at least 1 sequence.")
        if not search.asks_scorer and scorer.name != "joint_attribution":
            raise NeuronPathError(
                f"The search '{search.name}' maximises a measure of its own and asks no scorer, but '{scorer.name}' is "
                f"given: leave the scorer out, or use the search 'greedy' with it."
            )
        shortlist = scorer.shortlist
        if shortlist is not None and (not is_whole(shortlist) or shortlist < 1):
            raise NeuronPathError(f"shortlist is {shortlist!r}; expected at least 1 neuron, or null for all.")
        if shortlist is not None and top_k > shortlist:
            raise NeuronPathError(
                f"top_k is {top_k}, but '{scorer.name}' rates only {shortlist} neurons of a block: raise "
                "scorer.shortlist, or set it to null for all."
            )
        self.session = session
        self.scorer, self.search, self.quadrature = scorer, search, quadrature
        self.target = Target.of(target, n_classes=session.adapter.n_classes)
        self.top_k, self.per_block, self.keep_candidates = top_k, per_block, keep_candidates
        self.micro_batch, self.memory_budget = micro_batch, memory_budget
        self.arithmetic = Arithmetic(precision, compile)
        self._arithmetic_on: dict[torch.device, Arithmetic] = {}
        self._planners: dict[tuple[Scorer, ...], Planner] = {}
        self.lender = lender
        self.reference: PathFinder | None = None
        if scorer.reference is not None:
            reference = scorers.create(scorer.reference)
            if reference.reference is not None:
                raise NeuronPathError(
                    f"The scorer '{scorer.reference}' cannot be a reference, as it has one itself: use "
                    "'joint_attribution'."
                )
            self.reference = PathFinder(
                session, reference, search, quadrature, target=self.target, top_k=top_k, per_block=per_block
            )

    @property
    def by_nodes(self) -> bool:
        """Whether choices are made by integrals over the quadrature's nodes."""
        return self.search.asks_scorer and self.scorer.by_nodes

    def planner(self, scorers: Sequence[Scorer]) -> Planner:
        """Plans this search together with other methods that share its chunks; kept, with what it has learned."""
        key = tuple(scorers)
        if key not in self._planners:
            options = (self.quadrature, self.micro_batch, self.memory_budget)
            self._planners[key] = Planner(self.session, key, self.search, *options)
        return self._planners[key]

    def lent(self, run: slice, names: Sequence[str]) -> MeanAblation | Tensor | None:
        """What the search needs to know of other images, for a run of images."""
        borrows = self.search.borrows
        if borrows is None:
            return None
        if self.lender is None:
            raise NeuronPathError(
                f"The search '{self.search.name}' is to maximise the {self.search.maximises}, for which it needs "
                f"{borrows}: give them."
            )
        return self.lender.means() if borrows == "reference_images" else self.lender.donors(run, names)

    def arithmetic_on(self, device: torch.device) -> Arithmetic:
        """What the device can do of it; it is warned of what it cannot once."""
        if device not in self._arithmetic_on:
            self._arithmetic_on[device] = self.arithmetic.on(device, self.session.dtype)
        return self._arithmetic_on[device]

    def with_candidates(self) -> PathFinder:
        """The same search, also returning every candidate's score."""
        other = copy.copy(self)
        other.keep_candidates = True
        return other

    def find(
        self,
        images: Float[Tensor, "B c H W"],
        targets: Targets = None,
        sample_ids: Sequence[str] | None = None,
        *,
        progress: bool = True,
    ) -> PathResult:
        """Paths of a batch of any size, on the model's device; see `find_all`."""
        return find_all([self], images, targets, sample_ids, progress=progress)[0]

    def search_chunk(self, chunk: Chunk, reference: Int[Tensor, "B L k"] | None = None) -> PathResult:
        """Paths of one chunk.

        Args:
            chunk: images that fit one pass.
            reference: the paths of the scorer's reference method, where it has one.
        """
        own = chunk
        if self.scorer.in_double and chunk.session.dtype != torch.float64:
            chunk = chunk.in_double()
        session = chunk.session
        with session.active():
            problem = chunk.problem(self.quadrature, self.target)
            if reference is not None:
                problem = replace(problem, reference=reference.to(session.device))
            # The check comes first: it ends the clean pass's graph.
            exact = chunk.exactness(problem)
            found = self.search.run(problem, self.scorer, **self._options)
            result = self._result(problem, found)
            # Depth first: only one answer of each refinement is held at a time.
            refinements = [self._finer(_Answer(chunk, problem.every_image, problem, found, exact))]
            while refinements:
                finer = next(refinements[-1], None)
                if finer is None:
                    refinements.pop()
                    continue
                result = _overwrite(result, finer.rows, self._result(finer.problem, finer.found))
                refinements.append(self._finer(finer))
        if chunk is not own:
            return result.to(own.session.device, own.session.dtype)
        return replace(result, rounding=None if exact is None else exact.rounding)

    def _finer(self, answer: _Answer) -> Iterator[_Answer]:
        """Those of the images again of which a choice or the score is in doubt: in float64, or with more nodes."""
        chunk, rows, problem, found, exact = answer
        is_sure = torch.ones_like(rows, dtype=torch.bool)
        if exact is not None:
            bar = exact.close_call.unsqueeze(1)
            close = (found.clearance < bar) | (found.resolution.abs() < bar)
            if found.clearance.dtype == torch.float64:  # ratings that have no rounding to fear, as those of random
                close = torch.zeros_like(close)
            doubt = Doubt(close | exact.lost.unsqueeze(1), exact.blurs_scores)
            is_sure = ~(doubt.blocks.any(1) | doubt.scores)
            for at in chunk.plan.in_double().groups((~is_sure).nonzero().squeeze(1), problem.quadrature.n_steps):
                double = chunk.take_in_double(rows[at])
                with double.session.active():
                    again = double.problem(problem.quadrature, self.target)
                    if problem.reference is not None:
                        again = replace(again, reference=problem.reference[at].to(again.targets))
                    yield _Answer(double, rows[at], again, self._revised(again, at, found, doubt), None)
        quadrature = problem.quadrature
        if not quadrature.is_adaptive:
            return
        scored = found.scored
        assert scored.errors is not None
        rough = scored.errors > quadrature.tolerance * scored.joint.abs()
        doubt = Doubt(found.resolution < -TIE, rough & (scored.n_steps < quadrature.most_steps))
        finer = quadrature.finer()
        if finer is None:
            if doubt.blocks.any():
                warnings.warn(_NODES_SPENT.format(quadrature.n_steps), stacklevel=2)
            return
        is_rough = doubt.blocks.any(1) | doubt.scores
        with chunk.session.active():
            for at in chunk.plan.groups((is_sure & is_rough).nonzero().squeeze(1), finer.n_steps):
                again, left = problem.take(at, finer), None if exact is None else exact.take(at)
                yield _Answer(chunk, rows[at], again, self._revised(again, at, found, doubt), left)

    def _revised(self, again: Problem, at: Int[Tensor, "b"], found: Found, doubt: Doubt) -> Found:
        """The images `at` searched again, from what was found before."""
        like = again.clean.embedded
        return self.search.revise(again, self.scorer, found.take(at, like), doubt.take(at, like), **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        common = {"top_k": self.top_k, "keep_candidates": self.keep_candidates}
        return common if self.per_block else common | {"per_block": False}

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
            paths=found.paths.squeeze(2) if self.top_k == 1 else found.paths,
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


def find_all(
    finders: Sequence[PathFinder],
    images: Float[Tensor, "B c H W"],
    targets: Targets = None,
    sample_ids: Sequence[str] | None = None,
    *,
    progress: bool = True,
) -> list[PathResult]:
    """Paths of a batch of any size by several methods of one model, on its device; they share what they can.

    Args:
        finders: the methods, all on one session, with one quadrature and micro-batch; the first one's search plans.
        images: (B, c, H, W) preprocessed.
        targets: (B,) classes; None takes the predicted ones.
        sample_ids: names of the images; a digest of each by default.
        progress: whether to show a bar.
    """
    parts: list[list[PathResult]] = []
    with progress_bar(disable=not progress) as bar:
        task = bar.add_task("Neuron paths", total=len(images) if isinstance(images, Tensor) else None)
        for run, found in find_each(finders, images, targets, sample_ids):
            parts.append(found)
            bar.advance(task, run.stop - run.start)
    return joined(parts)


def find_each(
    finders: Sequence[PathFinder],
    images: Float[Tensor, "B c H W"],
    targets: Targets = None,
    sample_ids: Sequence[str] | None = None,
) -> Iterator[tuple[slice, list[PathResult]]]:
    """The same chunk by chunk: which images these are, and the result of each method.

    The model is frozen while a chunk is searched only, and as it was in between.
    """
    first = finders[0]
    session = first.session
    session.check_images(images)
    checked = session.check_targets(targets, len(images))
    names: Sequence[str] = digests(images) if sample_ids is None else sample_ids
    arithmetic = first.arithmetic_on(session.device)
    planner = first.planner([finder.scorer for finder in finders if finder.search.asks_scorer])
    done = 0
    while done < len(images):
        with session.active():
            plan = _planned(planner, images)
            run = slice(done, min(done + plan.n_images, len(images)))
            own = None if checked is None else checked[run]
            try:
                lent = first.lent(run, names[run])
                found = _find_chunk(finders, Chunk(session, images[run], own, names[run], plan, arithmetic, lent))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                planner.shrink(images)
                continue
        done = run.stop
        yield run, found


def joined(parts: Sequence[Sequence[PathResult]]) -> list[PathResult]:
    """The results of each method from those of consecutive chunks; where they mean nothing, a warning says so."""
    results = [PathResult.cat(list(found)) for found in zip(*parts, strict=True)]
    for result in results:
        if not result.scores.any() and not result.margins.any():
            warnings.warn(
                "All scores are 0, so the paths mean nothing: the logits do not depend on the neurons, as where the "
                "classifier's weights are 0.",
                stacklevel=3,
            )
    return results


def _planned(planner: Planner, images: Tensor) -> Plan:
    try:
        return planner.plan(images)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise NeuronPathError(
                "Memory runs out with one image before the search begins: take a smaller image_size, or a device with "
                "more memory."
            ) from error
        raise


def _find_chunk(finders: Sequence[PathFinder], chunk: Chunk) -> list[PathResult]:
    """What each method finds; one that others refer to is run once."""
    found: dict[tuple[object, ...], PathResult] = {}
    results: list[PathResult] = []
    for finder in finders:
        paths = None
        for one in (finder.reference, finder):
            if one is None:
                continue
            key = (one.scorer, one.search, one.quadrature, one.target, one.top_k, one.per_block, one.keep_candidates)
            if key not in found:
                found[key] = one.search_chunk(chunk, paths)
            if one is finder.reference:
                paths = found[key].paths.unflatten(1, (-1, 1)) if one.top_k == 1 else found[key].paths
            else:
                results.append(found[key])
    return results


def digests(images: Float[Tensor, "B c H W"]) -> list[str]:
    """A name for each image that depends on its pixels only."""
    pixels = images.detach().to(device="cpu", dtype=torch.float32).numpy()
    return [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels]


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
