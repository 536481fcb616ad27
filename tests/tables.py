"""When two tables of paths say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuron_path.store.evidence import load_evidence
from neuron_path.store.reader import load_effects, load_paths, load_scores

EXACT = ["sample_id", "label", "target", "prediction", "scorer", "search", "measure", "top_k", "n_steps"]
FLOATS = ["target_probability", "score"]
KEYS = ["sample_id", "scorer", "search"]


def stacked(column: Any) -> np.ndarray:
    """A column of lists as one array."""
    return np.stack([np.stack(entry) if np.ndim(entry[0]) else entry for entry in column])


def same_paths(one: pd.DataFrame, two: pd.DataFrame) -> None:
    """The same rows, each once: names, classes and paths identical, floats within 1e-5 relative; in whatever order."""
    one, two = (table.sort_values(KEYS, ignore_index=True) for table in (one, two))
    assert not one.duplicated(KEYS).any()
    pd.testing.assert_frame_equal(one.loc[:, EXACT], two.loc[:, EXACT])
    np.testing.assert_array_equal(stacked(one["path"]), stacked(two["path"]))
    for name in FLOATS:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-9)
    # A margin is a difference of nearly equal scores: its rounding is measured against these.
    np.testing.assert_allclose(stacked(one["margins"]), stacked(two["margins"]), rtol=1e-5, atol=1e-5)


def same_run(one: Path, two: Path) -> None:
    """Two run directories with the same tables, rows in the same order; floats within 1e-5 relative."""
    paths = [load_paths(run_dir) for run_dir in (one, two)]
    assert paths[0]["sample_id"].tolist() == paths[1]["sample_id"].tolist()
    same_paths(*paths)
    for load in (load_effects, load_scores, load_evidence):
        ours, theirs = load(one), load(two)
        floats = ours.select_dtypes("float").columns
        pd.testing.assert_frame_equal(ours.drop(columns=floats), theirs.drop(columns=floats))
        np.testing.assert_allclose(ours[floats], theirs[floats], rtol=1e-5, atol=1e-6)
