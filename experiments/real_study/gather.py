"""Tables of a study, into small files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_bytes, write_json, write_text
from neuron_path.store.provenance import collect_provenance
from real_study import claims, tables
from real_study.evidence import evidence_table, jpeg
from real_study.results import Results
from real_study.store import Store


def gather(
    store: Store,
    folder: str | Path,
    sizes: Sequence[int],
    methods: Sequence[str],
    note: str | None = None,
    distances: str | None = None,
) -> None:
    """Write a CSV file for each table that there is something for, and study.json.

    Args:
        store: of the cells.
        folder: of the tables; the cells that they are made of are packed into its folder `cells`.
        sizes: that were wanted, neurons a block.
        methods: that were wanted.
        note: what readers should know of weights and photographs.
        distances: a file of semantic distances between the classes, as `neuron-path analyze` takes it.

    Raises:
        NeuronPathError: no study, or no image of it measured yet.
    """
    results = Results(store, methods)
    identity = results.identity
    chunks = results.common("effects", 1) or results.common("effects", min(sizes))
    if not chunks:
        raise NeuronPathError(f"'{store.folder}' holds no effect of any path yet: let it run for longer.")
    effects = tables.effects_table(results)
    curves, areas = tables.circuits_table(results)
    made = {
        "effects": effects,
        "scorers": tables.scorers_table(results, Results(store)),
        "scores": tables.scores_table(results),
        "claims": claims.claims_table(results, distances),
        "searches": claims.searches_table(results),
        "agreement": tables.agreement_table(results, effects),
        "selectivity": tables.selectivity_table(results),
        "transfer": tables.transfer_table(results),
        "curves": curves,
        "areas": areas,
        "tests": tables.tests_table(results),
        "truth": tables.truth_table(results),
        "stability": tables.stability_table(results),
        "classes": tables.classes_table(results),
        "meaning": tables.meaning_table(results, distances),
        "reasons": tables.reasons_table(results),
        "cost": tables.cost_table(results),
    }
    made["evidence"], sheet = evidence_table(results)
    if sheet is not None:
        write_bytes(Path(folder) / "evidence.jpg", jpeg(sheet))
    for name, table in made.items():
        if len(table):
            text = pd.DataFrame(table).to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_text(Path(folder) / f"{name}.csv", text)
        else:
            (Path(folder) / f"{name}.csv").unlink(missing_ok=True)
    store.pack(Path(folder) / "cells")
    about = {name: identity[name] for name in _KEPT}
    about |= {
        "n_classes": len(identity["classes"]),
        "n_planned": len(identity["images"]),
        "n_images": len(results.labels(chunks)),
        "accuracy": float(results.right(chunks).mean()),
        "sizes": list(sizes),
        "methods": list(methods),
        "note": note,
        "distances": None if distances is None else Path(distances).name,
        "cpu_hours": results.cpu_seconds / 3600,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": collect_provenance({})["versions"],
    }
    write_json(Path(folder) / "study.json", about)


_KEPT = (
    "n_train",
    "model",
    "weights",
    "image_size",
    "classes",
    "chunk",
    "seed",
    "n_steps",
    "references",
    "probe_accuracy",
    "n_blocks",
    "n_neurons",
    "scope",
)
