"""How fast is the path search? The engine against the oracle, plain autograd and the roofline, interleaved in one run.

    python -m benchmarks.search_speed                     # all models, 12 minutes on 2 cores
    python -m benchmarks.search_speed --rounds 1 --only "24 blocks × 192"
    python -m benchmarks.search_speed --checkpoint FILE --data FOLDER  # a pretrained model on photographs, half an hour

`benchmarks/references.py` says what it is compared with. Models have random weights and images, and one of them also
has harsh weights, which leave more choices in doubt. With `--checkpoint` and `--data` a pretrained model is measured on
photographs instead, beside the same architecture with random weights; the oracle and plain autograd then get one
photograph, since their time does not depend on the picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import neuron_path
from benchmarks import real, weights
from benchmarks.harness import Table, console, interleaved, positive, record, rounds_of, show
from benchmarks.models import Shape, random_images, random_vit
from benchmarks.references import (
    DEFAULT,
    ORACLE,
    PAPER,
    PAPER_NAME,
    PLAIN,
    ROOFLINE,
    RULES,
    fastest_micro_batch,
    literal_search,
    plain_calls,
    roofline,
    roofline_sequences,
)
from benchmarks.speed_tables import as_real_table, as_table, draw

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
PLAIN_ROUNDS = 2
HARSH_SHAPE = "24 blocks × 192"
PHOTOGRAPHS = 4


def measure(name: str, shape: Shape, rounds: int, oracle_rounds: int) -> dict[str, Any]:
    """Seconds of engine and references, and how many of the engine's neurons are the references'."""
    console.print(f"[bold]{name}[/bold]: {shape.depth} blocks × {shape.width}, {shape.n_tokens} tokens")
    model = random_vit(shape)
    images, targets = random_images(shape)
    rules = RULES if name not in WITHOUT_ORACLE else {DEFAULT: RULES[DEFAULT]}
    calls: dict[str, Callable[[], Any]] = {
        label: partial(neuron_path.find_paths, model, images, targets, quadrature=quadrature)
        for label, quadrature in rules.items()
    }
    h = roofline_sequences(model, images)
    micro_batch = fastest_micro_batch(model, h)
    plain, plain_sizes = plain_calls(model, images, targets)
    calls |= {ROOFLINE: partial(roofline, model, h, micro_batch), **plain}
    slow = dict.fromkeys(plain, min(rounds, PLAIN_ROUNDS))
    if name not in WITHOUT_ORACLE:
        calls[ORACLE] = partial(literal_search, model, images, targets, PAPER)
        slow |= dict.fromkeys((ORACLE, PAPER_NAME), min(oracle_rounds, ORACLE_ROUNDS.get(name, 1)))
    seconds, outputs = interleaved(calls, rounds if name in WITH_GOAL else min(rounds, FEW), slow)
    found = {label: outputs[label] for label in rules}
    return {
        "shape": shape._asdict(),
        "n_images": dict.fromkeys(seconds, shape.n_images),
        "seconds": seconds,
        "micro_batch_of_roofline": micro_batch,
        "micro_batch_of_plain": plain_sizes,
        "neurons": shape.n_images * shape.depth,
        "neurons_equal_to_oracle": _equal(found, outputs, {PAPER_NAME: ORACLE}),
        "neurons_equal_to_plain": _equal(found, outputs, PLAIN),
        "mean_nodes": {label: weights.mean_nodes(result) for label, result in found.items()},
    }


def measure_real(subject: real.Subject, source: real.Source, rounds: int, *, with_oracle: bool) -> dict[str, Any]:
    """The same of a pretrained model on photographs, and of its architecture with random weights."""
    model, images, targets, about = subject
    models = {weights.PRETRAINED: model, weights.RANDOM: real.untrained(source, about["classes"])}
    one = images[:1], targets[:1]
    h = roofline_sequences(model, one[0])
    micro_batch = fastest_micro_batch(model, h)
    plain, plain_sizes = plain_calls(model, *one)
    others: dict[str, Callable[[], Any]] = {ROOFLINE: partial(roofline, model, h, micro_batch), **plain}
    slow = dict.fromkeys(plain, min(rounds, PLAIN_ROUNDS))
    slow |= {weights.call_of(PAPER_NAME, name): 1 for name in models}
    if with_oracle:
        others[ORACLE], slow[ORACLE] = partial(literal_search, model, *one, PAPER), 1
    compared, outputs = weights.compare(models, images, targets, rounds, others, slow)
    found = {rule: outputs[weights.call_of(rule, weights.PRETRAINED)].result for rule in RULES}

    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        """The pretrained model's searches by the names of their rules alone."""
        return {call.removesuffix(f": {weights.PRETRAINED}"): value for call, value in values.items()}

    return {
        "about": about,
        **{key: renamed(compared[key]) for key in ("seconds", "again", "mean_nodes")},
        "n_images": {call: 1 if call in others else len(images) for call in renamed(compared["seconds"])},
        "micro_batch_of_roofline": micro_batch,
        "micro_batch_of_plain": plain_sizes,
        "neurons": len(model.blocks),
        "neurons_equal_to_oracle": _equal(found, outputs, {PAPER_NAME: ORACLE}),
        "neurons_equal_to_plain": _equal(found, outputs, PLAIN),
    }


def _equal(found: dict[str, Any], outputs: dict[str, Any], references: dict[str, str]) -> dict[str, int]:
    """For each rule how many neurons are those of its reference, on the images that this had."""
    equal = {}
    for rule, call in references.items():
        if rule in found and call in outputs:
            paths = getattr(outputs[call], "paths", outputs[call])
            equal[rule] = int((found[rule].paths[: len(paths)] == paths).sum())
    return equal


def run_random(names: list[str], rounds: int, oracle_rounds: int) -> None:
    """Measure the models with random weights, and harsh ones; record where they are all."""
    values = {name: measure(name, SHAPES[name], rounds, oracle_rounds) for name in names}
    few = f" for {' and '.join(WITH_GOAL)}, at most {FEW} for the others"
    slow = (
        f"a ratio to a reference is of the rounds that it took part in: plain autograd in {PLAIN_ROUNDS} at most, the "
        "oracle in two for ViT-B/32 and else one"
    )
    note = f"Median and range of {rounds_of(rounds)}{few}; {slow}. The oracle has 20 nodes, and plain autograd too."
    tables = {"search_speed": as_table(values)._replace(note=note)}
    if HARSH_SHAPE in names:
        tables["harsh"], harsh = run_harsh(min(rounds, FEW))
        if names == list(SHAPES):
            record("search_speed", {"models": values, "harsh": harsh}, tables, draw(values))
            return
    show(tables)


def run_harsh(rounds: int) -> tuple[Table, dict[str, Any]]:
    """Harsh weights against timm's initial ones."""
    console.print(f"[bold]harsh weights[/bold]: {HARSH_SHAPE}")
    shape = SHAPES[HARSH_SHAPE]
    models = {"harsh": weights.harsh(random_vit(shape)), "gentle": random_vit(shape)}
    values, _ = weights.compare(models, *random_images(shape), rounds)
    note = (
        f"{HARSH_SHAPE}: harsh weights are normal with deviation {weights.HARSH} in every matrix and "
        f"{weights.HARSH_HEAD} in the head, gentle ones timm's initial ones. Again in float64: shares of "
        f"(image, block) choices and of final scores. Median and range of {rounds_of(rounds)}."
    )
    return weights.as_table(values, "harsh", "gentle", note), values


def run_real(source: real.Source, n_images: int, rounds: int, *, trial: bool) -> None:
    """Measure a pretrained model on photographs, and record; a trial leaves the oracle out."""
    measured = measure_real(real.load(source, n_images), source, rounds, with_oracle=not trial)
    same = "".join(
        f" Left Riemann finds {equal} of the oracle's {measured['neurons']} neurons."
        for equal in measured["neurons_equal_to_oracle"].values()
    )
    note = (
        f"`{source.model}` at {source.image_size} pixels, {n_images} photographs in one call; the references get one "
        f"of them. Median and range of {rounds_of(rounds)}; the oracle and left Riemann in one, plain autograd in "
        f"{PLAIN_ROUNDS} at most. The oracle has 20 nodes, and plain autograd too.{same} Again in float64: shares "
        "of (image, block) choices and of final scores."
    )
    real.finish("search_speed", measured, as_real_table(measured)._replace(note=note), trial=trial)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=positive, default=5, help="interleaved rounds; of a pretrained model at most 3"
    )
    parser.add_argument(
        "--oracle-rounds", type=positive, default=2, help="those with the oracle at most, a minute or two each"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="some models; writes nothing"
    )
    parser.add_argument("--images", type=positive, default=PHOTOGRAPHS, help="photographs (%(default)s)")
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    if source is None:
        run_random(arguments.only, arguments.rounds, arguments.oracle_rounds)
    else:
        run_real(source, arguments.images, min(arguments.rounds, FEW), trial=arguments.trial)


if __name__ == "__main__":
    main()
