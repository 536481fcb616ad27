"""Which images of a data set a run takes: some classes, at most so many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuron_path.errors import NeuronPathError, unknown_name


def choose_part(
    labels: Sequence[int | None],
    classes: Sequence[str],
    *,
    only: Sequence[str | int] | None = None,
    limit: int | None = None,
) -> list[int]:
    """Indices of the images to take, ascending.

    Args:
        labels: each image's class index; None where it has no label.
        classes: class names; the position is the index.
        only: names of the classes to keep; None keeps all.
        limit: at most so many images, spread evenly over what is left, so that every class keeps its share of a sorted
            folder; None keeps all.

    Raises:
        NeuronPathError: an unknown class, no class at all, classes asked of unlabelled images, a limit below 1.

    >>> choose_part([0, 0, 1, 1], ["cat", "dog"], only=["dog"])
    [2, 3]
    >>> choose_part([0, 0, 1, 1], ["cat", "dog"], limit=2)
    [0, 2]
    """
    indices = list(range(len(labels)))
    if only is not None:
        if not only:
            raise NeuronPathError("data.classes is empty: name at least one class, or give null for all.")
        if not classes:
            raise NeuronPathError(f"data.classes is {list(only)}, but the images have no labels: leave it out.")
        wanted = {_class_index(str(name), classes) for name in only}
        indices = [index for index in indices if labels[index] in wanted]
    if limit is not None:
        if limit < 1:
            raise NeuronPathError(f"data.limit is {limit}; expected at least 1 image, or null for all.")
        if limit < len(indices):
            indices = [indices[i] for i in np.arange(limit) * len(indices) // limit]
    return indices


def _class_index(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise unknown_name("class", name, classes) if len(classes) <= 20 else _unknown_of_many(name, classes)
    return list(classes).index(name)


def _unknown_of_many(name: str, classes: Sequence[str]) -> NeuronPathError:
    return NeuronPathError(f"No class is named '{name}': expected one of {len(classes)}, such as '{classes[0]}'.")
