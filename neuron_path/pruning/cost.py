"""What a model costs: parameters, floating-point operations, and time against another model."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from neuron_path.errors import NeuronPathError
from neuron_path.models.guard import frozen
from neuron_path.models.preprocessing import input_size
from neuron_path.pruning.layers import unit_layers


@dataclass(frozen=True)
class Latency:
    """Seconds that two models take for the same batch, one after the other in every round.

    Attributes:
        batch_size: images of the batch.
        original: seconds of each round.
        pruned: likewise.
    """

    batch_size: int
    original: list[float]
    pruned: list[float]

    @property
    def speedup(self) -> float:
        """Median over the rounds of original / pruned.

        >>> Latency(1, [2.0, 4.0, 9.0], [1.0, 2.0, 3.0]).speedup
        2.0
        """
        return median(a / b for a, b in zip(self.original, self.pruned, strict=True))


def count_parameters(model: nn.Module) -> int:
    """Numbers in a model's weights."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module) -> int:
    """Floating-point operations of one image's forward pass, two for a multiplication with its addition.

    As `torch.utils.flop_counter` counts them: products of matrices and convolutions, attention included; no norms,
    activations or additions.

    >>> import neuron_path
    >>> count_flops(neuron_path.load_model("digits_vit"))
    11953344
    """
    like = next(model.parameters())
    image = torch.zeros(1, *input_size(model), dtype=like.dtype, device=like.device)
    counter = FlopCounterMode(display=False)
    # The fused kernels of attention are not all known to the counter; plain products are.
    with frozen(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(image)
    return counter.get_total_flops()


@dataclass(frozen=True)
class UnitCosts:
    """What of a model's floating-point operations its units take.

    Attributes:
        total: operations of one image's forward pass.
        each: for each block, operations of one unit.
        widths: F of each block.
    """

    total: int
    each: list[float]
    widths: list[int]

    def share(self, counts: Sequence[int]) -> float:
        """The share of the operations that is left with so many units in each block.

        >>> UnitCosts(100, [10.0, 2.0], [4, 10]).share([2, 5])
        0.7
        """
        gone = sum(cost * (width - n) for cost, width, n in zip(self.each, self.widths, counts, strict=True))
        return round(1 - gone / self.total, 12)  # no more than rounding apart: the same

    @property
    def least(self) -> float:
        """The share that is left with one unit in each block."""
        return self.share([1] * len(self.widths))


@torch.no_grad()
def unit_costs(model: nn.Module, token_scope: str | None = None, units: str = "ffn") -> UnitCosts:
    """What one unit of each block costs: ``(C_(l−1) − C_l) / (F_l − 1)``, C_l the operations with one unit left in the
    blocks up to l.

    Products of matrices take as many operations for each neuron, and each head, as for the next one.

    Args:
        model: a timm vision transformer; left exactly as it was.
        token_scope, units: as for `slice_model`.

    Raises:
        NeuronPathError: as `slice_model`.
    """
    small = copy.deepcopy(model)
    blocks = unit_layers(small, token_scope, units)
    widths = [sum(part.width for part in parts) for parts in blocks]
    counts = [count_flops(small)]
    for parts in blocks:
        for index, part in enumerate(parts):
            part.keep(torch.arange(part.width) < (index == 0))
        counts.append(count_flops(small))
    each = [(counts[at] - counts[at + 1]) / max(1, width - 1) for at, width in enumerate(widths)]
    return UnitCosts(counts[0], each, widths)


def measure_latency(
    original: nn.Module, pruned: nn.Module, batch_sizes: Sequence[int] = (1, 32), rounds: int = 20, seconds: float = 60
) -> list[Latency]:
    """Time both models on random images, one after the other in each round, every other round backwards.

    Args:
        original, pruned: models of the same input, on the same device.
        batch_sizes: of the images.
        rounds: for each batch size, after one to warm up.
        seconds: for each batch size; when they are spent no further round begins, but three are always measured.

    Raises:
        NeuronPathError: a batch size or number of rounds below 1.
    """
    if rounds < 1 or any(size < 1 for size in batch_sizes):
        raise NeuronPathError(
            f"Latency is to be measured in {rounds} rounds at {list(batch_sizes)} images; expected 1 or more of each, "
            "as rounds=20, batch_sizes=(1, 32)."
        )
    models = {"original": original, "pruned": pruned}
    with frozen(original), frozen(pruned), torch.no_grad():
        return [_interleaved(models, size, rounds, seconds) for size in batch_sizes]


def _interleaved(models: Mapping[str, nn.Module], size: int, rounds: int, limit: float) -> Latency:
    like = next(models["original"].parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, *input_size(models["original"]), generator=generator).to(like)
    for model in models.values():
        _timed(model, images)
    taken: dict[str, list[float]] = {name: [] for name in models}
    begin = time.perf_counter()
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - begin > limit:
            break
        for name in list(models)[:: -1 if number % 2 else 1]:
            taken[name].append(_timed(models[name], images))
    return Latency(size, taken["original"], taken["pruned"])


def _timed(model: nn.Module, images: torch.Tensor) -> float:
    begin = time.perf_counter()
    out = model(images)
    if out.device.type == "cuda":
        torch.cuda.synchronize(out.device)
    return time.perf_counter() - begin
