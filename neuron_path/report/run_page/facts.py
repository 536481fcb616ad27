"""What was run, and its other numbers, as pairs of plain text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from neuron_path.report.figures.blocks import unit_of

Pairs = list[tuple[str, str]]

_FACTS: Final = {
    "model": "Model",
    "weight_hash": "Weights (hash)",
    "data": "Data",
    "folder": "Folder",
    "n_images": "Images",
    "scorer": "Scorer",
    "baselines": "Baselines",
    "search": "Search",
    "measure": "What the search maximises",
    "quadrature": "Quadrature",
    "n_steps": "Quadrature nodes",
    "target": "Target function",
    "token_scope": "Token scope",
    "units": "Units",
    "top_k": "Neurons per block",
    "n_blocks": "Blocks",
    "ffn_width": "Neurons of a block",
    "seed": "Seed",
    "git_commit": "Commit",
    "created": "Started",
    "versions": "Versions",
}
_HASHES: Final = ("weight_hash", "git_commit")
_DIGEST: Final = 12
_METRICS: Final = {"images_per_second": "Images per second", "wall_seconds": "Wall time (s)"}


def run_facts(provenance: Mapping[str, object]) -> Pairs:
    """Say what was run.

    Args:
        provenance: known keys come first, in one order; hashes are shortened to 12 characters; other single values
            follow. Mappings are not shown, but for `versions`; neither are missing and empty values.

    >>> run_facts({"seed": 0, "model": "digits_vit", "weight_hash": "0123456789abcdef", "config": {}})
    [('Model', 'digits_vit'), ('Weights (hash)', '0123456789ab'), ('Seed', '0')]
    """
    ordered = {key: provenance[key] for key in _FACTS if key in provenance}
    ordered |= {key: value for key, value in provenance.items() if key not in ordered}
    unit = unit_of(str(provenance.get("units", "ffn"))).capitalize()
    shown = [(key, _fact(key, value)) for key, value in ordered.items() if value is not None]
    return [(_FACTS.get(key, heading(key)).replace("Neurons", f"{unit}s"), text) for key, text in shown if text]


def run_metrics(metrics: Mapping[str, object]) -> Pairs:
    """Write the numbers of a run, speed first; nested mappings are flattened, missing values left out.

    >>> run_metrics({"mean_score": {"random": 0.0123456}, "wall_seconds": 59.87654})
    [('Wall time (s)', '59.88'), ('Mean score: random', '0.01235')]
    """
    flat = _flatten(metrics)
    first = {key: flat[key] for key in _METRICS if key in flat}
    return [(_METRICS.get(key, heading(key)), plain_number(value)) for key, value in (first | flat).items()]


def heading(key: str) -> str:
    """Turn a key into words.

    >>> heading("mean_score")
    'Mean score'
    """
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


def plain_number(value: object) -> str:
    """Write a float in four digits, and anything else as it is.

    >>> plain_number(-12.3456), plain_number(359), plain_number(float("nan"))
    ('−12.35', '359', 'not known')
    """
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "not known"
    return str(value).replace("_", " ")


def _fact(key: str, value: object) -> str:
    if key == "units" and value == "ffn+heads":
        return "heads and FFN neurons: block 2l has the heads of transformer block l, block 2l + 1 its FFN neurons"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items()) if key == "versions" else ""
    if isinstance(value, str) or not isinstance(value, Iterable):
        text = str(value)
        return text[:_DIGEST] if key in _HASHES else text
    return ", ".join(map(str, value))


def _flatten(metrics: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}: ")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
