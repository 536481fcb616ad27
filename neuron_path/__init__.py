"""NeuronPath: find, verify and use the influential neuron paths of vision transformers.

>>> import neuron_path
>>> model = neuron_path.load_model("digits_vit")
>>> images, labels = neuron_path.load_digits("test")
>>> paths = neuron_path.find_paths(model, images[:8], labels[:8]).paths
>>> tuple(paths.shape)
(8, 12)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuron_path import scorers as scorers
    from neuron_path import searches as searches
    from neuron_path.api import find_paths as find_paths
    from neuron_path.api import heat_map as heat_map
    from neuron_path.api import intervene as intervene
    from neuron_path.api import path_edges as path_edges
    from neuron_path.api import save_head as save_head
    from neuron_path.api import score_paths as score_paths
    from neuron_path.attribution.quadrature import Quadrature as Quadrature
    from neuron_path.data.digits import load_digits as load_digits
    from neuron_path.errors import NeuronPathError as NeuronPathError
    from neuron_path.models.catalogue import supported_models as supported_models
    from neuron_path.models.heads import LinearHead as LinearHead
    from neuron_path.models.heads import attach_head as attach_head
    from neuron_path.models.heads import features as features
    from neuron_path.models.heads import load_head as load_head
    from neuron_path.models.heads import similarity_head as similarity_head
    from neuron_path.models.loading import load_model as load_model
    from neuron_path.store.reader import load_paths as load_paths
    from neuron_path.types import HeatMap as HeatMap
    from neuron_path.types import PathEdges as PathEdges
    from neuron_path.types import PathResult as PathResult

__version__ = "0.1.0"

# Imported on first use, so that `neuron-path --help` does not wait for torch; "" for modules.
_HOMES = {
    "HeatMap": "neuron_path.types",
    "LinearHead": "neuron_path.models.heads",
    "NeuronPathError": "neuron_path.errors",
    "PathEdges": "neuron_path.types",
    "PathResult": "neuron_path.types",
    "Quadrature": "neuron_path.attribution.quadrature",
    "attach_head": "neuron_path.models.heads",
    "features": "neuron_path.models.heads",
    "find_paths": "neuron_path.api",
    "heat_map": "neuron_path.api",
    "intervene": "neuron_path.api",
    "load_digits": "neuron_path.data.digits",
    "load_head": "neuron_path.models.heads",
    "load_model": "neuron_path.models.loading",
    "load_paths": "neuron_path.store.reader",
    "path_edges": "neuron_path.api",
    "save_head": "neuron_path.api",
    "score_paths": "neuron_path.api",
    "scorers": "",
    "searches": "",
    "similarity_head": "neuron_path.models.heads",
    "supported_models": "neuron_path.models.catalogue",
}
__all__ = [
    "HeatMap",
    "LinearHead",
    "NeuronPathError",
    "PathEdges",
    "PathResult",
    "Quadrature",
    "__version__",
    "attach_head",
    "features",
    "find_paths",
    "heat_map",
    "intervene",
    "load_digits",
    "load_head",
    "load_model",
    "load_paths",
    "path_edges",
    "save_head",
    "score_paths",
    "scorers",
    "searches",
    "similarity_head",
    "supported_models",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'neuron_path' has no attribute '{name}'")
    home = _HOMES[name]
    return getattr(importlib.import_module(home), name) if home else importlib.import_module(f"neuron_path.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
