"""One clean pass over the images, keeping of each neuron what activates it most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.evidence.grid import patch_grid, patch_tokens
from neuron_path.models.activations import block_activations
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session

_KINDS: Final = {"image": "activation", "patch": "patch_activation"}
"""What ranks by what."""
_TIE: Final = 1e-9
"""Relative difference below which two activations count as equal; float64 rounds a thousand times finer."""


@dataclass(frozen=True, eq=False)
class _Top:
    """The strongest so far, (m, S) for m ≤ n_top images and S neurons of a block, the strongest first."""

    image: NDArray[np.int64]
    activation: NDArray[np.float64]
    patch_activation: NDArray[np.float64]
    patch_token: NDArray[np.int64]

    def with_more(self, other: _Top, by: str, n_top: int) -> _Top:
        """The strongest of both; equal ones in the order of the images."""
        joined = {f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        order = np.lexsort((joined["image"], -_rounded(joined[by])), axis=0)[:n_top]
        return _Top(**{name: np.take_along_axis(values, order, axis=0) for name, values in joined.items()})


class Strongest:
    """Gathers, batch by batch, the images and patches that activate neurons most.

    Activations are those of the untouched network, in float64, so that ranks do not depend on how images are cut into
    batches, nor on their order.

    Args:
        session: the model with its token scope.
        neurons: for each block which of its neurons, ascending.
        sample_ids: the names of all images that may come, each once.
        n_top: images kept for each neuron and kind.

    Raises:
        NeuronPathError: `n_top` below 1, or a neuron that its block does not have.
    """

    def __init__(
        self, session: Session, neurons: Sequence[NDArray[np.int64]], sample_ids: Sequence[str], n_top: int
    ) -> None:
        if n_top < 1:
            raise NeuronPathError(f"n_top is {n_top}; expected 1 or more images for each neuron.")
        blocks = session.adapter.blocks
        if len(neurons) != len(blocks) or any(
            part.size and not 0 <= part.min() <= part.max() < block.n_neurons
            for part, block in zip(neurons, blocks, strict=True)
        ):
            raise NeuronPathError("The neurons to look at are not those of this model's blocks; give a list per block.")
        self._session = session if session.dtype == torch.float64 else session.double()
        self._patches = patch_tokens(self._session)
        self.neurons, self.n_top = list(neurons), n_top
        self._names = sorted(sample_ids)
        self._codes = {name: code for code, name in enumerate(self._names)}
        self._top: list[dict[str, _Top]] = [{} for _ in neurons]
        self.grid: tuple[int, int] | None = None
        self._is_placed = False

    def update(self, images: Float[Tensor, "B c H W"], sample_ids: Sequence[str]) -> None:
        """Take a batch of preprocessed images into account, on any device."""
        session = self._session
        codes = np.array([self._codes[name] for name in sample_ids], dtype=np.int64)
        with session.active(), torch.no_grad():
            for run, _ in chunks(session, images, 1):
                ready = session.images(images[run])
                if not self._is_placed:
                    self.grid, self._is_placed = patch_grid(session, ready[:1]), True
                embedded = session.adapter.embed(ready)
                for index, (a, _) in enumerate(block_activations(session.adapter, embedded)):
                    if len(self.neurons[index]):
                        self._take(index, a, codes[run])

    def _take(self, index: int, a: Float[Tensor, "N T F"], codes: NDArray[np.int64]) -> None:
        scope, feeds_all = self._session.adapter.scope, self._session.adapter.blocks[index].feeds_all
        chosen = a[:, :, torch.from_numpy(self.neurons[index]).to(a.device)]
        scoped = chosen[:, scope.tokens] if feeds_all else chosen
        shape = (len(codes), chosen.shape[2])
        best, token = np.full(shape, np.nan), np.full(shape, -1)
        if feeds_all and self._patches is not None:
            patches = chosen[:, self._patches]
            highest = patches.max(1).values
            # The first of equal ones: which of them is larger by rounding depends on the batch.
            first = (patches >= (highest - _TIE * highest.abs()).unsqueeze(1)).to(torch.uint8).argmax(1)
            best, token = highest.cpu().numpy(), first.cpu().numpy()
        found = _Top(np.broadcast_to(codes[:, None], shape), scoped.mean(1).cpu().numpy(), best, token)
        for kind, by in _KINDS.items():
            if not np.isnan(getattr(found, by)).any():
                before = self._top[index].get(kind, _empty(shape[1]))
                self._top[index][kind] = before.with_more(found, by, self.n_top)

    def columns(self) -> dict[str, list[Any]]:
        """The columns of :func:`neuron_path.store.evidence.evidence_schema` but the thumbnails, sorted."""
        rows = [
            row
            for index, neurons in enumerate(self.neurons)
            for place, neuron in enumerate(neurons.tolist())
            for kind in _KINDS
            if kind in self._top[index]
            for row in self._rows(index, place, neuron, kind)
        ]
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}

    def _rows(self, index: int, place: int, neuron: int, kind: str) -> Iterator[dict[str, Any]]:
        top = self._top[index][kind]
        for rank in range(len(top.image)):
            token = int(top.patch_token[rank, place])
            yield {
                "block": index,
                "neuron": neuron,
                "kind": kind,
                "rank": rank,
                "sample_id": self._names[top.image[rank, place]],
                "activation": float(top.activation[rank, place]),
                "patch_activation": float(top.patch_activation[rank, place]) if token >= 0 else None,
                "patch_token": token if token >= 0 else None,
            } | self._box(token)

    def _box(self, token: int) -> dict[str, Any]:
        if token < 0 or self.grid is None:
            return dict.fromkeys(("patch_row", "patch_column", "left", "top", "right", "bottom"))
        rows, columns = self.grid
        row, column = divmod(token, columns)
        box = {"left": column / columns, "top": row / rows, "right": (column + 1) / columns, "bottom": (row + 1) / rows}
        return {"patch_row": row, "patch_column": column} | box


def _empty(n_neurons: int) -> _Top:
    none = np.empty((0, n_neurons))
    return _Top(none.astype(np.int64), none, none, none.astype(np.int64))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nine significant digits: what differs by rounding only is equal."""
    magnitude = np.floor(np.log10(np.maximum(np.abs(values), 1e-300)))
    scale = 10.0 ** (8 - magnitude)
    return np.round(values * scale) / scale
