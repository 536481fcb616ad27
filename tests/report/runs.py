"""Made-up runs of any size, written with the store's own writers: classes with favourite neurons, effects, evidence."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from neuron_path.store.evidence import EDGE, evidence_schema, write_evidence
from neuron_path.store.schema import build_table, effect_schema, path_schema, score_schema
from neuron_path.store.writer import write_effects, write_scores
from tests.store.rows import PathWriter

SCORERS = ("joint_attribution", "activation", "random")
_FAITHFUL = {"joint_attribution": 0.6, "activation": 0.4, "random": 0.0}
_EFFECT = {"joint_attribution": 0.2, "activation": 0.1, "random": 0.0}


def write_run(
    run_dir: Path,
    *,
    n_classes: int = 4,
    n_each: int = 6,
    n_blocks: int = 5,
    n_neurons: int = 40,
    top_k: int = 1,
    scorers: Sequence[str] = SCORERS,
    names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    labelled: bool = True,
    evaluated: bool = True,
    evidence: int = 1000,
    target: str = "probability",
    seed: int = 0,
) -> Path:
    """Write a run: one image in five is predicted wrongly; a method's paths follow its class in a share of blocks.

    Of a `target` that is no probability the effects have the log-odds as its values. `evidence` is for how many neurons
    of a block, the most used ones, there is some; 0 writes none.
    """
    rng = np.random.default_rng(seed)
    n = n_classes * n_each
    labels = np.repeat(np.arange(n_classes), n_each)
    wrong = np.arange(n) % 5 == 4
    images = {
        "sample_id": list(ids) if ids else [f"class_{label:03d}/{index:05d}.png" for index, label in enumerate(labels)],
        "label": labels.tolist() if labelled else [None] * n,
        "target": labels,
        "prediction": np.where(wrong, (labels + 1) % n_classes, labels),
        "target_probability": np.where(wrong, rng.uniform(0.1, 0.4, n), rng.uniform(0.6, 0.99, n)),
    }
    made = _provenance(n_blocks, n_neurons, top_k, n, seed, list(names or [f"class {i}" for i in range(n_classes)]))
    made["target"] = target
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.json").write_text(json.dumps(made))
    metrics = {"images": n, "skipped_images": 0, "images_per_second": 12.5, "wall_seconds": n / 12.5}
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    writer = PathWriter(run_dir, path_schema(top_k), made)
    paths = {name: _paths(rng, labels, n_classes, n_blocks, n_neurons, top_k, _FAITHFUL[name]) for name in scorers}
    for name in scorers:
        writer.append(build_table(path_schema(top_k), images | _found(rng, name, paths[name], top_k)))
    writer.merge([(image, name) for name in scorers for image in images["sample_id"]])
    if evaluated:
        _write_effects(run_dir, images, scorers, top_k, made, rng)
    if evidence:
        _write_evidence(run_dir, images["sample_id"], paths[scorers[0]], evidence, made, rng)
    return run_dir


def _provenance(n_blocks: int, n_neurons: int, top_k: int, n: int, seed: int, classes: list[str]) -> dict[str, Any]:
    return {
        "model": "made_up_vit",
        "weight_hash": "0123456789abcdef0123456789abcdef",
        "data": "made up",
        "folder": None,
        "n_images": n,
        "classes": classes,
        "scorer": "joint_attribution",
        "baselines": ["activation", "random"],
        "search": "greedy",
        "preprocessing": {"mean": [0.5], "std": [0.5]},
        "measure": "joint",
        "target": "probability",
        "token_scope": "cls",
        "quadrature": "gauss_legendre",
        "n_steps": 8,
        "top_k": top_k,
        "n_neurons": [n_neurons] * n_blocks,
        "seed": seed,
        "config": {"seed": seed, "target_class": "auto", "data": {"split": "test", "limit": None}},
        "environment": {"created": "2026-01-01T00:00:00+00:00", "platform": "Linux"},
        "git": {"commit": "fedcba9876543210", "dirty": False},
        "versions": {"neuron_path": "0.1.0", "torch": "2.14.1"},
    }


def _paths(
    rng: np.random.Generator, labels: np.ndarray, n_classes: int, n_blocks: int, n_neurons: int, top_k: int, own: float
) -> np.ndarray:
    """(n, L, k) distinct neurons; some blocks take the class's favourites."""

    def distinct(n: int) -> np.ndarray:
        begin = rng.integers(n_neurons, size=(n, n_blocks, 1))
        step = rng.integers(1, max(2, n_neurons // top_k), size=(n, n_blocks, 1))
        return (begin + step * np.arange(top_k)) % n_neurons

    favourites, others = distinct(n_classes)[labels], distinct(len(labels))
    return np.where(rng.random((len(labels), n_blocks, 1)) < own, favourites, others)


def _found(rng: np.random.Generator, scorer: str, paths: np.ndarray, top_k: int) -> dict[str, Any]:
    n, n_blocks = paths.shape[:2]
    return {
        "scorer": [scorer] * n,
        "search": ["greedy"] * n,
        "measure": ["joint"] * n,
        "top_k": [top_k] * n,
        "path": paths[:, :, 0] if top_k == 1 else paths,
        "score": rng.normal(_EFFECT[scorer], 0.05, n),
        "n_steps": [8] * n,
        "margins": rng.exponential(0.1, (n, n_blocks)),
    } | {
        name: [None] * n
        for name in (
            "score_error",
            "objective",
            "passes",
            "convergence_delta",
            "complete",
            "rounding",
        )
    }


def _write_effects(
    run_dir: Path, images: dict[str, Any], scorers: Sequence[str], top_k: int, made: dict[str, Any],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    clean, n = images["target_probability"], len(images["sample_id"])
    schema = effect_schema(valued=made["target"] != "probability")
    rows: dict[str, list[Any]] = {name: [] for name in schema.names}
    scores: dict[str, list[Any]] = {name: [] for name in score_schema().names}
    for scorer in scorers:
        for operation, sign in (("remove", -1), ("enhance", 0.5)):
            edited = np.clip(clean * (1 + sign * _EFFECT[scorer] + rng.normal(0, 0.02, n)), 1e-6, 1)
            own = {
                "sample_id": images["sample_id"], "scorer": scorer, "search": "greedy", "top_k": top_k,
                "operation": operation, "size": top_k, "token_scope": "cls", "tokens": "scope",
                "target": images["target"], "clean_probability": clean, "edited_probability": edited,
                "clean_logit": np.log(clean), "edited_logit": np.log(edited),
                "kl_divergence": np.abs(np.log(edited / clean)), "clean_prediction": images["prediction"],
                "edited_prediction": images["prediction"], "clean_value": np.log(clean / (1 - clean)),
                "edited_value": np.log(edited / np.maximum(1 - edited, 1e-6)), "contrast_class": [None] * n,
            }  # fmt: skip
            _extend(rows, own, n)
        joint = rng.normal(_EFFECT[scorer], 0.05, n)
        own = {
            "sample_id": images["sample_id"], "scorer": scorer, "search": "greedy", "top_k": top_k, "joint": joint,
            "complete": joint / 10, "convergence_delta": 0 * joint,
        }  # fmt: skip
        _extend(scores, own, n)
    stamp = made | {"evaluation": {"factor": 2.0, "tokens": "scope"}}
    write_effects(run_dir, build_table(schema, rows), stamp)
    write_scores(run_dir, build_table(score_schema(), scores), stamp)


def _extend(columns: dict[str, list[Any]], rows: dict[str, Any], n: int) -> None:
    for name, values in columns.items():
        given = rows[name]
        values.extend(given if isinstance(given, list) else given.tolist() if hasattr(given, "tolist") else [given] * n)


def _write_evidence(
    run_dir: Path, ids: Sequence[str], paths: np.ndarray, n_most: int, made: dict[str, Any], rng: np.random.Generator
) -> None:
    """Five images of each kind for the most used neurons, boxes of a 4 × 4 grid, pictures of colour gradients."""
    n_top = min(5, len(ids))
    used = []
    for block in range(paths.shape[1]):
        neurons, times = np.unique(paths[:, block], return_counts=True)
        used += [(block, int(neuron)) for neuron in np.sort(neurons[np.argsort(-times, kind="stable")[:n_most]])]
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for block, neuron in used:
        for kind in ("image", "patch"):
            for rank, place in enumerate(rng.choice(len(ids), n_top, replace=False).tolist()):
                row, column = int(rng.integers(4)), int(rng.integers(4))
                name = str(ids[place])
                found: dict[str, Any] = {"block": block, "neuron": neuron, "kind": kind, "rank": rank}
                found |= {"sample_id": name, "activation": 3.0 - rank / 2, "patch_activation": 4.0 - rank / 2}
                found |= {"patch_token": 4 * row + column, "patch_row": row, "patch_column": column}
                found |= {"left": column / 4, "top": row / 4, "right": (column + 1) / 4, "bottom": (row + 1) / 4}
                if name not in seen:
                    found |= {"thumbnail": picture_of(place), "maps": _maps(paths[place], place)}
                    found |= {"edges": _edges(paths[place], place)} if place % 2 == 0 else {}
                rows.append(found)
                seen.add(name)
    table = pa.Table.from_pylist(rows, schema=evidence_schema())
    write_evidence(run_dir, table, made | {"evidence": {"n_top": n_top, "patch_grid": [4, 4]}})


def _maps(path: np.ndarray, number: int) -> list[dict[str, Any]]:
    """Of the neurons of a path, (L, k): each patch a step more than the one before, from the lowest byte on."""
    values = bytes([*range(1, 255, 17), 255])
    found = [{"block": block, "neuron": int(neuron)} for block, own in enumerate(path) for neuron in np.unique(own)]
    return [one | {"largest": 1.0 + number, "values": values} for one in found]


def _edges(path: np.ndarray, number: int) -> dict[str, Any]:
    """From the first neuron of each block of a path, (L, k), to that of the next: every other one lowers the target."""
    firsts = [int(own[0]) for own in path]
    strongest = [
        dict(zip(EDGE, (block, neuron, block + 1, later, (-1) ** block * (1.0 + number) / 2**block), strict=True))
        for block, (neuron, later) in enumerate(itertools.pairwise(firsts))
    ]
    return {"n": 50, "magnitude": 2.5 * (1.0 + number), "strongest": strongest}


def picture_of(number: int, side: int = 48) -> bytes:
    """A PNG of a gradient with some noise, whose hue tells the number."""
    rng = np.random.default_rng(number)
    up, right = np.mgrid[0:side, 0:side] / side
    hue = rng.random(3)
    pixels = np.clip(
        0.5 * hue + 0.4 * np.stack([up, right, 1 - up], axis=2) + rng.normal(0, 0.04, (side, side, 3)), 0, 1
    )
    file = io.BytesIO()
    Image.fromarray((255 * pixels).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
