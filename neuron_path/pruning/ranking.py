"""Rankings from stored neuron paths: how often, and how strongly, a neuron lies on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.adapter import adapt

# `_F`: blocks may differ in F.
Ranking = list[Float[Tensor, "_F"]]
By = Literal["frequency", "score", "both"]
_METHOD = ("scorer", "search", "top_k")


def hidden_widths(model: nn.Module, token_scope: str | None = None, units: str = "ffn") -> list[int]:
    """F of each block that a path of the model runs through.

    >>> import neuron_path
    >>> hidden_widths(neuron_path.load_model("digits_vit"))[:2]
    [192, 192]
    """
    return [block.n_neurons for block in adapt(model, token_scope, units).blocks]


def path_ranking(
    paths: pd.DataFrame,
    widths: Sequence[int],
    by: By = "both",
    *,
    classes: Collection[int] | None = None,
    scorer: str | None = None,
    search: str | None = None,
    top_k: int | None = None,
) -> Ranking:
    """How much each neuron matters, by the stored paths of a finished run; see `rank_neurons`.

    Args:
        paths: the table of `neuron_path.load_paths`, of selection images only.
        widths: F of each block; see `hidden_widths`.
        by: "frequency", "score" or "both".
        classes: count only the paths that drive these classes (the table's `target`); None: all.
        scorer, search, top_k: which method's paths, where the table holds several.

    Raises:
        NeuronPathError: a table without such paths or with several methods', and as `rank_neurons`.

    >>> table = pd.DataFrame({"scorer": "jas", "search": "greedy", "top_k": 1, "target": [0, 1], "score": [0.5, 0.25],
    ...                       "path": [np.array([2, 0]), np.array([2, 1])]})
    >>> [scores.tolist() for scores in path_ranking(table, [3, 2], "score")]
    [[0.0, 0.0, 0.75], [0.5, 0.25]]
    """
    rows = choose_paths(paths, classes=classes, scorer=scorer, search=search, top_k=top_k)
    return rank_neurons(np.stack(list(rows["path"])), rows["score"].to_numpy(dtype=np.float64), widths, by)


def paths_of_units(paths: pd.DataFrame, held: str, units: str) -> pd.DataFrame:
    """The same table with each path in the blocks of some units only.

    Args:
        paths: the table of `neuron_path.load_paths`.
        held: what its paths consist of, "ffn", "heads" or "ffn+heads".
        units: what of it is wanted.

    Raises:
        NeuronPathError: the paths do not hold that.
    """
    if held == units:
        return paths
    if held != "ffn+heads":
        raise NeuronPathError(
            f"The run holds paths of units={held}, which do not rank units={units}: give a run of units=ffn+heads, or "
            "name methods without paths, as method=taylor methods=[random,magnitude]."
        )
    first = ("heads", "ffn").index(units)
    return paths.assign(path=[path[first::2] for path in paths["path"]])


def rank_neurons(
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"] | np.ndarray,
    scores: Float[Tensor, "B"] | np.ndarray,
    widths: Sequence[int],
    by: By = "both",
) -> Ranking:
    """How much each neuron matters, by the paths of many images.

    With n_j the number of images on whose path neuron j of a block lies, and s_j the sum of these paths' scores:
    `frequency` is n_j, `score` is s_j, and `both` is the mean of the neuron's shares in its block's totals,
    ``½ (n_j / Σ n + s_j / Σ |s|)``. Many neurons lie on no path and tie at 0; `keep_neurons` takes a second ranking
    that tells such neurons apart.

    Args:
        paths: (B, L) or (B, L, k) neurons, as of `find_paths`; −1 stands for none.
        scores: (B,) of the paths, in any one unit.
        widths: F of each block; see `hidden_widths`.
        by: "frequency", "score" or "both".

    Raises:
        NeuronPathError: paths that do not fit the widths, scores that are not one finite number for each, an unknown
            `by`.
    """
    if by not in get_args(By):
        raise unknown_name("path ranking", str(by), get_args(By))
    neurons, weights = _checked(paths, scores, widths)
    ranking = []
    for index, width in enumerate(widths):
        own = neurons[:, index] >= 0  # −1 stands for none
        counts = np.bincount(neurons[:, index][own], minlength=width).astype(np.float64)
        sums = np.bincount(neurons[:, index][own], weights[own], minlength=width)
        both = (counts / (counts.sum() or 1.0) + sums / (np.abs(sums).sum() or 1.0)) / 2
        ranking.append(torch.from_numpy({"frequency": counts, "score": sums, "both": both}[by]))
    return ranking


def choose_paths(
    paths: pd.DataFrame,
    *,
    classes: Collection[int] | None = None,
    scorer: str | None = None,
    search: str | None = None,
    top_k: int | None = None,
) -> pd.DataFrame:
    """The rows of one method, of these classes; arguments and errors as of `path_ranking`."""
    method = {"scorer": scorer, "search": search, "top_k": top_k}
    missing = [name for name in (*_METHOD, "target", "path", "score") if name not in paths.columns]
    if missing:
        raise NeuronPathError(
            f"The table of paths lacks column(s) {', '.join(missing)}: give what neuron_path.load_paths returns."
        )
    for name, wanted in method.items():
        if wanted is not None:
            found = sorted(map(str, paths[name].unique()))
            paths = paths.loc[paths[name] == wanted]
            if not len(paths):
                raise NeuronPathError(f"No path in the table has {name} {wanted!r}. Found: {', '.join(found)}.")
    methods = paths[list(_METHOD)].drop_duplicates()
    if len(methods) > 1:
        found = "; ".join(", ".join(map(str, row)) for row in methods.itertuples(index=False))
        scorer, search, top_k = methods.iloc[0]
        raise NeuronPathError(
            f"The table holds the paths of {len(methods)} methods (scorer, search, top_k: {found}): choose one, as "
            f"with path_scorer={scorer} path_search={search} path_top_k={top_k} (in Python: scorer='{scorer}', "
            f"search='{search}', top_k={top_k})."
        )
    if classes is not None:
        paths = paths.loc[paths["target"].isin(list(classes))]
    if not len(paths):
        about = "" if classes is None else f" of the class(es) {', '.join(map(str, sorted(classes)))}"
        raise NeuronPathError(f"The table holds no path{about}: search images of these classes first.")
    return paths


def _checked(paths: object, scores: object, widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, L, k) neurons, and each one's path's score (N, k)."""
    neurons = _array(paths)
    if neurons.ndim not in (2, 3) or not np.issubdtype(neurons.dtype, np.integer) or not len(neurons):
        raise NeuronPathError(
            f"Paths have shape {neurons.shape} and dtype {neurons.dtype}; expected integers of shape (images, blocks) "
            "or (images, blocks, k), of one image at least."
        )
    neurons = neurons.reshape(*neurons.shape[:2], -1)
    if neurons.shape[1] != len(widths):
        raise NeuronPathError(
            f"The paths run through {neurons.shape[1]} blocks, but {len(widths)} widths are given: take the model that "
            "the paths were found on."
        )
    wrong = np.argwhere((neurons < -1) | (neurons >= np.asarray(widths).reshape(1, -1, 1)))
    if len(wrong):
        image, index, slot = wrong[0]
        raise NeuronPathError(
            f"A path names neuron {neurons[image, index, slot]} in block {index}, which has neurons 0 … "
            f"{widths[index] - 1}: take the model that the paths were found on."
        )
    values = _array(scores).astype(np.float64)
    if values.shape != neurons.shape[:1]:
        raise NeuronPathError(f"Scores have shape {values.shape}; expected ({len(neurons)},), one for each path.")
    if not np.isfinite(values).all():
        raise NeuronPathError("A path's score is NaN or infinite: search its image again, or leave it out.")
    return neurons, np.repeat(values[:, None], neurons.shape[2], axis=1)


def _array(values: object) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
