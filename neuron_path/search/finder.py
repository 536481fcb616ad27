"""A model with its search settings: turns a batch of images into neuron paths, chunk by chunk."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.attribution.target import check_target, target_probability
from neuron_path.attribution.trust import CLOSE_CALL, needs_double
from neuron_path.errors import NeuronPathError
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session, Targets
from neuron_path.progress import progress_bar
from neuron_path.search.search import Found, Search
from neuron_path.types import PathResult


class PathFinder:
    """Finds the neuron paths of images; made once, used for many batches.

    Args:
        session: the model with its token scope.
        scorer, search, quadrature: the method.
        target: the function of the logits and the target class that is attributed.
        top_k: neurons a block.
        micro_batch: sequences per pass; None suits it to the device.
        keep_candidates: also return every candidate's score.

    Raises:
        NeuronPathError: an option out of range.
    """

    def __init__(
        self,
        session: Session,
        scorer: Scorer,
        search: Search,
        quadrature: Quadrature,
        *,
        target: str = "probability",
        top_k: int = 1,
        micro_batch: int | None = None,
        keep_candidates: bool = False,
    ) -> None:
        check_target(target)
        narrowest = min(block.n_neurons for block in session.adapter.blocks)
        if not isinstance(top_k, Integral) or not 1 <= top_k <= narrowest:
            raise NeuronPathError(f"top_k is {top_k}; expected 1 … {narrowest}, the neurons of the narrowest block.")
        if micro_batch is not None and (not isinstance(micro_batch, Integral) or micro_batch < 1):
            raise NeuronPathError(f"micro_batch is {micro_batch}; expected at least 1 sequence.")
        shortlist = scorer.shortlist
        if shortlist is not None and (not isinstance(shortlist, Integral) or shortlist < 1):
            raise NeuronPathError(f"shortlist is {shortlist}; expected at least 1 neuron, or null for all.")
        if shortlist is not None and top_k > shortlist:
            raise NeuronPathError(
                f"top_k is {top_k}, but '{scorer.name}' rates only {shortlist} neurons of a block: raise "
                "scorer.shortlist, or set it to null for all."
            )
        self.session = session
        self.scorer, self.search, self.quadrature = scorer, search, quadrature
        self.target = target
        self.top_k, self.micro_batch, self.keep_candidates = top_k, micro_batch, keep_candidates
        self.reference: PathFinder | None = None
        if scorer.reference is not None:
            reference = scorers.create(scorer.reference)
            if reference.reference is not None:
                raise NeuronPathError(f"The scorer '{scorer.reference}' cannot be a reference: it has one itself.")
            options = {"target": target, "top_k": top_k, "micro_batch": micro_batch}
            self.reference = PathFinder(session, reference, search, quadrature, **options)

    def needs(self, other: PathFinder) -> bool:
        """Whether the other's paths are those of this scorer's reference method."""
        if self.reference is None or self.session is not other.session:
            return False
        mine, theirs = ((f.scorer, f.search, f.quadrature, f.target, f.top_k) for f in (self.reference, other))
        return mine == theirs

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
        reference: Int[Tensor, "B L"] | Int[Tensor, "B L k"] | None = None,
    ) -> PathResult:
        """Paths of a batch of any size, on the model's device.

        Args:
            images: (B, c, H, W) preprocessed.
            targets: (B,) classes; None takes the predicted ones.
            sample_ids: names of the images; a digest of each by default.
            progress: whether to show a bar.
            reference: the paths of the scorer's reference method, where it has one; searched for by default.
        """
        self.session.check_images(images)
        checked = self.session.check_targets(targets, len(images))
        names: Sequence[str] = digests(images) if sample_ids is None else sample_ids
        if self.reference is not None and reference is None:
            reference = self.reference.find(images, targets, names, progress=progress).paths
        if reference is not None:
            reference = self.session.check_paths(reference, len(images))
        is_double = self.scorer.in_double and self.session.dtype != torch.float64
        session = self.session.double() if is_double else self.session
        parts = []
        with session.active(), progress_bar(disable=not progress) as bar:
            task = bar.add_task("Neuron paths", total=len(images))
            for run, micro_batch in chunks(session, images, self.quadrature.n_steps, self.micro_batch):
                own, others = (None if values is None else values[run] for values in (checked, reference))
                part = self._find_chunk(session, images[run], own, names[run], micro_batch, others)
                parts.append(part.to(self.session.device, self.session.dtype) if is_double else part)
                bar.advance(task, len(part))
        result = PathResult.cat(parts)
        if not result.scores.any() and not result.margins.any():
            warnings.warn(
                "All scores are 0, so the paths mean nothing: the logits do not depend on the neurons, as where the "
                "classifier's weights are 0.",
                stacklevel=2,
            )
        return result

    def _find_chunk(
        self,
        session: Session,
        images: Tensor,
        targets: Tensor | None,
        sample_ids: Sequence[str],
        micro_batch: int,
        reference: Tensor | None,
    ) -> PathResult:
        problem = self._pose(session, images, targets, sample_ids, micro_batch, reference)
        options = {"top_k": self.top_k, "keep_candidates": self.keep_candidates}
        found = self.search.run(problem, self.scorer, **options)
        result = self._result(problem, found)
        if session.dtype != torch.float32:
            return result
        found = replace(found, clearance=_clearance(problem, found))
        close = (found.clearance < CLOSE_CALL).any(1).nonzero().squeeze(1)
        if len(close) == 0:
            return result
        double = session.double()
        names = [sample_ids[int(row)] for row in close]
        own = None if targets is None else targets[close]
        with double.active():
            again = self._pose(double, images[close.to(images.device)], own, names, micro_batch)
            settled = self.search.settle(again, self.scorer, found.draft(close, double.device), **options)
            return _overwrite(result, close, self._result(again, settled))

    def _pose(
        self,
        session: Session,
        images: Tensor,
        targets: Tensor | None,
        sample_ids: Sequence[str],
        micro_batch: int,
        reference: Tensor | None = None,
    ) -> Problem:
        own, others = (None if values is None else values.to(session.device) for values in (targets, reference))
        options = (self.quadrature, micro_batch, self.target, sample_ids, others)
        return Problem.pose(session.adapter, session.images(images), own, *options)

    def _result(self, problem: Problem, found: Found) -> PathResult:
        logits = problem.clean.logits
        broken = (~torch.isfinite(found.scores)).nonzero()
        if len(broken):
            name = problem.sample_ids[int(broken[0])]
            raise NeuronPathError(
                f"The path score of image '{name}' is not finite: run the model in float32 or float64."
            )
        return PathResult(
            paths=found.paths.squeeze(2) if self.top_k == 1 else found.paths,
            scores=found.scores,
            margins=found.margins.to(logits.dtype),
            targets=problem.targets,
            predictions=logits.argmax(1),
            target_probabilities=target_probability(logits, problem.targets),
            candidate_scores=None if found.candidates is None else _stack(found.candidates),
        )


def digests(images: Float[Tensor, "B c H W"]) -> list[str]:
    """A name for each image that depends on its pixels only."""
    pixels = images.detach().to(device="cpu", dtype=torch.float32).numpy()
    return [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels]


def _clearance(problem: Problem, found: Found) -> Float[Tensor, "B L"]:
    """How clear each decision is to float32."""
    clearance = found.clearance
    if clearance.dtype == torch.float64:  # ratings that have no rounding to fear, as those of random
        clearance = torch.full_like(clearance, torch.inf)
    return clearance.masked_fill(needs_double(problem).unsqueeze(1), 0)


def _stack(candidates: list[Float[Tensor, "B F"]]) -> Float[Tensor, "B L F"]:
    widest = max(scores.shape[1] for scores in candidates)
    padded = [torch.nn.functional.pad(scores, (0, widest - scores.shape[1]), value=torch.nan) for scores in candidates]
    return torch.stack(padded, dim=1)


def _overwrite(result: PathResult, rows: Int[Tensor, "b"], settled: PathResult) -> PathResult:
    """Put the settled images' results in their rows, in the result's own dtypes."""
    values = {
        name: value if value is None else value.index_copy(0, rows, getattr(settled, name).to(value))
        for name, value in vars(result).items()
    }
    return replace(result, **values)
