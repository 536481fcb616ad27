"""Per-image effects of an intervention, as plain NumPy; B is the number of images, S that of sizes on a curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

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


def logit_difference(clean: ArrayLike, edited: ArrayLike) -> NDArray[np.float64]:
    """Return what an edit does to each image's target logit: edited − clean.

    Args:
        clean: (B,) target logits of the untouched network.
        edited: (B,) target logits of the same images and targets after the edit.

    Returns:
        (B,) differences, in logits.

    Raises:
        NeuronPathError: for unequal shapes.

    >>> logit_difference([4.0, 2.0], [3.0, 2.5])
    array([-1. ,  0.5])
    """
    before = _vector("clean", np.asarray(clean, dtype=np.float64))
    after = _vector("edited", np.asarray(edited, dtype=np.float64))
    _check_lengths(clean=before, edited=after)
    return after - before


def curve_area(sizes: ArrayLike, retained: ArrayLike) -> NDArray[np.float64]:
    """Return the area under each image's necessity or sufficiency curve.

    The curve is p_edit / p_clean against size / largest size, with straight lines between the measured sizes, so that
    a curve that stays at 1 has the area 1, whatever the sizes.

    Args:
        sizes: (S,) how many neurons per block were edited, at least two different sizes from 0 up, in any order.
        retained: (B, S) p_edit / p_clean of each image at each size, dimensionless.

    Returns:
        (B,) areas, dimensionless.

    Raises:
        NeuronPathError: for other shapes, fewer than two sizes, a size twice, or sizes that do not begin at 0.

    >>> curve_area([0, 5, 10], [[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])
    array([0.5, 1. ])
    """
    places, heights = np.asarray(sizes, dtype=np.float64), np.asarray(retained, dtype=np.float64)
    if heights.ndim != 2 or places.ndim != 1 or heights.shape[1] != len(places):
        raise NeuronPathError(
            f"The curves have shape {heights.shape} and the sizes {places.shape}; expected (B, S) and (S,). "
            "Give one value per image and size."
        )
    order = np.argsort(places)
    places, heights = places[order], heights[:, order]
    if len(places) < 2 or places[0] != 0 or (np.diff(places) == 0).any():
        raise NeuronPathError(
            f"A curve was measured at sizes {places.tolist()}; expected 0 and at least one more, each once. "
            "Evaluate the path at growing sizes."
        )
    return np.asarray(trapezoid(heights, places / places[-1], axis=1), dtype=np.float64)


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
