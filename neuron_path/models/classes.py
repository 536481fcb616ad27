"""The names of a model's classes, which say which folder of pictures is which class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from neuron_path.models.imagenet import imagenet_classes


def class_names(model: nn.Module) -> tuple[str, ...]:
    """The names of a model's classes by index; none where it does not know them.

    They are what its folder or its head says, as `label_names` of timm's `pretrained_cfg`, in words where
    `label_descriptions` has some.

    >>> import timm
    >>> model = timm.create_model("test_vit", num_classes=2)
    >>> class_names(name_classes(model, ["dog", "cat"])), class_names(timm.create_model("test_vit"))
    (('dog', 'cat'), ())
    """
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    keys = _label_keys(model)
    words = config.get("label_descriptions")
    return tuple(str(words.get(key, key)) for key in keys) if isinstance(words, Mapping) else keys


def name_classes(model: nn.Module, names: Collection[str]) -> nn.Module:
    """Note the names of a model's classes in it, none with no names, and return the model."""
    timm_model: Any = model
    timm_model.pretrained_cfg = {
        **(getattr(model, "pretrained_cfg", None) or {}),
        "label_names": tuple(names) or None,
        "label_descriptions": None,
    }
    return model


def count_classes(model: Any) -> int:
    """C: the outputs of a model's classifier, which may be another one than the model was made with.

    >>> import timm
    >>> model = timm.create_model("test_vit", num_classes=2)
    >>> model.head = nn.Sequential(nn.Linear(64, 9), nn.GELU(), nn.Linear(9, 3))
    >>> count_classes(model), model.num_classes
    (3, 2)
    """
    head = model.get_classifier() if hasattr(model, "get_classifier") else None
    parts = head.modules() if isinstance(head, nn.Module) else ()
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    return linear[-1].out_features if linear else model.num_classes


def known_classes(
    keys: Collection[str], model: nn.Module, *, is_named: bool = True
) -> tuple[Mapping[str, int], list[str], bool] | None:
    """Number the keys of a data set as the model's classes, by its own names or as ImageNet's synsets.

    Args:
        keys: names of class folders.
        model: whose classes they may be; upper case, `_`, `-` and spaces make no difference.
        is_named: whether the model's own names count; not for one whose head is fitted afterwards.

    Returns:
        The index of each key, the names of the classes, and whether these are the model's; None where the keys are
        no classes that are known.
    """
    names = class_names(model) if is_named else ()
    n_classes = int(getattr(model, "num_classes", 0)) if is_named else 0
    for spelled in (_label_keys(model), names) if names else ():
        for form in (str, _plain):
            index = _by_name(spelled, form)
            if keys and all(form(key) in index for key in keys):
                return {key: index[form(key)] for key in keys}, list(names), True
    found = imagenet_classes(keys, n_classes)
    if found is not None and found[2] and names and not _mostly_alike(names, found[1]):
        return None  # as many classes as ImageNet has, but others
    return found


def _mostly_alike(names: Collection[str], others: Collection[str]) -> bool:
    """Whether two lists of names mostly begin with the same words, as `tench` and `tench, Tinca tinca`."""
    both = zip(names, others, strict=True)
    return 2 * sum(_plain(one.split(",")[0]) == _plain(other.split(",")[0]) for one, other in both) > len(names)


def _label_keys(model: Any) -> tuple[str, ...]:
    """The names of the classes as data sets have them, as `n01440764`; all of them, or none."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("label_names") or ()
    if isinstance(names, Mapping):
        by_number = {str(number): name for number, name in names.items()}
        names = [by_number.get(str(number)) for number in range(len(names))]
    found = tuple(str(name) for name in names if name is not None)
    return found if len(found) == getattr(model, "num_classes", None) else ()


def _by_name(names: Collection[str], form: Any) -> dict[str, int]:
    """The index of each name in a form in which it is the only one."""
    formed = [form(name) for name in names]
    count = Counter(formed)
    return {name: place for place, name in enumerate(formed) if count[name] == 1}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
