"""The tables in LaTeX, through pandas' Styler."""

from __future__ import annotations

from typing import Final

from neuron_path.evaluation.comparison import Comparison
from neuron_path.report.comparison.sections import Section, legend

_MARKS: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "−": "$-$", "–": "--", "≥": r"$\ge$",
}  # fmt: skip


def escape_latex(text: object) -> str:
    r"""Keep text from data from becoming LaTeX.

    >>> escape_latex("vit_b: −1 %")
    'vit\\_b: $-$1 \\%'
    """
    escaped = "".join(_MARKS.get(sign, sign) for sign in " ".join(str(text).split()))
    # After the end of a row, a bracket would be read as its option.
    return f"{{[}}{escaped[1:]}" if escaped.startswith("[") else escaped


def to_latex(comparison: Comparison, sections: list[Section]) -> str:
    """Write the tables as floats for a document that uses the package booktabs; UTF-8.

    The legend stands above them as a comment.
    """
    head = f"% Needs \\usepackage{{booktabs}}.\n% {escape_latex(legend(comparison))}\n"
    return "\n".join([head, *(_table(section) for section in sections)])


def _table(section: Section) -> str:
    table = section.table.rename(columns=escape_latex)
    bold = section.bold.set_axis(table.columns, axis=1)
    styler = table.style.hide(axis="index")
    styler.format(escape_latex)
    styler.apply(lambda _: bold.map(lambda best: "font-weight: bold" if best else ""), axis=None)
    text = styler.to_latex(
        column_format="l" * section.n_labels + "r" * (len(table.columns) - section.n_labels),
        hrules=True,
        position="tbp",
        position_float="centering",
        caption=escape_latex(section.caption),
        label=f"tab:{section.name.replace('_', '-')}",
        convert_css=True,
    )
    return text.replace("\\centering\n", "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\n", 1)
