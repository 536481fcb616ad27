"""What figures accept: paths, neuron counts and pictures, checked once and put into one shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neuron_path.errors import NeuronPathError

Neurons = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def check_paths(paths: npt.ArrayLike, n_axes: int, *, name: str, lowest: int = 0) -> Neurons:
    """Return paths with an explicit top-k axis: (…, L) or (…, L, k) becomes (…, L, k).

    Args:
        paths: neuron indices; integers, not negative.
        n_axes: how many axes a path of one neuron per block has (1 for one image, 2 for many).
        name: what the caller names the argument, for the message.
        lowest: index that may occur; −1 where it may stand for no neuron.

    Raises:
        NeuronPathError: another number of axes, an empty axis, a value that is no index.
    """
    array = _as_array(paths, name)
    shape = "(L,) or (L, k)" if n_axes == 1 else "(N, L) or (N, L, k)"
    if array.ndim not in (n_axes, n_axes + 1) or array.size == 0:
        raise NeuronPathError(f"{name} has shape {array.shape}, expected {shape} with no empty axis.")
    if not np.issubdtype(array.dtype, np.integer):
        raise NeuronPathError(f"{name} has values of type {array.dtype}, expected integer neuron indices.")
    if array.min() < lowest:
        raise NeuronPathError(f"{name} holds the neuron index {array.min()}, expected {lowest} or more.")
    return array.astype(np.int64).reshape(*array.shape[:n_axes], -1)


def check_n_neurons(n_neurons: int | Sequence[int], paths: Neurons, *, name: str) -> Neurons:
    """Return the FFN width of every block, (L,), after checking that each path index exists in its block.

    Args:
        n_neurons: one width for all blocks, or one per block.
        paths: (…, L, k), as `check_paths` returns them.
        name: what the caller names the paths, for the message.

    Raises:
        NeuronPathError: another number of widths than blocks, a width below 1, or an index beyond its block's width.
    """
    n_blocks = paths.shape[-2]
    widths = _as_array(n_neurons, "n_neurons")
    if widths.ndim == 0:
        widths = np.full(n_blocks, widths)
    if widths.shape != (n_blocks,) or not np.issubdtype(widths.dtype, np.integer) or widths.min() < 1:
        raise NeuronPathError(
            f"n_neurons is {n_neurons}, expected a positive integer, or one for each of the {n_blocks} blocks."
        )
    highest = np.moveaxis(paths, -2, 0).reshape(n_blocks, -1).max(axis=1)
    beyond = np.flatnonzero(highest >= widths)
    if beyond.size:
        block = int(beyond[0])
        raise NeuronPathError(
            f"{name} names neuron {highest[block]} in block {block}, expected 0 to {widths[block] - 1}: "
            f"the block has {widths[block]} neurons."
        )
    return widths.astype(np.int64)


def check_per_block(values: npt.ArrayLike, n_blocks: int, *, name: str) -> Floats:
    """Return one number per block, (L,) float64; NaN is allowed and means "none".

    Raises:
        NeuronPathError: another shape than (L,).
    """
    array = _as_array(values, name).astype(np.float64)
    if array.shape != (n_blocks,):
        raise NeuronPathError(f"{name} has shape {array.shape}, expected ({n_blocks},): one value per block.")
    return array


def check_scores(scores: npt.ArrayLike, widths: Neurons) -> Floats:
    """Return candidate scores, (L, F) float64 for the largest width F; what is not finite is kept.

    Raises:
        NeuronPathError: another shape.
    """
    array = _as_array(scores, "candidate_scores").astype(np.float64)
    if array.shape != (len(widths), int(widths.max())):
        raise NeuronPathError(
            f"candidate_scores has shape {array.shape}, expected ({len(widths)}, {widths.max()}): blocks × neurons."
        )
    return array


def check_image(image: npt.ArrayLike) -> Floats:
    """Return a picture as (H, W) or (H, W, 3) float64 in [0, 1]; (H, W, 1) becomes (H, W), and uint8 is divided by 255.

    Raises:
        NeuronPathError: another shape, a value that is not finite or lies outside [0, 1] by more than rounding.
    """
    array = _as_array(image, "image")
    array = array.astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or array.size == 0:
        raise NeuronPathError(f"image has shape {array.shape}, expected (H, W) or (H, W, 3), channels last.")
    if not np.isfinite(array).all():
        raise NeuronPathError("image holds NaN or infinite values, expected values in [0, 1].")
    if array.min() < -1e-3 or array.max() > 1 + 1e-3:
        raise NeuronPathError(
            f"image has values from {array.min():g} to {array.max():g}, expected [0, 1]: undo the normalisation first."
        )
    return np.clip(array, 0, 1)


def _as_array(values: npt.ArrayLike, name: str) -> npt.NDArray[np.generic]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise NeuronPathError(f"{name} has rows of different lengths, expected a full array.") from error
    if not (np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.bool_)):
        raise NeuronPathError(f"{name} holds values of type {array.dtype}, expected numbers.")
    return array
