"""The search as a stage: images in, the rows of their paths out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from torch import Tensor

from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.stage import Stage
from neuron_path.search.finder import PathFinder, find_each, joined
from neuron_path.store.layout import SEARCH
from neuron_path.store.schema import build_table, path_schema
from neuron_path.types import PathResult

# From a batch to its targets: one class per image, or None for the predicted classes.
TargetRule = Callable[[Batch], Sequence[int] | None]


class PathSearch(Stage):
    """Finds the paths of each image with each of several methods.

    Args:
        finders: the methods, all on one session.
        targets: which class of each image is attributed.
        provenance: what makes the paths.
        on_error, max_skipped: as of every stage.
    """

    name, title, watched, prefix = SEARCH, "Neuron paths", "score", ""

    def __init__(
        self,
        finders: Sequence[PathFinder],
        targets: TargetRule,
        provenance: Mapping[str, Any],
        on_error: str = "raise",
        max_skipped: int | None = None,
    ) -> None:
        self.finders, self.targets = list(finders), targets
        self.schema = path_schema(finders[0].top_k)
        self.given = {"provenance": provenance}
        self.on_error, self.max_skipped = on_error, max_skipped

    def rows(self, batch: Batch) -> Iterator[tuple[Batch, pa.Table]]:
        """The paths of all methods."""
        parts: list[list[PathResult]] = []
        for run, results in find_each(self.finders, batch.images, self.targets(batch), batch.sample_ids):
            parts.append([result.cpu() for result in results])
            images, found = batch.take(run), zip(self.finders, parts[-1], strict=True)
            yield images, pa.concat_tables(path_rows(images, finder, result) for finder, result in found)
        joined(parts)  # warns where a whole batch's scores mean nothing


def path_rows(batch: Batch, finder: PathFinder, result: PathResult) -> pa.Table:
    """The store's rows of the paths that one method has found for a batch, from a result on the CPU."""
    n = len(batch)

    def floats(values: Tensor | None) -> Any:
        return [None] * n if values is None else values.double().numpy()

    columns = {
        "sample_id": batch.sample_ids,
        "label": batch.labels,
        "target": result.targets.numpy(),
        "prediction": result.predictions.numpy(),
        "target_probability": floats(result.target_probabilities),
        "scorer": [finder.scorer.name] * n,
        "search": [finder.search.name] * n,
        "measure": [result.measure] * n,
        "top_k": [finder.top_k] * n,
        "path": result.paths.numpy(),
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
    return build_table(path_schema(finder.top_k), columns)
