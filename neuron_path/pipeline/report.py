"""The report stage: figures and `report.md` from what a run stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuron_path.lightning.datamodule import NamedDataset
from neuron_path.report.figures import class_distribution_figure, effects_figure, image_path_figure
from neuron_path.report.page import render_report
from neuron_path.report.style import save_figure
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_text
from neuron_path.store.reader import load_paths

REPORT_FILE = "report.md"
N_EXAMPLES = 3

Figures = list[tuple[str, Path]]


def report_stage(
    run_dir: Path,
    summary: pd.DataFrame,
    metrics: Mapping[str, Any],
    problems: Sequence[tuple[str, str]],
    dataset: NamedDataset,
    finder: PathFinder,
) -> Path:
    """Draw the figures and write the page; returns the page."""
    paths = load_paths(run_dir)
    provenance = paths.attrs["provenance"]
    own = paths.loc[paths["scorer"] == provenance["scorer"]].reset_index(drop=True)
    figures = [
        *_examples(run_dir, own, provenance, dataset, finder),
        _class_figure(run_dir, own, provenance),
        _save(run_dir, "effects", effects_figure(summary), "Change of the target probability, with 95 % intervals"),
    ]
    widths = sorted(set(provenance["n_neurons"]))
    facts = {name: value for name, value in provenance.items() if name not in ("n_neurons", "classes")}
    page = render_report(
        title="Neuron paths",
        provenance={**facts, "git_commit": provenance["git"]["commit"], "ffn_width": widths},
        summary=summary,
        metrics={name: value for name, value in metrics.items() if name != "effects"},
        figures=[(caption, file.relative_to(run_dir)) for caption, file in figures],
        n_skipped=len(problems),
        errors=[f"{name}: {reason}" for name, reason in problems],
        directory=str(run_dir),
    )
    write_text(run_dir / REPORT_FILE, page)
    return run_dir / REPORT_FILE


def _examples(
    run_dir: Path, own: pd.DataFrame, provenance: Mapping[str, Any], dataset: NamedDataset, finder: PathFinder
) -> Figures:
    """A few images with their paths, before the scores of all candidates."""
    place = {name: index for index, name in enumerate(dataset.sample_ids)}
    figures: Figures = []
    for number in np.unique(np.linspace(0, len(own) - 1, N_EXAMPLES).astype(int)):
        row = own.iloc[number]
        image = dataset[place[row["sample_id"]]]["image"]
        again = finder.with_candidates().find(
            image.unsqueeze(0), [int(row["target"])], [row["sample_id"]], progress=False
        )
        assert again.candidate_scores is not None
        figure = image_path_figure(
            picture(image.numpy(), provenance["preprocessing"]),
            row["path"],
            n_neurons=provenance["n_neurons"],
            candidate_scores=again.candidate_scores[0].cpu().numpy(),
            margins=row["margins"],
            label=None if row["label"] is pd.NA else int(row["label"]),
            target=int(row["target"]),
            prediction=int(row["prediction"]),
            target_probability=float(row["target_probability"]),
            score=float(row["score"]),
            sample_id=row["sample_id"],
            class_names=provenance["classes"] or None,
        )
        caption = f"Neuron path of {row['sample_id']}, before the scores of all candidates"
        figures.append(_save(run_dir, f"path_{len(figures)}", figure, caption))
    return figures


def _class_figure(run_dir: Path, own: pd.DataFrame, provenance: Mapping[str, Any]) -> tuple[str, Path]:
    """The chosen neurons of the class with most images; a class is the label, else the target."""
    kind = "label" if not np.any(pd.isna(own["label"].to_numpy())) else "target"
    index = int(own[kind].mode().iloc[0])
    names = provenance["classes"]
    name = names[index] if index < len(names) else str(index)
    paths = np.stack(own.loc[own[kind] == index, "path"].tolist())
    figure = class_distribution_figure(paths, n_neurons=provenance["n_neurons"], class_name=name)
    return _save(run_dir, "class_distribution", figure, f"Neurons chosen in each block, images of {kind} {name}")


def _save(run_dir: Path, name: str, figure: Any, caption: str) -> tuple[str, Path]:
    return caption, save_figure(figure, run_dir / "figures" / name)[0]


def picture(image: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Undo the normalisation: a (c, H, W) input as an (H, W) or (H, W, 3) picture in [0, 1]."""
    mean, std = (np.reshape(preprocessing[name], (-1, 1, 1)) for name in ("mean", "std"))
    pixels = np.clip(image * std + mean, 0, 1)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
