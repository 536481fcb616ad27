"""What class statistics show, in words."""

from __future__ import annotations

from neuron_path.classes.runs import MethodAnalysis, RunsAnalysis
from neuron_path.report.classes.words import ALPHA, alone_in_words, classes_in_words, percent
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.markdown import escape, listed
from neuron_path.stats.mantel import Mantel


def method_in_words(method: MethodAnalysis) -> list[str]:
    """Say what one method's paths tell about the classes, a sentence each."""
    unit = unit_of(method.provenance.get("units", "ffn"))
    if method.found is None:
        return [alone_in_words(method.paths, method.usage, unit)]
    sentences = classes_in_words(method.found, [escape(name) for name in method.class_names], unit)
    return sentences if method.meaning is None else [*sentences, _meaning(method.meaning, unit)]


def pairs_in_words(analysis: RunsAnalysis) -> list[str]:
    """Say how methods agree, a sentence for each pair."""
    sentences = []
    for row in analysis.pairs.to_dict("records"):
        names = f"{escape(row['method'])} and {escape(row['other'])}"
        clauses = []
        if row["overlap"] == row["overlap"]:
            clauses.append(
                f"their paths of the same image overlap by {percent(row['overlap'])}, with images shuffled by "
                f"{percent(row['expected'])} (p = {row['overlap_p']:.2g})"
            )
        if row["similarity_r"] == row["similarity_r"]:
            clauses.append(
                f"their class similarities correlate with r = {row['similarity_r']:.2f} (Mantel test, p = "
                f"{row['similarity_p']:.2g})".replace("-", "−")
            )
        if clauses:
            sentences.append(f"{names}: {listed(clauses)}.")
    return sentences


def _meaning(meaning: Mantel, unit: str) -> str:
    if meaning.p >= ALPHA:
        says = "no relation is shown"
    else:
        says = (
            f"classes of like meaning use like {unit}s" if meaning.r < 0 else "classes of like meaning use *other* ones"
        )
    return (
        f"Similarity of classes against their semantic distance: Spearman r = {meaning.r:.2f}, Mantel p = "
        f"{meaning.p:.2g} ({meaning.n_permutations} shuffles): {says}.".replace("-", "−")
    )
