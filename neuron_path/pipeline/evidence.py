"""The evidence of a search: what the neurons on its paths answer to, into `evidence.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from neuron_path.evidence.choice import choose_neurons
from neuron_path.evidence.strongest import Strongest
from neuron_path.evidence.thumbnails import thumbnail
from neuron_path.pipeline.build import Study
from neuron_path.pipeline.report import picture
from neuron_path.progress import progress_bar
from neuron_path.store.evidence import evidence_schema, write_evidence
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import build_table

N_TOP: Final = 5
"""Images and patches kept for each neuron."""
N_NEURONS: Final = 200
"""Neurons of a block at most; of more on paths, the most used."""


def evidence_stage(study: Study, run_dir: Path) -> Path:
    """Find what activates the neurons on the paths stored in `run_dir` most; returns the file.

    One clean pass over the images that have a path, on the model's device: little beside the search.
    """
    paths = load_paths(run_dir)
    methods = [np.stack(rows["path"].tolist()) for _, rows in paths.groupby(["scorer", "search"], sort=False)]
    neurons, left_out = choose_neurons([own.reshape(*own.shape[:2], -1) for own in methods], N_NEURONS)
    names = set(paths["sample_id"])
    strongest = Strongest(study.session, neurons, sorted(names), N_TOP)
    with progress_bar() as bar:
        task = bar.add_task("Evidence", total=len(study.data.dataset))
        for batch in study.data.predict_dataloader():
            kept = [place for place, name in enumerate(batch.sample_ids) if name in names]
            if kept:
                strongest.update(batch.images[kept], [batch.sample_ids[place] for place in kept])
            bar.advance(task, len(batch) + len(batch.problems))
    columns = strongest.columns()
    columns["thumbnail"] = _thumbnails(study, columns["sample_id"])
    evidence = {
        "n_top": N_TOP,
        "n_neurons": [len(part) for part in neurons],
        "left_out": left_out,
        "patch_grid": None if strongest.grid is None else list(strongest.grid),
    }
    table = build_table(evidence_schema(), columns)
    return write_evidence(run_dir, table, paths.attrs["provenance"] | {"evidence": evidence})


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
