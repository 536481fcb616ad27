"""The report stage: examples drawn with the model, then figures and `report.html` from what a run stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuron_path.lightning.datamodule import NamedDataset
from neuron_path.report.figures import image_path_figure
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.run_page.gallery import Entry, keep_figure, list_figures
from neuron_path.report.run_page.page import write_report
from neuron_path.search.finder import PathFinder
from neuron_path.store.reader import load_paths

N_EXAMPLES = 3


def report_stage(run_dir: Path, dataset: NamedDataset, finder: PathFinder) -> Path:
    """Draw examples, then all other figures, and write the page; returns the page.

    Args:
        run_dir: with the numbers of the search and of the evaluation.
        dataset: the run's images.
        finder: of the run.
    """
    paths = load_paths(run_dir)
    provenance = paths.attrs["provenance"]
    own = paths.loc[paths["scorer"] == provenance["scorer"]].reset_index(drop=True)
    list_figures(run_dir, list(_examples(run_dir, own, provenance, dataset, finder)))
    return write_report(run_dir)


def _examples(
    run_dir: Path, own: pd.DataFrame, provenance: Mapping[str, Any], dataset: NamedDataset, finder: PathFinder
) -> Iterator[Entry]:
    """A few images with their paths, before the scores of all candidates."""
    with_candidates = PathFinder(
        finder.session, finder.method, finder.settings, keep_candidates=True, lender=finder.lender
    )
    place = {name: index for index, name in enumerate(dataset.sample_ids)}
    units = provenance.get("units", "ffn")
    rows = np.unique(np.linspace(0, len(own) - 1, N_EXAMPLES).astype(int))
    for number, row in enumerate(own.iloc[index] for index in rows):
        image = dataset[place[row["sample_id"]]]["image"]
        target, name = int(row["target"]), row["sample_id"]
        [again] = with_candidates.find(image.unsqueeze(0), [target], [name], progress=False)
        assert again.candidate_scores is not None
        scores = again.candidate_scores[0].cpu().numpy()
        figure = image_path_figure(
            picture(image.numpy(), provenance["preprocessing"]),
            row["path"],
            n_neurons=provenance["n_neurons"],
            candidate_scores=scores,
            margins=row["margins"],
            label=None if row["label"] is pd.NA else int(row["label"]),
            target=int(row["target"]),
            prediction=int(row["prediction"]),
            target_probability=float(row["target_probability"]),
            score=float(row["score"]),
            sample_id=row["sample_id"],
            class_names=provenance["classes"] or None,
            units=units,
        )
        caption = f"{unit_of(units).capitalize()} path of {row['sample_id']}, before the scores of all candidates"
        yield keep_figure(run_dir, f"path_{number}", figure, caption, _table(scores, row["path"]))


def _table(scores: np.ndarray, path: np.ndarray) -> pd.DataFrame:
    """The (L, F) scores of all candidates as rows, and which of them are on the path; blocks may differ in width."""
    blocks, neurons = np.nonzero(np.isfinite(scores))
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, path.reshape(len(path), -1), True, axis=1)
    columns = {"block": blocks, "neuron": neurons, "score": scores[blocks, neurons]}
    return pd.DataFrame(columns | {"on_path": chosen[blocks, neurons]})


def picture(image: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Undo the normalisation: a (c, H, W) input as an (H, W) or (H, W, 3) picture in [0, 1], of its first bands."""
    mean, std = (np.reshape(preprocessing[name], (-1, 1, 1)) for name in ("mean", "std"))
    pixels = np.clip(image * std + mean, 0, 1)
    return pixels[0] if len(pixels) < 3 else pixels[:3].transpose(1, 2, 0)
