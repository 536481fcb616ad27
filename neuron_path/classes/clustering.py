"""Classes and images put in trees by what their paths have in common, and agreement with known labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_mutual_info_score

from neuron_path.classes.class_paths import ClassPaths, check_classes
from neuron_path.classes.pairs import pair_overlaps
from neuron_path.classes.similarity import check_similarity
from neuron_path.errors import NeuronPathError, unknown_name

Linkage = Literal["average", "complete", "single"]

_LINKAGES: Final = ("average", "complete", "single")
_ORDERED: Final = 1000
"""Leaves up to which the best of the tree's orders is looked for, in a time that grows with their square or more."""


@dataclass(frozen=True, eq=False)
class ClassTree:
    """A tree of C classes.

    Attributes:
        linkage: (C − 1, 4) merges as scipy writes them: two nodes, their distance 1 − similarity, the leaves below.
        order: (C,) positions of the classes from the first leaf to the last, neighbours as alike as the tree allows.
        cophenetic: correlation of the classes' distances with the heights at which the tree joins them; 1: the tree
            says all; NaN where one of the two is constant.
    """

    linkage: NDArray[np.float64]
    order: NDArray[np.int64]
    cophenetic: float

    def cut(self, n_clusters: int) -> NDArray[np.int64]:
        """Return the cluster of each class, (C,), when the tree is cut into ``n_clusters`` (fewer where merges tie).

        Clusters are numbered from 0 in the order of their first class.

        Raises:
            NeuronPathError: for a number that is not in 1 … C.
        """
        n_classes = len(self.order)
        if not 1 <= n_clusters <= n_classes:
            raise NeuronPathError(f"n_clusters is {n_clusters}; expected 1 to {n_classes}, the number of classes.")
        return _cut(self.linkage, n_clusters)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well clusters of images, made without their classes, agree with the classes.

    Attributes:
        ami: adjusted mutual information, 1 for the same partition, 0 on average for chance.
        n_clusters: the clusters, as many as classes.
        n_images: the images that were clustered.
        n_all: the images there are.
    """

    ami: float
    n_clusters: int
    n_images: int
    n_all: int


def cluster_classes(similarity: ArrayLike, *, linkage: Linkage = "average") -> ClassTree:
    """Cluster classes hierarchically by the distance 1 − similarity.

    Args:
        similarity: (C, C) symmetric, as :func:`~neuron_path.classes.similarity.class_similarity` returns it.
        linkage: what the distance of two clusters is: the ``average``, the largest (``complete``) or the smallest
            (``single``) of their members' distances. Ward's is not offered: 1 − cosine is no Euclidean distance.

    Raises:
        NeuronPathError: for anything but a symmetric matrix of two classes or more, and an unknown linkage.

    >>> tree = cluster_classes([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    >>> tree.cut(2).tolist(), round(tree.cophenetic, 3)
    ([0, 0, 1], 0.993)
    """
    matrix, _ = check_similarity(similarity)
    if linkage not in _LINKAGES:
        raise unknown_name("linkage", linkage, _LINKAGES)
    distances = squareform((1 - matrix).clip(min=0), checks=False)
    tree = hierarchy.linkage(distances, linkage)
    heights = hierarchy.cophenet(tree)
    if len(matrix) <= _ORDERED:
        tree = hierarchy.optimal_leaf_ordering(tree, distances)
    varied = np.ptp(distances) > 1e-12 and np.ptp(heights) > 1e-12
    cophenetic = float(np.corrcoef(distances, heights)[0, 1]) if varied else float("nan")
    return ClassTree(tree, hierarchy.leaves_list(tree).astype(np.int64), cophenetic)


def cluster_images(paths: ClassPaths, n_clusters: int) -> NDArray[np.int64]:
    """Cluster images by their paths alone: Ward's method on the distance √(1 − overlap), cut into ``n_clusters``.

    That distance is Euclidean, as Ward's method asks, because the Jaccard index and its mean over blocks are positive
    definite (Gower and Legendre 1986).

    Args:
        paths: grouped paths; the classes are not looked at. Memory and time grow with n².
        n_clusters: 1 … n.

    Returns:
        (n,) clusters, numbered from 0 in the order of their first image.

    Raises:
        NeuronPathError: for another number of clusters, or a single image.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> cluster_images(make_class_paths([[0, 3], [1, 2], [0, 3], [1, 2]], [7, 7, 7, 7]), 2).tolist()
    [0, 1, 0, 1]
    """
    n = paths.n_images
    if n < 2:
        raise NeuronPathError("There is one image, and nothing to cluster; give the paths of two images or more.")
    if not 1 <= n_clusters <= n:
        raise NeuronPathError(f"n_clusters is {n_clusters}; expected 1 to {n}, the number of images.")
    # Images whose names come first come first, whatever their classes: ties must not know the classes.
    order = np.argsort(paths.images)
    overlaps = np.empty((n, n), dtype=np.float64)
    for begin, end, rows in pair_overlaps(paths):
        overlaps[begin:end] = rows
    distances = np.sqrt(squareform((1 - overlaps[np.ix_(order, order)]).clip(min=0), checks=False))
    clusters = np.empty(n, dtype=np.int64)
    clusters[order] = _cut(hierarchy.linkage(distances, "ward"), n_clusters)
    return _renumber(clusters)


def class_agreement(paths: ClassPaths, *, max_images: int = 4000, seed: int = 0) -> Agreement:
    """Cluster images by their paths, into as many clusters as there are classes, and compare the two partitions.

    Args:
        paths: grouped paths.
        max_images: of more images, so many are drawn; n² distances are needed.
        seed: of that draw.

    Raises:
        NeuronPathError: for one class only, one image in each, or ``max_images`` below 2.
    """
    check_classes(paths, "Agreement with classes", pairs=True)
    if max_images < 2:
        raise NeuronPathError(f"max_images is {max_images}; expected 2 or more, such as 4000.")
    part = paths
    if paths.n_images > max_images:
        by_name = np.argsort(paths.images)
        drawn = np.random.default_rng(seed).choice(paths.n_images, max_images, replace=False)
        part = paths.take(np.sort(by_name[drawn]))
    clusters = cluster_images(part, part.n_classes)
    return Agreement(agreement(clusters, part.members), part.n_classes, part.n_images, paths.n_images)


def agreement(clusters: ArrayLike, labels: ArrayLike) -> float:
    """Return the adjusted mutual information of two partitions, such as clusters of classes and known groups of them.

    AMI = (I − E[I]) / (mean entropy − E[I]), with E[I] the mean over partitions of the same sizes (Vinh, Epps and
    Bailey 2010); scikit-learn computes it.

    Args:
        clusters: (N,) cluster of each item; any integers or strings.
        labels: (N,) its known group.

    Returns:
        1 for the same partition under any names, 0 on average for chance; it may be below 0.

    Raises:
        NeuronPathError: for unequal lengths or no item.

    >>> agreement([0, 0, 1, 1], ["cat", "cat", "dog", "dog"])
    1.0
    """
    one, other = np.asarray(clusters), np.asarray(labels)
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise NeuronPathError(
            f"The clusters have shape {one.shape} and the labels {other.shape}; expected (N,) twice, one per item."
        )
    with warnings.catch_warnings():
        # Many clusters are no sign that these are regression targets.
        warnings.simplefilter("ignore", UserWarning)
        return float(adjusted_mutual_info_score(other, one))


def _cut(linkage: Any, n_clusters: int) -> NDArray[np.int64]:
    return _renumber(hierarchy.fcluster(linkage, n_clusters, criterion="maxclust"))


def _renumber(clusters: NDArray[np.integer]) -> NDArray[np.int64]:
    _, first, numbers = np.unique(clusters, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[numbers]
