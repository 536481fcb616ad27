"""Evidence as a stage: images in, the neurons that each may be evidence of out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuron_path.evidence.strongest import Strongest
from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.stage import Stage
from neuron_path.models.session import Session
from neuron_path.store.evidence import CANDIDATE, candidate_schema
from neuron_path.store.layout import EVIDENCE


class Evidence(Stage):
    """Looks for the images that activate neurons most.

    Args:
        session, neurons, sample_ids, n_top: as of `Strongest`.
        given: as of every stage.
    """

    name, title = EVIDENCE, "Evidence"
    schema = candidate_schema()

    def __init__(
        self,
        session: Session,
        neurons: Sequence[NDArray[np.int64]],
        sample_ids: Sequence[str],
        n_top: int,
        given: Mapping[str, Any],
    ) -> None:
        self.strongest, self.given = Strongest(session, neurons, sample_ids, n_top), given

    def rows(self, batch: Batch) -> Iterator[tuple[Batch, pa.Table]]:
        """Of each image its candidates."""
        each = self.schema.field("candidates").type.value_type
        for run, found in self.strongest.update(batch.images, batch.sample_ids):
            images = batch.take(run)
            none = found["patch_token"] < 0
            columns = [
                pa.array(found[name], each.field(name).type, mask=none if name.startswith("patch") else None)
                for name in CANDIDATE
            ]
            ends = np.searchsorted(found["image"], np.arange(len(images) + 1)).astype(np.int32)
            lists = pa.ListArray.from_arrays(pa.array(ends), pa.StructArray.from_arrays(columns, fields=list(each)))
            yield images, pa.table([pa.array(images.sample_ids), lists], schema=self.schema)
