"""The search as a stage: images in, the rows of their paths out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from torch import Tensor

from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.stage import Stage
from neuron_path.search.finder import PathFinder, joined
from neuron_path.search.method import Method
from neuron_path.store.layout import SEARCH
from neuron_path.store.schema import build_table, path_schema
from neuron_path.types import PathResult

# From a batch to its targets: one class per image, or None for the predicted classes.
TargetRule = Callable[[Batch], Sequence[int] | None]


class PathSearch(Stage):
    """Finds the paths of each image with each of several methods.

    Args:
        finder: the model with the methods.
        targets: which class of each image is attributed.
        provenance: what makes the paths.
        on_error, max_skipped: as of every stage.
    """

    name, title, watched, prefix = SEARCH, "Neuron paths", "score", ""

    def __init__(
        self,
        finder: PathFinder,
        targets: TargetRule,
        provenance: Mapping[str, Any],
        on_error: str = "raise",
        max_skipped: int | None = None,
    ) -> None:
        self.finder, self.targets = finder, targets
        self.schema = path_schema(finder.settings.top_k)
        self.given = {"provenance": provenance}
        self.on_error, self.max_skipped = on_error, max_skipped

    def rows(self, batch: Batch) -> Iterator[tuple[Batch, pa.Table]]:
        """The paths of all methods."""
        parts: list[list[PathResult]] = []
        for run, results in self.finder.find_each(batch.images, self.targets(batch), batch.sample_ids):
            parts.append([result.cpu() for result in results])
            images = batch.take(run)
            yield images, path_rows(images, self.finder, parts[-1])
        joined(parts)  # warns where a whole batch's scores mean nothing


def path_rows(batch: Batch, finder: PathFinder, results: Sequence[PathResult]) -> pa.Table:
    """The store's rows of the paths that the finder's methods have found for a batch, from results on the CPU."""
    found = zip(finder.methods, results, strict=True)
    return pa.concat_tables(_rows_of(batch, finder.settings.top_k, method, result) for method, result in found)


def _rows_of(batch: Batch, top_k: int, method: Method, result: PathResult) -> pa.Table:
    n = len(batch)

    def floats(values: Tensor | None) -> Any:
        return [None] * n if values is None else values.double().numpy()

    columns = {
        "sample_id": batch.sample_ids,
        "label": batch.labels,
        "target": result.targets.numpy(),
        "prediction": result.predictions.numpy(),
        "target_probability": floats(result.target_probabilities),
        "scorer": [method.scorer.name] * n,
        "search": [method.search.name] * n,
        "measure": [result.measure] * n,
        "top_k": [top_k] * n,
        "path": (result.paths.squeeze(2) if top_k == 1 else result.paths).numpy(),
        "score": floats(result.scores),
        "score_error": floats(result.score_errors),
        "n_steps": result.n_steps.numpy(),
        "objective": floats(result.objectives),
        "passes": floats(result.passes),
        "margins": floats(result.margins),
        "convergence_delta": floats(result.convergence_deltas),
        "complete": floats(result.complete_scores),
        "rounding": floats(result.rounding),
    }
    return build_table(path_schema(top_k), columns)
