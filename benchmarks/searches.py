"""Linearised search against the paper's: score, time and passes, in one interleaved run; and what its paths' edits do.

    python -m benchmarks.searches                                      # digits and deep random models
    python -m benchmarks.searches --checkpoint FILE --data FOLDER      # a pretrained model on photographs

The time of a search is that of `find_paths` with its defaults, the clean pass and the final score included; of the
digits all test images, of a pretrained model as many photographs as are named. Effects are changes of the target's
probability by the edits of `intervene`, those that were maximised and others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import neuron_path
from benchmarks import real
from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, show
from benchmarks.models import Shape, random_images, random_vit
from neuron_path.searches import Linearized
from neuron_path.stats.paired import paired_test

SEARCHES: dict[str, Any] = {
    "greedy": "greedy",
    "one step": Linearized(max_passes=2),
    "linearized": Linearized(),
    "linearized, polish": Linearized(polish=True),
}
DEEP = {
    "24 random blocks × 192": Shape(192, 24, 3, n_images=8),
    "40 random blocks × 192": Shape(192, 40, 3, n_images=4),
}
SIZES = (1, 5, 20)
REFERENCES = 16  # photographs whose means an ablation takes
EFFECT: dict[str, dict[str, Any]] = {
    "effect of remove": {"search": Linearized(measure="effect")},
    "effect of mean ablation": {"search": Linearized(measure="effect", operation="mean_ablation")},
    "joint, linearized": {"search": "linearized"},
    "gradient × activation": {"scorer": "gradient_x_activation"},
    "activation": {"scorer": "activation"},
    "random": {"scorer": "random"},
}
MAXIMISED = {"remove": "effect of remove", "mean_ablation": "effect of mean ablation"}


def compare(model: nn.Module, images: Tensor, targets: Tensor, rounds: int) -> dict[str, Any]:
    """Scores, passes and seconds of each search."""
    calls = {
        name: partial(neuron_path.find_paths, model, images, targets, search=search)
        for name, search in SEARCHES.items()
    }
    seconds, found = interleaved(calls, rounds, {"greedy": 1 if rounds < 3 else 2})
    greedy = found["greedy"].scores
    return {
        "n_images": len(images),
        "seconds": seconds,
        "score": {name: float(result.scores.mean() / greedy.mean()) for name, result in found.items()},
        # Equal paths are scored alike but for rounding and nodes.
        "not_below": {
            name: float(((result.scores >= greedy * (1 - 1e-3)) | _same(result, found["greedy"])).double().mean())
            for name, result in found.items()
        },
        "passes": {
            name: float(result.passes.double().mean()) for name, result in found.items() if result.passes is not None
        },
        "moved": {
            name: float((result.paths != found["greedy"].paths).sum(1).double().mean())
            for name, result in found.items()
        },
    }


def _same(one: Any, other: Any) -> Tensor:
    return (one.paths == other.paths).all(1)


def measure_effects(
    model: nn.Module, images: Tensor, targets: Tensor, references: Tensor, sizes: Sequence[int]
) -> dict[str, Any]:
    """Changes of the target's probability in percent, by method and operation, and tests against the best other one."""
    clean = _probability(model(images), targets)
    values: dict[str, Any] = {}
    for k in sizes:
        methods = dict(EFFECT)
        if k == 1:
            methods["joint, greedy"] = {}
        every: dict[str, dict[str, Any]] = {}
        for name, options in methods.items():
            lent: dict[str, Any] = {"reference_images": references} if "mean" in name else {}
            paths = neuron_path.find_paths(model, images, targets, top_k=k, **options, **lent).paths
            every[name] = {
                what: 100 * (_probability(logits, there) - base) / base
                for what, (logits, there, base) in _edits(model, images, targets, references, paths, clean).items()
            }
        for operation, maximised in MAXIMISED.items():
            own = every[maximised][operation]
            others = {name: float(found[operation].mean()) for name, found in every.items() if name != maximised}
            best = min(others, key=lambda name: others[name])
            test = paired_test(own.double().numpy(), every[best][operation].double().numpy())
            values[f"{k} {operation}"] = {"next": best, "difference": test.difference.mean, "p": test.p}
        values[str(k)] = {name: {what: float(x.mean()) for what, x in found.items()} for name, found in every.items()}
    return values


def _edits(
    model: nn.Module, images: Tensor, targets: Tensor, references: Tensor, paths: Tensor, clean: Tensor
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """By what is looked at: edited logits, the class looked at, and its clean probability."""
    removed = neuron_path.intervene(model, images, paths)
    flipped = images.flip(3)
    logits = model(images)
    runner_up = logits.scatter(1, targets.unsqueeze(1), -torch.inf).argmax(1)
    edit: Any = partial(neuron_path.intervene, model, images, paths)
    found = {
        operation: (edit(operation, **lent), targets, clean)
        for operation, lent in (
            ("remove", {}),
            ("mean_ablation", {"reference_images": references}),
            ("resample_ablation", {"donor_images": images.roll(1, 0)}),
        )
    }
    return found | {
        "remove, flipped": (
            neuron_path.intervene(model, flipped, paths),
            targets,
            _probability(model(flipped), targets),
        ),
        "remove, all tokens": (edit("remove", tokens="all"), targets, clean),
        "remove, runner-up": (removed, runner_up, _probability(logits, runner_up)),
    }


def _probability(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, classes.unsqueeze(1)).squeeze(1)


def search_table(values: dict[str, dict[str, Any]], note: str) -> Table:
    """A row for each model and search."""
    rows = []
    for model, found in values.items():
        for name in SEARCHES:
            rows.append(
                [
                    f"{model}, {found['n_images']} images" if name == "greedy" else "",
                    f"`{name}`" if name == "greedy" else name,
                    f"{found['score'][name]:.3f}",
                    f"{100 * found['not_below'][name]:.1f} %",
                    f"{found['passes'][name]:.1f}" if name in found["passes"] else "–",
                    f"{found['moved'][name]:.1f}",
                    ratios(found["seconds"]["greedy"], found["seconds"][name]).text(1, "×"),
                ]
            )
    columns = ("model", "search", "score / greedy", "not below", "passes", "blocks moved", "faster than greedy")
    return Table(columns, rows, note)


def effect_table(values: dict[str, Any], note: str) -> Table:
    """A row for each size and method."""
    sizes = [name for name in values if name.isdigit()]
    looks = list(next(iter(values[sizes[0]].values())))
    rows = []
    for k in sizes:
        rows += [
            [k if place == 0 else "", name, *(f"{found[look]:+.2f}".replace("-", "−") for look in looks)]
            for place, (name, found) in enumerate(values[k].items())
        ]
    tests = "; ".join(
        f"k = {name.split()[0]}, {name.split()[1].replace('_', ' ')}: {found['difference']:+.2f} points against "
        f"{found['next']}, p = {found['p']:.1g}"
        for name, found in values.items()
        if " " in name
    )
    return Table(("k", "paths", *(look.replace("_", " ") for look in looks)), rows, f"{note} {tests}.")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3, help="interleaved rounds; the greedy search in fewer")
    parser.add_argument("--images", type=positive, default=None, help="of the digits or photographs; all, or 16")
    parser.add_argument("--effects", type=positive, default=None, help="images whose effects are measured; all, or 40")
    parser.add_argument("--sizes", type=positive, nargs="+", default=SIZES, help="neurons a block (%(default)s)")
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    values: dict[str, dict[str, Any]] = {}
    if source is None:
        digits, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
        references, _ = neuron_path.load_digits("train")
        console.print("[bold]digits[/bold]")
        values["digits"] = compare(digits, images[: arguments.images], labels[: arguments.images], arguments.rounds)
        n_effects = arguments.effects or len(images)
        effects = measure_effects(digits, images[:n_effects], labels[:n_effects], references, arguments.sizes)
        for name, shape in DEEP.items():
            console.print(f"[bold]{name}[/bold]")
            values[name] = compare(random_vit(shape), *random_images(shape), arguments.rounds)
    else:
        n_effects = arguments.effects or 40
        n_images = arguments.images or 16
        model, images, targets, _ = real.load(source, max(n_images, n_effects))
        console.print(f"[bold]{source.model}[/bold]")
        values[source.model] = compare(model, images[:n_images], targets[:n_images], arguments.rounds)
        effects = measure_effects(model, images[:n_effects], targets[:n_effects], images[:REFERENCES], arguments.sizes)
    note = f"Median of {rounds_of(arguments.rounds)}. Not below: within a thousandth, or the same path."
    told = (
        f"Change of the target's probability in percent, mean over {n_effects} images, by the edit at the head of the "
        "column; runner-up: of the class next to the target. Against the best other method, by sign flips:"
    )
    tables = {"searches": search_table(values, note), "effects": effect_table(effects, told)}
    if source is None:
        if arguments.images is None and arguments.effects is None:
            record("searches", {"models": values, "effects": effects}, tables)
        else:
            show(tables)
    elif arguments.trial:
        show(tables)
    else:
        record("searches_real", {"models": values, "effects": effects}, tables)


if __name__ == "__main__":
    main()
