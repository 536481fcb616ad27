"""Random numbers of the null scorers, keyed by image: an image's draws are the same in any batch."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.problem import Problem


def uniform(problem: Problem, key: str) -> list[Float[Tensor, "B F"]]:
    """For every block and image one uniform number in [0, 1) per neuron, in float64 where the device has it.

    Args:
        problem: names the images.
        key: which stream of numbers; each image has its own.
    """
    widths = [block.n_neurons for block in problem.adapter.blocks]
    draws = np.stack([_generator(f"{key}/{name}").random(sum(widths)) for name in problem.sample_ids])
    device = problem.clean.embedded.device
    numbers = torch.from_numpy(draws if device.type != "mps" else draws.astype(np.float32)).to(device)
    return list(numbers.split(widths, dim=1))


def _generator(key: str) -> np.random.Generator:
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
