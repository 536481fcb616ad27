"""What the paths say about classes, in sentences that claim no more than was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.usage import Usage, concentration

ALPHA: Final = 0.01
"""The p-value below which a difference is said to be shown."""


def classes_in_words(analysis: ClassAnalysis, class_names: Sequence[str] = (), unit: str = "neuron") -> list[str]:
    """Say how far images of a class share their paths, how classes resemble each other, and how steady that is.

    Args:
        analysis: of one method's paths.
        class_names: names of the classes by index, escaped for where the sentences go.
        unit: what the paths consist of, in one word.

    Returns:
        Six sentences.
    """
    overlap, agreement, stability = analysis.overlap, analysis.agreement, analysis.stability
    kind = analysis.paths.source
    gap = overlap.difference
    bounds = f" [{100 * gap.low:.1f}, {100 * gap.high:.1f}]" if math.isfinite(gap.low + gap.high) else ""
    says = "exceeds" if overlap.p < ALPHA and overlap.within > overlap.between else "is not shown to exceed"
    sentences = [
        f"Classes are the images' {kind}s: {analysis.paths.n_classes} of them in {analysis.paths.n_images:,} images.",
        f"The path overlap of images of the same {kind} ({percent(overlap.within)}) {says} that of images of different "
        f"ones ({percent(overlap.between)}): difference {100 * gap.mean:.1f} points{bounds}, p = {overlap.p:.2g} "
        f"({overlap.n_permutations:,} shuffles of the {kind}s).",
        _typical(analysis, unit),
        f"{agreement.n_clusters} clusters of {_of(agreement.n_images, agreement.n_all)} images, made from their paths "
        f"alone, agree with the {kind}s to an adjusted mutual information of {agreement.ami:.2f} (0: chance, 1: the "
        "same).",
        f"In random halves of the images, {percent(stability.recognised.median)} of {stability.n_classes} classes are "
        f"nearest to their own other half (median of {stability.n_splits} halvings).",
    ]
    # Names keep their hyphens.
    return [*(sentence.replace("-", "−") for sentence in sentences), _neighbours(analysis, class_names)]


def alone_in_words(paths: ClassPaths, usage: Usage, unit: str = "neuron") -> str:
    """Say what can be said where classes cannot be compared."""
    top = float(concentration(usage)["top_share"].to_numpy().mean())
    return (
        f"Of {paths.n_images:,} images, on average {percent(top)} of those of a {paths.source} have its most frequent "
        f"{unit} of a block on their path; classes are not compared."
    )


def percent(share: float) -> str:
    """A share as text, with a decimal where it is small."""
    if not math.isfinite(share):
        return "an unknown share"
    return f"{100 * share:.1f} %" if 0 < 100 * share < 9.95 else f"{100 * share:.0f} %"


def _typical(analysis: ClassAnalysis, unit: str) -> str:
    """How many images are most like their own class, and how much one unit of a block tells."""
    paths, overlap = analysis.paths, analysis.overlap
    several = paths.counts[paths.members] > 1
    own = overlap.nearest[several] == paths.members[several]
    share = float(np.mean(own)) if own.size else math.nan
    top = float(analysis.concentration["top_share"].to_numpy().mean())
    return (
        f"{percent(share)} of the images have more of their path in common with other images of their {paths.source} "
        f"than with those of any other (chance: {percent(1 / paths.n_classes)}); on average {percent(top)} of a "
        f"{paths.source}'s images have its most frequent {unit} of a block on their path."
    )


def _neighbours(analysis: ClassAnalysis, class_names: Sequence[str]) -> str:
    table = analysis.neighbours
    most = int(table["nearest_similarity"].to_numpy().argmax())
    least = int(table["farthest_similarity"].to_numpy().argmin())

    def named(number: int) -> str:
        known = number < len(class_names) and class_names[number] != str(number)
        return f"{number} {class_names[number]}" if known else str(number)

    def pair(kind: str, row: int) -> str:
        one, other, similarity = (table[name].tolist()[row] for name in ("class", kind, f"{kind}_similarity"))
        return f"{named(one)} and {named(other)} ({similarity:.2f})"

    return f"The most similar classes are {pair('nearest', most)}, the least {pair('farthest', least)}."


def _of(n: int, n_all: int) -> str:
    return f"{n:,}" if n == n_all else f"{n:,} drawn of {n_all:,}"
