"""The tables as one self-contained HTML page, through pandas' Styler."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from neuron_path.evaluation.comparison import Comparison
from neuron_path.report.comparison.sections import Section, legend
from neuron_path.report.comparison.sentences import in_words

_STYLE: Final = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --muted: #5f6670; --line: #c9ced6; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --muted: #a5adb8; --line: #434a54; --paper: #16191d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
p, ul { max-width: 50rem; } ul { padding-left: 1.25rem; } li { margin-bottom: 0.5rem; }
.legend { color: var(--muted); font-size: 0.9rem; }
table { border-collapse: collapse; width: 100%; margin: 2.5rem 0 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.5rem; }
th, td { text-align: right; padding: 0.3rem 0.75rem; vertical-align: bottom; }
td { white-space: nowrap; }
th { color: var(--muted); font-weight: 500; border-bottom: 1px solid var(--line); }
td.words, th.words { text-align: left; }
td.words { white-space: normal; overflow-wrap: break-word; }
tbody tr:hover { background: color-mix(in srgb, var(--line) 30%, transparent); }
tbody tr:last-child td { border-bottom: 1px solid var(--line); }
"""

_NARROW: Final = """\
  table, caption, tbody, tr, td { display: block; } thead { display: none; }
  tbody tr { border-bottom: 1px solid var(--line); padding: 0.6rem 0; }
  tbody tr td, tbody tr:last-child td { display: flex; justify-content: space-between; gap: 1rem; padding: 0.1rem 0;
    border: 0; text-align: right; }
  td::before { color: var(--muted); font-weight: 400; text-align: left; white-space: normal; }
  td.first { font-weight: 600; } td.first::before { content: none; }
"""


def to_html(comparison: Comparison, sections: list[Section]) -> str:
    """Write the page: it loads nothing, fits a phone (where each row becomes a card) and follows the colour scheme."""
    narrow = "".join(_headings(section) for section in sections)
    tables = "\n".join(_table(section) for section in sections)
    missing = [f"{run.run_dir}: {run.reason}" for run in comparison.missing]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Comparison of methods</title>\n'
        f"<style>\n{_STYLE}@media (max-width: 60rem) {{\n{_NARROW}{narrow}}}\n</style>\n</head>\n<body>\n"
        f"<h1>Comparison of methods</h1>\n{_list('', in_words(comparison))}{tables}\n"
        f'<p class="legend">{escape(legend(comparison))}</p>\n'
        f"{_list('Notes', comparison.notes)}{_list('Runs without results', missing)}</body>\n</html>\n"
    )


def _table(section: Section) -> str:
    table = section.table.rename(columns=escape)
    bold = section.bold.set_axis(table.columns, axis=1)
    words = [name for name in table.columns[: section.n_labels] if name not in ("n", "k")]
    classes = table.map(lambda _: "")
    classes[words] = "words"
    classes[words[0]] = "words first"
    styler = (
        table.style.hide(axis="index")
        .set_uuid(_identifier(section))
        .set_caption(escape(section.caption))
        .set_td_classes(classes)
        .apply(lambda _: bold.map(lambda best: "font-weight: bold" if best else ""), axis=None)
    )
    styler.format(escape)
    text = styler.to_html()
    for index in range(len(words)):
        text = text.replace(f'class="col_heading level0 col{index}"', f'class="col_heading level0 col{index} words"')
    return text


def _headings(section: Section) -> str:
    """On a phone each number says what it is."""
    rules = [
        f'  #T_{_identifier(section)} td.col{index}::before {{ content: "{_css_string(name)}"; }}\n'
        for index, name in enumerate(section.table.columns)
        if index > 0
    ]
    return "".join(rules)


def _identifier(section: Section) -> str:
    return "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in section.name)


def _css_string(text: str) -> str:
    return "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in " ,:") else f"\\{ord(sign):06x}" for sign in text
    )


def _list(heading: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f"{f'<h2>{escape(heading)}</h2>' if heading else ''}\n<ul>\n{items}</ul>\n"
