"""The paths of a run, image by image, in columns that a page can hold.

Shape letters: n images, L blocks, k path neurons of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuron_path.classes.grouping import group_paths
from neuron_path.report.cells import method_name
from neuron_path.report.figures.blocks import axis_of, unit_of
from neuron_path.report.run_page.packing import PER_BYTE, pack_floats, pack_integers

MOST_BYTES: Final = 5_000_000
"""What the paths of all methods may take in the page; of more images, some are drawn."""

_UNKNOWN: Final = 2
_PER_IMAGE: Final = 60
"""Letters for an image's name, classes and prediction, about."""

Data = dict[str, Any]
Integers = npt.NDArray[np.int64]


def explorer_data(
    paths: pd.DataFrame,
    *,
    n_neurons: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    own: str | None = None,
    units: str = "ffn",
    most_bytes: int = MOST_BYTES,
    seed: int = 0,
) -> Data:
    """Put the paths of a run into columns for the page.

    Args:
        paths: what :func:`neuron_path.load_paths` returns.
        n_neurons: (L,) FFN widths; when not given, the highest neuron of each block plus 1.
        class_names: names of classes by index.
        own: the scorer whose method comes first.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".
        most_bytes: what the paths may take; where they take more, images are drawn at random, of each class the same
            share and of each at least one.
        seed: of that draw, which does not depend on the order of the rows.

    Returns:
        A mapping that JSON can hold, whose arrays are packed (:mod:`neuron_path.report.run_page.packing`):

        - ``methods``: for each its ``name``, ``scorer``, ``search``, ``paths`` (n, L, k), ``margins`` (n, L) in three
          digits and ``scores`` (n,);
        - ``images``: ``id``, and packed ``member`` (place of the class in ``classes``), ``label`` (−1: none),
          ``target``, ``prediction``, ``outcome`` (0 wrong, 1 correct, 2 not known) and ``probability``;
        - ``kind`` of class (``label`` or ``target``), ``classes`` ascending, ``classNames`` by index, ``sizes``: images
          of each class in the run;
        - ``blocks``, ``topK``, ``widths``, ``unit`` and ``axis`` in words, and ``total``: images of the run.

    Raises:
        NeuronPathError: as :func:`neuron_path.classes.grouping.group_paths`.
    """
    methods = _methods(paths, own)
    first = methods[0].reset_index(drop=True)
    grouped = group_paths(first, n_neurons=n_neurons)
    members = pd.Series(grouped.members, index=grouped.images).loc[first["sample_id"].tolist()].to_numpy()
    n_blocks, top_k = grouped.n_blocks, grouped.top_k
    each = _PER_IMAGE + len(methods) * PER_BYTE * (n_blocks * (2 * top_k + 2) + 4)
    chosen = draw(first["sample_id"].tolist(), members, max(1, int(most_bytes / each)), seed)
    names = first["sample_id"].iloc[chosen].tolist()
    several = len(set(paths["search"])) > 1
    columns = [_method(rows.set_index("sample_id").loc[names], with_search=several) for rows in methods]
    highest = max(int(np.stack(rows["path"].tolist()).max()) for rows in methods)
    return {
        "blocks": n_blocks,
        "topK": top_k,
        "widths": list(n_neurons) if n_neurons is not None else [highest + 1] * n_blocks,
        "unit": unit_of(units),
        "axis": axis_of(units),
        "kind": grouped.source,
        "classes": grouped.classes.tolist(),
        "classNames": list(class_names),
        "sizes": grouped.counts.tolist(),
        "total": len(first),
        "images": _images(first.iloc[chosen], members[chosen]),
        "methods": columns,
    }


def draw(names: Sequence[str], members: npt.ArrayLike, n_most: int, seed: int = 0) -> Integers:
    """Choose images at random, of each class the same share and at least one, whatever their order.

    Args:
        names: (n,) sample ids.
        members: (n,) the class of each.
        n_most: how many to choose, or, where there are more classes, one of each.
        seed: of the draw.

    Returns:
        Places of the chosen ones, ascending; all where there are no more than ``n_most``.

    >>> draw(["a", "b", "c", "d"], [0, 1, 1, 1], 2).size
    2
    """
    n = len(names)
    if n <= n_most:
        return np.arange(n)
    classes = np.asarray(members)
    lots = np.empty(n)
    lots[np.argsort(np.asarray(names), kind="stable")] = np.random.default_rng(seed).random(n)
    order = np.lexsort((lots, classes))
    sizes = np.unique(classes[order], return_counts=True)[1]
    turn = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # The first of each class comes before the second of any, then by the share of the class that is in already.
    share = np.where(turn == 0, -1.0, turn / np.repeat(sizes, sizes))
    return np.sort(order[np.lexsort((lots[order], share))][: max(n_most, len(sizes))])


def _methods(paths: pd.DataFrame, own: str | None) -> list[pd.DataFrame]:
    """The rows of each method, the run's own first, of the images that all of them have."""
    groups = [rows for _, rows in paths.groupby(["scorer", "search"], sort=False)]
    common = list(set.intersection(*(set(rows["sample_id"]) for rows in groups)))
    groups.sort(key=lambda rows: rows["scorer"].iloc[0] != own)
    return [rows.loc[rows["sample_id"].isin(common)] for rows in groups]


def _method(rows: pd.DataFrame, *, with_search: bool) -> Data:
    scorer, search = str(rows["scorer"].iloc[0]), str(rows["search"].iloc[0])
    return {
        "name": method_name(scorer, search if with_search else ""),
        "scorer": scorer,
        "search": search,
        "paths": pack_integers(np.stack(rows["path"].tolist())),
        "margins": pack_floats(np.stack(rows["margins"].tolist()), half=True),
        "scores": pack_floats(rows["score"].to_numpy()),
    }


def _images(rows: pd.DataFrame, members: Integers) -> Data:
    labels = rows["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    predictions = rows["prediction"].to_numpy(dtype=np.int64)
    return {
        "id": rows["sample_id"].tolist(),
        "member": pack_integers(members),
        "label": pack_integers(labels),
        "target": pack_integers(rows["target"].to_numpy()),
        "prediction": pack_integers(predictions),
        "outcome": pack_integers(np.where(labels < 0, _UNKNOWN, labels == predictions)),
        "probability": pack_floats(rows["target_probability"].to_numpy()),
    }
