"""What runs must have in common before their methods are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.methods import UNLABELLED, Method
from neuron_path.evaluation.quantity import QUANTITIES

_TOP: Final = ("data", "folder", "classes", "preprocessing", "target", "token_scope", "evaluation")
_CONFIG: Final = ("target_class", "contrast_class", "data.split")
_FREE: Final = ("operations", "sizes", "curves", "batch_size", "micro_batch")
"""Options of the evaluation that change which numbers there are, or how fast, but no number."""
_TOLD: Final = {
    "quadrature": "Scores are integrals by these rules.",
    "n_steps": "Scores are integrals by these rules.",
    "seed": "Random paths and the donors of resample ablation depend on it.",
    "git": "They were made by other code.",
    "versions": "They were made with other libraries.",
}
_SHOWN: Final = 60
_CLOSE: Final = {"rtol": 1e-4, "atol": 1e-5}


def settings_of(method: Method) -> dict[str, Any]:
    """Return what a method must share with the others of its model, by the name of the setting.

    Nested settings have dotted names.
    """
    config = _flat(method.provenance.get("config") or {})
    found = {name: method.provenance.get(name) for name in _TOP} | {name: config.get(name) for name in _CONFIG}
    found["token_scope"] = method.token_scope
    found["units"] = method.provenance.get("units", "ffn")
    return {name: value for name, value in _flat(found).items() if not _is_free(name)}


def check_agreement(model: str, methods: Sequence[Method]) -> None:
    """Raise a NeuronPathError that shows the first setting in which two runs of a model differ."""
    for one, other in pairwise(methods):
        ours, theirs = settings_of(one), settings_of(other)
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise NeuronPathError(
                    f"Runs of {model} cannot be compared: {name} is {_show(ours.get(name))} in {one.run_dir!r} and "
                    f"{_show(theirs.get(name))} in {other.run_dir!r}. Compare runs that differ in their method only."
                )
    first: dict[tuple[int, str], Method] = {}
    for method in methods:
        for operation, sizes in method.sizes.items():
            before = first.setdefault((method.top_k, operation), method)
            if before.sizes[operation] != sizes:
                raise NeuronPathError(
                    f"Runs of {model} cannot be compared: the curve of {operation} has the sizes "
                    f"{list(before.sizes[operation])} in {before.run_dir!r} and {list(sizes)} in {method.run_dir!r}. "
                    "Evaluate both at the same sizes."
                )


def check_quantity(methods: Sequence[Method]) -> str:
    """Return what the effects of all methods, of whatever model, are changes of.

    Raises:
        NeuronPathError: of some runs they are changes of something else, which no table is to mix.
    """
    for one, other in pairwise(methods):
        if one.quantity != other.quantity:
            raise NeuronPathError(
                f"The effects in {one.run_dir!r} are changes of the target's {QUANTITIES[one.quantity].words}, those "
                f"in {other.run_dir!r} of its {QUANTITIES[other.quantity].words}, and a table holds one of them: "
                "compare runs of one target function (measure those of an earlier version again with neuron-path "
                "evaluate run_dir=DIR)."
            )
    return methods[0].quantity


def unlike(methods: Sequence[Method]) -> list[str]:
    """Say what else differs among the runs of a model, and may."""
    notes = []
    for name, why in _TOLD.items():
        found = {str(method.provenance.get(name)): method.run_dir for method in methods}
        if len(found) > 1:
            where = ", ".join(f"{value} in {run_dir}" for value, run_dir in sorted(found.items()))
            notes.append(f"{name} differs: {where}. {why}")
    return notes


def drop_copies(methods: Sequence[Method]) -> list[Method]:
    """Return each method once: of two runs with the same method and results, the first by name.

    Raises:
        NeuronPathError: for two runs of a method whose results differ, such as a null with two seeds.
    """
    kept: dict[tuple[str, str, int], Method] = {}
    for method in sorted(methods, key=lambda method: method.run_dir):
        before = kept.setdefault(method.key, method)
        if before is method:
            continue
        if difference := _difference(before, method):
            scorer, search, top_k = method.key
            raise NeuronPathError(
                f"{scorer} ({search}, top_k {top_k}) was run twice with different {difference}: in {before.run_dir!r} "
                f"and {method.run_dir!r}. Give only one of them."
            )
        if method.values.keys() - before.values.keys():
            kept[method.key] = replace(before, values=method.values | before.values, sizes=method.sizes | before.sizes)
    return list(kept.values())


def drop_unlike(methods: Sequence[Method]) -> tuple[list[Method], list[str]]:
    """Return the methods without the ablations whose replacements differ among them, and a line for each left out.

    What a mean-ablation puts in place depends on the reference images, what a resample-ablation does on the seed and on
    the whole data set: between runs that differ in these such effects cannot be compared image by image.
    """
    kinds = {
        "mean_ablation": (_reference, "the reference images of their means differ"),
        "resample_ablation": (
            _lenders,
            "their donors come from other images or another seed (scorer.seed draws other random paths alone)",
        ),
    }
    notes = []
    for operation, (depends_on, why) in kinds.items():
        having = [method for method in methods if any(column.operation == operation for column in method.values)]
        if len({depends_on(method) for method in having}) > 1:
            notes.append(f"{operation} is left out: {why}.")
            methods = [
                replace(
                    method,
                    values={column: rows for column, rows in method.values.items() if column.operation != operation},
                )
                for method in methods
            ]
    return list(methods), notes


def _reference(method: Method) -> str:
    return str(method.provenance.get("evaluated", {}).get("reference"))


def _lenders(method: Method) -> tuple[str, bytes]:
    return str(method.provenance.get("seed")), method.images.tobytes()


def share_images(model: str, methods: Sequence[Method]) -> tuple[list[Method], list[str]]:
    """Return the methods on the images that all of them have, and a line where that is not every image.

    Raises:
        NeuronPathError: when they share none, or the same image has another target or label in another run.
    """
    common = np.array(sorted(set.intersection(*(set(method.images.tolist()) for method in methods))), dtype=np.str_)
    if not len(common):
        raise NeuronPathError(f"The runs of {model} share no image; compare runs on the same data.")
    notes = []
    counts = {method.run_dir: len(method.images) for method in methods}
    if any(count != len(common) for count in counts.values()):
        found = ", ".join(f"{run_dir} has {count}" for run_dir, count in sorted(counts.items()))
        notes.append(f"{model} is compared on the {len(common)} images that all its runs share: {found}.")
    shared = [method.at(common) for method in methods]
    for one, other in pairwise(shared):
        for name in ("targets", "labels"):
            ours, theirs = getattr(one, name), getattr(other, name)
            known = (ours != UNLABELLED) & (theirs != UNLABELLED) if name == "labels" else np.full(len(ours), True)
            if (differing := (ours != theirs) & known).any():
                index = int(np.flatnonzero(differing)[0])
                raise NeuronPathError(
                    f"Runs of {model} cannot be compared: image {str(common[index])!r} has the {name[:-1]} "
                    f"{ours[index]} in {one.run_dir!r} and {theirs[index]} in {other.run_dir!r} (so do "
                    f"{int(differing.sum())} of {len(common)}). Compare runs on the same targets."
                )
    return shared, notes


def _difference(one: Method, other: Method) -> str:
    """What two runs of a method differ in; empty when their numbers are the same, to rounding."""
    if len(one.images) != len(other.images) or (one.images != other.images).any():
        return "images"
    if one.paths is not None and other.paths is not None and not np.array_equal(one.paths, other.paths):
        return "paths"
    for column in one.values.keys() & other.values.keys():
        if not np.allclose(one.values[column], other.values[column], equal_nan=True, **_CLOSE):
            return f"results ({' '.join(filter(None, (column.measure, column.operation)))})"
    return ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        found |= inner
    return found


def _is_free(name: str) -> bool:
    return name.startswith("evaluation.") and name.rpartition(".")[2] in _FREE


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
