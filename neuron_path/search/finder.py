"""A model with its search settings: turns a batch of images into neuron paths, chunk by chunk."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.rounding import ILL_CONDITIONED, rounding
from neuron_path.attribution.scorer import Scorer
from neuron_path.attribution.target import check_target, target_margin, target_probability
from neuron_path.errors import NeuronPathError
from neuron_path.models.session import Session, Targets
from neuron_path.progress import progress_bar
from neuron_path.search.budget import chunks
from neuron_path.search.search import CLOSE_CALL, Found, Search
from neuron_path.types import PathResult

# Past these log-odds p or 1 − p, and with it every gradient, nears float32's smallest numbers (e⁻⁸⁷) or is 0.
_EXTREME_LOG_ODDS = 60


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
        self.session = session
        self.scorer, self.search, self.quadrature = scorer, search, quadrature
        self.target = target
        self.top_k, self.micro_batch, self.keep_candidates = top_k, micro_batch, keep_candidates

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
        """Paths of a batch of any size, on the model's device; `sample_ids` default to a digest of each image."""
        self.session.check_images(images)
        checked = self.session.check_targets(targets, len(images))
        names: Sequence[str] = digests(images) if sample_ids is None else sample_ids
        parts = []
        with self.session.active(), progress_bar(disable=not progress) as bar:
            task = bar.add_task("Neuron paths", total=len(images))
            for run, micro_batch in chunks(self.session, images, self.quadrature.n_steps, self.micro_batch):
                part = self._find_chunk(images[run], None if checked is None else checked[run], names[run], micro_batch)
                parts.append(part)
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
        self, images: Tensor, targets: Tensor | None, sample_ids: Sequence[str], micro_batch: int
    ) -> PathResult:
        problem = self._pose(self.session, images, targets, sample_ids, micro_batch)
        options = {"top_k": self.top_k, "keep_candidates": self.keep_candidates}
        found = self.search.run(problem, self.scorer, **options)
        result = self._result(problem, found)
        if self.session.dtype != torch.float32:
            return result
        found = replace(found, clearance=_clearance(problem, found))
        close = (found.clearance < CLOSE_CALL).any(1).nonzero().squeeze(1)
        if len(close) == 0:
            return result
        double = self.session.double()
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
    ) -> Problem:
        own = None if targets is None else targets.to(session.device)
        images = session.images(images)
        return Problem.pose(session.adapter, images, own, self.quadrature, micro_batch, self.target, sample_ids)

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


def lead(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """How clear the predicted class is: its lead over the next, relative to the largest logit."""
    best = logits.topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]) / logits.abs().amax(1)


def needs_double(problem: Problem) -> Bool[Tensor, "B"]:
    """Images on which float32 is not to be trusted: where the network amplifies its rounding, where the predicted class
    is in doubt, or where the odds of the target leave its range."""
    logits = problem.clean.logits
    lost = (lead(logits) < CLOSE_CALL) | (rounding(problem) > ILL_CONDITIONED)
    if problem.target == "probability":
        lost |= target_margin(logits, problem.targets).abs() > _EXTREME_LOG_ODDS
    return lost


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
