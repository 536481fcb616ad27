"""Where does the time of a search go? By stage, by kind of kernel, and how close its products are to the hardware's.

    python -m benchmarks.profile              # 2 minutes on 2 cores

Stages are timed from outside. Kernels are torch's profiler's own times; what is left is calling them. The hardware's
speed is that of the fastest of several large products, measured in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import neuron_path
from benchmarks.harness import Table, console, record, show
from benchmarks.models import Shape, random_images, random_vit
from neuron_path.attribution import tangent
from neuron_path.models.session import Session
from neuron_path.search import chunk

NOTE = "Default rule, 8 Gauss–Legendre nodes."
SHAPES = {
    "ViT-B/32": Shape(768, 12, 12),
    "ViT-S/16": Shape(384, 12, 6, patch=16),
    "24 blocks × 192": Shape(192, 24, 3, n_images=2),
}
STAGES: dict[str, tuple[Any, str]] = {
    "check of the model": (Session, "_verify"),
    "clean pass": (chunk.Problem, "pose"),
    "check of rounding": (chunk, "exactness"),
    "state and tangent": (tangent.TangentPrefix, "_open"),
    "tails": (tangent, "tail_gradients"),
}
KERNELS = {
    "products": ("mm", "addmm", "bmm", "baddbmm_", "matmul"),
    "attention": ("_scaled_dot_product*",),
    "GELU": ("gelu*",),
    "norms, softmax": ("native_layer_norm*", "_softmax*"),
    "copies, sums": ("copy_", "add", "add_", "cat", "mul", "mul_", "sum", "sub", "fill_"),
}
LARGE = ((2048, 2048, 2048), (512, 3072, 768), (512, 768, 3072), (1600, 768, 768))


def stages(search: Callable[[], object]) -> dict[str, float]:
    """Shares of the seconds of a search."""
    seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timed(label: str) -> Iterator[None]:
        owner, name = STAGES[label]
        original = getattr(owner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                seconds[label] += time.perf_counter() - start

        with mock.patch.object(owner, name, run):
            yield

    with ExitStack() as stack:
        for label in STAGES:
            stack.enter_context(timed(label))
        start = time.perf_counter()
        search()
        whole = time.perf_counter() - start
    shares = {label: value / whole for label, value in seconds.items()}
    return shares | {"all else": 1 - sum(shares.values())}


def kernels(search: Callable[[], object]) -> dict[str, float]:
    """Shares of the time in kernels, and the speed of products."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        search()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiled.key_averages()}
    whole = sum(times.values())
    found = {}
    for kind, names in KERNELS.items():
        of_kind = [key for key in times if any(fnmatch(key, name) for name in names)]
        found[kind] = sum(times.pop(key) for key in of_kind) / whole
    return found | {"calls and all else": sum(times.values()) / whole}


def linear_flops(x: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Operations of a product with a weight that was laid out, given shapes, as torch's counter wants it."""
    return 2 * x.numel() * out_shape[-1]


def throughput(search: Callable[[], object]) -> float:
    """GFLOP of a search's products and attention."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: linear_flops}) as counter:
        search()
    return counter.get_total_flops() / 1e9


def fastest_product() -> float:
    """GFLOP/s."""
    best = 0.0
    for rows, inner, columns in LARGE:
        x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
        for _ in range(20):
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            best = max(best, 2e-9 * rows * inner * columns / (time.perf_counter() - start))
    return best


def measure(shape: Shape) -> dict[str, Any]:
    """Everything of one model, with the default rule."""
    model, (images, targets) = random_vit(shape), random_images(shape)
    search = partial(neuron_path.find_paths, model, images, targets)
    work = throughput(search)  # warms up as well
    speeds = []
    for _ in range(2):
        start = time.perf_counter()
        search()
        speeds.append(work / (time.perf_counter() - start))
    limit = fastest_product()
    return {"stages": stages(search), "kernels": kernels(search), "gflop": work, "speed": max(speeds), "limit": limit}


def tables(values: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Stages, kernels, and the limit; a column for each model."""
    found = {
        key: Table(
            (key.removesuffix("s"), *values),
            [
                [row, *(f"{value[key][row]:.1%}" for value in values.values())]
                for row in next(iter(values.values()))[key]
            ],
            NOTE,
        )
        for key in ("stages", "kernels")
    }
    rows = [
        [
            name,
            f"{value['gflop']:.0f}",
            f"{value['speed']:.0f} GFLOP/s",
            f"{value['limit']:.0f} GFLOP/s",
            f"{value['speed'] / value['limit']:.0%}",
        ]
        for name, value in values.items()
    ]
    columns = ("model", "GFLOP a search", "speed of the whole search", "fastest product", "of it")
    return {**found, "limit": Table(columns, rows, NOTE)}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="some; writes nothing")
    arguments = parser.parse_args()
    values = {}
    for name in arguments.only:
        console.print(f"[bold]{name}[/bold]")
        values[name] = measure(SHAPES[name])
    if list(values) == list(SHAPES):
        record("profile", values, tables(values))
    else:
        show(tables(values))


if __name__ == "__main__":
    main()
