"""How a search is cut to fit memory: images a chunk, sequences a pass.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import torch
from jaxtyping import Int
from torch import Tensor

from neuron_path.attribution.needs import Needs
from neuron_path.errors import NeuronPathError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
# Allocators hold more than the tensors in them: pieces in between, and what kernels take for themselves.
_HEADROOM = 1.15
_MOST_BYTES = 1e30  # no machine has as many
_ROUNDED_UP = 1.06  # so that a budget as large as the number told does
_GPU_SHARE = 0.8  # of free memory
_GPU_MOST_SEQUENCES = 1024  # in a pass: more keep no GPU busier


@dataclass(frozen=True)
class Plan:
    """How a batch is cut.

    Attributes:
        n_images: a chunk: images that are searched together.
        micro_batch: sequences, i.e. (node, image) pairs, in one pass.
        n_sequences: whose prefixes may be held at once; None: any number.
        keeps_graphs: whether also their graphs through visited blocks may be held, where tokens are kept apart.
    """

    n_images: int
    micro_batch: int
    n_sequences: int | None = None
    keeps_graphs: bool = True

    def groups(self, rows: Int[Tensor, "n"], n_steps: int) -> Sequence[Int[Tensor, "g"]]:
        """Images that may be searched together with so many nodes."""
        if not len(rows):
            return ()
        return rows.split(len(rows) if self.n_sequences is None else max(1, self.n_sequences // n_steps))

    def in_double(self) -> Plan:
        """In as many bytes, with numbers twice as long."""
        held = None if self.n_sequences is None else max(1, self.n_sequences // 2)
        return replace(self, micro_batch=max(1, self.micro_batch // 2), n_sequences=held)

    def halved(self) -> Plan | None:
        """Smaller passes, or when these are down at one sequence fewer images; None at one of each."""
        if self.micro_batch > 1:
            smaller = replace(self, micro_batch=self.micro_batch // 2)
        elif self.n_images > 1 or self.keeps_graphs:
            smaller = replace(self, keeps_graphs=False)
        else:
            return None
        n_images = max(1, self.n_images // 2)
        held = None if self.n_sequences is None else max(1, self.n_sequences // 2)
        return replace(smaller, n_images=n_images, n_sequences=held)


def plan_within(budget: float, needs: Needs, n_steps: int, most_steps: int, micro_batch: int, n_images: int) -> Plan:
    """The largest plan within a memory budget.

    Args:
        budget: bytes above the loaded model.
        needs: what the search holds.
        n_steps: nodes of an image to begin with.
        most_steps: nodes that an image may end with.
        micro_batch: sequences that a pass should hold, where memory allows it.
        n_images: images that a chunk should hold, where memory allows it.

    Raises:
        NeuronPathError: not even one image fits.
    """
    free, twice = budget / _HEADROOM - needs.fixed - needs.scratch, _in_double(needs)
    for keeps_graphs in (True, False):
        sequence = needs.sequence + (needs.graph if keeps_graphs else 0)
        in_pass = needs.in_pass + (0 if keeps_graphs else needs.graph)
        for images in range(n_images, 0, -1):
            held = max(images * n_steps, twice * most_steps)
            passes = int((free - images * needs.image - held * sequence) // in_pass)
            wanted = min(micro_batch, images * n_steps)
            if passes >= (max(wanted, twice) if images > 1 else twice):
                return Plan(images, min(passes, wanted), held, keeps_graphs)
    fixed = f"{in_units(_HEADROOM * needs.fixed)} of it for the model in float64, " if needs.fixed else ""
    enough = in_units(_ROUNDED_UP * least_budget(needs, most_steps))
    raise NeuronPathError(
        f"memory_budget is {in_units(budget)}, but one image with {most_steps} nodes needs about {enough} "
        f"({fixed}above the loaded model): raise it to that, or take fewer nodes."
    )


def least_budget(needs: Needs, most_steps: int) -> float:
    """Bytes for one image with so many nodes, in passes of one sequence, in float64 too."""
    twice = _in_double(needs)
    of_sequences = twice * (most_steps * needs.sequence + needs.in_pass + needs.graph)
    return _HEADROOM * (needs.fixed + needs.scratch + needs.image + of_sequences)


def _in_double(needs: Needs) -> int:
    """How many sequences' worth one takes in float64, which settles what float32 cannot."""
    return 2 if needs.fixed else 1


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator has failed, of a GPU or of main memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_on(device: torch.device) -> float | None:
    """Bytes that a search may take where nobody says how many: on a GPU a share of what is free; None: any number."""
    return _GPU_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def preferred(device: torch.device, by_cache: int, n_steps: int) -> tuple[int, int]:
    """Sequences a pass and images a chunk that are fastest where memory does not limit them."""
    micro_batch = _GPU_MOST_SEQUENCES if device.type == "cuda" else by_cache
    n_images = max(1, micro_batch // n_steps)
    n_passes = max(1, round(n_images * n_steps / micro_batch))  # rather one that is somewhat long than two short ones
    return math.ceil(n_images * n_steps / n_passes), n_images


def in_bytes(budget: float | str) -> float:
    """A memory budget in bytes.

    >>> in_bytes("1.5 GB"), in_bytes(2048)
    (1500000000.0, 2048.0)
    """
    given = repr(budget)
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*([0-9.]+(?:e\+?[0-9]+)?)\s*([a-z]*)\s*", budget.lower())
        unit = _UNITS.get(found[2]) if found else None
        try:
            budget = float(found[1]) * unit if found and unit else math.nan
        except ValueError:
            budget = math.nan
    if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < budget < _MOST_BYTES:
        raise NeuronPathError(
            f"memory_budget is {given:.60}; expected a positive number of bytes, as 2e9, 800MB or 1.5GiB."
        )
    return float(budget)


def in_units(n_bytes: float) -> str:
    """Bytes as people write them.

    >>> in_units(1.234e9), in_units(5.6e6), in_units(1234)
    ('1.2 GB', '5.6 MB', '1.2 kB')
    """
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if n_bytes >= pair[0]), (1e3, "kB"))
    return f"{n_bytes / unit:.1f} {name}"
