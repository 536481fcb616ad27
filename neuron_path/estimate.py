"""What a search will take: memory, and time from a throughput that is measured on the spot. Estimates, not promises."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from neuron_path.attribution.quadrature import Quadrature
from neuron_path.models.adapter import Adapter
from neuron_path.models.budget import default_micro_batch, kept_values
from neuron_path.models.catalogue import blueprint, with_classes
from neuron_path.models.guard import exact
from neuron_path.models.preprocessing import input_size
from neuron_path.search.plan import preferred

# Of the arithmetic of a block's forward pass, at each node: three for the state, its tangent and the clean pass of a
# block, and 1.7 for each block before it, whose candidates need a forward and an input-only backward through this one.
_PER_BLOCK, _PER_EARLIER = 3.0, 1.7
# Of the speed of the largest matrix product, what a search reaches: norms, softmax and small products take the rest.
# Fifteen models of all sizes, on two CPU cores, took 0.9 to 3.0 times the estimate: most, where operations are small or
# not fused (CaiT, ConViT, XCiT, EVA-02).
_EFFICIENCY = 0.55
_SECONDS_PER_PASS = 0.6e-3  # through one block, however small: calling its two dozen operations


@dataclass(frozen=True)
class Estimate:
    """What a search of one image with the default quadrature takes, in float32.

    Attributes:
        device: where.
        seconds: about how long.
        flops: arithmetic of the search.
        throughput: of the model's largest matrix product, measured, per second.
        weights: bytes.
        activations: bytes that autograd keeps of the largest pass.
        micro_batch: sequences in that pass.
    """

    device: str
    seconds: float
    flops: float
    throughput: float
    weights: int
    activations: int
    micro_batch: int


def estimate(name: str, seconds: float = 1.0) -> Estimate:
    """Estimate a search with a supported model on this machine's GPU, or else its CPU.

    Args:
        name: a model of timm or `digits_vit`.
        seconds: how long to measure.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = blueprint(name)
    weights = sum(tensor.numel() for tensor in model.state_dict().values()) * 4
    adapter = with_classes(model)
    n_steps = Quadrature().n_steps
    embedded, works, head = _arithmetic(model, adapter)
    micro_batch = min(preferred(device, default_micro_batch(embedded, device), n_steps)[0], n_steps)
    largest = max(works, key=lambda work: work.flops)
    speed = throughput(micro_batch * largest.n_tokens, largest.width, largest.n_neurons, device, seconds)
    shares = [_PER_BLOCK + _PER_EARLIER * index for index in range(len(works))]
    flops = sum(work.flops * share for work, share in zip(works, shares, strict=True))
    flops = n_steps * (flops + head * _PER_EARLIER * len(works))
    overhead = _SECONDS_PER_PASS * sum(shares) * -(-n_steps // micro_batch)
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        n_threads = torch.get_num_threads()
        where = f"{n_threads} CPU thread{'s' if n_threads > 1 else ''}"
    return Estimate(
        device=where,
        seconds=flops / (_EFFICIENCY * speed) + overhead,
        flops=flops,
        throughput=speed,
        weights=weights,
        activations=micro_batch * sum(work.kept for work in works),
        micro_batch=micro_batch,
    )


def throughput(rows: int, width: int, out: int, device: torch.device, seconds: float) -> float:
    """Floating-point operations per second of a linear layer in the arithmetic of a search, measured."""
    x, weight = torch.randn(rows, width, device=device), torch.randn(out, width, device=device)
    with exact(device), torch.no_grad():
        wait: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            F.linear(x, weight)
            wait()
            times.append(time.perf_counter() - start)
    return 2 * rows * width * out / median(times)


@dataclass(frozen=True)
class _Work:
    """One block's forward pass for one sequence."""

    flops: int
    n_tokens: int
    width: int
    n_neurons: int

    @property
    def kept(self) -> int:
        """Bytes that autograd keeps."""
        return 4 * kept_values(self.n_tokens, self.width, self.n_neurons)


def _arithmetic(model: Any, adapter: Adapter) -> tuple[Tensor, list[_Work], int]:
    """(1, T, D) what enters the first block, the work of each, and the operations of what follows the last."""
    works: list[_Work] = []
    with torch.no_grad():
        h = embedded = adapter.embed(next(model.parameters()).new_empty(1, *input_size(model)))
        for index, block in enumerate(adapter.blocks):
            n_tokens = h.shape[1]
            with FlopCounterMode(display=False) as counter:
                h = adapter.run(index, h)
            works.append(_Work(counter.get_total_flops(), n_tokens, h.shape[2], block.n_neurons))
        with FlopCounterMode(display=False) as counter:
            adapter.head(h)
    return embedded, works, counter.get_total_flops()
