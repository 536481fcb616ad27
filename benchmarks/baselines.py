"""Integrated gradients of every block by captum and by this package; all scorers in units of one forward pass.

    python -m benchmarks.baselines              # 1 minute on 2 cores
    python -m benchmarks.baselines --rounds 1

Captum attributes one layer a call, by a whole forward pass each. The layer's start, all activations in scope 0, is what
a gate before it gives whose input goes from 0 to 1; so both compute the same numbers, and that is checked. Captum gets
the `internal_batch_size` that is fastest for it.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

import neuron_path
from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, spread
from benchmarks.models import Shape, random_images, random_vit

SHAPES = {
    "12 blocks × 192": Shape(192, 12, 3, n_images=4),
}
N_STEPS = 8  # of Gauss–Legendre
BATCH_SIZES = (16, 32, 64)
SCORERS = (
    "activation",
    "gradient_x_activation",
    "influence_pattern",
    "conductance",
    "integrated_gradients",
    "joint_attribution",
)


def by_captum(model: Any, images: Tensor, targets: Tensor, batch_size: int) -> Tensor:
    """(B, L, F): captum's LayerIntegratedGradients of every block's class-token activations."""
    blocks = []
    for block in model.blocks:
        gated = nn.Identity()

        def forward(gate: Tensor, images: Tensor, layer: nn.Module = block.mlp.fc2, gated: nn.Module = gated) -> Tensor:
            def scale(_: nn.Module, args: tuple[Tensor]) -> Tensor:
                return torch.cat((gated(gate.view(-1, 1, 1) * args[0][:, :1]), args[0][:, 1:]), 1)

            handle = layer.register_forward_pre_hook(scale)
            try:
                return model(images).softmax(1)
            finally:
                handle.remove()

        found: Any = LayerIntegratedGradients(forward, gated).attribute(
            torch.ones(len(images), 1),
            torch.zeros(len(images), 1),
            targets,
            additional_forward_args=images,
            method="gausslegendre",
            n_steps=N_STEPS,
            internal_batch_size=batch_size,
        )
        blocks.append(found.sum(1).detach())
    return torch.stack(blocks, 1)


def by_us(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """(B, L, F): the scorer `integrated_gradients`. The paths and their scores come with it."""
    options: dict[str, Any] = {"scorer": "integrated_gradients", "n_steps": N_STEPS, "keep_candidates": True}
    found = neuron_path.find_paths(model, images, targets, **options).candidate_scores
    assert found is not None
    return found


def against_captum(shape: Shape, rounds: int) -> dict[str, Any]:
    """Seconds of both, and how far apart their numbers are."""
    model, (images, targets) = random_vit(shape), random_images(shape)
    tries = {str(n): partial(by_captum, model, images, targets, n) for n in BATCH_SIZES}
    tried, _ = interleaved(tries, 1, quiet=True)
    batch_size = min(BATCH_SIZES, key=lambda n: tried[str(n)][0])
    calls = {"captum": tries[str(batch_size)], "neuron_path": partial(by_us, model, images, targets)}
    seconds, outputs = interleaved(calls, rounds)
    theirs, ours = outputs["captum"], outputs["neuron_path"]
    # Of each block's largest: a block's ratings are what is compared with one another.
    difference = float(((ours - theirs).abs().amax(2) / theirs.abs().amax(2)).max())
    return {"seconds": seconds, "internal_batch_size": batch_size, "largest_difference": difference}


def in_forwards(shape: Shape, rounds: int) -> dict[str, Any]:
    """Seconds of one forward pass and of a search by each scorer."""
    model, (images, targets) = random_vit(shape), random_images(shape)

    def forward() -> Tensor:
        with torch.inference_mode():
            return model(images)

    calls: dict[str, Any] = {"forward": forward}
    for scorer in SCORERS:
        calls[scorer] = partial(neuron_path.find_paths, model, images, targets, scorer=scorer)
    return interleaved(calls, rounds)[0]


def tables(captum: dict[str, Any], forwards: dict[str, Any], note: str) -> dict[str, Table]:
    """Both tables."""
    rows = [
        [
            name,
            spread(x / SHAPES[name].n_images for x in found["seconds"]["neuron_path"]).text(3, " s"),
            spread(x / SHAPES[name].n_images for x in found["seconds"]["captum"]).text(3, " s"),
            ratios(found["seconds"]["captum"], found["seconds"]["neuron_path"]).text(2, "×"),
            f"{found['largest_difference']:.0e}",
        ]
        for name, found in captum.items()
    ]
    columns = ("model", "per image", "captum", "faster than captum", "largest difference")
    scorers = [
        [f"`{scorer}`", *(ratios(seconds[scorer], seconds["forward"]).text(1) for seconds in forwards.values())]
        for scorer in SCORERS
    ]
    return {"captum": Table(columns, rows, note), "scorers": Table(("scorer", *forwards), scorers, note)}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=2, help="interleaved rounds")
    arguments = parser.parse_args()
    captum, forwards = {}, {}
    for name, shape in SHAPES.items():
        console.print(f"[bold]{name}[/bold]: {shape.n_images} images")
        captum[name] = against_captum(shape, arguments.rounds)
        forwards[name] = in_forwards(shape, arguments.rounds)
    note = f"Median and range of {rounds_of(arguments.rounds)}, {N_STEPS} Gauss–Legendre nodes."
    record("baselines", {"captum": captum, "forwards": forwards}, tables(captum, forwards, note))


if __name__ == "__main__":
    main()
