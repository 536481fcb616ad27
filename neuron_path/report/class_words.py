"""What the paths say about classes, in sentences that claim no more than was found."""

from __future__ import annotations

import math
from typing import Final

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.stability import Spread

ALPHA: Final = 0.01
"""The p-value below which a difference is said to be shown."""


def classes_in_words(analysis: ClassAnalysis) -> list[str]:
    """Say how far images of a class share their paths, and how steady that is, one sentence each."""
    overlap, kind = analysis.overlap, analysis.paths.source
    gain = overlap.difference
    bounds = f" [{_points(gain.low)}, {_points(gain.high)}]" if math.isfinite(gain.low + gain.high) else ""
    verdict = "" if overlap.p < ALPHA else f" This is no evidence at p < {ALPHA} that paths depend on the class."
    sentences = [
        f"Classes are the images' {kind}s: {analysis.paths.n_classes} of them in {analysis.paths.n_images:,} images.",
        f"Images of the same {kind} share {_percent(overlap.within)} of their path, images of different {kind}s "
        f"{_percent(overlap.between)}: a difference of {_points(gain.mean)}{bounds} points, p = {overlap.p:.2g} in a "
        f"test with {overlap.n_permutations:,} shuffles of the {kind}s.{verdict}",
        f"On average {_percent(float(analysis.concentration['top_share'].to_numpy().mean()))} of a class's images have "
        "its most frequent neuron of a block on their path.",
    ]
    agreement = analysis.agreement
    of = f" ({agreement.n_images:,} of them, drawn at random)" if agreement.n_images < agreement.n_all else ""
    sentences.append(
        f"Clusters of the images{of}, made from their paths alone, agree with the classes with an adjusted mutual "
        f"information of {agreement.ami:.2f} (1: the same groups; 0: chance)."
    )
    stability = analysis.stability
    sentences.append(
        f"In random halves of each class's images, usage of neurons has a cosine similarity of "
        f"{_spread(stability.usage)}, and {_percent(stability.recognised.median)} of the classes are most like "
        "themselves."
    )
    return sentences


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "an unknown share"


def _points(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")


def _spread(spread: Spread) -> str:
    return f"{spread.median:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
