"""Write results as batches finish, so that a crash costs the batch in flight and no more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_path.store.atomic import fsync_directory, write_error
from neuron_path.store.layout import EFFECTS_FILE, PARTS_DIRECTORY, SCORES_FILE, SEARCH, next_sequence, part_path
from neuron_path.store.parquet import write_parquet
from neuron_path.store.schema import conform, effect_schema, is_valued, score_schema
from neuron_path.store.skipped import Problem, write_skipped

_ADVICE = "Build it with build_table"


class PartWriter:
    """Append rows of a stage to a run directory, each time as one small whole part; one writer per process.

    Args:
        run_dir: from :func:`neuron_path.store.layout.open_run_dir` or :func:`neuron_path.store.recovery.open_search`.
        schema: the columns of its rows, as from :func:`neuron_path.store.schema.path_schema`.
        provenance: each part carries it; of a search from :func:`neuron_path.store.provenance.collect_provenance`.
        rank: which of the processes this is; it is part of the file names, so no process waits for another.
        stage: as :mod:`neuron_path.store.layout` names it.

    Raises:
        NeuronPathError: when the parts cannot be written there.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        schema: pa.Schema,
        provenance: Mapping[str, Any],
        rank: int = 0,
        *,
        stage: str = SEARCH,
    ) -> None:
        self.run_dir, self.stage = Path(run_dir), stage
        self.schema = schema
        self.provenance = provenance
        self.rank = rank
        try:
            (self.run_dir / PARTS_DIRECTORY).mkdir(parents=True, exist_ok=True)
            fsync_directory(self.run_dir)
        except (OSError, ValueError) as error:
            raise write_error(self.run_dir / PARTS_DIRECTORY, error) from error
        self._sequence = next_sequence(self.run_dir, rank)

    def append(self, table: pa.Table) -> None:
        """Take some rows; they are on the disk when this returns.

        Raises:
            NeuronPathError: when the columns differ from the writer's schema or the part cannot be written.
        """
        rows = conform(table, self.schema, "The batch to append", _ADVICE).combine_chunks()
        if rows.num_rows:
            write_parquet(part_path(self.run_dir, self.rank, self._sequence, self.stage), rows, self.provenance)
            self._sequence += 1

    def skip(self, problems: Sequence[Problem]) -> None:
        """Keep the names of images that could not be read, for the merge.

        Raises:
            NeuronPathError: when they cannot be written.
        """
        if problems:
            write_skipped(self.run_dir, self.rank, self._sequence, problems)
            self._sequence += 1


def write_effects(run_dir: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> Path:
    """Write the effects of interventions as ``effects.parquet``, replacing an older one, and return the file.

    Args:
        run_dir: a run directory.
        table: rows of :func:`neuron_path.store.schema.effect_schema`.
        provenance: the table's metadata.

    Raises:
        NeuronPathError: for other columns, or when the file cannot be written.
    """
    schema = effect_schema(valued=is_valued(table.schema.names))
    return _write(run_dir, EFFECTS_FILE, conform(table, schema, "The table of effects", _ADVICE), provenance)


def write_scores(run_dir: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> Path:
    """Write both measures of the paths as ``scores.parquet``; otherwise as :func:`write_effects`."""
    return _write(run_dir, SCORES_FILE, conform(table, score_schema(), "The table of scores", _ADVICE), provenance)


def _write(run_dir: str | os.PathLike[str], name: str, rows: pa.Table, provenance: Mapping[str, Any]) -> Path:
    target = Path(run_dir) / name
    write_parquet(target, rows, provenance)
    return target
