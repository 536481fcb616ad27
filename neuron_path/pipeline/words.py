"""Words for neurons: which of a vocabulary the images that activate a neuron most are nearest to.

Not what a neuron means, but what these images have in common, as a model of pictures and text sees it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from neuron_path.config import stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import attach_head, load_head
from neuron_path.pipeline.build import build_study
from neuron_path.pipeline.work import Study
from neuron_path.progress import progress_bar
from neuron_path.store.atomic import write_text
from neuron_path.store.evidence import load_evidence
from neuron_path.store.reader import read_provenance

WORDS_FILE = "words.csv"
N_WORDS = 5
_BATCH = 32  # images at a time


def find_words(run_dir: str | os.PathLike[str], vocabulary: str | os.PathLike[str], n_words: int | None = None) -> Path:
    """Write `words.csv` into a run directory, and return the file.

    A word's similarity to a neuron is the mean cosine between the word's embedding and those of the images that
    activate the neuron most, and how much that is above the mean over all images of the run's evidence. Words go by
    the latter, since some are near to every picture.

    Args:
        run_dir: a run with `evidence.parquet`, of the picture tower of a model of pictures and text.
        vocabulary: a head of the words' embeddings, from `neuron-path embed-text`, of the same model.
        n_words: how many for each neuron; None: N_WORDS, or all if there are fewer.

    Returns:
        The file: a row for each `block`, `neuron` and `rank`, with the `word`, its `cosine`, how much this is `above`
        the mean, and the number of `images`.

    Raises:
        NeuronPathError: a run without evidence, a head of something else than words, or one that the model does not
            fit.
    """
    head = load_head(Path(vocabulary))
    if not head.cosine or not head.classes:
        raise NeuronPathError(
            f"'{os.fspath(vocabulary)}' is no head of words' embeddings: make one of a list of words with neuron-path "
            f"embed-text --model=NAME --classes=FILE --out={Path(vocabulary).with_suffix('.safetensors')}."
        )
    n_words = min(N_WORDS, len(head.classes)) if n_words is None else n_words
    if not 1 <= n_words <= len(head.classes):
        raise NeuronPathError(f"{n_words} words are asked for; expected 1 … {len(head.classes)}, as there are.")
    evidence = load_evidence(run_dir)
    rows = evidence.loc[evidence["kind"] == "image", ["block", "neuron", "sample_id"]]
    study = build_study(stored_config(read_provenance(run_dir)["config"]))
    attach_head(study.session.model, head)
    names = sorted(set(rows["sample_id"]))
    scale, bias = float(head.weight[0].norm()), float(head.bias[0])
    cosines = (_logits(study, names) - bias) / scale
    table = nearest(rows, dict(zip(names, cosines, strict=True)), head.classes, n_words)
    file = Path(run_dir) / WORDS_FILE
    write_text(file, table.to_csv(index=False, float_format="%.4f"))
    return file


def nearest(
    rows: pd.DataFrame, cosines: dict[str, NDArray[np.float64]], words: Sequence[str], n_words: int
) -> pd.DataFrame:
    """Each neuron's words, the nearest first; see `find_words`.

    Args:
        rows: the images of each neuron: `block`, `neuron`, `sample_id`.
        cosines: (V,) of each image with each word.
        words: the V words.
        n_words: how many.
    """
    mean = np.mean(list(cosines.values()), axis=0)
    found = []
    for _, own in rows.groupby(["block", "neuron"], sort=True):
        block, neuron = own.iloc[0][["block", "neuron"]]
        similarity = np.mean([cosines[name] for name in own["sample_id"]], axis=0)
        order = np.argsort(-(similarity - mean), kind="stable")[:n_words]
        for rank, place in enumerate(order.tolist()):
            above = similarity[place] - mean[place]
            found.append((block, neuron, rank, words[place], similarity[place], above, len(own)))
    return pd.DataFrame(found, columns=["block", "neuron", "rank", "word", "cosine", "above", "images"])


def _logits(study: Study, names: Sequence[str]) -> Float[NDArray[np.float64], "n V"]:
    """The head's logits of the named images."""
    dataset, session = study.data.dataset, study.session
    places = {name: place for place, name in enumerate(dataset.sample_ids)}
    if missing := [name for name in names if name not in places]:
        raise NeuronPathError(f"Image '{missing[0]}' of the run's evidence is not among its data any more.")
    parts = []
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("Embedded images", total=len(names))
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            images = torch.stack([dataset[places[name]]["image"] for name in some])
            parts.append(session.model(images.to(session.device, session.dtype)).double().cpu())
            bar.advance(task, len(some))
    return torch.cat(parts).numpy()
