"""How many CPU threads a process uses."""

from __future__ import annotations

import torch

from neuron_path.errors import NeuronPathError


def use_threads(wanted: int | None, n_processes: int = 1) -> int:
    """Set torch's number of threads and return it; None takes this process's share of them.

    The choice moves no result beyond rounding.

    Args:
        wanted: how many.
        n_processes: that share the machine.

    Raises:
        NeuronPathError: fewer than one.
    """
    if wanted is not None and wanted < 1:
        raise NeuronPathError(f"trainer.threads is {wanted}; expected at least 1, or null for all.")
    threads = wanted or max(1, torch.get_num_threads() // n_processes)
    torch.set_num_threads(threads)
    return threads
