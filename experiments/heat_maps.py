"""Whether heat maps are right: blank the hottest patches, the coldest and random ones, and see what it takes.

    python experiments/heat_maps.py [KEY=VALUE …] [--images=N] [--blank=X] [--share=S] [--steps=M]

KEY=VALUE are settings of `neuron-path run`; by default the embedded model on the embedded digits. `--blank` is what a
blank pixel is after preprocessing, −1 for the digits' paper, 0 (the default) for the mean colour; `--share` of the
patches are blanked, a quarter by default; `--steps` is a fixed number of nodes in place of `adaptive`.

Each image gets the path of five neurons a block with the largest joint score, and both maps of it; the measure is
e = f − f(path removed), f the log-odds of the predicted class. A map is right about the effect if blanking its hottest
patches takes more from e than blanking the coldest, or random ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.target import target_margin
from neuron_path.cli.arguments import parse_arguments, whole_number
from neuron_path.cli.hydra_app import compose_config
from neuron_path.pipeline.build import build_study
from neuron_path.stats.intervals import bootstrap_mean


def effects(model: nn.Module, images: Tensor, paths: Tensor, targets: Tensor) -> Tensor:
    """(B,) f − f(path removed)."""
    clean = neuron_path.intervene(model, images, paths, "enhance", factor=1.0)
    removed = neuron_path.intervene(model, images, paths, "remove")
    return target_margin(clean.double(), targets) - target_margin(removed.double(), targets)


def blanked(images: Tensor, ranks: Tensor, share: float, blank: float) -> Tensor:
    """The images with the first `share` of the patches blank, by ranks (B, rows, columns) from 0."""
    gone = (ranks < max(1, round(share * ranks[0].numel()))).unsqueeze(1).to(images.dtype)
    mask = nn.functional.interpolate(gone, size=images.shape[2:], mode="nearest")
    return images * (1 - mask) + blank * mask


def ranks_of(values: Tensor) -> Tensor:
    """(B, rows, columns) 0 for the largest value of each image."""
    order = values.flatten(1).argsort(dim=1, descending=True)
    return order.argsort(dim=1).view_as(values)


def measure(
    model: nn.Module, images: Tensor, share: float, blank: float, n_steps: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """For each map what blanking takes from the effect, (B,), by which patches are blanked."""
    found = neuron_path.find_paths(model, images, search="linearized", top_k=5)
    paths, targets = found.paths, found.targets
    before = effects(model, images, paths, targets)
    baseline = torch.full_like(images[:1], blank)
    generator = torch.Generator().manual_seed(0)
    results: dict[str, dict[str, np.ndarray]] = {}
    for quantity in ("effect", "activation"):
        heat = neuron_path.heat_map(
            model,
            images,
            paths,
            targets,
            quantity,
            baseline_images=baseline,
            quadrature="adaptive" if n_steps is None else "gauss_legendre",
            n_steps=n_steps,
            target="margin",
        )
        values = heat.values.double()
        orders = {"hottest": values, "coldest": -values, "random": torch.rand(values.shape, generator=generator)}
        results[quantity] = {
            name: (before - effects(model, blanked(images, ranks_of(order), share, blank), paths, targets)).numpy()
            for name, order in orders.items()
        }
        if heat.convergence_deltas is not None:
            missing = heat.convergence_deltas.abs() / heat.values.abs().sum((1, 2))
            print(f"missing of the maps: median {float(missing.median()):.1e}, at most {float(missing.max()):.1e}")
    print(f"effect before: {bootstrap_mean(before.numpy())}")
    return results


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table in Markdown."""
    settings, options = parse_arguments("heat_maps", arguments, ["--images", "--blank", "--share", "--steps"])
    study = build_study(compose_config(settings))
    dataset, n = study.data.dataset, whole_number("--images", options.get("--images", "60"))
    places = np.arange(min(n, len(dataset))) * len(dataset) // min(n, len(dataset))
    images = torch.stack([dataset[int(place)]["image"] for place in places])
    share, blank = float(options.get("--share", "0.25")), float(options.get("--blank", "0"))
    n_steps = whole_number("--steps", options["--steps"]) if "--steps" in options else None
    results = measure(study.session.model, images, share, blank, n_steps)
    print("| map | patches | n | what blanking them takes from the effect [95 % interval] |\n| --- | --- | --- | --- |")
    for quantity, taken in results.items():
        rows = [(name, drop) for name, drop in taken.items()]
        rows += [(f"hottest − {name}", taken["hottest"] - taken[name]) for name in ("coldest", "random")]
        for name, drop in rows:
            interval = bootstrap_mean(drop)
            print(
                f"| {quantity} | {name} | {interval.n} | "
                f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] |"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
