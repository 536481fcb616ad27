"""What is known of a neuron: the classes whose paths it is on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from neuron_path.classes.usage import Usage
from neuron_path.errors import NeuronPathError


def neuron_table(usage: Usage) -> pd.DataFrame:
    """Return one row for each neuron that is on any path, sorted by block and neuron.

    Columns: ``block``, ``neuron``, ``n_images`` whose path has it, ``n_classes`` of these images, ``top_class`` that
    has it most often (by share of its images; ties: the first) and ``top_frequency`` (that share), and
    ``mean_frequency`` (mean share over all classes).

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> from neuron_path.classes.usage import count_usage
    >>> table = neuron_table(count_usage(make_class_paths([[0], [0], [1]], [7, 7, 8])))
    >>> table[["neuron", "n_images", "top_class", "mean_frequency"]].values.tolist()
    [[0.0, 2.0, 7.0, 0.5], [1.0, 1.0, 8.0, 0.5]]
    """
    frequencies = sparse.csc_array(usage.frequencies())
    used = np.flatnonzero(np.diff(frequencies.indptr))
    frequencies = sparse.csc_array(frequencies[:, used])
    counts = sparse.csc_array(usage.counts[:, used])
    starts = frequencies.indptr[:-1]
    column = np.repeat(np.arange(len(used)), np.diff(frequencies.indptr))
    # Rounded, so that the same share of other numbers of images is a tie.
    shares = np.asarray(frequencies.data, dtype=np.float64)
    top = np.lexsort((frequencies.indices, -shares.round(12), column))[starts]
    blocks = np.searchsorted(usage.offsets, used, side="right") - 1
    return pd.DataFrame(
        {
            "block": blocks,
            "neuron": used - usage.offsets[blocks],
            "n_images": np.add.reduceat(counts.data, counts.indptr[:-1]),
            "n_classes": np.diff(frequencies.indptr).astype(np.int64),
            "top_class": usage.classes[frequencies.indices[top]],
            "top_frequency": shares[top],
            "mean_frequency": np.add.reduceat(shares, starts) / len(usage.classes),
        }
    )


def neuron_classes(usage: Usage, block: int, neuron: int) -> pd.DataFrame:
    """Return the classes whose paths a neuron is on, the one that has it most often first; ties by class.

    Args:
        usage: of all classes.
        block: 0 … L − 1.
        neuron: 0 … F − 1.

    Returns:
        ``class``, ``count`` (images of it), ``n`` (its images) and ``frequency``; no row for a neuron on no path.

    Raises:
        NeuronPathError: for a block or neuron that there is not.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> from neuron_path.classes.usage import count_usage
    >>> usage = count_usage(make_class_paths([[0], [1], [1]], [7, 7, 8]))
    >>> neuron_classes(usage, block=0, neuron=1)[["class", "frequency"]].values.tolist()
    [[8.0, 1.0], [7.0, 0.5]]
    """
    if not 0 <= block < len(usage.n_neurons):
        raise NeuronPathError(f"There is no block {block}; expected 0 to {len(usage.n_neurons) - 1}.")
    if not 0 <= neuron < usage.n_neurons[block]:
        raise NeuronPathError(f"Block {block} has no neuron {neuron}; expected 0 to {usage.n_neurons[block] - 1}.")
    counts = usage.block(block)[:, [neuron]].toarray().ravel()
    table = pd.DataFrame(
        {"class": usage.classes, "count": counts, "n": usage.n_images, "frequency": counts / usage.n_images}
    )
    table = table.loc[counts > 0]
    order = np.lexsort((table["class"].to_numpy(), -table["frequency"].to_numpy().round(12)))
    return table.iloc[order].reset_index(drop=True)
