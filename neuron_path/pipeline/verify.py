"""Check a finished run against its own record: files, tables, rows, model, data, and some paths found again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_path.config import Config, stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.callbacks import columns
from neuron_path.lightning.datamodule import Batch, collate
from neuron_path.lightning.module import MethodPaths
from neuron_path.pipeline.build import build_finders, build_trainer
from neuron_path.pipeline.identity import identity_of
from neuron_path.pipeline.sameness import compare_paths
from neuron_path.pipeline.search import weights_of
from neuron_path.pipeline.stored import StoredStudy, open_study
from neuron_path.search.finder import PathFinder, find_all
from neuron_path.store.checksums import changed_files
from neuron_path.store.identity import differences
from neuron_path.store.layout import EFFECTS_FILE, METRICS_FILE, RUN_FILE
from neuron_path.store.reader import load_effects, load_paths, load_scores, read_json
from neuron_path.store.schema import KEY_COLUMNS, build_table, path_schema

SAMPLE = 8  # images searched again


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: what.
        told: what was found.
        is_good: whether it is as it must be.
    """

    name: str
    told: str
    is_good: bool


class _Wrong(Exception):
    """A check that fails, in words."""


def verify(run_dir: Path, sample: int = SAMPLE, seed: int = 0) -> Iterator[Check]:
    """Check one thing after another, and tell of each when it is done; where the record fails, the rest is not tried.

    Args:
        run_dir: a finished run.
        sample: how many images are searched again.
        seed: which ones.
    """
    tables: dict[str, pd.DataFrame] = {}
    record = _tried("record", lambda: _record(run_dir, tables))
    yield record
    if not record.is_good:
        return
    yield _tried("files", lambda: _files(run_dir))
    yield _tried("rows", lambda: _rows(run_dir, tables))
    opened: list[tuple[StoredStudy, list[PathFinder]]] = []
    source = _tried("source", lambda: _source(run_dir, opened))
    yield source
    if source.is_good:
        yield _tried("paths", lambda: _found_again(*opened[0], tables["paths"], sample, seed))


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, check(), True)
    except (_Wrong, NeuronPathError) as error:
        return Check(name, str(error), False)


def _record(run_dir: Path, tables: dict[str, pd.DataFrame]) -> str:
    """Every table has its columns and says the same of its making as `run.json`."""
    made = read_json(run_dir / RUN_FILE)
    tables["paths"] = load_paths(run_dir)
    if (run_dir / EFFECTS_FILE).exists():
        tables["effects"], tables["scores"] = load_effects(run_dir), load_scores(run_dir)
    if not isinstance(made.get("identity"), dict):
        raise _Wrong(f"{RUN_FILE} does not say which search this is, as of an older version")
    for name, table in tables.items():
        theirs = table.attrs["provenance"]
        if told := [key for key in made if theirs.get(key) != made[key]]:
            raise _Wrong(f"{name}.parquet was made by something else than {RUN_FILE} says: {', '.join(told)} differ")
    return f"{', '.join(f'{name}.parquet' for name in tables)} of the right columns, made as {RUN_FILE} says"


def _files(run_dir: Path) -> str:
    listed, changed = changed_files(run_dir)
    if changed:
        raise _Wrong(f"{', '.join(changed)} changed since the run")
    return f"{len(listed)} files as they were written"


def _rows(run_dir: Path, tables: dict[str, pd.DataFrame]) -> str:
    """Each image once for each method, in every table."""
    paths, metrics = tables["paths"], read_json(run_dir / METRICS_FILE)
    made: dict[str, Any] = paths.attrs["provenance"]
    keys, methods = list(KEY_COLUMNS), [made["scorer"], *made["baselines"]]
    n_images = made["n_images"] - metrics.get("skipped_images", 0)
    expected = n_images * len(methods)
    n_doubled = int(paths.duplicated(keys).sum())
    if len(paths) != expected or n_doubled or set(paths["scorer"]) != set(methods):
        raise _Wrong(f"{len(paths)} paths, {n_doubled} of them doubled; expected {expected}")
    for name in ("effects", "scores"):
        if name in tables:
            counts = tables[name].groupby(keys).size()
            if len(counts) != expected or len(set(counts.tolist())) != 1:
                raise _Wrong(f"{name}.parquet does not hold every path the same number of times")
    return f"{n_images} images, each once for each of {len(methods)} method(s)"


def _source(run_dir: Path, opened: list[tuple[StoredStudy, list[PathFinder]]]) -> str:
    """The model and the data are those of then."""
    made = read_json(run_dir / RUN_FILE)
    config: Config = replace(stored_config(made["config"]), run_dir=str(run_dir))
    stored = open_study(config, ())
    finders = build_finders(stored.config, stored.study.session, made["baselines"])
    now = identity_of(stored.config, stored.study, finders, weights_of(stored.study))
    if told := differences(made["identity"], now):
        raise _Wrong("; ".join(told))
    opened.append((stored, finders))
    return "model, weights, data and preprocessing as they were"


def _found_again(stored: StoredStudy, finders: list[PathFinder], paths: pd.DataFrame, sample: int, seed: int) -> str:
    """Some images have the paths that the table says."""
    dataset, session = stored.study.data.dataset, stored.study.session
    names = list(dict.fromkeys(paths["sample_id"]))
    chosen = sorted(random.Random(seed).sample(names, min(sample, len(names))))
    places = {name: place for place, name in enumerate(dataset.sample_ids)}
    batch: Batch = collate([dataset[places[name]] for name in chosen])
    if batch.problems:
        raise _Wrong(f"{batch.problems[0][0]!r} cannot be read any more ({batch.problems[0][1]})")
    session.model.to(build_trainer(stored.config, []).strategy.root_device)
    expected = paths.loc[paths["sample_id"].isin(chosen)]
    targets = dict(zip(expected["sample_id"], expected["target"].tolist(), strict=True))
    found = find_all(finders, batch.images, [targets[name] for name in chosen], chosen, progress=False)
    schema = path_schema(stored.config.top_k)
    again = pd.concat(
        build_table(
            schema, columns(batch, MethodPaths(finder.scorer.name, finder.search.name, finder.top_k, result.cpu()))
        ).to_pandas()
        for finder, result in zip(finders, found, strict=True)
    )
    sameness = compare_paths(expected, again)
    if not sameness.is_same:
        raise _Wrong(str(sameness))
    return f"{len(chosen)} images searched again: {sameness}"
