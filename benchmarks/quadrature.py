"""How close is each quadrature rule to the converged path and score, and at what cost? On the embedded digits model.

    python -m benchmarks.quadrature                 # 3 minutes on 2 cores
    python -m benchmarks.quadrature --images 24     # a trial that writes nothing
    python -m benchmarks.quadrature --checkpoint FILE --data FOLDER    # a pretrained model on photographs, 35 minutes

Converged means Gauss–Legendre with 64 nodes, or 32 for the pretrained model. A rule's score is compared with the
converged score of the same path, so that its error is that of the integral alone. The four rules with even steps, but
for the paper's, get one image in fifteen: they need most nodes.

Float32 hides errors below 1e-6. So the error that the adaptive rule estimates is compared with the true one in float64,
with 4 nodes and no more.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Mapping
from functools import partial
from math import log10
from statistics import median
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.stats import binomtest
from torch import Tensor, nn

import neuron_path
from benchmarks import real
from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, show
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.report.style import (
    BLUE,
    FAINT,
    GREEN,
    MUTED,
    ORANGE,
    SKY,
    VERMILION,
    axes_in_inches,
    figure_style,
    new_figure,
)

CONVERGED = Quadrature("gauss_legendre", 64)
PAPER = Quadrature("riemann_left", 20)
GAUSS = [Quadrature("gauss_legendre", n) for n in (4, 8)]
ADAPTIVE = [Quadrature("adaptive", tolerance=tolerance) for tolerance in (1e-3, 1e-5)]
EVEN = [Quadrature(r, n) for r in ("riemann_left", "riemann_right", "midpoint", "trapezoid") for n in (4, 8, 16, 32)]
EVEN.append(Quadrature("gauss_legendre", 16))
TIMED = [*GAUSS, PAPER, *ADAPTIVE]  # and on all images
TIMED_IMAGES = 24  # with fewer, the adaptive rule leaves its passes half empty
UNIT = GAUSS[1]
REAL_CONVERGED = Quadrature("gauss_legendre", 32)
REAL = [*TIMED, Quadrature("gauss_legendre", 16), Quadrature("midpoint", 8)]
PHOTOGRAPHS = 12
FOUR = Quadrature("adaptive", 4, max_steps=4)
SHARE = 15  # one image in so many for the rules of EVEN, and in float64
ROUNDING = 1e-6  # of a float32 score, relative
LEAST_DRAWN = 1e-7
INTERVALS = "Shares with 95 % intervals by Wilson"
LOOKS = {
    "riemann_left": ("left Riemann", BLUE, "s"),
    "riemann_right": ("right Riemann", SKY, "P"),
    "midpoint": ("midpoint", GREEN, "^"),
    "trapezoid": ("trapezoid", ORANGE, "v"),
    "gauss_legendre": ("Gauss–Legendre", VERMILION, "o"),
    "adaptive": ("adaptive", MUTED, "D"),
}


def label(quadrature: Quadrature) -> str:
    """The rule with its nodes, or with its tolerance.

    >>> label(Quadrature("adaptive")), label(Quadrature("midpoint", 4))
    ('adaptive, 0.001', 'midpoint, 4')
    """
    number = quadrature.tolerance if quadrature.is_adaptive else quadrature.n_steps
    return f"{LOOKS[quadrature.rule][0]}, {number:g}"


class Reference(NamedTuple):
    """Converged paths (B, L) and their scores (B,), and the rule that gave them."""

    paths: Tensor
    scores: Tensor
    rule: Quadrature = CONVERGED


def agreement(
    model: nn.Module, images: Tensor, targets: Tensor, reference: Reference, quadrature: Quadrature
) -> dict[str, Any]:
    """How near one rule's paths and scores are to the converged ones.

    Args:
        model, images, targets: what is searched, in one call.
        reference: of the same images.
        quadrature: the rule.
    """
    start = time.perf_counter()
    found = neuron_path.find_paths(model, images, targets, quadrature=quadrature)
    seconds = time.perf_counter() - start
    same_neurons = found.paths == reference.paths
    same_path = same_neurons.all(1)
    converged = reference.scores.double()
    other = (~same_path).nonzero().squeeze(1)
    if len(other):
        scores = converged_scores(model, images[other], targets[other], found.paths[other], reference.rule)
        converged = converged.index_copy(0, other, scores.double())
    errors = ((found.scores.double() - converged) / converged).abs()
    values = {
        "rule": quadrature.rule,
        "n_steps": quadrature.n_steps,
        "n_images": len(images),
        "seconds": seconds,
        "mean_nodes": float(found.n_steps.double().mean()),
        "same_path": int(same_path.sum()),
        "same_neurons": float(same_neurons.double().mean()),
        "error_median": float(errors.median()),
        "error_99": float(errors.quantile(0.99)),
        "error_max": float(errors.max()),
    }
    if found.score_errors is not None:
        nodes, counts = found.n_steps.unique(return_counts=True)
        estimate = found.score_errors.double() / converged.abs()
        values |= {
            "tolerance": quadrature.tolerance,
            "images_by_nodes": dict(zip(map(str, nodes.tolist()), counts.tolist(), strict=True)),
            "within_estimate": int((errors <= estimate.clamp(min=ROUNDING)).sum()),
            "within_tolerance": int((errors <= max(quadrature.tolerance, ROUNDING)).sum()),
        }
    return values


def converged_scores(
    model: nn.Module, images: Tensor, targets: Tensor, paths: Tensor, rule: Quadrature = CONVERGED
) -> Tensor:
    """(B,): the converged scores of given paths."""
    scores = neuron_path.score_paths(model, images, targets, paths, quadrature=rule)
    assert isinstance(scores, Tensor)
    return scores


def measure(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, dict[str, Any]]:
    """The agreement of every rule, by its label; the rules of EVEN on one image in SHARE."""
    found = neuron_path.find_paths(model, images, targets, quadrature=CONVERGED)
    values = {}
    for step, quadratures in ((1, TIMED), (SHARE, EVEN)):
        reference = Reference(found.paths[::step], found.scores[::step])
        for quadrature in quadratures:
            measured = agreement(model, images[::step], targets[::step], reference, quadrature)
            values[label(quadrature)] = measured
            console.print(f"  {label(quadrature)}: {measured['same_path']} of {measured['n_images']}")
    return values


def measure_real(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, dict[str, Any]]:
    """The agreement of the rules of REAL, by label."""
    found = neuron_path.find_paths(model, images, targets, quadrature=REAL_CONVERGED)
    reference = Reference(found.paths, found.scores, REAL_CONVERGED)
    values = {}
    for quadrature in REAL:
        values[label(quadrature)] = agreement(model, images, targets, reference, quadrature)
        console.print(f"  {label(quadrature)}: {values[label(quadrature)]['same_path']} of {len(images)}")
    return values


def estimates(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Any]:
    """The relative errors that the adaptive rule estimates with 4 nodes, and the true ones, in float64."""
    double = copy.deepcopy(model).double()
    images = images.double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is meant to stop at four nodes
        found = neuron_path.find_paths(double, images, targets, quadrature=FOUR)
    converged = converged_scores(double, images, targets, found.paths)
    assert found.score_errors is not None
    return {
        "n_steps": FOUR.n_steps,
        "estimated": (found.score_errors / converged.abs()).tolist(),
        "true": ((found.scores - converged) / converged).abs().tolist(),
    }


def cost(model: nn.Module, images: Tensor, targets: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of the rules of TIMED, by label."""
    calls = {label(q): partial(neuron_path.find_paths, model, images, targets, quadrature=q) for q in TIMED}
    return interleaved(calls, rounds)[0]


def interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    found = binomtest(count, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def as_tables(
    values: Mapping[str, dict[str, Any]], estimated: Mapping[str, Any], seconds: Mapping[str, list[float]]
) -> dict[str, Table]:
    """All rules against the converged one; the adaptive one against its own promises, and its estimate."""
    promises = [
        [
            f"{found['tolerance']:g}",
            ", ".join(f"{nodes}: {count}" for nodes, count in found["images_by_nodes"].items()),
            _share(found["within_estimate"], found["n_images"]),
            _share(found["within_tolerance"], found["n_images"]),
            _error(found["error_max"]),
        ]
        for found in values.values()
        if found["rule"] == "adaptive"
    ]
    promised = ("tolerance", "nodes: images", "error within its estimate", "error within tolerance", "largest error")
    return {
        "quadrature": agreement_table(values, seconds),
        "adaptive": Table(promised, promises),
        "estimate": _estimate_table(estimated),
    }


def agreement_table(values: Mapping[str, dict[str, Any]], seconds: Mapping[str, list[float]]) -> Table:
    """All rules against the converged one, with the time of those that `seconds` has."""
    unit = seconds[label(UNIT)]
    # With fixed nodes the time depends on their number only.
    by_nodes = {
        found["n_steps"]: ratios(seconds[name], unit)
        for name, found in values.items()
        if name in seconds and found["rule"] != "adaptive"
    }
    rows = []
    ordered = sorted(values, key=lambda name: (list(LOOKS).index(values[name]["rule"]), values[name]["mean_nodes"]))
    for name in ordered:
        found = values[name]
        adaptive = found["rule"] == "adaptive"
        relative = ratios(seconds[name], unit) if name in seconds else by_nodes.get(found["n_steps"])
        rows.append(
            [
                name if adaptive else LOOKS[found["rule"]][0],
                f"{found['mean_nodes']:.1f}" if adaptive else str(found["n_steps"]),
                str(found["n_images"]),
                _share(found["same_path"], found["n_images"]),
                f"{100 * found['same_neurons']:.1f} %",
                _error(found["error_median"]),
                _error(found["error_99"]),
                "–" if relative is None else relative.text(2),
            ]
        )
    columns = (
        "rule",
        "nodes",
        "images",
        "converged path",
        "neurons of it",
        "score error, median",
        "99th percentile",
        "time / Gauss–Legendre, 8",
    )
    return Table(columns, rows)


def _estimate_table(estimated: Mapping[str, Any]) -> Table:
    pairs = list(zip(estimated["estimated"], estimated["true"], strict=True))
    row = [
        str(estimated["n_steps"]),
        str(len(pairs)),
        *(f"{median(values):.0e}" for values in zip(*pairs, strict=True)),
        *(f"{of(one / other for one, other in pairs if other):.0f}×" for of in (median, min)),
        _share(sum(other <= one for one, other in pairs), len(pairs)),
    ]
    columns = ("nodes", "images", "estimated error", "true error", "estimated / true", "least", "within the estimate")
    return Table(columns, [row])


def _share(count: int, n: int) -> str:
    low, high = interval(count, n)
    return f"{100 * count / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def _error(value: float) -> str:
    return f"{value:.1e}" if value >= ROUNDING else f"< {ROUNDING:.0e}"


def draw(values: Mapping[str, dict[str, Any]]) -> Figure:
    """Two panels against the nodes: images with the converged path, and the median error of the score."""
    with figure_style():
        figure = new_figure(7.0, 2.95)
        share = axes_in_inches(figure, 0.55, 0.45, 2.75, 2.1)
        error = axes_in_inches(figure, 4.05, 0.45, 2.75, 2.1)
        share.set_ylabel("images with the converged path (%)")
        error.set_ylabel("relative error of the score, median")
        error.set_yscale("log")
        error.yaxis.set_major_formatter(FuncFormatter(_power))
        error.yaxis.set_minor_locator(NullLocator())
        for axes in (share, error):
            axes.set_xscale("log", base=2)
            axes.set_xlabel("nodes (adaptive: mean)")
            axes.set_xticks((4, 8, 16, 32), ("4", "8", "16", "32"))
            axes.xaxis.set_minor_locator(NullLocator())
        for place, (rule, (name, colour, marker)) in enumerate(LOOKS.items()):
            found = sorted((x for x in values.values() if x["rule"] == rule), key=lambda x: x["mean_nodes"])
            nodes = [x["mean_nodes"] for x in found]
            aside = [n * 1.02 ** (place - 2.5) for n in nodes]  # so that no interval covers another
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.0, "linewidth": 1.0}
            style |= {"linestyle": "none" if rule == "adaptive" else "-", "label": name}
            share.plot(aside, [100 * x["same_path"] / x["n_images"] for x in found], **style)
            limits = [interval(x["same_path"], x["n_images"]) for x in found]
            share.vlines(aside, [100 * low for low, _ in limits], [100 * high for _, high in limits], colour, lw=0.8)
            error.plot(nodes, [max(x["error_median"], LEAST_DRAWN) for x in found], **style)
        _threshold(error, ROUNDING, "rounding of float32")
        share.set_ylim(top=103)
        share.axhline(100, color=FAINT, linewidth=0.6, zorder=0)
        share.legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=6, borderaxespad=0, columnspacing=1.4)
    return figure


def _power(value: float, _: object = None) -> str:
    """A power of ten.

    >>> _power(1e-3)
    '10⁻³'
    """
    return "10" + f"{round(log10(value))}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _threshold(axes: Axes, height: float, text: str) -> None:
    axes.axhline(height, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(text, (1, height), (0, 2), **place, color=MUTED, fontsize=7, ha="right")


def run_real(source: real.Source, n_images: int, *, trial: bool) -> None:
    """Measure a pretrained model on photographs, and record."""
    model, images, targets, about = real.load(source, n_images)
    values = measure_real(model, images, targets)
    table = agreement_table(values, {name: [found["seconds"]] for name, found in values.items()})
    note = (
        f"`{source.model}` at {source.image_size} pixels. Converged: {REAL_CONVERGED.n_steps} Gauss–Legendre nodes. "
        f"{INTERVALS}; time: one call of all photographs."
    )
    found = {"about": about, "agreement": values}
    real.finish("quadrature", found, table._replace(note=note), trial=trial)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=positive, help=f"so many of the 360, which writes nothing; or photographs ({PHOTOGRAPHS})"
    )
    parser.add_argument("--rounds", type=positive, default=1, help="interleaved rounds of the cost")
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    if source is not None:
        run_real(source, arguments.images or PHOTOGRAPHS, trial=arguments.trial)
        return
    model = neuron_path.load_model("digits_vit")
    images, targets = (x[: arguments.images] for x in neuron_path.load_digits("test"))
    values = measure(model, images, targets)
    estimated = estimates(model, images[::SHARE], targets[::SHARE])
    seconds = cost(model, images[:TIMED_IMAGES], targets[:TIMED_IMAGES], arguments.rounds)
    tables = as_tables(values, estimated, seconds)
    timed = f"time: median and range of {rounds_of(arguments.rounds)} on {min(TIMED_IMAGES, len(images))} images"
    notes = {
        "quadrature": f"{INTERVALS}; {timed}.",
        "adaptive": f"{INTERVALS}. The nodes are the most that a block or the score took.",
        "estimate": f"{INTERVALS}.",
    }
    tables = {name: table._replace(note=notes[name]) for name, table in tables.items()}
    if arguments.images is None:
        record("quadrature", {"agreement": values, "estimates": estimated, "seconds": seconds}, tables, draw(values))
    else:
        show(tables)


if __name__ == "__main__":
    main()
