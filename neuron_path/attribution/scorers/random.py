"""Null: neurons drawn at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("random")
@dataclass(frozen=True)
class Random(Scorer):
    """Uniform scores keyed by (seed, sample id), so that an image's path is the same in any batch.

    Args:
        seed: another seed draws other paths.
    """

    seed: int = 0

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Draw every image's scores from a generator of its own."""
        widths = [block.n_neurons for block in problem.adapter.blocks]
        draws = np.stack([_generator(self.seed, name).random(sum(widths)) for name in problem.sample_ids])
        device = problem.clean.embedded.device
        scores = torch.from_numpy(draws if device.type != "mps" else draws.astype(np.float32)).to(device)
        return BlockwiseScoring(problem, list(scores.split(widths, dim=1)))


def _generator(seed: int, sample_id: str) -> np.random.Generator:
    key = hashlib.blake2b(f"{seed}/{sample_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
