"""How fast is the path search? The engine against the literal oracle and against the roofline, interleaved in one run.

    python -m benchmarks.search_speed              # both models, about 3 minutes on 2 cores
    python -m benchmarks.search_speed --rounds 9   # steadier

The roofline is one forward and one input-only backward of the same sequences through the blocks after l, summed over
l, with timm's own blocks, fused attention and the micro-batch that is fastest for it. Each round times engine, oracle
and roofline one after another; the ratios are medians over rounds, with their range.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from tests import oracle

SHAPES: dict[str, dict[str, Any]] = {
    "12 blocks × 384": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "24 blocks × 192": {"embed_dim": 192, "depth": 24, "num_heads": 3},
}
N_STEPS = 20
MICRO_BATCHES = (4, 8, 10, 20, 40)


def make_model(shape: dict[str, Any]) -> VisionTransformer:
    """A random ViT of 50 tokens."""
    torch.manual_seed(0)
    return VisionTransformer(img_size=224, patch_size=32, num_classes=100, **shape).eval().requires_grad_(False)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def literal_search(model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature) -> Tensor:
    """Paths of the images by the oracle, with the final score, as the authors' scripts give them."""
    alpha, weights = (torch.from_numpy(x).float() for x in quadrature.nodes())
    setting = oracle.Setting(model, oracle.cls_tokens(model), alpha, weights)
    paths = []
    for image, target in zip(images, targets.tolist(), strict=True):
        path, _ = oracle.greedy_path(setting, image, target)
        oracle.joint_score(setting, image, target, path)
        paths.append(torch.tensor(path).squeeze(1))
    return torch.stack(paths)


def roofline(model: Any, n_sequences: int, micro_batch: int) -> float:
    """Seconds of one forward and one input-only backward through the blocks after l, summed over l."""
    blocks = list(model.blocks)
    h = torch.randn(n_sequences, 50, model.embed_dim)
    start = time.perf_counter()
    for first in range(1, len(blocks)):
        for part in h.split(micro_batch):
            x = part.clone().requires_grad_()
            y = x
            for block in blocks[first:]:
                y = block(y)
            torch.autograd.grad(y.sum(), x)
    return time.perf_counter() - start


def compare(name: str, shape: dict[str, Any], n_images: int, rounds: int, console: Console) -> list[str]:
    """One row of the table."""
    model = make_model(shape)
    images = torch.randn(n_images, 3, 224, 224)
    targets = torch.arange(n_images) % 100
    quadrature = Quadrature("riemann_left", N_STEPS)

    def engine() -> Tensor:
        return neuron_path.find_paths(model, images, targets, quadrature=quadrature).paths

    assert torch.equal(engine(), literal_search(model, images, targets, quadrature)), "the paths differ"
    sequences = N_STEPS * n_images
    best = min(MICRO_BATCHES, key=lambda size: min(roofline(model, sequences, size) for _ in range(2)))
    to_oracle, to_roofline, engine_seconds = [], [], []
    for number in range(rounds):
        floor = roofline(model, sequences, best)
        ours = seconds(engine)
        literal = seconds(lambda: literal_search(model, images, targets, quadrature))
        to_oracle.append(literal / ours)
        to_roofline.append(ours / floor)
        engine_seconds.append(ours)
        console.print(f"{name} round {number + 1}: engine {ours:.2f} s, oracle {literal:.2f} s, roofline {floor:.2f} s")
    return [
        name,
        f"{median(engine_seconds) / n_images:.2f} s",
        f"{median(to_oracle):.1f}× ({min(to_oracle):.1f}–{max(to_oracle):.1f})",
        f"{median(to_roofline):.2f} ({min(to_roofline):.2f}–{max(to_roofline):.2f})",
        str(best),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1, help="images per call")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    arguments = parser.parse_args()
    console = Console()
    table = Table(
        "model (50 tokens)", "per image", "faster than the oracle", "time / roofline", "roofline's micro-batch"
    )
    for name, shape in SHAPES.items():
        table.add_row(*compare(name, shape, arguments.images, arguments.rounds, console))
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, left Riemann with {N_STEPS} nodes")
    console.print(table)


if __name__ == "__main__":
    main()
