"""The LightningModule of the evaluation: a batch in, what is measured of its stored paths out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.regression import kl_divergence

from neuron_path.attribution.target import target_logit, target_probability
from neuron_path.data.pictures import unreadable
from neuron_path.interventions.evaluate import Evaluator, Intervention, Measured, Subject
from neuron_path.lightning.datamodule import Batch
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session

# From image names to their (n, c, H, W) preprocessed images.
ImagesOf = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class StoredPaths:
    """The paths of one method, by sample id: what an intervention edits.

    Attributes:
        scorer, search, top_k: the method.
        paths: sample id → (L, k) neurons.
        scores: sample id → joint score.
        complete: sample id → complete score and its convergence delta, where the search has found them for all images.
    """

    scorer: str
    search: str
    top_k: int
    paths: dict[str, Tensor]
    scores: dict[str, float]
    complete: dict[str, tuple[float, float]] | None = None


@dataclass(frozen=True)
class MethodEvaluation:
    """What is measured of one method's paths on a batch, as columns of the store.

    Attributes:
        method: whose paths.
        scores: the columns of `scores.parquet`.
        effects: for each intervention those of `effects.parquet`.
    """

    method: StoredPaths
    scores: dict[str, list[object]]
    effects: list[dict[str, list[object]]]

    def to(self, device: torch.device) -> MethodEvaluation:
        """Itself: it is in main memory; the Trainer asks when it gathers predictions."""
        return self


class EvaluationModule(lightning.LightningModule):
    """`predict_step` measures the stored paths of a batch.

    Use it with `Trainer(inference_mode=False)`: what is doubtful in float32 is found out with gradients.

    Args:
        session: the model.
        stored: the methods' paths.
        targets: sample id → target class.
        evaluator: what to measure.
        rounding: sample id → how much float32 rounds on the image, where the search has measured it.
        donors: sample id → sample id of the donor, for a resample-ablation.
        images_of: reads the donors.
    """

    def __init__(
        self,
        session: Session,
        stored: Sequence[StoredPaths],
        targets: dict[str, int],
        evaluator: Evaluator,
        rounding: dict[str, float] | None = None,
        donors: dict[str, str] | None = None,
        images_of: ImagesOf | None = None,
    ) -> None:
        super().__init__()
        self.model = session.model
        self.session = session
        self.stored, self.targets = list(stored), targets
        self.evaluator, self.rounding = evaluator, rounding
        self.donors, self.images_of = donors, images_of

    def predict_step(self, batch: Batch, batch_idx: int) -> list[MethodEvaluation]:
        """What is measured of every method's paths."""
        if batch.problems:  # a picture that could be read when its path was found
            raise unreadable(*batch.problems[0])
        names = batch.sample_ids
        session = self.session
        targets = session.check_targets([self.targets[name] for name in names], len(names))
        assert targets is not None
        paths = [
            session.check_paths(torch.stack([method.paths[name] for name in names]), len(names))
            for method in self.stored
        ]
        donors = None
        if self.donors is not None and self.images_of is not None:
            donors = self.images_of([self.donors[name] for name in names])
        rounding = None
        if self.rounding is not None and session.dtype == torch.float32:
            rounding = torch.tensor([self.rounding[name] for name in names], device=session.device)
        parts = []
        with session.active():
            for run, micro_batch in chunks(session, batch.images, 1):
                given, known = (None if one is None else one[run] for one in (donors, rounding))
                chosen = [
                    Subject(path[run], method.complete is not None)
                    for path, method in zip(paths, self.stored, strict=True)
                ]
                measure = self.evaluator.measure
                parts.append(measure(session, batch.images[run], targets[run], chosen, micro_batch, given, known))
        clean = torch.cat([logits for logits, _ in parts])
        by_method = zip(*(measured for _, measured in parts), strict=True)
        return [
            self._columns(method, names, targets.cpu(), clean, measured)
            for method, measured in zip(self.stored, by_method, strict=True)
        ]

    def _columns(
        self, method: StoredPaths, names: list[str], targets: Tensor, clean: Tensor, parts: Sequence[Measured]
    ) -> MethodEvaluation:
        n = len(names)
        common: dict[str, list[object]] = {
            "sample_id": [*names],
            "scorer": [method.scorer] * n,
            "search": [method.search] * n,
            "top_k": [method.top_k] * n,
        }
        effects = []
        for place, one in enumerate(self.evaluator.interventions):
            logits = torch.cat([part.logits[place] for part in parts])
            effects.append(common | self._effect(one, method, targets, clean, logits))
        scores = dict(common)
        if self.evaluator.quadrature is not None:
            scores["joint"] = [method.scores[name] for name in names]
            for place, name in enumerate(("complete", "convergence_delta")):
                if method.complete is not None:
                    scores[name] = [method.complete[one][place] for one in names]
                else:
                    scores[name] = torch.cat([getattr(part, name) for part in parts]).cpu().double().tolist()
        return MethodEvaluation(method, scores, effects)

    def _effect(
        self, one: Intervention, method: StoredPaths, targets: Tensor, clean: Tensor, edited: Tensor
    ) -> dict[str, list[object]]:
        n, before, after = len(targets), _exact(clean), _exact(edited)
        divergence = kl_divergence(before.log_softmax(1), after.log_softmax(1), log_prob=True, reduction="none")
        return {
            "operation": [one.operation] * n,
            "size": [method.top_k if one.size is None else one.size] * n,
            "token_scope": [self.session.adapter.scope.name] * n,
            "tokens": [one.tokens] * n,
            "target": targets.tolist(),
            "clean_probability": target_probability(before, targets).tolist(),
            "edited_probability": target_probability(after, targets).tolist(),
            "clean_logit": target_logit(before, targets).tolist(),
            "edited_logit": target_logit(after, targets).tolist(),
            "kl_divergence": divergence.clamp(min=0).tolist(),
            "clean_prediction": before.argmax(1).tolist(),
            "edited_prediction": after.argmax(1).tolist(),
        }


def _exact(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """In float64, where no difference of two probabilities is lost."""
    return logits.cpu().double()
