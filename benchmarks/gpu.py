"""How fast is the path search on a GPU, by precision, against the roofline, and are its paths those of a CPU?

    python -m benchmarks.gpu                      # 7 minutes on a large GPU
    python -m benchmarks.gpu --rounds 1 --only "ViT-B/32"

The roofline is that of `benchmarks.search_speed`, at float32, with all sequences in one pass.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import neuron_path
from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, show, spread
from benchmarks.models import Shape, random_images, random_vit
from benchmarks.search_speed import roofline
from neuron_path.models.guard import exact

GPU = torch.device("cuda")
SHAPES = {
    "ViT-B/32": Shape(768, 12, 12, n_images=64),
    "ViT-B/16": Shape(768, 12, 12, patch=16, n_images=32),
    "ViT-L/32": Shape(1024, 24, 16, n_images=32),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp32, adaptive rule": {"quadrature": "adaptive"},
    "fp32, compiled": {"compile": True},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
COMPILED_FOR = ("ViT-B/32",)  # a compilation takes most of a minute
BUDGETS = ("2 GB", "8 GB")
ON_CPU = 2  # images of ViT-B/32, whose paths a CPU finds too


def waiting(call: Callable[[], Any]) -> Any:
    """What the call returns, when the GPU is done."""
    result = call()
    torch.cuda.synchronize()
    return result


def exact_roofline(model: Any, h: Tensor) -> None:
    """The roofline without TF32; outside inference mode, whose gradients it needs."""
    with exact(GPU), torch.enable_grad():
        roofline(model, h, len(h))


def measure(name: str, shape: Shape, rounds: int) -> dict[str, Any]:
    """Seconds of each setting and of the roofline, and the paths that are fp32's."""
    console.print(f"[bold]{name}[/bold]: {shape.n_images} images")
    model = random_vit(shape).to(GPU)
    images, targets = (value.to(GPU) for value in random_images(shape))
    settings = {key: value for key, value in SETTINGS.items() if name in COMPILED_FOR or "compile" not in value}
    search = partial(neuron_path.find_paths, model, images, targets)
    first: dict[str, float] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for key, value in settings.items():
        calls[key] = partial(waiting, partial(search, **value))
        start = time.perf_counter()
        calls[key]()
        first[key] = time.perf_counter() - start
    calls["roofline"] = partial(
        waiting,
        partial(exact_roofline, model, torch.randn(8 * shape.n_images, shape.n_tokens, shape.width, device=GPU)),
    )
    seconds, outputs = interleaved(calls, rounds)
    return {
        "shape": shape._asdict(),
        "seconds": seconds,
        "first": first,
        "same_path": {key: same_paths(outputs[key], outputs["fp32"]) for key in settings},
        "peak": peaks(model, search),
    }


def same_paths(found: neuron_path.PathResult, reference: neuron_path.PathResult) -> int:
    """Images with the reference's path."""
    return int((found.paths.cpu() == reference.paths.cpu()).all(1).sum())


def peaks(model: nn.Module, search: Callable[..., object]) -> dict[str, int]:
    """Most bytes above the loaded model, by budget."""
    found: dict[str, int] = {}
    for budget in BUDGETS:
        search(memory_budget=budget)  # so that nothing is kept for the first time
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        search(memory_budget=budget)
        found[budget] = torch.cuda.max_memory_allocated() - before
    return found


def against_cpu() -> dict[str, dict[str, int]]:
    """How many images have the path that a CPU finds for them."""
    digits, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    shape = SHAPES["ViT-B/32"]._replace(n_images=ON_CPU)
    subjects: dict[str, tuple[nn.Module, Tensor, Tensor]] = {
        "digits": (digits, images, labels),
        "ViT-B/32, random": (random_vit(shape), *random_images(shape)),
    }
    counts = {}
    for name, (model, some, targets) in subjects.items():
        on_cpu = neuron_path.find_paths(model.cpu(), some, targets)
        on_gpu = neuron_path.find_paths(model.to(GPU), some, targets)
        counts[name] = {"n_images": len(some), "same_path": same_paths(on_gpu, on_cpu)}
    return counts


def tables(values: dict[str, dict[str, Any]], compared: dict[str, dict[str, int]], rounds: int) -> dict[str, Table]:
    """Three tables."""
    rows = []
    for name, found in values.items():
        seconds, n_images = found["seconds"], found["shape"]["n_images"]
        for key, same in found["same_path"].items():
            floor = ratios(seconds[key], seconds["roofline"]).text(2) if key == "fp32" else "–"
            faster = "–" if key == "fp32" else ratios(seconds["fp32"], seconds[key]).text(2, "×")
            speed = spread(n_images / value for value in seconds[key]).text(1)
            rows.append([name, key, speed, faster, floor, f"{same} of {n_images}", f"{found['first'][key]:.1f} s"])
    columns = ("model", "tails", "images / s", "faster than fp32", "time / roofline", "paths of fp32", "first search")
    of_memory = [
        [name, budget, f"{peak / 1e9:.2f} GB"]
        for name, found in values.items()
        for budget, peak in found["peak"].items()
    ]
    of_cpu = [[name, f"{found['same_path']} of {found['n_images']}"] for name, found in compared.items()]
    on = f"On one {torch.cuda.get_device_name()}, torch {torch.__version__}."
    note = f"Median and range of {rounds_of(rounds)}, 8 Gauss–Legendre nodes unless said, 224 pixels, random weights."
    return {
        "speed": Table(columns, rows, f"{on} {note}"),
        "memory": Table(("model", "memory_budget", "peak above the model"), of_memory, on),
        "cpu": Table(("model", "images with the path that a CPU finds"), of_cpu, on),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, help="interleaved rounds")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="some; writes nothing")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        console.print("There is no GPU here, so nothing is measured.")
        return
    values = {name: measure(name, SHAPES[name], arguments.rounds) for name in arguments.only}
    found = tables(values, against_cpu(), arguments.rounds)
    if list(values) == list(SHAPES):
        record("gpu", {"speed": values}, found)
    else:
        show(found)


if __name__ == "__main__":
    main()
