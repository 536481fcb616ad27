"""What made these numbers: versions, code, configuration, weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from neuron_path.errors import NeuronPathError
from neuron_path.store.jsonable import jsonable

_DISTRIBUTIONS = ("torch", "timm", "lightning", "numpy", "neuron_path")


def collect_provenance(config: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """Gather what a run's numbers depend on, ready for JSON.

    Args:
        config: the full configuration as plain mappings; its ``seed`` is repeated at the top.
        **parts: whatever else made the numbers, by name: the model's name, the weight hash, the preprocessing, the
            token scope, the quadrature rule.

    Returns:
        ``parts``, ``config``, ``seed``, ``versions`` and ``git`` (``commit`` and ``dirty``; both None outside a
        checkout), which are the same for the same run, and ``environment`` (``created``, ``platform``), which is not.

    Raises:
        NeuronPathError: when the configuration or a part has no JSON form.

    >>> provenance = collect_provenance({"seed": 3}, model="digits_vit", token_scope="cls")
    >>> provenance["model"], provenance["seed"], sorted(provenance["environment"])
    ('digits_vit', 3, ['created', 'platform'])
    """
    return {
        **{name: jsonable(part, name) for name, part in parts.items()},
        "seed": jsonable(config.get("seed"), "seed"),
        "config": jsonable(config, "config"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _DISTRIBUTIONS},
        "git": git_state(Path(__file__)),
        "environment": {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "platform": platform.platform(),
        },
    }


def weight_hash(named_arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the SHA-256 of a model's weights: of each array's name, type, shape and bytes, in the order of the names.

    Args:
        named_arrays: (name, array) pairs in any order, any shapes; the caller turns tensors into arrays.

    Raises:
        NeuronPathError: when two arrays have one name.

    >>> one, two = ("a", np.zeros(2)), ("b", np.ones(3, dtype=np.float32))
    >>> weight_hash([one, two]) == weight_hash([two, one]) != weight_hash([one])
    True
    """
    arrays = sorted(named_arrays, key=lambda pair: pair[0])
    names = [name for name, _ in arrays]
    if len(set(names)) < len(names):
        doubled = next(name for name, after in itertools.pairwise(names) if name == after)
        raise NeuronPathError(f"Two weight arrays are named '{doubled}'; give each its own name.")
    digest = hashlib.sha256()
    for name, array in arrays:
        # The header ends each array's bytes unambiguously: moving a byte to the next array changes a shape.
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def git_state(file: Path, but: Sequence[str] = ()) -> dict[str, Any]:
    """Return the commit of the checkout that tracks ``file``, and whether tracked files differ from it.

    ``but`` are git's pathspecs of files that may differ. Both are None where no checkout tracks it (an installed wheel,
    also one inside another project's checkout) or there is no git; nothing is raised.
    """
    state: dict[str, Any] = {"commit": None, "dirty": None}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _git(file, "ls-files", "--error-unmatch", file.name)
        commit = _git(file, "rev-parse", "HEAD")
        state = {
            "commit": commit,
            "dirty": bool(_git(file, "status", "--porcelain", "--untracked-files=no", "--", ":/", *but)),
        }
    return state


def _git(file: Path, *arguments: str) -> str:
    # Without GIT_*: inside a hook those point at the hook's repository. No optional locks: a reader stops nobody.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments],
        cwd=file.parent,
        env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        check=True,
        timeout=10,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
