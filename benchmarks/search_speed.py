"""How fast is the path search? The engine against the literal oracle and the roofline, interleaved in one run.

    python -m benchmarks.search_speed                     # all models, 8 minutes on 2 cores
    python -m benchmarks.search_speed --rounds 1 --only "24 blocks × 192"

The oracle (`tests/oracle.py`) runs a whole forward pass for every step and one gradient for every visited block. The
roofline is one forward and one input-only backward of the same sequences through the blocks after l, summed over l,
with timm's own blocks, fused attention and the micro-batch that is fastest for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from benchmarks.harness import Spread, Table, console, interleaved, positive, ratios, record, rounds_of, show, spread
from benchmarks.models import Shape, random_images, random_vit
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.report.style import BLUE, FAINT, MUTED, VERMILION, axes_in_inches, figure_style, new_figure
from tests import oracle

SHAPES = {
    "ViT-B/32": Shape(768, 12, 12),
    "24 blocks × 192": Shape(192, 24, 3, n_images=2),
    "12 blocks × 192, patch scope": Shape(192, 12, 3, pool="avg", n_images=2),
    "ViT-S/16": Shape(384, 12, 6, patch=16),
}
WITHOUT_ORACLE = ("ViT-S/16",)  # it would take ten minutes a run, and left Riemann some more
WITH_GOAL = ("ViT-B/32", "ViT-S/16")  # for the ratio to the roofline, which is told by more rounds
FEW = 3
ORACLE_ROUNDS = {"ViT-B/32": 2}  # elsewhere one: the goals are farther away
PAPER = Quadrature("riemann_left", 20)
QUADRATURES = {"left Riemann, 20": PAPER, "Gauss–Legendre, 8": Quadrature("gauss_legendre", 8)}
QUADRATURES["adaptive"] = Quadrature("adaptive")
DEFAULT = "Gauss–Legendre, 8"
MICRO_BATCHES = (2, 4, 8, 16)


def literal_search(model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature) -> Tensor:
    """Paths of the images by the oracle, with the final score, as the authors' scripts give them."""
    alpha, weights = (torch.from_numpy(x).float() for x in quadrature.nodes())
    tokens = oracle.cls_tokens(model) if model.global_pool == "token" else oracle.patch_tokens(model)
    setting = oracle.Setting(model, tokens, alpha, weights)
    paths = []
    for image, target in zip(images, targets.tolist(), strict=True):
        path, _ = oracle.greedy_path(setting, image, target)
        oracle.joint_score(setting, image, target, path)
        paths.append(torch.tensor(path).squeeze(1))
    return torch.stack(paths)


def tail(model: Any, first: int, h: Tensor, micro_batch: int) -> None:
    """One forward and one input-only backward of the sequences h through blocks `first` … L−1."""
    for part in h.split(micro_batch):
        x = part.clone().requires_grad_()
        y = x
        for block in model.blocks[first:]:
            y = block(y)
        torch.autograd.grad(y.sum(), x)


def roofline(model: Any, h: Tensor, micro_batch: int) -> None:
    """The tails behind every block."""
    for first in range(1, len(model.blocks)):
        tail(model, first, h, micro_batch)


def fastest_micro_batch(model: Any, h: Tensor) -> int:
    """The micro-batch that is fastest for the roofline, told by its longest part."""
    sizes = [size for size in MICRO_BATCHES if size < len(h)] + [len(h)]
    seconds, _ = interleaved({str(size): partial(tail, model, 1, h, size) for size in sizes}, 3, quiet=True)
    return min(sizes, key=lambda size: min(seconds[str(size)]))


def measure(name: str, shape: Shape, rounds: int, oracle_rounds: int) -> dict[str, Any]:
    """Seconds of engine, roofline and oracle, and how many of the engine's neurons are the oracle's."""
    console.print(f"[bold]{name}[/bold]: {shape.depth} blocks × {shape.width}, {shape.n_tokens} tokens")
    model = random_vit(shape)
    images, targets = random_images(shape)
    h = torch.randn(QUADRATURES[DEFAULT].n_steps * shape.n_images, shape.n_tokens, shape.width)
    micro_batch = fastest_micro_batch(model, h)
    rules = QUADRATURES if name not in WITHOUT_ORACLE else {DEFAULT: QUADRATURES[DEFAULT]}
    calls: dict[str, Callable[[], Any]] = {
        label: partial(neuron_path.find_paths, model, images, targets, quadrature=quadrature)
        for label, quadrature in rules.items()
    }
    calls["roofline"] = partial(roofline, model, h, micro_batch)
    slow: dict[str, int] = {}
    if name not in WITHOUT_ORACLE:
        calls["oracle"] = partial(literal_search, model, images, targets, PAPER)
        slow = dict.fromkeys(("oracle", "left Riemann, 20"), min(oracle_rounds, ORACLE_ROUNDS.get(name, 1)))
    seconds, outputs = interleaved(calls, rounds if name in WITH_GOAL else min(rounds, FEW), slow)
    found = {label: outputs[label] for label in rules}
    reference = outputs.get("oracle")
    equal = None if reference is None else int((found["left Riemann, 20"].paths == reference).sum())
    return {
        "shape": shape._asdict(),
        "seconds": seconds,
        "micro_batch_of_roofline": micro_batch,
        "neurons": shape.n_images * shape.depth,
        "neurons_equal_to_oracle": equal,
        "mean_nodes": {label: float(result.n_steps.double().mean()) for label, result in found.items()},
    }


def compared(measured: dict[str, Any]) -> dict[str, dict[str, Spread | None]]:
    """For each rule the seconds per image, and the ratios to oracle and roofline."""
    seconds, n_images = measured["seconds"], measured["shape"]["n_images"]
    return {
        label: {
            "per_image": spread(value / n_images for value in seconds[label]),
            "faster_than_oracle": ratios(seconds["oracle"], seconds[label]) if "oracle" in seconds else None,
            "over_roofline": ratios(seconds[label], seconds["roofline"]) if label == DEFAULT else None,
        }
        for label in measured["mean_nodes"]
    }


def as_table(values: dict[str, dict[str, Any]]) -> Table:
    """A row for each model and rule."""
    rows = []
    for name, measured in values.items():
        for label, found in compared(measured).items():
            faster, floor, per_image = found["faster_than_oracle"], found["over_roofline"], found["per_image"]
            assert per_image is not None
            equal = measured["neurons_equal_to_oracle"] if label == "left Riemann, 20" else None
            nodes = f" ({measured['mean_nodes'][label]:.0f})" if label == "adaptive" else ""
            rows.append(
                [
                    name,
                    label + nodes,
                    per_image.text(2, " s"),
                    "–" if faster is None else faster.text(1, "×"),
                    "–" if floor is None else floor.text(2),
                    "–" if equal is None else f"{equal} of {measured['neurons']}",
                ]
            )
    columns = ("model", "rule, nodes", "per image", "faster than the oracle", "time / roofline", "the oracle's neurons")
    return Table(columns, rows)


def draw(values: dict[str, dict[str, Any]]) -> Figure:
    """Two panels: how many times faster than the oracle, and time over the roofline; a marker for each rule."""
    looks = {"left Riemann, 20": (BLUE, "s"), "Gauss–Legendre, 8": (VERMILION, "o"), "adaptive": (MUTED, "D")}
    panels = (
        ("faster_than_oracle", "times faster than the oracle (20 nodes)"),
        ("over_roofline", "time / roofline (same nodes)"),
    )
    height = 0.42 * len(values)
    with figure_style():
        figure = new_figure(7.0, height + 0.95)
        for column, (key, label) in enumerate(panels):
            axes = axes_in_inches(figure, 1.75 + 2.65 * column, 0.5, 2.4, height)
            axes.set_xlabel(label)
            axes.set_ylim(len(values) - 0.5, -0.5)
            axes.set_yticks(range(len(values)), list(values) if column == 0 else [""] * len(values))
            axes.tick_params(axis="y", length=0)
            for row, measured in enumerate(values.values()):
                axes.axhline(row, color=FAINT, linewidth=0.4, zorder=0)
                for rule, found in compared(measured).items():
                    value, (colour, marker) = found[key], looks[rule]
                    if value is None:
                        continue
                    y = row + 0.2 * (list(QUADRATURES).index(rule) - 1)
                    axes.plot([value.low, value.high], [y, y], color=colour, linewidth=1.4)
                    axes.plot([value.median], [y], marker, color=colour, markersize=4.5)
            axes.set_xlim(left=0)
            axes.margins(x=0.1)
            if key == "over_roofline":
                axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
            if column == 0:
                for rule in QUADRATURES:
                    colour, marker = looks[rule]
                    axes.plot([], [], marker, color=colour, markersize=4.5, label=rule)
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handletextpad=0.2)
    return figure


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, help="interleaved rounds")
    parser.add_argument(
        "--oracle-rounds", type=positive, default=2, help="those with the oracle at most, a minute or two each"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="some models; writes nothing"
    )
    arguments = parser.parse_args()
    values = {name: measure(name, SHAPES[name], arguments.rounds, arguments.oracle_rounds) for name in arguments.only}
    few = f" for {' and '.join(WITH_GOAL)}, at most {FEW} for the others"
    oracle = "a ratio to the oracle is of the rounds that it took part in, two for ViT-B/32 and else one"
    note = f"Median and range of {rounds_of(arguments.rounds)}{few}; {oracle}."
    tables = {"search_speed": as_table(values)._replace(note=note)}
    if list(values) == list(SHAPES):
        record("search_speed", values, tables, draw(values))
    else:
        show(tables)


if __name__ == "__main__":
    main()
