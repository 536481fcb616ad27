"""All methods, all measures, one table: gather run directories and compare their methods on the same images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.evaluation.agreement import (
    check_agreement,
    check_quantity,
    drop_copies,
    drop_unlike,
    share_images,
    unlike,
)
from neuron_path.evaluation.contrasts import Records, Settings, contrast, contrast_classes, order_methods
from neuron_path.evaluation.discovery import Missing, find_runs
from neuron_path.evaluation.methods import Method, read_methods

_HASH = 8


@dataclass(frozen=True)
class Comparison:
    """Methods side by side.

    Attributes:
        cells: one row per model, scorer, search, top_k and column of the table: ``mean`` with ``low``, ``high`` and
            ``n``; ``difference`` to the reference with its interval; the corrected p-values ``p_reference`` and
            ``p_NULL`` for every null (NaN against itself); ``best``, whether it is better than each other method of
            its model and top_k. A column is an ``operation``, its ``tokens`` and a ``measure`` with ``unit`` and the
            ``better`` direction.
        tests: one row per model, column and pair of methods of the same top_k: the mean ``difference`` of ``scorer``
            − ``other_scorer`` with its interval, ``p`` as it is, ``p_planned`` (corrected over the tests against the
            reference and the nulls; NaN for others) and ``p_all_pairs`` (corrected over all pairs).
        classes: the means of ``cells`` class by class.
        runs: the directories that were read, with their provenance.
        missing: directories without results.
        notes: what a reader must know of the comparison.
        settings: how it was made.
        quantity: what the effects are told as changes of; see :mod:`neuron_path.evaluation.quantity`.
    """

    cells: pd.DataFrame
    tests: pd.DataFrame
    classes: pd.DataFrame
    runs: list[dict[str, Any]] = field(repr=False)
    missing: list[Missing]
    notes: list[str]
    settings: Settings
    quantity: str = "probability"


def compare(
    run_dirs: Sequence[str | os.PathLike[str]],
    reference: str = "joint_attribution",
    nulls: Sequence[str] = ("random", "activation_matched_random"),
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 9999,
    n_permutations: int = 19_999,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare the methods of all runs among and below ``run_dirs``, model by model.

    Runs of one model (name and weights) must agree in data, preprocessing, classes, target function, target class,
    token scope and evaluation. Where they hold different images, they are compared on those that all hold. A method
    that several runs hold is taken once. The same runs, in whatever order, give the same digits. Runs of all models
    have one target function: a probability and a logit have no common unit.

    Args:
        run_dirs: run directories or folders above them, such as a sweep's.
        reference: the scorer that every other method is tested against.
        nulls: scorers that make paths by chance; those that no run holds are passed over.
        confidence: of the intervals, in (0, 1).
        n_bootstrap: redrawn samples for each interval.
        n_permutations: random choices of signs of each paired test.
        alpha: corrected p-value below which a method counts as better than another.
        seed: of the draws.

    Returns:
        The comparison. :mod:`neuron_path.evaluation.contrasts` says which tests are corrected together.

    Raises:
        NeuronPathError: for runs that do not agree, a method with two different results, a reference that no run
            holds, a directory without runs, or no evaluated run at all.
    """
    settings = Settings(reference, tuple(nulls), confidence, n_bootstrap, n_permutations, alpha, seed)
    found, missing = find_runs(run_dirs)
    methods: list[Method] = []
    notes: list[str] = []
    for run_dir in found:
        try:
            read, remarks = read_methods(run_dir)
        except NeuronPathError as error:  # torn or foreign: of a sweep, the other runs are not lost by it
            missing.append(Missing(str(run_dir), str(error)))
            continue
        methods += read
        notes += remarks
    if not methods:
        lacks = "; ".join(f"{run.run_dir}: {run.reason.rstrip('.')}" for run in missing[:3])
        raise NeuronPathError(f"None of {len(missing)} run directories can be compared ({lacks}).")
    scorers = {method.scorer for method in methods}
    if reference not in scorers:
        example = min(scorers - set(nulls) or scorers)
        raise NeuronPathError(
            f"{unknown_name('compared scorer', reference, scorers)} Name the one that others are tested against, as "
            f"--reference={example} (reference='{example}' in Python)."
        )
    cells: Records = []
    tests: Records = []
    classes: Records = []
    groups = _by_model(methods)
    for model, own in groups.items():
        check_agreement(model, own)
    quantity = check_quantity([method for own in groups.values() for method in own])
    for model, own in groups.items():
        kept, left_out = drop_unlike(drop_copies(own))
        shared, remarks = share_images(model, kept)
        notes += [*remarks, *(f"{model}: {note}" for note in [*left_out, *unlike(shared)])]
        rows = order_methods(shared, settings)
        name = {"model": model, "weight_hash": rows[0].provenance.get("weight_hash")}
        averaged, tested = contrast(rows, settings)
        cells += [name | record for record in averaged]
        tests += [name | record for record in tested]
        classes += [name | record for record in contrast_classes(rows, settings)]
    return Comparison(
        cells=pd.DataFrame(cells),
        tests=pd.DataFrame(tests),
        classes=pd.DataFrame(classes),
        runs=_runs(methods),
        missing=missing,
        notes=notes,
        settings=settings,
        quantity=quantity,
    )


def _by_model(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Methods by the name of their model, with the beginning of the weights' hash where two share a name."""
    keys = {
        id(method): (str(method.provenance.get("model")), str(method.provenance.get("weight_hash")))
        for method in methods
    }
    names: dict[str, set[str]] = {}
    for name, weights in keys.values():
        names.setdefault(name, set()).add(weights)
    groups: dict[str, list[Method]] = {}
    for method in sorted(methods, key=lambda method: (keys[id(method)], method.run_dir)):
        name, weights = keys[id(method)]
        shown = name if len(names[name]) == 1 else f"{name} (weights {weights[:_HASH]})"
        groups.setdefault(shown, []).append(method)
    return groups


def _runs(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Each directory once, with the methods that it holds and what made them."""
    runs: dict[str, dict[str, Any]] = {}
    for method in methods:
        run = runs.setdefault(
            method.run_dir, {"run_dir": method.run_dir, "methods": [], "provenance": method.provenance}
        )
        scorer, search, top_k = method.key
        run["methods"].append({"scorer": scorer, "search": search, "top_k": top_k, "n_images": len(method.images)})
    return [runs[run_dir] for run_dir in sorted(runs)]
