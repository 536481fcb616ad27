"""The paper's pruning protocol: a class's path, and masks of the other neurons at the tokens in scope.

Nothing is cut out here: activations are set to 0 at one token, so the model is not smaller. See Wang et al., ICLR 2025,
section 4.4, and `neuron_path.pruning.slicing` for what really shrinks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session


def class_path(
    paths: Int[Tensor, "B L k"] | np.ndarray, widths: Sequence[int], *, distinct: bool = True
) -> Int[Tensor, "L k"]:
    """A class's path from its images' paths: in each slot of each block the neuron that most images have there.

    Slots are in descending order of the search's objective. Ties go to the lowest index. Two slots may have one mode:
    the later one then takes the block's next most frequent neuron, over all slots, that no other slot has (ties again
    to the lowest index), so that k distinct ones are left; or stays, as the authors have it.

    Args:
        paths: (B, L) or (B, L, k) neurons, k distinct ones in each block.
        widths: F of each block.
        distinct: whether to replace duplicates.

    Raises:
        NeuronPathError: no path, another shape, or neurons that a block does not have.

    >>> class_path(np.array([[[4, 2]], [[4, 1]], [[2, 4]], [[0, 4]]]), [5]).tolist()
    [[4, 2]]
    >>> class_path(np.array([[[4, 2]], [[4, 1]], [[2, 4]], [[0, 4]]]), [5], distinct=False).tolist()
    [[4, 4]]
    """
    every = np.asarray(paths)
    every = every[:, :, None] if every.ndim == 2 else every
    if every.ndim != 3 or not len(every) or every.shape[1] != len(widths):
        raise NeuronPathError(
            f"A class's paths have shape {every.shape}; expected (images, {len(widths)}) or (images, {len(widths)}, k) "
            "of one image at least."
        )
    chosen = np.empty(every.shape[1:], dtype=np.int64)
    for index, width in enumerate(widths):
        block = every[:, index]
        if block.min() < 0 or block.max() >= width:
            raise NeuronPathError(f"A path names a neuron that block {index} lacks: it has 0 … {width - 1}.")
        counts = np.stack([np.bincount(slot, minlength=width) for slot in block.T])
        modes = counts.argmax(1)  # the first of several
        chosen[index] = _distinct(modes, counts.sum(0)) if distinct else modes
    return torch.from_numpy(chosen)


def _distinct(modes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The modes, each later occurrence of one replaced by the most frequent neuron that is not yet there."""
    _, first = np.unique(modes, return_index=True)
    later = np.setdiff1d(np.arange(len(modes)), first)
    order = np.argsort(-counts, kind="stable")
    modes = modes.copy()
    modes[later] = order[~np.isin(order, modes[first])][: len(later)]
    return modes


def draw_masks(
    path: Int[Tensor, "L k"], widths: Sequence[int], share: float, depth: int | None, key: str
) -> list[Bool[Tensor, "_F"]]:
    """Which neurons are set to 0: of each of the first blocks ``round(share · (F − k))`` that are not on the path.

    Halves are rounded up. Deeper blocks lose none, and a larger share takes the same neurons and more.

    Args:
        path: a class's path.
        widths: F of each block.
        share: β, of the neurons off the path, in [0, 1].
        depth: d, how many blocks from the first on; None: all.
        key: what the draw depends on, as a class and a seed.

    Raises:
        NeuronPathError: a share or depth out of range.

    >>> masks = draw_masks(torch.tensor([[1, 3], [0, 2]]), [4, 4], 0.5, 1, "class 0, seed 0")
    >>> [int(mask.sum()) for mask in masks], bool(masks[0][1] or masks[0][3])
    ([1, 0], False)
    """
    if not 0 <= share <= 1:
        raise NeuronPathError(f"The share of masked neurons is {share}; expected a number from 0 to 1.")
    if depth is not None and not 0 <= depth <= len(widths):
        raise NeuronPathError(f"The depth is {depth}; expected 0 … {len(widths)} blocks, or None for all.")
    digest = hashlib.blake2b(key.encode("utf-8", "backslashreplace"), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    masks = []
    for index, (chosen, width) in enumerate(zip(path.tolist(), widths, strict=True)):
        mask = torch.zeros(width, dtype=torch.bool)
        others = np.setdiff1d(np.arange(width), chosen)
        drawn = generator.permutation(others)[: math.floor(share * (width - len(chosen)) + 0.5)]
        if depth is None or index < depth:
            mask[torch.from_numpy(drawn)] = True
        masks.append(mask)
    return masks


def masked_logits(
    adapter: Adapter, embedded: Float[Tensor, "B T D"], masks: Sequence[Bool[Tensor, "_B _F"]]
) -> Float[Tensor, "B C"]:
    """Logits of the live network with the masked neurons at 0, at the tokens in scope.

    Args:
        adapter: the model.
        embedded: the images' residual stream that enters the first block.
        masks: for each block (B, F), or (1, F) for all images.
    """

    def project(index: int, u: Tensor) -> Tensor:
        block = adapter.blocks[index]
        return block.project(block.activations(u).masked_fill(masks[index].unsqueeze(1), 0.0))

    return adapter.head(through(adapter, embedded, project))


def masked_probabilities(
    session: Session, images: Float[Tensor, "B c H W"], masks: Sequence[Bool[Tensor, "_B _F"]]
) -> Float[Tensor, "B C"]:
    """Softmax probabilities in float64 on the CPU with the masked neurons at 0, at the tokens in scope.

    Args:
        session: the model.
        images: (B, channels, height, width) preprocessed.
        masks: for each block (B, F), a mask for each image.
    """
    session.check_images(images)
    parts = []
    with session.active():
        for run, _ in chunks(session, images, 1):
            embedded = session.adapter.embed(session.images(images[run]))
            own = [mask[run].to(session.device) for mask in masks]
            parts.append(masked_logits(session.adapter, embedded, own).to("cpu", torch.float64).softmax(1))
    return torch.cat(parts)
