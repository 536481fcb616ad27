"""Write results as batches finish, so that a crash costs the batch in flight and no more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_path.store.atomic import fsync_directory, write_error
from neuron_path.store.layout import EFFECTS_FILE, PARTS_DIRECTORY, SCORES_FILE, SEARCH, next_sequence, part_path
from neuron_path.store.merge import Key, merge_parts
from neuron_path.store.parquet import write_parquet
from neuron_path.store.schema import conform, effect_schema, score_schema
from neuron_path.store.skipped import Problem, write_skipped

_ADVICE = "Build it with build_table"


class PartWriter:
    """Append rows of a stage to a run directory, one small whole part per flush; one writer per process.

    Args:
        run_dir: from :func:`neuron_path.store.layout.open_run_dir` or :func:`neuron_path.store.recovery.open_search`.
        schema: the columns of its rows, as from :func:`neuron_path.store.schema.path_schema`.
        provenance: each part carries it; of a search from :func:`neuron_path.store.provenance.collect_provenance`.
        rank: which of the processes this is; it is part of the file names, so no process waits for another.
        flush_rows: rows gathered before a part is written. 1 writes every ``append`` at once, so that a kill loses only
            the batches in flight; more gives fewer files.
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
        flush_rows: int = 1,
        stage: str = SEARCH,
    ) -> None:
        self.run_dir, self.stage = Path(run_dir), stage
        self.schema = schema
        self.provenance = provenance
        self.rank = rank
        self.flush_rows = flush_rows
        self._waiting: list[pa.Table] = []
        try:
            (self.run_dir / PARTS_DIRECTORY).mkdir(parents=True, exist_ok=True)
            fsync_directory(self.run_dir)
        except (OSError, ValueError) as error:
            raise write_error(self.run_dir / PARTS_DIRECTORY, error) from error
        self._sequence = next_sequence(self.run_dir, rank)

    def append(self, table: pa.Table) -> None:
        """Take the rows of one batch; they are on the disk when this returns, unless ``flush_rows`` lets them wait.

        Raises:
            NeuronPathError: when the columns differ from the writer's schema or the part cannot be written.
        """
        rows = conform(table, self.schema, "The batch to append", _ADVICE)
        if rows.num_rows:
            self._waiting.append(rows)
        if sum(waiting.num_rows for waiting in self._waiting) >= self.flush_rows:
            self.flush()

    def skip(self, problems: Sequence[Problem]) -> None:
        """Keep the names of images that could not be read, for the merge.

        Raises:
            NeuronPathError: when they cannot be written.
        """
        if problems:
            write_skipped(self.run_dir, self.rank, self._sequence, problems)
            self._sequence += 1

    def flush(self) -> None:
        """Write the rows that wait as one part; does nothing when none do."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        write_parquet(part_path(self.run_dir, self.rank, self._sequence, self.stage), table, self.provenance)
        self._sequence += 1
        self._waiting.clear()


class PathWriter(PartWriter):
    """The writer of a search, which also merges."""

    def merge(self, expected: Iterable[Key], *, keep_others: bool = False) -> Path:
        """Flush, then merge the parts of every process into ``paths.parquet``; see :func:`merge_parts`.

        Call it on one rank, after the others have flushed.

        Args:
            expected: (sample_id, scorer) or (sample_id, scorer, search) of every row, in the order of the data.
            keep_others: whether unexpected rows are left out, and kept, rather than refused.

        Returns:
            The merged file.

        Raises:
            NeuronPathError: when a row is missing, doubled or unexpected, or a part is torn or foreign.
        """
        self.flush()
        return merge_parts(self.run_dir, self.schema, self.provenance, expected, keep_others=keep_others)


def write_effects(run_dir: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> Path:
    """Write the effects of interventions as ``effects.parquet``, replacing an older one, and return the file.

    Args:
        run_dir: a run directory.
        table: rows of :func:`neuron_path.store.schema.effect_schema`.
        provenance: the table's metadata.

    Raises:
        NeuronPathError: for other columns, or when the file cannot be written.
    """
    return _write(run_dir, EFFECTS_FILE, conform(table, effect_schema(), "The table of effects", _ADVICE), provenance)


def write_scores(run_dir: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> Path:
    """Write both measures of the paths as ``scores.parquet``; otherwise as :func:`write_effects`."""
    return _write(run_dir, SCORES_FILE, conform(table, score_schema(), "The table of scores", _ADVICE), provenance)


def _write(run_dir: str | os.PathLike[str], name: str, rows: pa.Table, provenance: Mapping[str, Any]) -> Path:
    target = Path(run_dir) / name
    write_parquet(target, rows, provenance)
    return target
