"""What the neurons answer to that are on most paths: the patches of all photographs that activate them most."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from neuron_path.data.folder import ImageFolderDataset
from neuron_path.evidence.strongest import Strongest, exact_grid, rank_candidates
from neuron_path.models.session import Session
from real_study.results import Results
from real_study.store import Arrays, Cell
from real_study.subject import Photographs

SEARCH: Final = "effect_remove"  # whose paths are looked at
N_UNITS: Final = 10
N_PATCHES: Final = 5
SIDE: Final = 112  # of a picture, pixels
_AT_ONCE: Final = 8
_BOX: Final = ("left", "top", "right", "bottom")


def most_used(paths: NDArray[np.integer], n_units: int = N_UNITS) -> list[tuple[int, int]]:
    """The (block, neuron) that are on most paths (n, L, k), the first ones first.

    >>> most_used(np.array([[[3], [1]], [[2], [1]], [[3], [0]]]), 2)
    [(0, 3), (1, 1)]
    """
    counts = Counter((block, int(neuron)) for block in range(paths.shape[1]) for neuron in paths[:, block].flat)
    return sorted(counts, key=lambda unit: (-counts[unit], unit))[:n_units]


def strongest_patches(session: Session, data: ImageFolderDataset, units: Sequence[tuple[int, int]]) -> Arrays:
    """Of each neuron the patches that activate it most, in float64, at most one of a photograph, the strongest first.

    Returns:
        `block`, `neuron`, `activation`, `left`, `top`, `right`, `bottom` (shares of the picture), and `pictures`, the
        photographs that hold the patches, (m, SIDE, SIDE, 3) bytes.
    """
    blocks = range(len(session.adapter.blocks))
    neurons = [np.array(sorted(own for at, own in units if at == block), dtype=np.int64) for block in blocks]
    strongest = Strongest(session, neurons, data.sample_ids, N_PATCHES)
    parts = []
    for start in range(0, len(data), _AT_ONCE):
        places = range(start, min(start + _AT_ONCE, len(data)))
        photographs = Photographs(data, places, places)
        for run, found in strongest.update(photographs.images, photographs.names):
            names = np.array(photographs.names[run])
            parts.append(found | {"sample_id": names[found["image"]]})
    candidates = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    grid = exact_grid(session, Photographs(data, [0], [0]).images)
    ranked = pd.DataFrame(rank_candidates(candidates, N_PATCHES, grid))
    own = ranked.loc[ranked["kind"] == "patch"]
    place_of = {name: place for place, name in enumerate(data.sample_ids)}
    pictures = [_picture(data, place_of[name]) for name in own["sample_id"]]
    arrays = {name: own[name].to_numpy() for name in ("block", "neuron", *_BOX)}
    return arrays | {"activation": own["patch_activation"].to_numpy(), "pictures": np.stack(pictures)}


def _picture(data: ImageFolderDataset, place: int) -> NDArray[np.uint8]:
    """A photograph as the model sees it."""
    image = data[place]["image"]
    assert image is not None
    mean, std = (np.array(data.preprocessing[name]) for name in ("mean", "std"))
    pixels = image.permute(1, 2, 0).numpy() * std + mean
    return np.asarray(Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8)).resize((SIDE, SIDE)))


def evidence_table(results: Results) -> tuple[pd.DataFrame, Image.Image | None]:
    """A row for each patch of the neurons on most paths, and their pictures, a row of the sheet for each neuron."""
    cells = results.store.cells("evidence")
    if not cells:
        return pd.DataFrame(), None
    chunks = list(range(cells[-1].chunk + 1))
    found, paths, labels = results.read(cells[-1]), results.paths(SEARCH, 1, chunks), results.labels(chunks)
    rows, sheet = [], Image.new("RGB", (N_PATCHES * SIDE, N_UNITS * SIDE))
    for line, (block, neuron) in enumerate(most_used(paths)):
        uses = (paths[:, block] == neuron).any(1)
        names, counts = np.unique(labels[uses], return_counts=True)
        first = names[counts.argmax()]
        own = np.flatnonzero((found["block"] == block) & (found["neuron"] == neuron))
        for rank, place in enumerate(own):
            sheet.paste(Image.fromarray(found["pictures"][place]), (rank * SIDE, line * SIDE))
            rows.append(
                {"line": line, "rank": rank, "block": block, "neuron": neuron, "uses": int(uses.sum()), "n": len(uses)}
                | {"class": results.identity["classes"][first], "of_class": int(counts.max())}
                | {"class_n": int((labels == first).sum()), "activation": float(found["activation"][place])}
                | {name: float(found[name][place]) for name in _BOX}
            )
    return pd.DataFrame(rows), sheet


def jpeg(picture: Image.Image) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


def evidence_cell(chunk: int) -> Cell:
    """The cell of the neurons on the paths of the chunks up to one."""
    return Cell("evidence", SEARCH, 1, chunk)
