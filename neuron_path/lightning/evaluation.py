"""The evaluation as a stage: images in, what is measured of their stored paths out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional.regression import kl_divergence

from neuron_path.attribution.target import target_logit
from neuron_path.interventions.evaluate import Evaluator, Measured, Subject
from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.stage import Stage
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session
from neuron_path.store.evaluation import evaluation_schema, join_measures
from neuron_path.store.layout import EVALUATION
from neuron_path.store.schema import VALUE_COLUMNS, build_table, effect_schema, score_schema

# From image names to their (n, c, H, W) preprocessed images.
ImagesOf = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, eq=False)
class StoredPaths:
    """The paths of one method on N images: what an intervention edits.

    Attributes:
        scorer, search, top_k: the method.
        rows: from sample id to the image's row in the following.
        paths: (N, L, k) neurons.
        scores: (N,) joint scores, float64.
        complete: (N, 2) complete scores with their convergence deltas, float64, where the search has found them for
            all images.
    """

    scorer: str
    search: str
    top_k: int
    rows: Mapping[str, int]
    paths: Int[Tensor, "N L k"]
    scores: Float[Tensor, "N"]
    complete: Float[Tensor, "N 2"] | None = None


class Evaluation(Stage):
    """Measures the stored paths of each image.

    Args:
        session: the model.
        stored: the methods' paths.
        targets: sample id → target class.
        evaluator: what to measure; with a quadrature.
        rounding: sample id → how much float32 rounds on the image, where the search has measured it.
        donors: sample id → sample id of the donor, for a resample-ablation.
        images_of: reads the donors.
        given: as of every stage.
    """

    name, title, watched, prefix = EVALUATION, "Evaluation", "complete", "evaluation/"

    def __init__(
        self,
        session: Session,
        stored: Sequence[StoredPaths],
        targets: Mapping[str, int],
        evaluator: Evaluator,
        rounding: Mapping[str, float] | None = None,
        donors: Mapping[str, str] | None = None,
        images_of: ImagesOf | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.session = session
        self.stored, self.targets = list(stored), targets
        self.evaluator, self.rounding = evaluator, rounding
        self.valued = not evaluator.target.is_probability
        self.schema = evaluation_schema(valued=self.valued)
        self.donors, self.images_of = donors, images_of
        self.given = given or {"provenance": {}}

    def rows(self, batch: Batch) -> Iterator[tuple[Batch, pa.Table]]:
        """What is measured of every method's paths."""
        names, session = batch.sample_ids, self.session
        targets = session.check_targets([self.targets[name] for name in names], len(names))
        assert targets is not None
        places = [[method.rows[name] for name in names] for method in self.stored]
        paths = [
            session.check_paths(method.paths[own], len(names)) for method, own in zip(self.stored, places, strict=True)
        ]
        donors = None
        if self.donors is not None and self.images_of is not None:
            donors = self.images_of([self.donors[name] for name in names])
        rounding = None
        if self.rounding is not None and session.dtype == torch.float32:
            rounding = torch.tensor([self.rounding[name] for name in names], device=session.device)
        with session.active():
            for run, micro_batch in chunks(session, batch.images, 1):
                images, own = batch.take(run), targets[run]
                given, known = (None if one is None else one[run] for one in (donors, rounding))
                chosen = [
                    Subject(path[run], method.complete is not None)
                    for path, method in zip(paths, self.stored, strict=True)
                ]
                clean, measured = self.evaluator.measure(session, images.images, own, chosen, micro_batch, given, known)
                found = zip(self.stored, places, measured, strict=True)
                yield (
                    images,
                    pa.concat_tables(self._rows(method, images, at[run], own, clean, one) for method, at, one in found),
                )

    def _rows(
        self, method: StoredPaths, images: Batch, places: Sequence[int], targets: Tensor, clean: Tensor, found: Measured
    ) -> pa.Table:
        """The rows of one method; `places` are the images' rows in it."""
        n, interventions = len(images), self.evaluator.interventions
        if method.complete is not None:
            complete, delta = method.complete[places].unbind(1)
        else:
            assert found.complete is not None
            assert found.convergence_delta is not None
            complete, delta = found.complete, found.convergence_delta
        scores: dict[str, Any] = {
            "sample_id": images.sample_ids,
            "scorer": [method.scorer] * n,
            "search": [method.search] * n,
            "top_k": [method.top_k] * n,
            "joint": method.scores[places].tolist(),
            "complete": complete.cpu().double().tolist(),
            "convergence_delta": delta.cpu().double().tolist(),
        }
        # The interventions of the first image, then those of the second, …: (n · I, C).
        after = _exact(torch.stack(found.logits, 1).flatten(0, 1))
        before = _exact(clean).repeat_interleave(len(interventions), 0)
        own = targets.cpu().repeat_interleave(len(interventions))
        divergence = kl_divergence(before.log_softmax(1), after.log_softmax(1), log_prob=True, reduction="none")
        effects: dict[str, Any] = {
            "sample_id": [name for name in images.sample_ids for _ in interventions],
            **{name: scores[name][:1] * len(own) for name in ("scorer", "search", "top_k")},
            "operation": [one.operation for one in interventions] * n,
            "size": [method.top_k if one.size is None else one.size for one in interventions] * n,
            "token_scope": [self.session.adapter.scope.name] * len(own),
            "tokens": [one.tokens for one in interventions] * n,
            "target": own.tolist(),
            "clean_probability": self.evaluator.target.probability(before, own).tolist(),
            "edited_probability": self.evaluator.target.probability(after, own).tolist(),
            "clean_logit": target_logit(before, own).tolist(),
            "edited_logit": target_logit(after, own).tolist(),
            "kl_divergence": divergence.clamp(min=0).tolist(),
            "clean_prediction": before.argmax(1).tolist(),
            "edited_prediction": after.argmax(1).tolist(),
        }
        if self.valued:
            values = self.evaluator.target.before_and_after(before, after, own)
            effects |= {name: value.tolist() for name, value in zip(VALUE_COLUMNS, values, strict=True)}
            against = self.evaluator.target.against(before, own)
            effects["contrast_class"] = [None] * len(own) if against is None else against.tolist()
        schema = effect_schema(valued=self.valued)
        return join_measures(build_table(score_schema(), scores), build_table(schema, effects))


def _exact(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """In float64, where no difference of two probabilities is lost."""
    return logits.cpu().double()
