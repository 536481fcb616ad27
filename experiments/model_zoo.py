"""Do the paths of several models agree on what is hard, on which blocks matter, and on which classes are alike?

    neuron-path run hydra.run.dir=outputs/zoo/a data=image_folder data.root=DIR model=…     and so on for each model
    python experiments/model_zoo.py outputs/zoo/a outputs/zoo/b …

The runs are of the same images with the same labels, each with the scorer that `scorer=` names, by default its own one.
Of each image it takes the target's probability, and its change when the path is removed: in all blocks, and in each
alone (L + 2 forward passes of an image). Models are compared by pairs: Spearman's correlation over images and over
blocks (by relative depth), Mantel's test of the class similarities. p-values are Holm-corrected over a column.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from neuron_path.attribution.target import PROBABILITY
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.methods import compare_methods
from neuron_path.config import FileHeadConfig, FittedHeadConfig, stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.evaluate import Evaluator, Intervention, Subject
from neuron_path.models.session import Session
from neuron_path.pipeline.build import build_study
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.lending import reader
from neuron_path.report.cells import p_cell
from neuron_path.report.markdown import markdown_table
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.stats.paired import holm
from neuron_path.store.layout import RUN_FILE
from neuron_path.store.reader import load_paths, read_json
from subject import in_words

BATCH: Final = 16
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Studied:
    """A model's paths and what their removal does.

    Attributes:
        name: of the model, with the run's folder.
        rows: its run's path table, a row for each image, in order of their names.
        clean: (n,) the target's probability.
        effects: (n,) its change in percent when the path is removed.
        blocks: (n, L) the same when only one block's neurons are.
    """

    name: str
    rows: pd.DataFrame
    clean: Floats
    effects: Floats
    blocks: Floats

    @property
    def depth(self) -> Floats:
        """(L,) mean change by block."""
        return self.blocks.mean(0)


def study(run_dir: Path, scorer: str | None) -> Studied:
    """Open the model of a run again, and edit its paths.

    Raises:
        NeuronPathError: the run holds no such paths.
    """
    rows = load_paths(run_dir)
    made = read_json(run_dir / RUN_FILE)
    rows = rows.loc[rows["scorer"] == (scorer or stored_config(made["config"]).scorer.name)]
    if not len(rows) or rows["search"].nunique() > 1:
        raise NeuronPathError(f"'{run_dir}' holds no paths of one search by '{scorer}': name another, as scorer=NAME.")
    rows = rows.sort_values("sample_id", ignore_index=True)
    config = stored_config(made["config"])
    if isinstance(config.head, FittedHeadConfig):  # fitted then, not again
        config.head = FileHeadConfig(path=str(run_dir / HEAD_FILE))
    opened = build_study(config)
    read = reader(opened.data.dataset)
    clean, changes = [], []
    for start in range(0, len(rows), BATCH):
        some = rows.iloc[start : start + BATCH]
        images = read(some["sample_id"].tolist())
        paths = opened.session.check_paths(torch.from_numpy(np.stack(some["path"].tolist())), len(some))
        before, after = _removed(opened.session, images, paths, torch.tensor(some["target"].to_numpy()))
        clean.append(before)
        changes.append(100 * (after - before.unsqueeze(1)) / before.unsqueeze(1))
    edited = torch.cat(changes).double().numpy()
    name = f"{run_dir.name} ({rows.attrs['provenance']['model']})"
    return Studied(name, rows, torch.cat(clean).double().numpy(), edited[:, 0], edited[:, 1:])


def _removed(session: Session, images: Tensor, paths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The target's probability (B,), and with the path removed in all blocks, then in each alone (B, 1 + L)."""
    alone = [torch.full_like(paths, -1) for _ in range(paths.shape[1])]
    for block, path in enumerate(alone):
        path[:, block] = paths[:, block]
    edits = [Subject(path) for path in (paths, *alone)]
    with session.active():
        clean, measured = Evaluator([Intervention("remove")]).measure(session, images, targets, edits, len(images))
    before, *after = (
        PROBABILITY.probability(logits, targets) for logits in (clean, *(one.logits[0] for one in measured))
    )
    return before, torch.stack(after, dim=1)


def compare(studied: list[Studied]) -> pd.DataFrame:
    """A row for each pair of models: correlations, each with its corrected p.

    Raises:
        NeuronPathError: runs of other images or labels.
    """
    first = studied[0]
    for one in studied[1:]:
        if (
            one.rows[["sample_id", "label"]].to_numpy().tolist()
            != first.rows[["sample_id", "label"]].to_numpy().tolist()
        ):
            raise NeuronPathError(f"'{one.name}' and '{first.name}' have other images or labels: run both on the same.")
    alike = compare_methods([(one.name, one.name, group_paths(one.rows)) for one in studied], n_permutations=1999)
    rows = []
    for (one, other), found in zip(combinations(studied, 2), alike.to_dict("records"), strict=True):
        grid = np.linspace(0, 1, min(len(one.depth), len(other.depth)))  # relative depth
        one_depth, other_depth = (np.interp(grid, np.linspace(0, 1, len(own.depth)), own.depth) for own in (one, other))
        tests: dict[str, Any] = {
            "Target's probability": spearmanr(one.clean, other.clean),
            "Loss when the path is removed": spearmanr(one.effects, other.effects),
            "Blocks by their loss": spearmanr(one_depth, other_depth),
        }
        row = {"Models": f"{one.name}, {other.name}"} | {name: tuple(test) for name, test in tests.items()}
        rows.append(row | {"Class similarity": (found["similarity_r"], found["similarity_p"])})
    table = pd.DataFrame(rows)
    for name in table.columns[1:]:
        r, p = zip(*table[name], strict=True)
        table[name] = [f"{a:+.2f}; {p_cell(b)}".replace("-", "−") for a, b in zip(r, holm(p), strict=True)]
    return table


def main(arguments: list[str]) -> int:
    """Print what the models have in common."""
    scorers = [argument.removeprefix("scorer=") for argument in arguments if argument.startswith("scorer=")]
    run_dirs = [Path(argument) for argument in arguments if not argument.startswith("scorer=")]
    if len(run_dirs) < 2:
        print("usage: python experiments/model_zoo.py RUN RUN… [scorer=NAME]", file=sys.stderr)
        return 2
    try:
        studied = [study(run_dir, scorers[-1] if scorers else None) for run_dir in run_dirs]
        table = compare(studied)
    except NeuronPathError as error:
        print(f"model_zoo: error: {error}", file=sys.stderr)
        return 1
    for one in studied:
        told = in_words(bootstrap_mean(one.effects), " %")
        right = 100 * np.mean((one.rows["prediction"] == one.rows["label"]).to_numpy())
        blocks = ", ".join(f"{value:.1f}".replace("-", "−") for value in one.depth.round(1) + 0.0)
        print(f"{one.name}: {right:.0f} % right; removal changes the probability by {told}; block by block {blocks}")
    print(f"\n{markdown_table(table)}\n\nAfter each correlation: p. n = {len(studied[0].rows)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
