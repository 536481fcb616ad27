"""What neurons answer to: ``evidence.parquet``, the one table of a run that also holds small pictures.

It is written where a search was asked for it (``evidence=true``). For each (block, neuron) that it covers there are two
rankings of images, at most ``n_top`` rows each, where ``n_top`` is in the provenance:

- ``kind`` = ``image``: by the neuron's activation at the tokens in scope, which is its value in a path; the mean over
  these tokens;
- ``kind`` = ``patch``: by the neuron's highest activation at a patch token. The same neuron there, but in scope ``cls``
  not what the path counts: say so where patches are shown (:data:`PATCHES_ARE`).

Both kinds have both numbers and the place of the image's strongest patch. A neuron is a property of the model, not of a
method: methods of a run share its rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.store.parquet import read_parquet, write_parquet
from neuron_path.store.schema import conform

EVIDENCE_FILE: Final = "evidence.parquet"
KINDS: Final = ("image", "patch")
CANDIDATE: Final = ("block", "neuron", "activation", "patch_activation", "patch_token")
"""What is known of an image and a neuron before they are ranked."""
MAP: Final = ("block", "neuron", "largest", "values")
"""What is kept of a neuron's activations at the patches of an image."""
MAP_ZERO: Final = 128
"""The byte that stands for an activation of 0."""
EDGE: Final = ("block", "neuron", "later_block", "later_neuron", "value")
"""What is kept of an edge: from a neuron, through that of a later block."""
PATCHES_ARE: Final = "patches by this neuron's activation at patch tokens"
"""What must stand beside patches: in scope ``cls`` a path counts the class token's activation only."""


def evidence_schema() -> pa.Schema:
    """Return the columns of ``evidence.parquet``: one row per block, neuron, kind and rank, sorted by these.

    - ``block``, ``neuron``: which neuron, as in a path.
    - ``kind``: ``image`` or ``patch``, what the rank is by.
    - ``rank``: 0 is the highest; equal activations by ``sample_id``. An image has one row of each kind at most.
    - ``sample_id``: the image, as in ``paths.parquet``, which has its label, target and prediction.
    - ``activation``: the neuron's mean activation over the tokens in scope (``token_scope`` of the provenance).
    - ``patch_activation``: its highest activation at one of the image's patch tokens; null in blocks whose FFN sees no
      patch tokens.
    - ``patch_token``: that token, counted among patch tokens from 0.
    - ``patch_row``, ``patch_column``: its place in the grid of patches, from the upper left; null, as the box is, where
      tokens are in no grid of the image.
    - ``left``, ``top``, ``right``, ``bottom``: the patch's box, as shares in [0, 1] of the picture's width and height.
    - ``thumbnail``: a PNG file of what the model saw, normalisation undone, gray or RGB; in the image's first row of
      the table only, null in its others, see :func:`thumbnails_of`.
    - ``maps``: of some images, likewise in the first row only, the activations at all patches of the neurons on the
      image's own paths: for each ``block``, ``neuron``, ``largest``, its largest magnitude there, and ``values``, a
      byte for each patch, row by row in the grid of the provenance, in steps of ``largest`` / 127 from
      :data:`MAP_ZERO`.
    - ``edges``: of some images, likewise in the first row only, the edges of the image's path by the run's own method
      (docs/edges.md): ``n`` that are not 0, ``magnitude``, the sum of all their magnitudes in units of the target
      function, and ``strongest``, the largest ones, each as :data:`EDGE` says.

    >>> evidence_schema().names[:5]
    ['block', 'neuron', 'kind', 'rank', 'sample_id']
    """
    needed = {
        "block": pa.int32(),
        "neuron": pa.int32(),
        "kind": pa.string(),
        "rank": pa.int32(),
        "sample_id": pa.string(),
        "activation": pa.float64(),
    }
    edge = pa.struct(dict(zip(EDGE, (pa.int32(), pa.int32(), pa.int32(), pa.int32(), pa.float64()), strict=True)))
    optional = {
        "patch_activation": pa.float64(),
        "patch_token": pa.int32(),
        "patch_row": pa.int32(),
        "patch_column": pa.int32(),
        "left": pa.float64(),
        "top": pa.float64(),
        "right": pa.float64(),
        "bottom": pa.float64(),
        "thumbnail": pa.binary(),
        "maps": pa.list_(pa.struct(dict(zip(MAP, (pa.int32(), pa.int32(), pa.float64(), pa.binary()), strict=True)))),
        "edges": pa.struct({"n": pa.int32(), "magnitude": pa.float64(), "strongest": pa.list_(edge)}),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in needed.items()]
        + [pa.field(name, kind) for name, kind in optional.items()]
    )


def candidate_schema() -> pa.Schema:
    """Return the columns of the parts: one row per image, with a list of the neurons that it may be evidence of."""
    columns = {name: evidence_schema().field(name).type for name in CANDIDATE}
    candidates = pa.list_(pa.struct(list(columns.items())))
    return pa.schema([pa.field("sample_id", pa.string(), nullable=False), pa.field("candidates", candidates)])


def write_evidence(run_dir: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> Path:
    """Write ``evidence.parquet``, replacing an older one, and return the file.

    Args:
        run_dir: a run directory.
        table: rows of :func:`evidence_schema`.
        provenance: of the run, with ``evidence``: ``n_top``, and the neurons per block that are covered and left out.

    Raises:
        NeuronPathError: for other columns, or when the file cannot be written.
    """
    target = Path(run_dir) / EVIDENCE_FILE
    rows = conform(table, evidence_schema(), "The table of evidence", "Build it with build_table")
    write_parquet(target, rows, provenance)
    return target


def load_evidence(run_dir_or_file: str | os.PathLike[str]) -> pd.DataFrame:
    """Return what neurons answer to.

    Args:
        run_dir_or_file: a run directory, or its ``evidence.parquet``.

    Returns:
        The columns of :func:`evidence_schema`; integers that may be missing are a nullable Int32, a missing
        ``thumbnail``, ``maps`` or ``edges`` is None. ``attrs["provenance"]`` says what made them.

    Raises:
        NeuronPathError: when there is none, or the file is torn or foreign.
    """
    path = Path(run_dir_or_file)
    if path.is_dir():
        path /= EVIDENCE_FILE
        if not path.exists():
            raise NeuronPathError(
                f"Run directory {os.fspath(run_dir_or_file)!r} holds no {EVIDENCE_FILE}: search again with "
                "evidence=true."
            )
    table, provenance = read_parquet(path)
    advice = "Give a table that this library wrote"
    held = conform(table, evidence_schema(), f"File {os.fspath(path)!r}", advice)
    frame = held.to_pandas()
    for name in ("patch_token", "patch_row", "patch_column"):
        frame[name] = pd.array(held[name].to_pylist(), dtype="Int32")
    for name in ("maps", "edges"):
        frame[name] = pd.Series(held[name].to_pylist(), index=frame.index, dtype=object)
    frame.attrs["provenance"] = provenance
    return frame


def thumbnails_of(evidence: pd.DataFrame) -> dict[str, bytes]:
    """Return each image's PNG file by sample id, from a whole table of evidence.

    Args:
        evidence: from :func:`load_evidence`, or any frame with ``sample_id`` and ``thumbnail``.
    """
    known = evidence.loc[evidence["thumbnail"].notna(), ["sample_id", "thumbnail"]]
    return dict(zip(known["sample_id"].tolist(), known["thumbnail"].tolist(), strict=True))
