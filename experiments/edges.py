"""Do edges tell what path patching measures, when a neuron is removed for one later neuron only?

    python experiments/edges.py                                       the digits model: half a minute on a CPU
    python experiments/edges.py units=heads
    python experiments/edges.py model=vit_small_patch14_dinov2.lvd142m image_size=224 head=FILE photographs=DIR

An edge is a first-order effect at the clean point (docs/edges.md). Path patching (Wang et al., ICLR 2023, arXiv
2211.00593) takes the whole neuron away, but lets one later neuron of the path alone see it: in the graph in which all
neurons in scope are frozen but the path's, that neuron's activation is taken from a pass without the earlier one, and
what it and the path's neurons behind it do to the target function is measured. Printed is how the two agree.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from omegaconf import OmegaConf
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

import neuron_path
from neuron_path.attribution.forward import through
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.models.adapter import taken
from neuron_path.models.session import Session
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.types import UnitsName
from subject import Subject, in_words


@dataclass
class Edges(Subject):
    """Settings; `images` of the data are taken, evenly spread; `units` is ffn, heads or ffn+heads."""

    images: int = 60
    units: str = "ffn"


@torch.no_grad()
def patched(problem: Problem, paths: Int[Tensor, "B L"]) -> Float[Tensor, "B L L"]:
    """What each later neuron's seeing an earlier one adds to the target function, of one neuron a block."""
    adapter, n_blocks = problem.adapter, paths.shape[1]
    places = [block.places(paths[:, index : index + 1]) for index, block in enumerate(adapter.blocks)]
    clean = [problem.clean.chosen(index, where) for index, where in enumerate(places)]

    def run(given: int, values: Tensor, live_from: int) -> tuple[Tensor, list[Tensor]]:
        """f, and what leads to each block's neuron, where one has other values, and those of later blocks follow."""
        seen: list[Tensor] = []

        def project(index: int, u: Tensor) -> Tensor:
            block, where = adapter.blocks[index], places[index]
            seen.append(taken(block.activations(u), where))
            a = values if index == given else seen[-1] if index >= live_from else clean[index]
            return problem.clean.projected[index] + (a - clean[index]) @ block.columns(where)

        h = through(adapter, problem.first_split[0], project, first=problem.first_split)
        return problem.target_values(adapter.head(h), problem.every_image), seen

    untouched = problem.target_values(problem.clean.logits, problem.every_image)
    found = untouched.new_zeros(len(untouched), n_blocks, n_blocks)
    for earlier in range(n_blocks - 1):
        _, seen = run(earlier, torch.zeros_like(clean[earlier]), n_blocks)
        for later in range(earlier + 1, n_blocks):
            found[:, earlier, later] = untouched - run(later, seen[later], later + 1)[0]
    return found


def main(settings: Edges) -> None:
    """Print how edges and path patching agree over all edges, and image by image."""
    model, images = settings.load()
    images = images[:: max(1, len(images) // settings.images)][: settings.images]
    units: UnitsName = settings.units  # type: ignore[assignment]
    search = neuron_path.searches.Linearized(measure="effect")
    paths = neuron_path.find_paths(model, images, search=search, units=units).paths
    edges = neuron_path.path_edges(model, images, paths, units=units)
    session = Session(model.double(), None, units)
    whole = []
    with session.active():
        for rows in torch.arange(len(images)).split(8):
            problem = Problem.pose(
                session.adapter, session.images(images[rows]), edges.targets[rows], Quadrature("midpoint", 1), 1
            )
            whole.append(patched(problem, paths[rows]))
    first, exact = edges.edges.double().numpy(), torch.cat(whole).numpy()
    later = np.triu_indices(first.shape[1], 1)
    pairs = [(one[later], other[later]) for one, other in zip(first, exact, strict=True)]
    for name, measure in (("Pearson's", pearsonr), ("Spearman's", spearmanr)):
        each = bootstrap_mean([measure(*pair).statistic for pair in pairs])
        over_all = measure(first[:, *later].ravel(), exact[:, *later].ravel()).statistic
        print(f"{name} r over all {first[:, *later].size} edges: {over_all:.3f}; of an image {in_words(each)}")
    magnitudes = np.abs(first).sum((1, 2)), np.abs(edges.to_output.double().numpy()).sum(1)
    share = bootstrap_mean(100 * magnitudes[0] / (magnitudes[0] + magnitudes[1]))
    print(f"Share of all magnitudes that passes through a later neuron: {in_words(share, ' %')}, n = {len(images)}")


if __name__ == "__main__":
    given = OmegaConf.merge(OmegaConf.structured(Edges), OmegaConf.from_cli(sys.argv[1:]))
    main(OmegaConf.to_object(given))  # type: ignore[arg-type]
