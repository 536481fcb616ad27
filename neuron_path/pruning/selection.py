"""Which images rank neurons and which ones test the pruned model: never the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuron_path.errors import NeuronPathError


@dataclass(frozen=True)
class Split:
    """Images in two parts that share none, each by its places in ascending order.

    Attributes:
        selection: rank neurons, and give the mean activations that are folded in.
        evaluation: test the pruned models.
    """

    selection: list[int]
    evaluation: list[int]


def split_images(sample_ids: Sequence[str], classes: Sequence[int], share: float, seed: int) -> Split:
    """Split images at random into those that select and those that evaluate, class by class.

    Of each class's n images ``round(share · n)`` select, one at least; where there are two or more, one at least
    evaluates. An image's place in the draw depends on the seed and its name only, not on the order of the data.

    Args:
        sample_ids: (n,) names, each once.
        classes: (n,) labels, or targets.
        share: of the images that select, in (0, 1).
        seed: of the draw.

    Raises:
        NeuronPathError: a share out of range, a name that is there twice, or no class of two images.

    >>> split_images(["a", "b", "c", "d"], [0, 0, 1, 1], 0.5, seed=0)
    Split(selection=[0, 2], evaluation=[1, 3])
    """
    if not 0 < share < 1:
        raise NeuronPathError(
            f"The share of images that select is {share}; expected a number between 0 and 1, such as 0.5."
        )
    if len(set(sample_ids)) < len(sample_ids):
        doubled = next(name for name in sample_ids if list(sample_ids).count(name) > 1)
        raise NeuronPathError(f"The image '{doubled}' is there twice, so selection and evaluation might share it.")
    members: dict[int, list[int]] = {}
    for place, index in enumerate(classes):
        members.setdefault(index, []).append(place)
    selection: list[int] = []
    for places in members.values():
        drawn = sorted(places, key=lambda place: _draw(sample_ids[place], seed))
        count = min(max(1, math.floor(share * len(places) + 0.5)), max(1, len(places) - 1))
        selection += drawn[:count]
    chosen = set(selection)
    evaluation = [place for place in range(len(sample_ids)) if place not in chosen]
    if not evaluation:
        raise NeuronPathError(
            f"Each of the {len(members)} class(es) has one image only, which selects: none is left to test the pruned "
            "model. Take more images, or name others with evaluate_on=SPLIT or FOLDER."
        )
    return Split(sorted(selection), evaluation)


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "backslashreplace"), digest_size=16).digest()
