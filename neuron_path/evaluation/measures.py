"""Per-image effects of an intervention, as plain NumPy; B is the number of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_path.errors import NeuronPathError

_ROUNDING = 1e-6
"""How far above 1 a softmax in single precision may end."""


def probability_deviation(clean: ArrayLike, edited: ArrayLike) -> NDArray[np.float64]:
    """Return by how much an edit changes the target probability, relative to the clean one: p_edit / p_clean − 1.

    The measure of Wang et al. (ICLR 2025), per image: −0.25 means a quarter of the probability is lost, 0 no effect.

    Args:
        clean: (B,) target probabilities of the untouched network, in (0, 1].
        edited: (B,) target probabilities of the same images and targets after the edit, in [0, 1].

    Returns:
        (B,) deviations, dimensionless, at least −1.

    Raises:
        NeuronPathError: for unequal shapes, values that are no probabilities, or a clean probability of 0, whose
            relative change has no meaning.

    >>> probability_deviation([0.8, 0.5], [0.6, 0.5])
    array([-0.25,  0.  ])
    """
    before, after = _probabilities("clean", clean), _probabilities("edited", edited)
    _check_lengths(clean=before, edited=after)
    if zeros := int((before == 0).sum()):
        raise NeuronPathError(
            f"{zeros} of {len(before)} clean probabilities are 0, so their relative change is undefined; expected more "
            "than 0. Leave those images out, or compute the probabilities in float64."
        )
    return after / before - 1


def accuracy_deviation(
    clean_predictions: ArrayLike, edited_predictions: ArrayLike, labels: ArrayLike
) -> NDArray[np.float64]:
    """Return what an edit does to each image's top-1 accuracy: top-1(edit) − top-1(clean), in percentage points.

    An image gives −100 when the edit loses a right answer, +100 when it finds one, and 0 otherwise; their mean is the
    accuracy deviation of the set.

    Args:
        clean_predictions: (B,) class indices predicted by the untouched network.
        edited_predictions: (B,) class indices predicted after the edit.
        labels: (B,) true class indices.

    Returns:
        (B,) values in percentage points.

    Raises:
        NeuronPathError: for unequal shapes or values that are no class indices.

    >>> accuracy_deviation([3, 3, 1], [3, 5, 2], labels=[3, 3, 2])
    array([   0., -100.,  100.])
    """
    before, after = _classes("clean_predictions", clean_predictions), _classes("edited_predictions", edited_predictions)
    truth = _classes("labels", labels)
    _check_lengths(clean_predictions=before, edited_predictions=after, labels=truth)
    return 100.0 * ((after == truth).astype(np.float64) - (before == truth))


def _probabilities(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _vector(name, np.asarray(values, dtype=np.float64))
    wrong = ~((array >= 0) & (array <= 1 + _ROUNDING))
    if wrong.any():
        raise NeuronPathError(
            f"{int(wrong.sum())} of {len(array)} {name} probabilities lie outside [0, 1] (first: {array[wrong][0]}). "
            "Give softmax probabilities, not logits."
        )
    return array


def _classes(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = _vector(name, np.asarray(values))
    if array.size and array.dtype.kind not in "iu":
        raise NeuronPathError(f"'{name}' has type {array.dtype}; expected integers. Give class indices.")
    return array.astype(np.int64)


def _vector(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1:
        raise NeuronPathError(f"'{name}' has shape {array.shape}; expected (B,). Give one value per image.")
    return array


def _check_lengths(**arrays: np.ndarray) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        found = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise NeuronPathError(f"The images differ in number ({found}); join them by sample_id first.")
