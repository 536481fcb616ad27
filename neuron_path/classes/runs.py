"""The class statistics of every method of several runs, on the images that all have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.classes.analysis import ClassAnalysis, analyze_classes, describe, why_not_compared
from neuron_path.classes.class_paths import ClassPaths, Source
from neuron_path.classes.distances import read_distances
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.methods import compare_methods
from neuron_path.classes.usage import Usage, concentration, count_usage
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.evaluation.discovery import Missing, find_runs
from neuron_path.stats.mantel import Mantel, mantel
from neuron_path.store.layout import PATHS_FILE
from neuron_path.store.reader import load_paths

_METHOD: Final = ["scorer", "search", "top_k"]
_HASH: Final = 8


@dataclass(frozen=True)
class Settings:
    """How runs are analysed.

    Attributes:
        by: what classes are; ``auto``: labels where every image of every run has one, else targets.
        scorer: the only scorer to analyse, or None for all.
        distances: a file of semantic distances between classes or ``wordnet``, see
            :func:`~neuron_path.classes.distances.read_distances`, or None.
        n_permutations: shuffles of the overlap test and of the Mantel test of meaning.
        n_splits: random halves of the stability.
        confidence: of intervals and ranges.
        max_images: images that are clustered one by one.
        seed: of all draws.
    """

    by: Literal["auto", "label", "target"] = "auto"
    scorer: str | None = None
    distances: str | None = None
    n_permutations: int = 999
    n_splits: int = 100
    confidence: float = 0.95
    max_images: int = 4000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class MethodAnalysis:
    """One method of one run.

    Attributes:
        name: what tells it apart from the others, for readers.
        run_dir: where it is stored.
        model: its model's name.
        model_key: name and weights.
        class_names: names by index; empty where there are none.
        paths: in classes.
        usage: how often each class uses each neuron.
        found: all statistics; None where the classes cannot be compared.
        meaning: Mantel test of class similarity against the semantic distance, where one was given; a negative r says
            that classes of like meaning use like neurons.
        provenance: of the run.
    """

    name: str
    run_dir: str
    model: str
    model_key: str
    class_names: Sequence[str]
    paths: ClassPaths
    usage: Usage
    found: ClassAnalysis | None
    meaning: Mantel | None
    provenance: dict[str, Any] = field(repr=False)

    @property
    def key(self) -> dict[str, Any]:
        """What names the method in a table."""
        return {
            "method": self.name,
            "model": self.model,
            "scorer": self.paths.scorer,
            "search": self.paths.search,
            "top_k": self.paths.top_k,
        }

    def summary(self, seed: int) -> dict[str, Any]:
        """Return the headline numbers, as :meth:`ClassAnalysis.summary`, or those of them that need no comparison."""
        if self.found is not None:
            return self.found.summary()
        return describe(self.paths, concentration(self.usage), seed)


@dataclass(frozen=True, eq=False)
class RunsAnalysis:
    """What the paths of several runs say about classes.

    Attributes:
        methods: each method of each run.
        pairs: every two methods compared, see :func:`~neuron_path.classes.methods.compare_methods`.
        distances: where the semantic distances are from; empty where none were given.
        notes: what a reader must know.
        missing: directories without paths.
        settings: how it was made.
    """

    methods: list[MethodAnalysis]
    pairs: pd.DataFrame
    distances: str
    notes: list[str]
    missing: list[Missing]
    settings: Settings


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one method in one run."""

    run_dir: str
    provenance: dict[str, Any]
    rows: pd.DataFrame

    @property
    def key(self) -> tuple[str, str, int]:
        first = self.rows.iloc[0]
        return str(first["scorer"]), str(first["search"]), int(first["top_k"])


def analyze_runs(run_dirs: Sequence[str | os.PathLike[str]], settings: Settings | None = None) -> RunsAnalysis:
    """Analyse every method of all runs among and below ``run_dirs``.

    Several methods or models are analysed on the images that all of them have, so that their numbers can be compared.
    Images of one class only are counted, with a note, and no classes are compared.

    Args:
        run_dirs: run directories or folders above them, such as a sweep's.
        settings: how.

    Raises:
        NeuronPathError: for a directory without paths, a scorer that no run has, methods that share no image, runs
            whose classes of the same image differ, and whatever :func:`analyze_classes` and :func:`read_distances`
            refuse.
    """
    settings = settings or Settings()
    methods, missing = _read(run_dirs, settings.scorer)
    methods, notes = _share_images(methods)
    source = _source(methods, settings.by)
    names = _names(methods)
    grouped = [_group(method, source) for method in methods]
    _check_classes(methods, grouped)
    reason = why_not_compared(grouped[0])  # the same for all: they have the same images, in the same classes
    if reason:
        notes = [*notes, f"{reason}: classes are not compared. Search images of several classes, a few of each."]
    analysed = []
    source = ""
    for method, name, paths in zip(methods, names, grouped, strict=True):
        found = (
            None
            if reason
            else analyze_classes(
                paths,
                n_permutations=settings.n_permutations,
                n_splits=settings.n_splits,
                confidence=settings.confidence,
                max_images=settings.max_images,
                seed=settings.seed,
            )
        )
        model, weights = _model(method)
        class_names = method.provenance.get("classes") or []
        meaning = None
        if settings.distances is not None:  # read also where nothing is compared: a mistake in it is told
            distances = read_distances(settings.distances, paths.classes.tolist(), class_names)
            if found is not None:
                source = distances.source
                meaning = mantel(
                    found.similarity, distances.values, n_permutations=settings.n_permutations, seed=settings.seed
                )
        key = f"{model} {weights}"
        usage = count_usage(paths) if found is None else found.usage
        analysed.append(
            MethodAnalysis(
                name, method.run_dir, model, key, class_names, paths, usage, found, meaning, method.provenance
            )
        )
    pairs = compare_methods([(one.name, one.model_key, one.paths) for one in analysed], seed=settings.seed)
    return RunsAnalysis(analysed, pairs, source, notes, missing, settings)


def _read(run_dirs: Sequence[str | os.PathLike[str]], scorer: str | None) -> tuple[list[_Rows], list[Missing]]:
    evaluated, others = find_runs(run_dirs)
    directories = sorted([*evaluated, *(Path(run.run_dir) for run in others)])
    with_paths = [path for path in directories if (path / PATHS_FILE).exists()]
    missing = [run for run in others if not (Path(run.run_dir) / PATHS_FILE).exists()]
    missing += [Missing(str(path), f"no {PATHS_FILE}") for path in evaluated if path not in with_paths]
    if not with_paths:
        lacks = "; ".join(f"{run.run_dir}: {run.reason.rstrip('.')}" for run in missing[:3])
        raise NeuronPathError(f"None of {len(missing)} run directories holds paths ({lacks}).")
    methods = []
    for path in with_paths:
        frame = load_paths(path)
        methods += [_Rows(str(path), frame.attrs["provenance"], rows) for _, rows in frame.groupby(_METHOD, sort=False)]
    if scorer is not None:
        known = {method.key[0] for method in methods}
        if scorer not in known:
            raise unknown_name("scorer of these runs", scorer, known)
        methods = [method for method in methods if method.key[0] == scorer]
    return methods, missing


def _share_images(methods: Sequence[_Rows]) -> tuple[list[_Rows], list[str]]:
    """The methods on the images that all have."""
    sets = [set(method.rows["sample_id"]) for method in methods]
    common = set.intersection(*sets)
    if not common:
        raise NeuronPathError("The methods share no image; analyse runs on the same images together.")
    largest = max(map(len, sets))
    if len(common) == largest:
        return list(methods), []
    kept = [
        _Rows(method.run_dir, method.provenance, method.rows.loc[method.rows["sample_id"].isin(sorted(common))])
        for method in methods
    ]
    return kept, [f"Only the {len(common)} images that all methods have are analysed; some have {largest}."]


def _source(methods: Sequence[_Rows], by: str) -> Literal["label", "target"] | str:
    """What classes are, the same for all."""
    if by != "auto":
        return by
    return "label" if all(not np.any(pd.isna(method.rows["label"].to_numpy())) for method in methods) else "target"


def _group(method: _Rows, source: Source | str) -> ClassPaths:
    n_neurons = method.provenance.get("n_neurons")
    return group_paths(method.rows, by=source, n_neurons=n_neurons)  # pyright: ignore[reportArgumentType]


def _check_classes(methods: Sequence[_Rows], grouped: Sequence[ClassPaths]) -> None:
    """An image must have one class, whatever the method."""
    first = grouped[0]
    has_labels = first.source == "target" and _source(methods, "auto") == "label"
    classes = _by_name(first)
    for method, paths in zip(methods[1:], grouped[1:], strict=True):
        others = _by_name(paths)
        if (differing := np.flatnonzero(classes != others)).size:
            place = int(differing[0])
            raise NeuronPathError(
                f"The {first.source} of image '{np.sort(first.images)[place]}' is {classes[place]} in "
                f"{methods[0].run_dir!r} and {others[place]} in {method.run_dir!r}; analyse each run by itself"
                + (", or all by label: --by=label (by='label' in Python)." if has_labels else ".")
            )


def _by_name(paths: ClassPaths) -> NDArray[np.int64]:
    """The class of each image, by the images' names."""
    return paths.classes[paths.members][np.argsort(paths.images)]


def _model(method: _Rows) -> tuple[str, str]:
    return str(method.provenance.get("model")), str(method.provenance.get("weight_hash"))


def _names(methods: Sequence[_Rows]) -> list[str]:
    """A name for each method, of no more than what tells it apart."""
    parts = []
    several = [len({values[place] for values in (method.key for method in methods)}) > 1 for place in range(3)]
    models = {_model(method) for method in methods}
    shown_weights = len({name for name, _ in models}) < len(models)
    for method in methods:
        scorer, search, top_k = method.key
        model, weights = _model(method)
        words = scorer.replace("_", " ")
        details = [search.replace("_", " ")] * several[1] + [f"k = {top_k}"] * several[2]
        if details:
            words += f" ({', '.join(details)})"
        if len(models) > 1:
            words = f"{model}{f' ({weights[:_HASH]})' if shown_weights else ''}: {words}"
        parts.append(words)
    doubled = {name for name in parts if parts.count(name) > 1}
    return [
        f"{name} in {method.run_dir}" if name in doubled else name for name, method in zip(parts, methods, strict=True)
    ]
