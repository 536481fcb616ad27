"""How many sequences a pass may hold, and how a batch is cut accordingly."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.models.adapter import Adapter
from neuron_path.models.session import Session

_CPU_BYTES = 2.5e6  # of residual stream in a pass: enough to fill two cores, not yet so much that page faults cost
_CPU_MOST_BYTES = 6.4e6  # up to which a pass holds four sequences at least, so that products stay large
_CPU_ATTENTION_BYTES = 2e9  # of attention maps in a pass, so that thousands of tokens still fit main memory
_GPU_SHARE = 0.4  # of free memory: the rest is for the prefix, its tangent and fragmentation
_HEAD_WIDTH = 64  # of nearly all models


def default_micro_batch(adapter: Adapter, embedded: Float[Tensor, "1 T D"], device: torch.device) -> int:
    """Sequences per pass that suit the device: by cache on a CPU, by free memory on a GPU."""
    n_tokens, width = embedded.shape[1:]
    size = embedded.element_size()
    # Forward mode holds a block's maps of attention: logits and softmax, with their tangents.
    attention = 4 * n_tokens**2 * math.ceil(width / _HEAD_WIDTH) * size
    if device.type != "cuda":
        stream = n_tokens * width * size
        by_cache = max(min(4, int(_CPU_MOST_BYTES / stream)), int(_CPU_BYTES / stream))
        return max(1, min(by_cache, int(_CPU_ATTENTION_BYTES / attention)))
    kept = sum(kept_values(n_tokens, width, block.n_neurons) for block in adapter.blocks) * size
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(_GPU_SHARE * free / (kept + attention)))


def kept_values(n_tokens: int, width: int, n_neurons: int) -> int:
    """What autograd keeps of a block for one sequence: two normalised inputs, q, k, v, the attention's output and what
    goes into it, and two widths of the FFN."""
    return n_tokens * (8 * width + 2 * n_neurons)


def chunks(
    session: Session, images: Float[Tensor, "B c H W"], n_steps: int, micro_batch: int | None = None
) -> Iterator[tuple[slice, int]]:
    """Cut a batch into runs of images whose sequences fit one pass, each with the pass's size in sequences.

    Call it within `session.active()`.
    """
    if micro_batch is None:
        embedded = session.adapter.embed(session.images(images[:1]))
        micro_batch = default_micro_batch(session.adapter, embedded, session.device)
    length = max(1, micro_batch // n_steps)
    for start in range(0, len(images), length):
        yield slice(start, start + length), micro_batch
