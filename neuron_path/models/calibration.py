"""The micro-batch that is fastest for a model on this machine's CPU, tried once and remembered."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import platformdirs
import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.models.adapter import Adapter

WORTHWHILE = 16  # sequences of a job that repays a trial, at least; and twice the usual micro-batch
_FACTORS = (0.5, 1, 2)  # of the usual micro-batch
_ROUNDS = 3
_CLEARLY = 1.05  # another size must be faster than the usual one by so much: less is noise

_known: dict[str, int] = {}


def cache_file() -> Path:
    """Where trials are remembered, for this user."""
    return platformdirs.user_cache_path("neuron-path") / "micro_batch.json"


def recall(adapter: Adapter, embedded: Float[Tensor, "1 T D"]) -> int | None:
    """The micro-batch that an earlier trial found; None where there was none."""
    key = _key(adapter, embedded)
    if key not in _known:
        size = _stored().get(key)
        if type(size) is int and size > 0:
            _known[key] = size
    return _known.get(key)


def calibrate(adapter: Adapter, embedded: Float[Tensor, "1 T D"], usual: int, most: int) -> int:
    """Try passes of half, once and twice the usual size, but `most` sequences, and remember the fastest per sequence.

    A pass is a forward and an input-only backward through the first block, as most of a search is; the rounds are
    interleaved. Call it within `session.active()`.
    """
    sizes = sorted({min(max(1, int(factor * usual)), max(usual, most)) for factor in _FACTORS})
    rounds = [{size: _seconds(adapter, embedded, size) / size for size in sizes} for _ in range(_ROUNDS)]
    seconds = {size: median(times[size] for times in rounds) for size in sizes}
    key, fastest = _key(adapter, embedded), min(sizes, key=lambda size: seconds[size])
    if seconds[usual] <= _CLEARLY * seconds[fastest]:
        fastest = usual
    _known[key] = fastest
    with suppress(OSError):  # a home that cannot be written to: the trial is for this process only
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{time.time_ns()}")
        partial.write_text(json.dumps({**_stored(), key: fastest}), encoding="utf-8")
        partial.replace(path)
    return fastest


def _stored() -> dict[str, object]:
    """What is remembered; nothing where the file is missing or damaged."""
    try:
        stored = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _seconds(adapter: Adapter, embedded: Tensor, size: int) -> float:
    x = embedded.repeat(size, 1, 1).requires_grad_()
    start = time.perf_counter()
    with torch.enable_grad():
        total = adapter.run(0, x).sum()
    torch.autograd.grad(total, x)
    return time.perf_counter() - start


def _key(adapter: Adapter, embedded: Tensor) -> str:
    """What a trial depends on: the model's shape, the arithmetic, and the machine."""
    shape = [adapter.name, [block.n_neurons for block in adapter.blocks], list(embedded.shape[1:])]
    machine = [platform.node(), platform.machine(), torch.get_num_threads(), torch.__version__]
    text = json.dumps([shape, str(embedded.dtype), machine, torch.backends.cpu.get_cpu_capability()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
