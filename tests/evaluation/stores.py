"""Made-up run directories, written with the store's own writers, whose effects are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuron_path.store.schema import build_table, effect_schema, path_schema, score_schema
from neuron_path.store.writer import write_effects, write_scores
from tests.store.rows import PathWriter

OPERATIONS = ("remove", "enhance", "mean_ablation", "resample_ablation", "keep_only")
STRENGTH = {
    "joint_attribution": 0.20,
    "complete_attribution": 0.19,
    "activation": 0.10,
    "influence_pattern": 0.08,
    "random": 0.0,
    "activation_matched_random": 0.0,
}
"""How much of the target probability the removal of a method's path takes, on average."""

CLASSES = [f"class {index}" for index in range(4)]


def provenance(**changed: Any) -> dict[str, Any]:
    """What a real run stores, as far as a comparison reads it."""
    return {
        "model": "digits_vit",
        "weight_hash": "0123456789abcdef",
        "data": "digits",
        "folder": None,
        "classes": CLASSES,
        "preprocessing": {"mean": [0.5], "std": [0.5]},
        "target": "probability",
        "token_scope": "cls",
        "quadrature": "gauss_legendre",
        "n_steps": 8,
        "config": {"seed": 0, "target_class": "auto", "data": {"split": "test", "limit": None}},
        "environment": {"created": "2026-01-01T00:00:00+00:00"},
    } | changed


def write_run(
    run_dir: Path,
    scorers: Sequence[str],
    *,
    n: int = 60,
    top_k: int = 1,
    sizes: Sequence[int] = (),
    operations: Sequence[str] = OPERATIONS,
    strength: Mapping[str, float] = STRENGTH,
    labelled: bool = True,
    seed: int = 0,
    evaluation: Mapping[str, Any] | None = None,
    scored: bool = True,
    search: str = "greedy",
    searched: Mapping[str, Any] | None = None,
    valued: bool = False,
    **changed: Any,
) -> Path:
    """Write paths, effects and scores of `scorers` for `n` images; with `sizes`, the curves of remove and keep_only.

    `searched` has columns of the paths that another search has. `valued` effects have the log-odds beside the
    probability.
    """
    made = provenance(top_k=top_k, seed=seed, search=search, **changed)
    ids = [f"image/{index}.png" for index in range(n)]
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.json").write_text(json.dumps(made))
    writer = PathWriter(run_dir, path_schema(top_k), made)
    effects: dict[str, list[Any]] = {name: [] for name in effect_schema(valued=valued).names}
    scores: dict[str, list[Any]] = {name: [] for name in score_schema().names}
    for scorer in scorers:
        own = {"search": [search] * n} | dict(searched or {})
        writer.append(build_table(path_schema(top_k), _paths(ids, scorer, top_k, labelled, seed) | own))
        for operation in operations:
            curve = sizes if operation in ("remove", "keep_only") else ()
            for size in sorted({*curve, top_k}):
                rows = _effects(ids, scorer, operation, size, top_k, strength.get(scorer, 0.05), seed)
                _extend(effects, rows | {"token_scope": made["token_scope"], "search": search})
        _extend(scores, _scores(ids, scorer, top_k, strength.get(scorer, 0.05), seed) | {"search": search})
    writer.merge([(name, scorer) for scorer in scorers for name in ids])
    stamp = made | {"evaluation": dict(evaluation or {"factor": 2.0, "tokens": "scope"})}
    write_effects(run_dir, build_table(effect_schema(valued=valued), effects), stamp)
    if scored:
        write_scores(run_dir, build_table(score_schema(), scores), stamp)
    return run_dir


def generator(*key: object) -> np.random.Generator:
    return np.random.default_rng([ord(sign) for sign in "/".join(map(str, key))])


def clean_probabilities(n: int) -> np.ndarray:
    return generator("clean").uniform(0.6, 0.99, size=n)


def _extend(columns: dict[str, list[Any]], rows: Mapping[str, Any]) -> None:
    n = len(rows["sample_id"])
    for name, values in columns.items():
        given = rows[name]
        values.extend(given if isinstance(given, list) else given.tolist() if hasattr(given, "tolist") else [given] * n)


def _paths(ids: Sequence[str], scorer: str, top_k: int, labelled: bool, seed: int) -> dict[str, Any]:
    n = len(ids)
    shape = (n, 3) if top_k == 1 else (n, 3, top_k)
    return {
        "sample_id": list(ids),
        "label": [index % 4 if labelled else None for index in range(n)],
        "target": [index % 4 for index in range(n)],
        "prediction": [index % 4 for index in range(n)],
        "target_probability": clean_probabilities(n),
        "scorer": [scorer] * n,
        "measure": ["joint"] * n,
        "top_k": [top_k] * n,
        "path": generator("path", scorer, seed).integers(100, size=shape),
        "score": np.zeros(n),
        "score_error": [None] * n,
        "n_steps": [8] * n,
        "objective": [None] * n,
        "passes": [None] * n,
        "margins": np.zeros((n, 3)),
        "convergence_delta": [None] * n,
        "complete": [None] * n,
        "rounding": [1e-6] * n,
    }


def _effects(
    ids: list[str], scorer: str, operation: str, size: int, top_k: int, strength: float, seed: int
) -> dict[str, Any]:
    n, clean = len(ids), clean_probabilities(len(ids))
    noise = generator("noise", scorer, operation, seed).normal(0, 0.02, size=n)
    share = size / top_k
    loss = {"enhance": -0.1 * strength, "keep_only": 0.7 - share * strength}.get(operation, share * strength)
    noise *= 0.25 if operation == "keep_only" else share
    edited = np.clip(clean * (1 - loss + noise), 1e-9, 1)
    right = np.arange(n) % 4
    return {
        "sample_id": ids,
        "scorer": scorer,
        "top_k": top_k,
        "operation": operation,
        "size": size,
        "token_scope": "cls",
        "tokens": "scope",
        "target": right,
        "clean_probability": clean,
        "edited_probability": edited,
        "clean_logit": np.log(clean),
        "edited_logit": np.log(edited),
        "kl_divergence": np.abs(np.log(edited / clean)),
        "clean_value": np.log(clean / (1 - clean)),
        "edited_value": np.log(edited / np.maximum(1 - edited, 1e-9)),
        "contrast_class": [None] * n,
        "clean_prediction": right,
        "edited_prediction": np.where(edited < 0.5, (right + 1) % 4, right),
    }


def _scores(ids: list[str], scorer: str, top_k: int, strength: float, seed: int) -> dict[str, Any]:
    noise = generator("score", scorer, seed).normal(0, 0.01, size=len(ids))
    return {
        "sample_id": ids,
        "scorer": scorer,
        "top_k": top_k,
        "joint": 10 * strength + noise,
        "complete": strength + noise,
        "convergence_delta": 0 * noise,
    }
