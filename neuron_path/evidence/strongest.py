"""Clean passes over images, keeping of each neuron what activates it most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

KINDS: Final = {"image": "activation", "patch": "patch_activation"}
"""What ranks by what."""
_PATCH: Final = ("patch_activation", "patch_token", "patch_row", "patch_column", "left", "top", "right", "bottom")
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
    """Finds, batch by batch, the images and patches that may be among those that activate neurons most.

    Activations are those of the untouched network, in float64, so that ranks do not depend on how images are cut into
    batches, nor on their order. What `n_top` images seen before surpass is passed over, so that little is left of many
    images; whoever has seen which of them, the strongest of all are among what is left of all.

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
        self.neurons, self.n_top = list(neurons), n_top
        self._session = session
        self._codes = {name: code for code, name in enumerate(sorted(sample_ids))}
        self._top: list[dict[str, _Top]] = [{} for _ in neurons]

    def update(
        self, images: Float[Tensor, "B c H W"], sample_ids: Sequence[str]
    ) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
        """Look at a batch of preprocessed images, on any device, some of them at a time.

        Yields:
            Which images these are, and the candidates among them, ordered by image: `image` (its place among these),
            `block`, `neuron`, `activation`, `patch_activation` and `patch_token`, NaN and -1 where there is no patch.
        """
        codes = np.array([self._codes[name] for name in sample_ids], dtype=np.int64)
        session = exact(self._session)
        patches = patch_tokens(session)
        with session.active(), torch.no_grad():
            for run, _ in chunks(session, images, 1):
                embedded = session.adapter.embed(session.images(images[run]))
                found = [
                    self._take(index, a, codes[run], patches)
                    for index, (a, _) in enumerate(block_activations(session.adapter, embedded))
                    if len(self.neurons[index])
                ]
                joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
                order = np.argsort(joined["image"], kind="stable")
                yield run, {name: values[order] for name, values in joined.items()}

    def _take(
        self, index: int, a: Float[Tensor, "N T W"], codes: NDArray[np.int64], patches: slice | None
    ) -> dict[str, NDArray[Any]]:
        scope, block = self._session.adapter.scope, self._session.adapter.blocks[index]
        feeds_all = block.feeds_all
        chosen = block.strength(a)[:, :, torch.from_numpy(self.neurons[index]).to(a.device)]
        scoped = chosen[:, scope.tokens] if feeds_all else chosen
        shape = (len(codes), chosen.shape[2])
        best, token = np.full(shape, np.nan), np.full(shape, -1)
        if feeds_all and patches is not None:
            of_patches = chosen[:, patches]
            highest = of_patches.max(1).values
            # The first of equal ones: which of them is larger by rounding depends on the batch.
            first = (of_patches >= (highest - _TIE * highest.abs()).unsqueeze(1)).to(torch.uint8).argmax(1)
            best, token = highest.cpu().numpy(), first.cpu().numpy()
        found = _Top(np.broadcast_to(codes[:, None], shape), scoped.mean(1).cpu().numpy(), best, token)
        kept = np.zeros(shape, dtype=bool)
        for kind, by in KINDS.items():
            if not np.isnan(getattr(found, by)).any():
                before = self._top[index].get(kind, _empty(shape[1]))
                top = self._top[index][kind] = before.with_more(found, by, self.n_top)
                kept |= (found.image[:, None] == top.image).any(1)
        image, place = kept.nonzero()
        return {
            "image": image,
            "block": np.full(len(image), index),
            "neuron": self.neurons[index][place],
            **{name: getattr(found, name)[kept] for name in ("activation", "patch_activation", "patch_token")},
        }


def rank_candidates(
    candidates: Mapping[str, NDArray[Any]], n_top: int, grid: tuple[int, int] | None
) -> dict[str, list[Any]]:
    """The strongest of all images, as the columns of :func:`neuron_path.store.evidence.evidence_schema` but the
    thumbnails, sorted.

    Args:
        candidates: the columns that :meth:`Strongest.update` gives, of all images, with a `sample_id`; in any order.
        n_top: images kept for each neuron and kind.
        grid: rows and columns of the patches, where they are in a grid.
    """
    block, neuron, names = (candidates[name] for name in ("block", "neuron", "sample_id"))
    rows: list[tuple[NDArray[np.int64], str, NDArray[np.int64]]] = []  # of the candidates, with kind and rank
    for kind, by in KINDS.items():
        values = candidates[by]
        order = np.lexsort((names, -_rounded(values), neuron, block))
        order = order[~np.isnan(values[order])]
        begins = np.flatnonzero(np.diff(block[order], prepend=-1) | np.diff(neuron[order], prepend=-1))
        ranks = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
        rows.append((order[ranks < n_top], kind, ranks[ranks < n_top]))
    row = np.concatenate([of for of, _, _ in rows])
    kinds = np.concatenate([np.full(len(of), kind) for of, kind, _ in rows])
    ranks = np.concatenate([own for _, _, own in rows])
    order = np.lexsort((ranks, kinds, neuron[row], block[row]))
    row, ranks = row[order], ranks[order]
    columns = {name: candidates[name][row].tolist() for name in candidates}
    found = {
        "block": columns["block"],
        "neuron": columns["neuron"],
        "kind": kinds[order].tolist(),
        "rank": ranks.tolist(),
        "sample_id": columns["sample_id"],
        "activation": columns["activation"],
    }
    patches = [_patch(*of, grid) for of in zip(columns["patch_activation"], columns["patch_token"], strict=True)]
    return found | {name: [patch.get(name) for patch in patches] for name in _PATCH}


def exact_grid(session: Session, image: Float[Tensor, "1 c H W"]) -> tuple[int, int] | None:
    """Rows and columns of the patches, found in float64 on a preprocessed image; see :func:`patch_grid`."""
    session = exact(session)
    with session.active(), torch.no_grad():
        return patch_grid(session, session.images(image))


def exact(session: Session) -> Session:
    """The session in float64."""
    return session if session.dtype == torch.float64 else session.double()


def _patch(activation: float, token: int, grid: tuple[int, int] | None) -> dict[str, Any]:
    """A patch and its place; nothing where there is none."""
    if token < 0:
        return {}
    found = {"patch_activation": activation, "patch_token": token}
    if grid is None:
        return found
    rows, columns = grid
    row, column = divmod(token, columns)
    box = {"left": column / columns, "top": row / rows, "right": (column + 1) / columns, "bottom": (row + 1) / rows}
    return found | {"patch_row": row, "patch_column": column} | box


def _empty(n_neurons: int) -> _Top:
    none = np.empty((0, n_neurons))
    return _Top(none.astype(np.int64), none, none, none.astype(np.int64))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nine significant digits: what differs by rounding only is equal."""
    magnitude = np.floor(np.log10(np.maximum(np.abs(values), 1e-300)))
    scale = 10.0 ** (8 - magnitude)
    return np.round(values * scale) / scale
