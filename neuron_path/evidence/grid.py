"""Where in the image a patch token lies."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.models.session import Session


def patch_tokens(session: Session) -> slice | None:
    """The tokens that stand for patches, whatever the token scope; None where the family has no such tokens."""
    scope = session.adapter.scope
    if scope.name == "patch":
        return scope.tokens
    try:
        return adapt(session.model, "patch").scope.tokens
    except NeuronPathError:
        return None


def patch_grid(session: Session, image: Float[Tensor, "1 c H W"]) -> tuple[int, int] | None:
    """Rows and columns of the image's patches, where its patch tokens are one for each, row by row; else None.

    Families may order, pool or merge tokens as they like, so it is tried: where a patch of the image changes, the token
    in its place must change most.

    Args:
        session: the model, active.
        image: one image on its device, in its dtype.
    """
    adapter, tokens = session.adapter, patch_tokens(session)
    if tokens is None or adapter.scope.pooled:
        return None
    height, width = image.shape[2:]
    before = adapter.embed(image)[:, tokens]
    n_tokens = before.shape[1]
    rows = round(math.sqrt(n_tokens * height / width))
    columns = n_tokens // max(rows, 1)
    if rows * columns != n_tokens or height % rows or width % columns:
        return None
    cells = {(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)}
    cells |= {(0, min(1, columns - 1)), (min(1, rows - 1), 0)}
    deep, wide = height // rows, width // columns
    for row, column in sorted(cells):
        changed = image.clone()
        patch = changed[:, :, row * deep : (row + 1) * deep, column * wide : (column + 1) * wide]
        # No constant: a stem may begin with a difference or a norm.
        patch += torch.linspace(-2, 3, patch[0].numel()).to(patch).view_as(patch[:1])
        moved = (adapter.embed(changed)[:, tokens] - before).square().sum(2)[0]
        if int(moved.argmax()) != row * columns + column:
            return None
    return rows, columns
