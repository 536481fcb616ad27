"""Rows of a made-up run, for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from neuron_path.store.merge import Key, merge_parts
from neuron_path.store.schema import build_table, effect_schema, path_schema, score_schema
from neuron_path.store.writer import PartWriter

BLOCKS = 4
PROVENANCE: dict[str, Any] = {"model": "digits_vit", "config": {"seed": 0}, "environment": {"created": "now"}}


class PathWriter(PartWriter):
    """A writer of paths that also merges them."""

    def merge(self, expected: Iterable[Key], *, keep_others: bool = False) -> Path:
        return merge_parts(self.run_dir, self.schema, self.provenance, expected, keep_others=keep_others)


def path_columns(ids: Sequence[str], *, scorer: str = "joint_attribution", top_k: int = 1) -> dict[str, Any]:
    """Return columns whose values depend on the sample alone, as a real run's do."""
    generators = [np.random.default_rng(sum(map(ord, name))) for name in ids]
    shape = (BLOCKS,) if top_k == 1 else (BLOCKS, top_k)
    n = len(ids)
    return {
        "sample_id": list(ids),
        "label": [None if sum(map(ord, name)) % 2 else 7 for name in ids],
        "target": np.array([int(rng.integers(10)) for rng in generators], dtype=np.int64),
        "prediction": np.zeros(n, dtype=np.int64),
        "target_probability": np.array([rng.random() for rng in generators], dtype=np.float32),
        "scorer": [scorer] * n,
        "search": ["greedy"] * n,
        "measure": ["joint"] * n,
        "top_k": [top_k] * n,
        "path": np.array([rng.integers(192, size=shape) for rng in generators]).reshape(n, *shape),
        "score": np.array([rng.normal() for rng in generators]),
        "score_error": [None] * n,
        "n_steps": [8] * n,
        "objective": [None] * n,
        "passes": [None] * n,
        "margins": np.array([rng.random(BLOCKS) for rng in generators]).reshape(n, BLOCKS),
        "convergence_delta": [None] * n,
        "complete": [None] * n,
        "rounding": [1e-6] * n,
    }


def path_table(ids: Sequence[str], *, scorer: str = "joint_attribution", top_k: int = 1) -> pa.Table:
    return build_table(path_schema(top_k), path_columns(ids, scorer=scorer, top_k=top_k))


def effect_table(ids: Sequence[str]) -> pa.Table:
    n = len(ids)
    columns = {
        "sample_id": list(ids),
        "scorer": ["activation"] * n,
        "search": ["greedy"] * n,
        "top_k": [1] * n,
        "operation": ["remove"] * n,
        "size": [1] * n,
        "token_scope": ["cls"] * n,
        "tokens": ["scope"] * n,
        "target": [0] * n,
        "clean_probability": np.linspace(0.5, 0.9, n),
        "edited_probability": np.linspace(0.4, 0.9, n),
        "clean_logit": np.linspace(1.0, 5.0, n),
        "edited_logit": np.linspace(0.5, 5.0, n),
        "kl_divergence": np.linspace(0.0, 0.1, n),
        "clean_prediction": [0] * n,
        "edited_prediction": [0] * n,
    }
    return build_table(effect_schema(), columns)


def score_table(ids: Sequence[str]) -> pa.Table:
    n = len(ids)
    columns = {
        "sample_id": list(ids),
        "scorer": ["activation"] * n,
        "search": ["greedy"] * n,
        "top_k": [1] * n,
        "joint": np.linspace(-0.1, 2.0, n),
        "complete": np.linspace(-0.2, 0.4, n),
        "convergence_delta": np.linspace(-1e-6, 1e-6, n),
    }
    return build_table(score_schema(), columns)


def keys(ids: Sequence[str], scorer: str = "joint_attribution") -> list[tuple[str, ...]]:
    return [(name, scorer) for name in ids]
