"""Where a neuron is active in an image: its activation at every patch, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from neuron_path.evidence.grid import patch_tokens
from neuron_path.evidence.strongest import exact
from neuron_path.models.activations import block_activations
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session
from neuron_path.store.evidence import MAP_ZERO

_STEPS: Final = 127


def activation_maps(
    session: Session, images: Float[Tensor, "B c H W"], neurons: Sequence[Sequence[NDArray[np.int64]]]
) -> list[list[dict[str, Any]]]:
    """The activations of neurons at all patches of images, as `maps` of :func:`evidence_schema` has them.

    Args:
        session: a model whose patch tokens are in a grid.
        images: preprocessed, on any device.
        neurons: for each image and block which of its neurons. Blocks whose FFN sees no patch tokens have none.

    Returns:
        Of each image, for each neuron `block`, `neuron`, `largest`: its largest magnitude at a patch, and `values`: a
        byte for each patch, row by row, in steps of `largest` / 127 from `MAP_ZERO`.
    """
    session = exact(session)
    patches = patch_tokens(session)
    assert patches is not None
    found: list[list[dict[str, Any]]] = [[] for _ in neurons]
    with session.active(), torch.no_grad():
        for run, _ in chunks(session, images, 1):
            embedded = session.adapter.embed(session.images(images[run]))
            for index, (a, _) in enumerate(block_activations(session.adapter, embedded)):
                block = session.adapter.blocks[index]
                if not block.feeds_all:
                    continue
                strength = block.strength(a)[:, patches]
                for values, chosen, maps in zip(strength, neurons[run], found[run], strict=True):
                    own = torch.from_numpy(chosen[index]).to(a.device)
                    rows = values[:, own].T.cpu().numpy()
                    maps += [_in_bytes(index, int(one), row) for one, row in zip(chosen[index], rows, strict=True)]
    return found


def _in_bytes(block: int, neuron: int, values: NDArray[np.float64]) -> dict[str, Any]:
    largest = float(np.abs(values).max())
    steps = np.rint(values * (_STEPS / (largest or 1.0)))
    data = (MAP_ZERO + steps).astype(np.uint8).tobytes()
    return {"block": block, "neuron": neuron, "largest": largest, "values": data}
