"""All class statistics of one method at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.clustering import Agreement, ClassTree, class_agreement, cluster_classes
from neuron_path.classes.overlap import OverlapTest, overlap_test
from neuron_path.classes.similarity import class_similarity, neighbours
from neuron_path.classes.stability import Stability, split_half_stability
from neuron_path.classes.usage import Usage, concentration, count_usage


@dataclass(frozen=True, eq=False)
class ClassAnalysis:
    """What the paths say about the classes.

    Attributes:
        paths: the grouped paths; ``paths.source`` says whether classes are labels or targets.
        usage: how often each class uses each neuron.
        concentration: a row per class and block, see :func:`~neuron_path.classes.usage.concentration`.
        overlap: within-class against between-class overlap, with its test.
        similarity: (C, C) cosine similarity of classes.
        neighbours: each class's nearest and farthest class.
        tree: hierarchical clustering of the classes.
        agreement: of clusters of images with the classes.
        stability: agreement of random halves of the images.
        seed: of all draws.
    """

    paths: ClassPaths
    usage: Usage
    concentration: pd.DataFrame
    overlap: OverlapTest
    similarity: NDArray[np.float64]
    neighbours: pd.DataFrame
    tree: ClassTree
    agreement: Agreement
    stability: Stability
    seed: int

    def summary(self) -> dict[str, Any]:
        """Return the headline numbers and what they are of, as values that JSON can hold but for NaN."""
        return describe(self.paths, self.concentration, self.seed) | {
            "overlap": self.overlap.to_dict(),
            "cophenetic": self.tree.cophenetic,
            "agreement": asdict(self.agreement),
            "stability": asdict(self.stability),
        }


def describe(paths: ClassPaths, concentration: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return what is analysed and how concentrated it is: the headline numbers that need no second class."""
    names = ("entropy", "effective_neurons", "gini", "top_share")
    return {
        "scorer": paths.scorer,
        "search": paths.search,
        "top_k": paths.top_k,
        "classes_are": paths.source,
        "n_classes": paths.n_classes,
        "n_images": paths.n_images,
        "n_blocks": paths.n_blocks,
        "seed": seed,
        "concentration": {name: float(concentration[name].to_numpy().mean()) for name in names},
    }


def why_not_compared(paths: ClassPaths) -> str:
    """Return why the classes of these images cannot be compared with each other, empty where they can."""
    if paths.n_classes < 2:
        return f"The {paths.source} of every image ({paths.n_images}) is the same"
    if np.count_nonzero(paths.counts > 1) < 2:
        return f"Fewer than two of {paths.n_classes} classes (by {paths.source}) have two images"
    return ""


def analyze_classes(
    paths: ClassPaths,
    *,
    n_permutations: int = 999,
    n_splits: int = 100,
    confidence: float = 0.95,
    max_images: int = 4000,
    seed: int = 0,
) -> ClassAnalysis:
    """Compute all class statistics of one method's paths.

    Args:
        paths: from :func:`~neuron_path.classes.grouping.group_paths`.
        n_permutations: shuffles of the overlap test.
        n_splits: random halves of the stability.
        confidence: of all intervals and ranges, in (0, 1).
        max_images: images that are clustered one by one for the agreement; of more, so many are drawn.
        seed: of all draws.

    Raises:
        NeuronPathError: for one class only, one image in each class, fewer than two classes of two images, or arguments
            out of range.
    """
    usage = count_usage(paths)
    overlap = overlap_test(paths, n_permutations=n_permutations, confidence=confidence, seed=seed)
    similarity = class_similarity(usage)
    return ClassAnalysis(
        paths=paths,
        usage=usage,
        concentration=concentration(usage),
        overlap=overlap,
        similarity=similarity,
        neighbours=neighbours(similarity, paths.classes),
        tree=cluster_classes(similarity),
        agreement=class_agreement(paths, max_images=max_images, seed=seed),
        stability=split_half_stability(paths, n_splits=n_splits, confidence=confidence, seed=seed),
        seed=seed,
    )
