"""How the neurons on an image's path act on each other: the strongest edges."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from neuron_path.attribution.edges import edges_by_chunk
from neuron_path.attribution.target import Target
from neuron_path.evidence.strongest import exact
from neuron_path.models.session import Session
from neuron_path.store.evidence import EDGE

N_EDGES: Final = 24
"""Edges kept of an image."""


def strongest_edges(
    session: Session,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L k"],
    targets: Int[Tensor, "B"],
    target: Target,
) -> list[dict[str, Any]]:
    """The edges of images' paths, as `edges` of :func:`evidence_schema` has them.

    Args:
        session: the model.
        images: preprocessed, on any device.
        paths: of each image, −1 for no neuron.
        targets: the class of each whose target function passes on.
        target: that function.

    Returns:
        Of each image `n` edges that are not 0, `magnitude`: the sum of all their magnitudes, and `strongest`: at most
        `N_EDGES` of them, the largest magnitude first.
    """
    session = exact(session)
    found: list[dict[str, Any]] = []
    with session.active():
        on_device = paths.to(session.device), targets.to(session.device)
        for run, _, edges, _ in edges_by_chunk(session, images, *on_device, target):
            found += [_strongest(*own) for own in zip(paths[run].numpy(), edges.cpu().numpy(), strict=True)]
    return found


def _strongest(path: NDArray[np.int64], edges: NDArray[np.float64]) -> dict[str, Any]:
    k = path.shape[1]
    flat, neurons = edges.reshape(path.size, path.size), path.reshape(-1).tolist()
    strongest: list[dict[str, Any]] = []
    for place in np.argsort(-np.abs(flat), axis=None, kind="stable")[:N_EDGES].tolist():
        start, end = divmod(place, path.size)
        values = start // k, neurons[start], end // k, neurons[end], float(flat[start, end])
        if values[-1]:
            strongest.append(dict(zip(EDGE, values, strict=True)))
    return {"n": int(np.count_nonzero(flat)), "magnitude": float(np.abs(flat).sum()), "strongest": strongest}
