"""The table of evidence: written whole, read back typed, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.evidence import (
    EDGE,
    EVIDENCE_FILE,
    evidence_schema,
    load_evidence,
    thumbnails_of,
    write_evidence,
)
from neuron_path.store.parquet import write_parquet
from neuron_path.store.schema import build_table


def columns(**changed: Any) -> dict[str, Any]:
    return {
        "block": [0, 0], "neuron": [3, 3], "kind": ["image", "patch"], "rank": [0, 0], "sample_id": ["a", "b"],
        "activation": [0.5, 0.25], "patch_activation": [None, 1.5], "patch_token": [None, 6], "patch_row": [None, 1],
        "patch_column": [None, 2], "left": [None, 0.5], "top": [None, 0.25], "right": [None, 0.75],
        "bottom": [None, 0.5], "thumbnail": [b"png", None],
        "maps": [[{"block": 0, "neuron": 3, "largest": 0.5, "values": b"\x01\xff"}], None],
        "edges": [{"n": 3, "magnitude": 0.75, "strongest": [dict(zip(EDGE, (0, 3, 1, 2, -0.5), strict=True))]}, None],
    } | changed  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = write_evidence(tmp_path, build_table(evidence_schema(), columns()), {"evidence": {"n_top": 1}})
    assert file == tmp_path / EVIDENCE_FILE
    for source in (tmp_path, file):
        frame = load_evidence(source)
        assert frame.attrs["provenance"] == {"evidence": {"n_top": 1}}
        assert frame["patch_token"].tolist() == [pd.NA, 6]
        assert frame["patch_row"].dtype == "Int32"
        assert frame["thumbnail"].tolist() == [b"png", None]
        assert thumbnails_of(frame) == {"a": b"png"}
        for name in ("maps", "edges"):
            assert frame[name].tolist() == columns()[name]


@pytest.mark.parametrize("absent", [["maps", "edges"], ["edges"]])
def test_a_file_of_an_earlier_version_is_read(absent: list[str], tmp_path: Path) -> None:
    table = build_table(evidence_schema(), columns()).drop_columns(absent)
    write_parquet(tmp_path / EVIDENCE_FILE, table, {})
    frame = load_evidence(tmp_path)
    for name in absent:
        assert frame[name].tolist() == [None, None]
    assert thumbnails_of(frame) == {"a": b"png"}


def test_what_is_no_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match="evidence=true"):
        load_evidence(tmp_path)
    with pytest.raises(NeuronPathError, match="There is no file"):
        load_evidence(tmp_path / "absent.parquet")
    with pytest.raises(NeuronPathError, match="'kind' lacks 1 value"):
        build_table(evidence_schema(), columns(kind=["image", None]))
    table = build_table(evidence_schema(), columns()).drop_columns("rank")
    with pytest.raises(NeuronPathError, match="table of evidence does not fit the store"):
        write_evidence(tmp_path, table, {})
