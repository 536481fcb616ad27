"""The evidence of a search: what the neurons on its paths answer to, into `evidence.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from neuron_path.evidence.choice import choose_neurons
from neuron_path.evidence.edges import strongest_edges
from neuron_path.evidence.maps import activation_maps
from neuron_path.evidence.strongest import exact_grid, rank_candidates
from neuron_path.evidence.thumbnails import thumbnail
from neuron_path.lightning.evidence import Evidence
from neuron_path.pipeline.gather import gather, is_made
from neuron_path.pipeline.launch.workers import Crew
from neuron_path.pipeline.lending import reader
from neuron_path.pipeline.report import picture
from neuron_path.pipeline.work import Study, Work
from neuron_path.store.checksums import sha256
from neuron_path.store.evidence import EVIDENCE_FILE, evidence_schema, write_evidence
from neuron_path.store.layout import EVIDENCE, PATHS_FILE
from neuron_path.store.merge import remove_parts
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import build_table

T = TypeVar("T")

N_TOP: Final = 5
"""Images and patches kept for each neuron."""
N_NEURONS: Final = 200
"""Neurons of a block at most; of more on paths, the most used."""
MAP_BYTES: Final = 750_000
"""What the maps of activations may take, a byte for each patch; so many images have some."""
EDGE_PASSES: Final = 576
"""Backward passes that edges may take, one for each neuron on an image's path; so many images have some."""


def evidence_of(work: Work, run_dir: Path, given: Mapping[str, Any]) -> Evidence:
    """Evidence as a stage: of the neurons on the paths stored in `run_dir`."""
    paths = load_paths(run_dir)
    return _evidence(work, paths, _neurons(paths)[0], given)


def evidence_stage(work: Work, run_dir: Path, crew: Crew) -> None:
    """Find what activates the neurons on the paths stored in `run_dir` most.

    One clean pass over the images that have a path: little beside the search. What was looked at before a run was
    stopped is not looked at again.

    Raises:
        NeuronPathError: an image that cannot be read any more.
        Terminated: the program was asked to end, and every finished batch is stored.
    """
    paths, dataset = load_paths(run_dir), work.study.data.dataset
    neurons, left_out = _neurons(paths)
    identity = {"paths": sha256(run_dir / PATHS_FILE), "n_top": N_TOP, "n_neurons": N_NEURONS}
    stage = _evidence(work, paths, neurons, {"provenance": {"identity": identity}})
    pictures = getattr(dataset, "pictures", {})
    first: dict[str, str] = {}  # of each picture the first row: it is looked at once
    for name in dict.fromkeys(paths["sample_id"]):
        first.setdefault(pictures.get(name, name), name)
    names = list(first.values())
    is_done = is_made(run_dir / EVIDENCE_FILE, "evidence", identity)
    rows, _ = gather(stage, [(name,) for name in names], dataset.sample_ids, run_dir, crew, is_done=is_done)
    if rows is None:
        return
    work.study.session.model.to(crew.device)
    grid = exact_grid(work.study.session, reader(dataset)(names[:1]))
    columns = rank_candidates(_candidates(rows), N_TOP, grid)
    columns["thumbnail"] = _thumbnails(work.study, columns["sample_id"])
    columns["maps"] = _maps(work.study, paths, columns["sample_id"], grid)
    columns["edges"] = _edges(work, paths, columns["sample_id"])
    evidence = {
        "n_top": N_TOP,
        "n_neurons": [len(part) for part in neurons],
        "left_out": left_out,
        "patch_grid": None if grid is None else list(grid),
        "identity": identity,
    }
    table = build_table(evidence_schema(), columns)
    write_evidence(run_dir, table, paths.attrs["provenance"] | {"evidence": evidence})
    remove_parts(run_dir, EVIDENCE)


def _evidence(work: Work, paths: pd.DataFrame, neurons: list[NDArray[np.int64]], given: Mapping[str, Any]) -> Evidence:
    return Evidence(work.study.session, neurons, sorted(set(paths["sample_id"])), N_TOP, given)


def _neurons(paths: pd.DataFrame) -> tuple[list[NDArray[np.int64]], list[int]]:
    """The neurons to look at, block by block, and how many are left out."""
    methods = [np.stack(rows["path"].tolist()) for _, rows in paths.groupby(["scorer", "search"], sort=False)]
    return choose_neurons([own.reshape(*own.shape[:2], -1) for own in methods], N_NEURONS)


def _candidates(rows: pa.Table) -> dict[str, NDArray[Any]]:
    """The candidates of all images as columns."""
    lists = rows["candidates"].combine_chunks()
    columns = pa.Table.from_struct_array(lists.flatten()).to_pandas()
    columns["patch_token"] = columns["patch_token"].fillna(-1).astype(int)
    names = rows["sample_id"].to_numpy(zero_copy_only=False).astype(str)
    repeated = np.repeat(names, lists.value_lengths().to_numpy())
    return {name: columns[name].to_numpy() for name in columns} | {"sample_id": repeated}


def _thumbnails(study: Study, sample_ids: list[str]) -> list[bytes | None]:
    """Each image's picture in its first row."""
    dataset = study.data.dataset
    places = {name: place for place, name in enumerate(dataset.sample_ids)}
    seen: set[str] = set()
    made: list[bytes | None] = []
    for name in sample_ids:
        is_first = name not in seen
        seen.add(name)
        pixels = dataset[places[name]]["image"].numpy() if is_first else None
        made.append(None if pixels is None else thumbnail(picture(pixels, dataset.preprocessing)))
    return made


def _maps(
    study: Study, paths: pd.DataFrame, sample_ids: list[str], grid: tuple[int, int] | None
) -> list[list[dict[str, Any]] | None]:
    """Where the neurons on an image's own paths are active in it, in the image's first row: of as many of the images
    as may be, spread evenly over the run."""
    if grid is None:
        return [None] * len(sample_ids)
    known = set(sample_ids)
    own = {
        str(name): np.stack(rows.tolist(), axis=1).reshape(len(rows.iloc[0]), -1)
        for name, rows in paths.groupby("sample_id", sort=False)["path"]
        if name in known
    }
    size = grid[0] * grid[1] * max(each.size for each in own.values())

    def find(names: list[str]) -> list[list[dict[str, Any]]]:
        neurons = [[np.unique(of_block).astype(np.int64) for of_block in own[name]] for name in names]
        return activation_maps(study.session, reader(study.data.dataset)(names), neurons)

    return _in_first_rows(sample_ids, [*own], MAP_BYTES // size, find)


def _edges(work: Work, paths: pd.DataFrame, sample_ids: list[str]) -> list[dict[str, Any] | None]:
    """How the neurons of an image's path by the run's own method act on each other, in the image's first row: of as
    many of the images as may be, spread evenly over the run."""
    is_own = (paths["scorer"] == work.finder.method.scorer.name) & paths["sample_id"].isin(sample_ids)
    own = paths.loc[is_own].set_index("sample_id")

    def find(names: list[str]) -> list[dict[str, Any]]:
        rows = own.loc[names]
        slots = np.stack(rows["path"].tolist()).astype(np.int64)
        targets = torch.from_numpy(rows["target"].to_numpy(dtype=np.int64))
        images = reader(work.study.data.dataset)(names)
        whole = torch.from_numpy(slots.reshape(*slots.shape[:2], -1))
        return strongest_edges(work.study.session, images, whole, targets, work.finder.settings.target)

    return _in_first_rows(sample_ids, own.index.tolist(), EDGE_PASSES // np.size(own["path"].iloc[0]), find)


def _in_first_rows(
    sample_ids: list[str], names: list[str], most: int, find: Callable[[list[str]], list[T]]
) -> list[T | None]:
    """What is found of `most` of the named images, spread evenly over these: a row each, all but the first None."""
    made: list[T | None] = [None] * len(sample_ids)
    chosen = [names[place] for place in np.linspace(0, len(names) - 1, min(len(names), most)).astype(int)]
    for name, of_image in zip(chosen, find(chosen) if chosen else [], strict=True):
        made[sample_ids.index(name)] = of_image
    return made
