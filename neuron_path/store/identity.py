"""What makes two runs the same search: everything that a path depends on, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from neuron_path.errors import NeuronPathError

N_SHOWN = 5  # differences named in an error


def digest(values: Iterable[object]) -> str:
    """Return the SHA-256 of a list of values, such as the names of all images.

    >>> digest(["a", "b"]) == digest(["a", "b"]) != digest(["ab"])
    True
    """
    found = hashlib.sha256()
    for value in values:
        found.update(f"{value}\0".encode("utf-8", "backslashreplace"))
    return found.hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words what differs between two identities, setting by setting.

    Of the images' content only what both know is compared: a picture that could not be read may be fixed.

    >>> differences({"seed": 0, "search": {"name": "beam", "width": 3}}, {"seed": 1, "search": {"name": "greedy"}})
    ["search.name was 'beam' and is 'greedy'", 'search.width was 3 and is absent', 'seed was 0 and is 1']
    """
    old, new = _flat(before), _flat(now)
    return [
        f"{name} was {_shown(old, name)} and is {_shown(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
        and not (name.startswith(_CONTENT) and (name not in old or name not in new))
    ]


def check_same(run_dir: object, found: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a NeuronPathError that shows the differences between a run directory's search and another, if any.

    Args:
        run_dir: the directory.
        found: what lies there, in words.
        before: the identity of the search that wrote there.
        now: that of the search that wants to.
    """
    changed = differences(before, now)
    if changed:
        more = f"; and {len(changed) - N_SHOWN} more" if len(changed) > N_SHOWN else ""
        raise NeuronPathError(
            f"Run directory {str(run_dir)!r} already holds results ({found}) of another search: "
            f"{'; '.join(changed[:N_SHOWN])}{more}. Choose another directory with hydra.run.dir=DIR, or continue all "
            "the same with resume_mode=force."
        )


_ABSENT = object()
_CONTENT = "data.content"


def _flat(identity: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in identity.items():
        if isinstance(value, Mapping) and value:
            named |= _flat(value, f"{parent}{name}.")
        else:
            named[f"{parent}{name}"] = value
    return named


def _shown(named: Mapping[str, Any], name: str) -> str:
    if name not in named:
        return "absent"
    text = repr(named[name])
    return text if len(text) <= 60 else f"{text[:57]}…"
