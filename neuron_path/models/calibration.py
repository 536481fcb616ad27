"""The micro-batch that is fastest for a model on this machine's CPU, tried once and remembered."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from contextlib import suppress
from pathlib import Path

import platformdirs
import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.models.adapter import Adapter

WORTHWHILE = 64  # sequences of a job that repays the trial, which costs about as much as six
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_BLOCKS, _ROUNDS = 2, 2
_CLEARLY = 1.03  # a larger pass must be faster than a smaller one by so much: it takes more memory

_known: dict[str, int] = {}


def cache_file() -> Path:
    """Where trials are remembered, for this user."""
    return platformdirs.user_cache_path("neuron-path") / "micro_batch.json"


def recall(adapter: Adapter, embedded: Float[Tensor, "1 T D"]) -> int | None:
    """The micro-batch that an earlier trial found; None where there was none."""
    key = _key(adapter, embedded)
    if key not in _known:
        with suppress(OSError, ValueError):
            stored = json.loads(cache_file().read_bytes())
            if isinstance(stored, dict) and stored.get(key) in _SIZES:
                _known[key] = stored[key]
    return _known.get(key)


def calibrate(adapter: Adapter, embedded: Float[Tensor, "1 T D"], most: int) -> int:
    """Try passes of several sizes, up to `most` sequences, and remember the fastest per sequence.

    A pass is a forward and an input-only backward through the first blocks, as most of a search is. Call it within
    `session.active()`.
    """
    per_sequence: dict[int, float] = {}
    for size in _SIZES:
        if size > max(1, most) or (len(per_sequence) > 2 and size > 4 * _fastest(per_sequence)):
            break
        per_sequence[size] = min(_seconds(adapter, embedded, size) for _ in range(_ROUNDS)) / size
    key, fastest = _key(adapter, embedded), _fastest(per_sequence)
    _known[key] = fastest
    with suppress(OSError, ValueError):  # a home that cannot be written to: the trial is for this process only
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = json.loads(path.read_bytes()) if path.exists() else {}
        partial = path.with_suffix(f".{time.time_ns()}")
        partial.write_text(json.dumps({**stored, key: fastest}), encoding="utf-8")
        partial.replace(path)
    return fastest


def _fastest(per_sequence: dict[int, float]) -> int:
    best = min(per_sequence.values())
    return min(size for size, seconds in per_sequence.items() if seconds <= _CLEARLY * best)


def _seconds(adapter: Adapter, embedded: Tensor, size: int) -> float:
    x = embedded.repeat(size, 1, 1).requires_grad_()
    start = time.perf_counter()
    with torch.enable_grad():
        h = x
        for index in range(min(_BLOCKS, len(adapter.blocks))):
            h = adapter.run(index, h)
        total = h.sum()
    torch.autograd.grad(total, x)
    return time.perf_counter() - start


def _key(adapter: Adapter, embedded: Tensor) -> str:
    """What a trial depends on: the model's shape, the arithmetic, and the machine."""
    shape = [adapter.name, [block.n_neurons for block in adapter.blocks], list(embedded.shape[1:])]
    machine = [platform.node(), platform.machine(), torch.get_num_threads(), torch.__version__]
    text = json.dumps([shape, str(embedded.dtype), machine, torch.backends.cpu.get_cpu_capability()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
