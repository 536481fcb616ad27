"""Is float32 with its rule for close calls as good as float64, on trained models? Not one path may differ.

    python -m benchmarks.exactness --checkpoint FILE --data FOLDER    # on a slow machine an hour
    python -m benchmarks.exactness --checkpoint FILE --data FOLDER --image-size 518  # that size alone, half an hour
    python -m benchmarks.exactness --epochs 1 --images 4              # a trial, writes nothing

The models: the embedded digits ViT, others like it that are trained here on the digits (several seeds; norms behind
the branches instead of before them; a head twenty times as large, whose probabilities saturate; queries and keys that
are sharpened half-way), and with `--checkpoint` a pretrained one. Each image is searched
in float32 by the rule of docs/decisions/0003-close-calls.md, in float32 in other batches and passes, in float32 without
the rule, and in float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import neuron_path
from benchmarks import real
from benchmarks.harness import Table, console, positive, record, show
from neuron_path.search import chunk
from neuron_path.search.searches.greedy import Greedy
from neuron_path.types import PathResult

IMAGES = 90  # of each model on the digits
PHOTOGRAPHS = 8
LARGE = 3  # photographs at a size of their own
NODES = 2  # of photographs: what rounds does so at any node
OTHER_MICRO_BATCH = 5
LEAST_SCORE = 1e-30  # smaller ones, of saturated probabilities, leave the range of float32, in which they are stored


class Subject(NamedTuple):
    """A model with its images and targets, and the nodes that it is searched with."""

    model: nn.Module
    images: Tensor
    targets: Tensor
    n_steps: int = 8


def digits_vit(seed: int, epochs: int, *, post_norm: bool = False, sharpness: float = 1, head: float = 1) -> nn.Module:
    """A ViT of the embedded model's shape, trained on the digits.

    Args:
        seed: of weights and batches.
        epochs: of training.
        post_norm: norms behind the branches.
        sharpness: what queries and keys are multiplied by, half-way.
        head: what the classifier is multiplied by, in the end.
    """
    torch.manual_seed(seed)
    model = VisionTransformer(
        img_size=8,
        patch_size=2,
        in_chans=1,
        num_classes=10,
        embed_dim=48,
        depth=12,
        num_heads=3,
        block_fn=ResPostBlock if post_norm else Block,
    )
    images, labels = neuron_path.load_digits("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    n_batches = -(-len(labels) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * n_batches, pct_start=0.15)
    for epoch in range(epochs):
        if epoch == epochs // 2 and sharpness != 1:
            with torch.no_grad():
                for block in model.blocks:
                    block.attn.qkv.weight[: 2 * 48] *= sharpness  # pyright: ignore[reportIndexIssue,reportAttributeAccessIssue]
        for chosen in torch.randperm(len(labels)).split(32):
            loss = cross_entropy(model(images[chosen]), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        model.head.weight *= head  # pyright: ignore[reportOperatorIssue,reportAttributeAccessIssue]
    return model.eval().requires_grad_(requires_grad=False)


def subjects(epochs: int, n_images: int, source: real.Source | None) -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Each model's name, and what makes it."""
    images, labels = (x[:n_images] for x in neuron_path.load_digits("test"))

    def trained(**options: Any) -> Subject:
        return Subject(digits_vit(epochs=epochs, **options), images, labels)

    yield "digits, the embedded model", lambda: Subject(neuron_path.load_model(), images, labels)
    for seed in (1, 2):
        yield f"digits, seed {seed}", partial(trained, seed=seed)
    yield "digits, norms behind the branches", partial(trained, seed=3, post_norm=True)
    yield "digits, head × 20", partial(trained, seed=4, head=20)
    yield "digits, queries and keys × 3 half-way", partial(trained, seed=5, sharpness=3)
    if source is not None:
        yield photographs(source, min(PHOTOGRAPHS, n_images))


def photographs(source: real.Source, count: int) -> tuple[str, Callable[[], Subject]]:
    """So many through a pretrained model."""

    def make() -> Subject:
        found = real.load(source, count)
        return Subject(found.model, found.images, found.targets, NODES)

    return f"{source.model}, {source.image_size} px", make


@contextmanager
def counted() -> Iterator[list[int]]:
    """The blocks that are rated again in float64, and the images of which any is, while this lasts."""
    counts, revise = [0, 0], Greedy.revise

    def counting(self: Greedy, problem: Any, scorer: Any, draft: Any, doubt: Any, **options: Any) -> Any:
        counts[0] += int(doubt.blocks.sum())
        counts[1] += int(doubt.blocks.any(1).sum())
        return revise(self, problem, scorer, draft, doubt, **options)

    Greedy.revise = counting
    try:
        yield counts
    finally:
        Greedy.revise = revise


@contextmanager
def without_rule() -> Iterator[None]:
    """Float32 is believed in everything, while this lasts."""
    kept = chunk.exactness
    chunk.exactness = lambda problem: None
    try:
        yield
    finally:
        chunk.exactness = kept


def compared(subject: Subject) -> dict[str, Any]:
    """How float32 differs from float64, by the rule and without it, and from itself in other batches."""
    model, images, targets = subject.model, subject.images, subject.targets
    find = partial(neuron_path.find_paths, n_steps=subject.n_steps)
    with counted() as counts:
        found = find(model, images, targets)
    other = _in_halves(partial(find, model, micro_batch=OTHER_MICRO_BATCH), images, targets)
    with without_rule():
        bare = find(model, images, targets)
    exact = find(model.double(), images.double(), targets)
    model.float()
    assert found.rounding is not None
    rounding = found.rounding.double()
    is_told = exact.scores.abs() > LEAST_SCORE
    off, off_bare = (((one.scores.double() - exact.scores) / exact.scores).abs()[is_told] for one in (found, bare))
    between = ((found.scores - other.scores) / exact.scores).abs()[is_told]
    return {
        "images": len(images),
        "blocks": found.paths.shape[1],
        "rounding": [float(value) for value in (rounding.median(), rounding.max())],
        "rated_again": counts[0] / found.paths.numel(),
        "images_again": counts[1],
        "other_paths_in_float64": int((found.paths != exact.paths).any(1).sum()),
        "other_paths_in_other_batches": int((found.paths != other.paths).any(1).sum()),
        "other_predictions": int((found.predictions != exact.predictions).sum()),
        "other_paths_without": int((bare.paths != exact.paths).any(1).sum()),
        "smallest_margin": float(found.margins.amin()),
        "scores_off": float(off.max()),
        "scores_told": int(is_told.sum()),
        "scores_off_in_roundings": float((off / rounding[is_told]).max()),
        "scores_off_without_in_roundings": float((off_bare / rounding[is_told]).max()),
        "scores_off_without": float(off_bare.max()),
        "scores_between_batches": float(between.max()),
    }


def _in_halves(find: Callable[..., PathResult], images: Tensor, targets: Tensor) -> PathResult:
    """The same in another order and in two batches."""
    back = torch.arange(len(images) - 1, -1, -1)
    parts = [find(images[rows], targets[rows]) for rows in back.tensor_split(2) if len(rows)]
    joined = PathResult.cat(parts)
    flipped = {name: value.flip(0) if isinstance(value, Tensor) else value for name, value in vars(joined).items()}
    return PathResult(**flipped)  # pyright: ignore[reportArgumentType]


def as_table(values: dict[str, dict[str, Any]]) -> Table:
    """A row for each model, and one for all where there are several."""
    columns = (
        "model",
        "images",
        "rounding ρ, median (largest)",
        "rated again in float64",
        "other paths: than float64's",
        "in other batches",
        "without the rule",
        "scores off by at most",
        "without the rule, in ρ",
    )
    rows = []
    for name, found in values.items():
        middle, largest = found["rounding"]
        rows.append(
            [
                name,
                str(found["images"]),
                f"{middle:.1e} ({largest:.1e})",
                f"{100 * found['rated_again']:.2f} % of choices",
                str(found["other_paths_in_float64"]),
                str(found["other_paths_in_other_batches"]),
                str(found["other_paths_without"]),
                f"{found['scores_off']:.1e}",
                f"{found['scores_off_without_in_roundings']:.2g}",
            ]
        )
    if len(values) == 1:
        return Table(columns, rows, _NOTE)
    totals = [str(sum(found[key] for found in values.values())) for key in _SUMMED]
    again = sum(found["rated_again"] * found["images"] * found["blocks"] for found in values.values())
    choices = sum(found["images"] * found["blocks"] for found in values.values())
    rows.append(["all", totals[0], "–", f"{100 * again / choices:.2f} % of choices", *totals[1:], "–", "–"])
    return Table(columns, rows, _NOTE)


_NOTE = (
    f"Photographs with {NODES} Gauss–Legendre nodes, digits with 8. Scores of saturated probabilities that leave "
    "float32's range are left out."
)
_SUMMED = ("images", "other_paths_in_float64", "other_paths_in_other_batches", "other_paths_without")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=positive, help="of training each model; writes nothing")
    parser.add_argument("--images", type=positive, help="of each model; writes nothing")
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    result, chosen = "exactness", subjects(arguments.epochs or 20, arguments.images or IMAGES, source)
    if source is not None and source.image_size != real.IMAGE_SIZE:
        result, chosen = "exactness_large", iter([photographs(source, arguments.images or LARGE)])
    values: dict[str, dict[str, Any]] = {}
    for name, make in chosen:
        values[name] = compared(make())
        console.print(f"  {name}: {values[name]}")
    tables = {"exactness": as_table(values)}
    if arguments.epochs or arguments.images or arguments.trial:
        show(tables)
    else:
        record(result, values, tables)


if __name__ == "__main__":
    main()
