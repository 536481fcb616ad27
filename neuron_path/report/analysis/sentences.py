"""What class statistics show, in words."""

from __future__ import annotations

from neuron_path.classes.runs import MethodAnalysis, RunsAnalysis
from neuron_path.report.markdown import escape, listed

_SHOWN = 0.01
"""p below which an overlap counts as shown."""


def method_in_words(method: MethodAnalysis, *, alpha: float = _SHOWN) -> list[str]:
    """Say what one method's paths tell about the classes, a sentence each.

    Args:
        method: analysed.
        alpha: p-value below which a difference counts as shown.
    """
    found = method.found
    overlap, stability, agreement = found.overlap, found.stability, found.agreement
    gap = overlap.difference
    kind = found.paths.source
    says = "exceeds" if overlap.p < alpha and overlap.within > overlap.between else "is not shown to exceed"
    sentences = [
        f"The path overlap of images of the same {kind} ({_percent(overlap.within)}) {says} that of images of "
        f"different ones ({_percent(overlap.between)}): difference {100 * gap.mean:.1f} points [{100 * gap.low:.1f}, "
        f"{100 * gap.high:.1f}], p = {overlap.p:.2g} ({overlap.n_permutations} shuffles).".replace("-", "−"),
        f"{agreement.n_clusters} clusters of {_of(agreement.n_images, agreement.n_all)} images, made from their paths "
        f"alone, agree with the {kind}s to an adjusted mutual information of {agreement.ami:.2f} (0: chance, 1: the "
        "same).".replace("-", "−"),
        _neighbours(method),
        _typical(method),
        f"In random halves of the images, {_percent(stability.recognised.median)} of {stability.n_classes} classes are "
        f"nearest to their own other half (median of {stability.n_splits} halvings).",
    ]
    if method.meaning is not None:
        sentences.append(_meaning(method, alpha))
    return sentences


def pairs_in_words(analysis: RunsAnalysis) -> list[str]:
    """Say how methods agree, a sentence for each pair."""
    sentences = []
    for row in analysis.pairs.to_dict("records"):
        names = f"{escape(row['method'])} and {escape(row['other'])}"
        clauses = []
        if row["overlap"] == row["overlap"]:
            clauses.append(
                f"their paths of the same image overlap by {_percent(row['overlap'])}, with images shuffled by "
                f"{_percent(row['expected'])} (p = {row['overlap_p']:.2g})"
            )
        if row["similarity_r"] == row["similarity_r"]:
            clauses.append(
                f"their class similarities correlate with r = {row['similarity_r']:.2f} (Mantel test, p = "
                f"{row['similarity_p']:.2g})".replace("-", "−")
            )
        if clauses:
            sentences.append(f"{names}: {listed(clauses)}.")
    return sentences


def _neighbours(method: MethodAnalysis) -> str:
    found = method.found
    table = found.neighbours
    most = int(table["nearest_similarity"].to_numpy().argmax())
    least = int(table["farthest_similarity"].to_numpy().argmin())

    def pair(kind: str, row: int) -> str:
        one, other, similarity = (table[name].tolist()[row] for name in ("class", kind, f"{kind}_similarity"))
        return f"{_class(method, one)} and {_class(method, other)} ({similarity:.2f})"

    return f"The most similar classes are {pair('nearest', most)}, the least {pair('farthest', least)}."


def _typical(method: MethodAnalysis) -> str:
    """How many images are most like their own class."""
    paths, overlap = method.found.paths, method.found.overlap
    several = paths.counts[paths.members] > 1
    own = overlap.nearest[several] == paths.members[several]
    return (
        f"{_percent(float(own.mean()))} of the images have more of their path in common with other images of their "
        f"{paths.source} than with those of any other (chance: {_percent(1 / paths.n_classes)})."
    )


def _meaning(method: MethodAnalysis, alpha: float) -> str:
    meaning = method.meaning
    assert meaning is not None
    if meaning.p >= alpha:
        says = "no relation is shown"
    else:
        says = (
            "classes of like meaning use like neurons" if meaning.r < 0 else "classes of like meaning use *other* ones"
        )
    return (
        f"Similarity of classes against their semantic distance: Spearman r = {meaning.r:.2f}, Mantel p = "
        f"{meaning.p:.2g} ({meaning.n_permutations} shuffles): {says}.".replace("-", "−")
    )


def _class(method: MethodAnalysis, number: int) -> str:
    names = method.class_names
    if number < len(names) and names[number] != str(number):
        return f"{number} {escape(names[number])}"
    return str(number)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < 100 * share < 9.95 else f"{100 * share:.0f} %"


def _of(n: int, n_all: int) -> str:
    return str(n) if n == n_all else f"{n} drawn of {n_all}"
