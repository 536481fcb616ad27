"""Whose activations replace whose in a resample-ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neuron_path.errors import NeuronPathError


def donors_of(sample_ids: Sequence[str], seed: int = 0, pictures: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give each image another one as its donor, and each image to one other: a derangement of the whole data set.

    The names in ascending order are shuffled by the seed, and each takes the next one, the last one the first: so the
    order of `sample_ids` does not matter, and no batch.

    Args:
        sample_ids: the images.
        seed: of the shuffle.
        pictures: by sample id the picture of those that share one: they count as one image, whose first name is taken.

    Raises:
        NeuronPathError: one image alone, or a name twice.

    >>> sorted(donors_of(["a", "b", "c"]).items())
    [('a', 'b'), ('b', 'c'), ('c', 'a')]
    """
    if len(set(sample_ids)) < len(sample_ids):
        raise NeuronPathError("An image is named twice among those to donate; give each its own sample_id.")
    sharing: dict[str, list[str]] = {}
    for name in sorted(sample_ids):
        sharing.setdefault((pictures or {}).get(name, name), []).append(name)
    names = [own[0] for own in sharing.values()]
    if len(names) < 2:
        raise NeuronPathError("Resample-ablation takes another image's activations, and there is only one image.")
    order = np.random.default_rng(seed).permutation(len(names))
    donors = {names[one]: names[other] for one, other in zip(order, np.roll(order, -1), strict=True)}
    return {name: donors[own[0]] for own in sharing.values() for name in own}
