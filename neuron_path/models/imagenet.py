"""ImageNet's classes by their synsets, as timm numbers and names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from functools import cache

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

_SYNSET = re.compile(r"n\d{8}")
_LARGEST = "imagenet-22k"


def imagenet_classes(keys: Collection[str], n_classes: int) -> tuple[dict[str, int], list[str], bool] | None:
    """Indices and class names of ImageNet's synsets, and whether these are the model's; None where the keys are others.

    They are numbered as the outputs of a model with `n_classes` classes, where ImageNet has a set of so many with all
    of them; else by their order, and have their names only.

    Args:
        keys: names of class folders.
        n_classes: of the model.

    >>> index, names, _ = imagenet_classes(["n02099601", "n01440764"], 1000)
    >>> index["n02099601"], names[207], names[0], len(names)
    (207, 'golden retriever', 'tench, Tinca tinca', 1000)
    >>> imagenet_classes(["n02099601", "n01440764"], 2)
    ({'n01440764': 0, 'n02099601': 1}, ['tench, Tinca tinca', 'golden retriever'], False)
    >>> imagenet_classes(["cat", "dog"], 1000)
    """
    if not keys or not all(_SYNSET.fullmatch(key) for key in keys):
        return None
    subset = infer_imagenet_subset({"num_classes": n_classes})
    own = _synsets(subset) if subset else {}
    if all(key in own for key in keys):
        return {key: place for place, key in enumerate(own)}, _distinct(own), True
    everything = _synsets(_LARGEST)
    chosen = {key: everything.get(key, key) for key in sorted(keys)}
    return {key: place for place, key in enumerate(chosen)}, _distinct(chosen), False


@cache
def _synsets(subset: str) -> dict[str, str]:
    """Synset → name, in the order of the model's outputs."""
    info = ImageNetInfo(subset)
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}


def _distinct(names: dict[str, str]) -> list[str]:
    """The names, with the synset behind one that several have, as the bird and the machine called crane do."""
    count = Counter(names.values())
    return [name if count[name] == 1 else f"{name} ({key})" for key, name in names.items()]
