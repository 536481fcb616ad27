"""How much faster a model is with a share of its FFN neurons, sliced: batches of 1 and 32 images, interleaved.

    python -m benchmarks.pruning              # 2 minutes on 2 cores
    python -m benchmarks.pruning --rounds 3

Weights are random: time does not depend on which neurons stay.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, spread
from benchmarks.models import Shape, random_vit
from neuron_path.pruning.cost import count_flops, count_parameters
from neuron_path.pruning.slicing import slice_model

SHAPES = {
    "ViT-B/32": Shape(768, 12, 12),
    "ViT-B/16": Shape(768, 12, 12, patch=16),
}
BATCH_SIZES = (1, 32)
KEEP = 0.5


def measured(shape: Shape, rounds: int) -> dict[str, Any]:
    """Parameters and operations of both models, and their seconds for each batch."""
    original = random_vit(shape)
    pruned = slice_model(original, [range(int(KEEP * 4 * shape.width))] * shape.depth)
    pair = {"original": original, "pruned": pruned}
    seconds = {}
    with torch.inference_mode():
        for size in BATCH_SIZES:
            images = torch.randn(size, 3, shape.image, shape.image, generator=torch.Generator().manual_seed(0))
            calls = {name: partial(model, images) for name, model in pair.items()}
            seconds[str(size)] = interleaved(calls, rounds)[0]
    return {
        "parameters": {name: count_parameters(model) for name, model in pair.items()},
        "flops": {name: count_flops(model) for name, model in pair.items()},
        "seconds": seconds,
    }


def table(found: dict[str, Any], note: str) -> Table:
    """A row for each model and batch."""
    rows = []
    for name, one in found.items():
        for size, seconds in one["seconds"].items():
            rows.append(
                [
                    name,
                    size,
                    *(f"{one['flops'][which] / 1e9:.1f}" for which in ("original", "pruned")),
                    *(spread(seconds[which]).text(3, " s") for which in ("original", "pruned")),
                    ratios(seconds["original"], seconds["pruned"]).text(2, "×"),
                ]
            )
    columns = ("model", "images", "GFLOPs of one", "pruned", "original", "pruned", "faster")
    return Table(columns, rows, note)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=7, help="interleaved rounds")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES), help="which models")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.models:
        console.print(f"[bold]{name}[/bold]: half of the FFN neurons")
        found[name] = measured(SHAPES[name], arguments.rounds)
    note = f"Half of the FFN neurons kept. Median and range of {rounds_of(arguments.rounds)}."
    record("pruning", found, {"pruning": table(found, note)})


if __name__ == "__main__":
    main()
