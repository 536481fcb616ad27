"""How the path of an image differs from the paths of its class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.overlap import OverlapTest
from neuron_path.classes.usage import Usage, concentration
from neuron_path.errors import NeuronPathError, nearest


def image_table(paths: ClassPaths, usage: Usage, overlap: OverlapTest) -> pd.DataFrame:
    """Return one row for each image, sorted by class and then by sample id.

    Columns: ``sample_id``, ``class``; ``own`` and ``others``, its mean path overlap with the other images of its class
    (NaN where there are none) and with those of other classes; ``nearest_class``, the class with whose images, itself
    left out, it shares most on average (ties: the first); ``n_differing``, the blocks whose path neurons do not include
    the class's most frequent one.
    """
    top = _top_neurons(usage)[paths.members]
    differs = ~(paths.paths == top[:, :, None]).any(axis=2)
    return pd.DataFrame(
        {
            "sample_id": paths.images,
            "class": paths.classes[paths.members],
            "own": overlap.own,
            "others": overlap.others,
            "nearest_class": paths.classes[overlap.nearest],
            "n_differing": differs.sum(axis=1),
        }
    )


def describe_image(paths: ClassPaths, usage: Usage, sample_id: str) -> pd.DataFrame:
    """Say block by block how an image's path differs from its class's.

    Args:
        paths: grouped paths.
        usage: counted from them.
        sample_id: one of ``paths.images``.

    Returns:
        A row for each block and path neuron, in the order of the path: ``block``, ``neuron``; ``frequency``, the share
        of the *other* images of its class whose path has it (NaN where there are none); ``class_neuron``, the class's
        most frequent one in the block, and ``class_frequency``, the share of its images; ``differs``, whether the
        class's is not among the image's; ``top_class``, the class that has this neuron most often, itself left out of
        its own class, and ``top_frequency``.

    Raises:
        NeuronPathError: for an image that has no path here.
    """
    found = np.flatnonzero(paths.images == sample_id)
    if not found.size:
        hint = nearest(str(sample_id), paths.images.tolist())
        raise NeuronPathError(f"No path is of the image '{sample_id}'.{hint} Give one of paths.images.")
    row = int(found[0])
    own = int(paths.members[row])
    chosen = paths.paths[row]
    columns = (chosen + paths.offsets[:, None]).ravel()
    counts = usage.counts[:, columns].toarray()
    counts[own] -= 1
    n_images = usage.n_images[:, None].copy()
    n_images[own] -= 1
    shares = np.divide(counts, n_images, out=np.full(counts.shape, np.nan), where=n_images > 0)
    top = np.nan_to_num(shares, nan=-1.0).round(12).argmax(axis=0)
    blocks = np.repeat(np.arange(paths.n_blocks), paths.top_k)
    class_neurons = _top_neurons(usage)[own]
    class_shares = usage.counts[[own], :][:, class_neurons + paths.offsets].toarray().ravel() / usage.n_images[own]
    return pd.DataFrame(
        {
            "block": blocks,
            "neuron": chosen.ravel(),
            "frequency": shares[own],
            "class_neuron": class_neurons[blocks],
            "class_frequency": class_shares[blocks],
            "differs": ~(chosen == class_neurons[:, None]).any(axis=1)[blocks],
            "top_class": paths.classes[top],
            "top_frequency": shares[top, np.arange(len(columns))],
        }
    )


def _top_neurons(usage: Usage) -> np.ndarray:
    """(C, L) each class's most frequent neuron of each block; ties: the lowest index."""
    return concentration(usage)["top_neuron"].to_numpy(dtype=np.int64).reshape(len(usage.classes), -1)
