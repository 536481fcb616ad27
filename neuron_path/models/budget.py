"""How many sequences a pass may hold, and how a batch is cut accordingly."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.models.adapter import Adapter
from neuron_path.models.session import Session

_THREAD_BYTES = 1.2e6  # of residual stream in a pass, for each thread: enough to keep it busy, not more than its cache
_CPU_MOST_BYTES = 6.4e6  # up to which a pass holds four sequences at least, so that products stay large
_ATTENTION_BYTES = 2e9  # of attention maps in a pass, so that thousands of tokens still fit main memory
_GPU_SEQUENCES = 128
_HEAD_WIDTH = 64  # of nearly all models


def default_micro_batch(embedded: Float[Tensor, "1 T D"], device: torch.device | None = None) -> int:
    """Sequences per pass that suit the caches of most CPUs, or fill most GPUs; of the tensor's device by default."""
    if (device or embedded.device).type == "cuda":
        return min(_GPU_SEQUENCES, most_sequences(embedded))
    n_tokens, width = embedded.shape[1:]
    stream = n_tokens * width * embedded.element_size()
    by_cache = max(min(4, int(_CPU_MOST_BYTES / stream)), int(_THREAD_BYTES * torch.get_num_threads() / stream))
    return max(1, min(by_cache, most_sequences(embedded)))


def most_sequences(embedded: Float[Tensor, "1 T D"]) -> int:
    """Sequences of a pass whose maps of attention fit main memory."""
    n_tokens, width = embedded.shape[1:]
    # Forward mode holds a block's maps of attention: logits and softmax, with their tangents.
    attention = 4 * n_tokens**2 * math.ceil(width / _HEAD_WIDTH) * embedded.element_size()
    return max(1, int(_ATTENTION_BYTES / attention))


def kept_values(n_tokens: int, width: int, n_neurons: int) -> int:
    """What autograd keeps of a block for one sequence: two normalised inputs, q, k, v, the attention's output and what
    goes into it, and two widths of the FFN."""
    return n_tokens * (8 * width + 2 * n_neurons)


def kept_by_attention(adapter: Adapter, embedded: Float[Tensor, "1 T D"]) -> int:
    """Bytes that autograd keeps of all blocks' attention for one sequence, about."""
    n_tokens, width = embedded.shape[1:]
    return len(adapter.blocks) * n_tokens * 8 * width * embedded.element_size()


def chunks(session: Session, images: Float[Tensor, "B c H W"], n_steps: int) -> Iterator[tuple[slice, int]]:
    """Cut a batch into runs of images whose sequences fit one pass, each with the pass's size in sequences.

    Call it within `session.active()`.
    """
    micro_batch = default_micro_batch(session.adapter.embed(session.images(images[:1])))
    length = max(1, micro_batch // n_steps)
    for start in range(0, len(images), length):
        yield slice(start, start + length), micro_batch
