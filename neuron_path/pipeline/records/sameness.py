"""Whether two tables of paths say the same, image by image and method by method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuron_path.store.schema import KEY_COLUMNS

RTOL = 1e-4  # what is promised of any score
ATOL = 1e-8  # of a score that is nearly 0, in units of the target function


@dataclass(frozen=True)
class Sameness:
    """How two tables agree.

    Attributes:
        rows: how many rows they share.
        missing: how many rows only one of them has.
        other: names of images whose path, target or prediction differs.
        far: names of images whose score or target probability differs by more than rounding.
        largest: the largest relative difference of these floats.
    """

    rows: int
    missing: int
    other: list[str]
    far: list[str]
    largest: float

    @property
    def is_same(self) -> bool:
        """Whether they agree in everything."""
        return not (self.missing or self.other or self.far)

    def __str__(self) -> str:
        if self.is_same:
            return f"{self.rows} paths identical, scores within {self.largest:.1g} relative"
        counts = [
            (self.missing, "rows in one table only", ""),
            (len(self.other), "other paths or classes", _example(self.other)),
            (len(self.far), f"scores that differ by up to {self.largest:.1g}", _example(self.far)),
        ]
        return f"of {self.rows} paths: " + ", ".join(f"{n} {what}{example}" for n, what, example in counts if n)


def compare_paths(one: pd.DataFrame, two: pd.DataFrame) -> Sameness:
    """Compare two tables of paths, joined by image and method."""
    keys = list(KEY_COLUMNS)
    both = one.merge(two, on=keys, how="outer", indicator=True, suffixes=("_one", "_two"))
    shared = both.loc[both["_merge"] == "both"]
    names = shared["sample_id"].to_numpy()
    other = np.array([not _equal(a, b) for a, b in zip(shared["path_one"], shared["path_two"], strict=True)], bool)
    for column in ("target", "prediction"):
        other |= np.not_equal(shared[f"{column}_one"].to_numpy(), shared[f"{column}_two"].to_numpy())
    far, largest = np.zeros(len(shared), bool), 0.0
    for column in ("score", "target_probability"):
        a, b = (shared[f"{column}_{which}"].to_numpy(float) for which in ("one", "two"))
        difference, size = np.abs(a - b), np.maximum(np.abs(a), np.abs(b))
        allowed = ATOL + RTOL * size
        if column == "score":  # tables of two versions, or of two batches, may have taken other nodes
            errors = (shared[f"score_error_{which}"].fillna(0).to_numpy(float) for which in ("one", "two"))
            allowed = allowed + sum(errors)
        far |= ~(difference <= allowed)
        largest = max([largest, *(difference[size > 0] / size[size > 0])])
    return Sameness(len(shared), len(both) - len(shared), [*names[other]], [*names[far & ~other]], float(largest))


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def _example(names: list[str]) -> str:
    return f" (as of {names[0]!r})" if names else ""
