"""Check a finished run against its own record: files, tables, rows, model, data, and some paths found again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_path.config import Config, FileHeadConfig, FittedHeadConfig, PicturesConfig, stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch, collate
from neuron_path.lightning.search import path_rows
from neuron_path.pipeline.build import build_trainer, build_work
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.records.identity import identity_of
from neuron_path.pipeline.records.sameness import compare_paths
from neuron_path.pipeline.search import weights_of
from neuron_path.pipeline.work import Work
from neuron_path.store.checksums import changed_files, stored_files
from neuron_path.store.identity import differences
from neuron_path.store.layout import (
    CHECKSUMS_FILE,
    EFFECTS_FILE,
    METRICS_FILE,
    PATHS_FILE,
    RUN_FILE,
    SKIPPED_FILE,
)
from neuron_path.store.reader import load_effects, load_paths, load_scores, read_json
from neuron_path.store.schema import KEY_COLUMNS
from neuron_path.store.skipped import read_skipped

SAMPLE = 8  # images searched again
_OF_MEASURES = ("evaluation", "evaluated")  # what only tables of measured numbers say of their making


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: what.
        finding: what was found.
        is_good: whether it is as it must be.
        cause: what was raised, where it is not.
    """

    name: str
    finding: str
    is_good: bool
    cause: Exception | None = None


class _Wrong(Exception):
    """A check that fails, in words."""


def verify(
    run_dir: Path, sample: int = SAMPLE, seed: int = 0, root: str | None = None, checkpoint: str | None = None
) -> Iterator[Check]:
    """Check one thing after another, and tell of each when it is done; where the record fails, the rest is not tried.

    Args:
        run_dir: a finished run.
        sample: how many images are searched again.
        seed: which ones.
        root, checkpoint: as of :func:`moved`.
    """
    tables: dict[str, pd.DataFrame] = {}
    record = _tried("record", lambda: _record(run_dir, tables))
    yield record
    if not record.is_good:
        return
    yield _tried("files", lambda: _files(run_dir))
    yield _tried("rows", lambda: _rows(run_dir, tables))
    opened: list[tuple[Config, Work]] = []
    source = _tried("source", lambda: _source(run_dir, tables["paths"], root, checkpoint, opened))
    yield source
    if source.is_good:
        yield _tried("paths", lambda: _found_again(*opened[0], tables["paths"], sample, seed))


def moved(config: Config, root: str | None = None, checkpoint: str | None = None) -> Config:
    """The configuration of a run whose data or weights lie elsewhere now.

    Args:
        config: the run's.
        root: where its data lies; None where it did.
        checkpoint: where its model's weights lie; None where they did.

    Raises:
        NeuronPathError: data that lies nowhere, or weights that come from no file.
    """
    if root is not None:
        if not isinstance(config.data, PicturesConfig):
            raise NeuronPathError(f"The run's data '{config.data.name}' has no root: leave out --root.")
        if isinstance(config.head, FittedHeadConfig) and config.head.root == config.data.root:
            config = replace(config, head=replace(config.head, root=root))
        config = replace(config, data=replace(config.data, root=root))
    if checkpoint is not None:
        model = config.model
        if model.checkpoint is None and not model.pretrained:
            raise NeuronPathError(f"The run's model '{model.name}' takes no checkpoint: leave out --checkpoint.")
        config = replace(config, model=replace(model, checkpoint=checkpoint))
    return config


def _tried(name: str, check: Callable[[], str]) -> Check:
    """Do a check. Whatever else goes wrong in it (memory runs out, a mistake of ours) says nothing of the run."""
    try:
        return Check(name, check(), True)
    except (_Wrong, NeuronPathError) as error:
        return Check(name, str(error), False, error)


@contextmanager
def _reading() -> Iterator[None]:
    """Reading what is stored fails as a check does where it stumbles over what no run has written."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _Wrong(f"{RUN_FILE} or a table is damaged ({reason}); --debug shows where it is read") from error


@_reading()
def _record(run_dir: Path, tables: dict[str, pd.DataFrame]) -> str:
    """Every table has its columns and says the same of its making as `run.json`."""
    made = read_json(run_dir / RUN_FILE)
    tables["paths"] = load_paths(run_dir)
    if (run_dir / EFFECTS_FILE).exists():
        tables["effects"], tables["scores"] = load_effects(run_dir), load_scores(run_dir)
    if not isinstance(made.get("identity"), dict):
        raise _Wrong(f"{RUN_FILE} does not say which search this is, as of an older version")
    for name, table in tables.items():
        theirs: dict[str, Any] = table.attrs["provenance"]
        keys = [key for key in made | theirs if name == "paths" or key not in _OF_MEASURES]
        if differing := [key for key in keys if not (key in made and key in theirs and made[key] == theirs[key])]:
            raise _Wrong(
                f"{name}.parquet was made by something else than {RUN_FILE} says: {', '.join(differing)} differ"
            )
    return f"{', '.join(f'{name}.parquet' for name in tables)} of the right columns, made as {RUN_FILE} says"


@_reading()
def _files(run_dir: Path) -> str:
    """Every file of the store is listed, and is as it was."""
    listed, changed = changed_files(run_dir)
    unlisted = [file.name for file in stored_files(run_dir) if file.name not in listed]
    wrong = {f"not listed in {CHECKSUMS_FILE}": unlisted, "changed since the run": changed}
    if problems := [f"{', '.join(names)} {what}" for what, names in wrong.items() if names]:
        raise _Wrong("; ".join(problems))
    return f"{len(listed)} files as they were written"


@_reading()
def _rows(run_dir: Path, tables: dict[str, pd.DataFrame]) -> str:
    """Each image once for each method, in every table."""
    paths, n_skipped = tables["paths"], len(read_skipped(run_dir))
    made: dict[str, Any] = paths.attrs["provenance"]
    methods = [made["scorer"], *made["baselines"]]
    counted = read_json(run_dir / METRICS_FILE).get("skipped_images")
    if counted != n_skipped:
        raise _Wrong(f"{METRICS_FILE} counts {counted!r} skipped images; expected {n_skipped}, as in {SKIPPED_FILE}")
    n_images = made["n_images"] - n_skipped
    expected = n_images * len(methods)
    n_named, n_doubled = paths["sample_id"].nunique(), int(paths.duplicated(["sample_id", "scorer"]).sum())
    if (len(paths), n_named, n_doubled) != (expected, n_images, 0) or set(paths["scorer"]) != set(methods):
        raise _Wrong(
            f"{len(paths)} paths of {n_named} images, {n_doubled} of them doubled; expected {expected} of {n_images}, "
            f"by {', '.join(methods)}"
        )
    for name in ("effects", "scores"):
        if name in tables:
            counts = _counts(tables[name])
            if counts.keys() != _counts(paths).keys() or len(set(counts.values())) != 1:
                raise _Wrong(f"{name}.parquet does not hold every path the same number of times")
    return f"{n_images} images, each once for each of {len(methods)} method(s)"


def _counts(table: pd.DataFrame) -> Counter[tuple[str, ...]]:
    """How often each image is there for each method."""
    return Counter(table[list(KEY_COLUMNS)].itertuples(index=False, name=None))


def _source(
    run_dir: Path,
    paths: pd.DataFrame,
    root: str | None,
    checkpoint: str | None,
    opened: list[tuple[Config, Work]],
) -> str:
    """The model and the data are those of then, and the paths are of the data's images."""
    with _reading():
        made = read_json(run_dir / RUN_FILE)
        config, baselines = moved(stored_config(made["config"]), root, checkpoint), made["baselines"]
        before, skipped = made["identity"] | {"weight_hash": made["weight_hash"]}, dict(read_skipped(run_dir))
    if isinstance(config.head, FittedHeadConfig):  # fitted then, not again
        config = replace(config, head=FileHeadConfig(path=str(run_dir / HEAD_FILE)))
    work = build_work(config, baselines)
    study, weights = work.study, weights_of(work.study)
    now = identity_of(config, work, weights) | {"weight_hash": weights}
    if changed := differences(before, now):
        raise _Wrong("; ".join(changed))
    expected = [name for name in study.data.dataset.sample_ids if name not in skipped]
    for found, name in zip_longest(dict.fromkeys(paths["sample_id"]), expected):
        if found != name:
            raise _Wrong(f"{PATHS_FILE} has {found or 'no image'} where the data has {name or 'none'}")
    opened.append((config, work))
    return "model, weights, images (names, labels, some contents) and preprocessing as they were"


def _found_again(config: Config, work: Work, paths: pd.DataFrame, sample: int, seed: int) -> str:
    """Some images have the paths that the table says."""
    if not sample:
        return "no image searched again, as asked"
    dataset, finder = work.study.data.dataset, work.finder
    names = list(dict.fromkeys(paths["sample_id"]))
    chosen = sorted(random.Random(seed).sample(names, min(sample, len(names))))
    places = {name: place for place, name in enumerate(dataset.sample_ids)}
    batch: Batch = collate([dataset[places[name]] for name in chosen])
    if batch.problems:
        raise _Wrong(f"{batch.problems[0][0]!r} cannot be read any more ({batch.problems[0][1]})")
    finder.session.model.to(build_trainer(config.trainer).strategy.root_device)
    expected = paths.loc[paths["sample_id"].isin(chosen)]
    targets = dict(zip(expected["sample_id"], expected["target"].tolist(), strict=True))
    found = finder.find(batch.images, [targets[name] for name in chosen], chosen, progress=False)
    again = path_rows(batch, finder, [result.cpu() for result in found]).to_pandas()
    sameness = compare_paths(expected, again)
    if not sameness.is_same:
        forced = "; some are of another search, which was continued by force"
        raise _Wrong(f"{sameness}{forced if paths.attrs['provenance'].get('forced') else ''}")
    return f"{len(chosen)} images searched again: {sameness}"
