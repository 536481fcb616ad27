"""The tables of a comparison: the same numbers in every form, safe against what names hold."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from neuron_path.evaluation.comparison import Comparison, compare
from neuron_path.report.cells import mean_cell, p_cell
from neuron_path.report.comparison.console import print_comparison
from neuron_path.report.comparison.files import write_comparison
from neuron_path.report.comparison.latex import escape_latex, to_latex
from neuron_path.report.comparison.markdown import to_markdown
from neuron_path.report.comparison.page import to_html
from neuron_path.report.comparison.sections import Section, legend, make_sections
from neuron_path.report.comparison.sentences import in_words
from tests.evaluation.stores import STRENGTH, write_run

FAST: dict[str, Any] = {"n_bootstrap": 199, "n_permutations": 1999}
HOSTILE = "v_1 <script>alert(1)</script> | 50% & $x$ {#} ~^\\ */ ¡"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two sizes of path of six methods, and a job that failed."""
    root = tmp_path_factory.mktemp("sweep")
    for index, scorer in enumerate(STRENGTH):
        write_run(root / f"{index}", [scorer])
        write_run(root / f"{index}-4", [scorer], top_k=4, sizes=(0, 2, 4))
    (root / "failed").mkdir()
    return compare([root], **FAST)


@pytest.fixture(scope="module")
def sections(comparison: Comparison) -> list[Section]:
    return make_sections(comparison)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A model and a class whose names are markup in every language."""
    root = tmp_path_factory.mktemp("hostile")
    for model in (HOSTILE, "[b]x[/b]"):
        write_run(root / str(len(model)), ["joint_attribution", "random"], n=12, model=model, classes=[HOSTILE] * 4)
    return compare([root], **FAST)


def by_name(sections: list[Section], name: str) -> Section:
    return next(section for section in sections if section.name == name)


def test_the_tables_are_made_of_the_cells(comparison: Comparison, sections: list[Section]) -> None:
    assert [section.name for section in sections] == [
        "main", "paths", "remove", "enhance", "mean_ablation", "resample_ablation", "keep_only",
        "tests-probability_deviation-remove", "tests-accuracy_deviation-remove", "tests-probability_deviation-enhance",
        "tests-joint_score",
    ]  # fmt: skip
    main = by_name(sections, "main")
    assert main.caption == "Methods compared (digits_vit, n = 60)"
    assert main.table.columns.tolist() == [
        "Method", "k", "Remove: probability, %", "Remove: accuracy, points", "Enhance: probability, %", "Joint score",
    ]  # fmt: skip
    assert (main.table["Method"].iloc[0], main.table["k"].tolist()) == ("joint attribution", ["1"] * 6 + ["4"] * 6)
    cells = comparison.cells
    own = cells.loc[(cells["operation"] == "remove") & (cells["measure"] == "probability_deviation")]
    shown = [mean_cell(row["mean"], row["low"], row["high"], decimals=1) for _, row in own.iterrows()]
    assert main.table["Remove: probability, %"].tolist() == shown
    assert main.bold["Remove: probability, %"].tolist() == own["best"].tolist()
    paths = by_name(sections, "paths").table
    assert set(paths.loc[paths["k"] == "1", "Necessity area"]) == {"–"}
    assert paths.loc[paths["k"] == "4", "Necessity area"].str.match(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]$").all()


def test_the_tests_stand_beside_their_difference(sections: list[Section]) -> None:
    section = by_name(sections, "tests-probability_deviation-remove")
    assert section.table.columns.tolist() == [
        "Method", "k", "Difference", "p", "p against random", "p against activation matched random",
    ]  # fmt: skip
    first = section.table.iloc[0].tolist()
    assert first[:4] == ["joint attribution", "1", "–", "–"]
    assert first[4] == first[5] != "–"
    assert section.table["Difference"].iloc[1].startswith("+")


@pytest.mark.parametrize(
    ("numbers", "options", "text"),
    [
        ((-20.07, -20.27, -19.86), {}, "−20.1 [−20.3, −19.9]"),
        ((0.0, 0.0, 0.0), {}, "0.0 [0.0, 0.0]"),
        ((-7.0, -10.2, -4.1), {}, "−7.0 [−10.2, −4.1]"),
        ((310.0, 290.0, 330.0), {"sign": False}, "310 [290, 330]"),
        ((0.002, 0.0004, 0.0036), {"sign": False, "decimals": 1}, "0.002 [0.0004, 0.004]"),
        ((0.02, -0.01, 0.05), {"decimals": 1}, "0.0 [0.0, +0.1]"),
        ((2e-8, 1e-8, 3e-8), {}, "+2e−08 [+1e−08, +3e−08]"),
    ],
)
def test_decimals_suit_the_interval(numbers: tuple[float, float, float], options: dict[str, Any], text: str) -> None:
    assert mean_cell(*numbers, **options) == text


def test_p_values_are_never_rounded_over_a_threshold() -> None:
    assert [p_cell(p) for p in (0.0499, 0.0501, 0.00999, 0.0009)] == ["0.0499", "0.0501", "0.00999", "< 0.001"]


def test_markdown_has_every_table_with_the_best_in_bold(comparison: Comparison, sections: list[Section]) -> None:
    text = to_markdown(comparison, sections)
    rows = [line for line in text.splitlines() if line.startswith("| joint attribution")]
    assert len(rows) == 2 * len(sections)
    best = by_name(sections, "main").table["Remove: probability, %"].iloc[0]
    assert f"| **{best.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}**" in rows[0]
    assert "## Runs without results\n\n- " in text
    assert text.index("it beats") < text.index("## Methods compared")


def test_latex_is_booktabs_and_balanced(comparison: Comparison, sections: list[Section]) -> None:
    text = to_latex(comparison, sections)
    for word in ("toprule", "midrule", "bottomrule", "begin{tabular}", "end{tabular}", "caption{", "label{tab:"):
        assert text.count(f"\\{word}") == len(sections)
    assert text.count("\\bfseries") == sum(int(section.bold.to_numpy().sum()) for section in sections)
    for section, table in zip(sections, text.split("\\begin{table}")[1:], strict=True):
        width = len(section.table.columns)
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert len(rows) == len(section.table) + 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {width - 1}
    assert text.isascii() or set(re.sub(r"[\x00-\x7f]", "", text)) <= set("≥×")


class Page(html.parser.HTMLParser):
    """Tags in order, texts of cells, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "td":
            self.cells.append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def test_the_page_is_whole_and_loads_nothing(comparison: Comparison, sections: list[Section]) -> None:
    text = to_html(comparison, sections)
    page = Page(text)
    assert (page.open, page.links) == ([], [])
    assert "url(" not in text
    assert "@import" not in text
    assert page.tags.count("table") == page.tags.count("caption") == len(sections)
    assert [cell.strip() for cell in page.cells] == [
        cell for section in sections for row in section.table.to_numpy().tolist() for cell in row
    ]
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert text.count("::before { content: ") >= sum(len(section.table.columns) - 1 for section in sections)


def test_names_stay_text_in_every_form(hostile: Comparison) -> None:
    sections = make_sections(hostile)
    assert HOSTILE in sections[0].table["Model"].tolist()
    text = to_html(hostile, sections)
    page = Page(text)
    assert "script" not in page.tags
    assert HOSTILE in page.cells
    markdown = to_markdown(hostile, sections)
    assert "<script>" not in markdown
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("| Model")}
    assert widths == {len(section.table.columns) + 1 for section in sections}
    latex = to_latex(hostile, sections)
    assert escape_latex(HOSTILE) in latex
    assert escape_latex(HOSTILE) == (
        r"v\_1 $<$script$>$alert(1)$<$/script$>$ | 50\% \& \$x\$ \{\#\} \textasciitilde{}\textasciicircum{}"
        r"\textbackslash{} */ ¡"
    )
    assert "\n{[}b]x[/b] & " in latex
    console = Console(width=200, color_system=None, record=True, file=io.StringIO())
    print_comparison(console, hostile, sections)
    assert "[b]x[/b]" in console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_gets_tables_that_fit(
    width: int, comparison: Comparison, sections: list[Section], capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison(Console(width=width, color_system=None, highlight=False), comparison, sections)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    words = " ".join(out.split())
    for shown in ("Methods compared", "Joint score", "Necessity area", "p against", "it beats", "Missing: "):
        assert shown in words
    for section in ("main", "paths"):
        for column in by_name(sections, section).table.iloc[:, 2:]:
            assert by_name(sections, section).table[column].iloc[-1] in out


def test_the_best_is_bold_on_the_console(comparison: Comparison, sections: list[Section]) -> None:
    console = Console(width=120, force_terminal=True, color_system="standard", record=True, file=io.StringIO())
    print_comparison(console, comparison, sections)
    best = by_name(sections, "main").table["Remove: probability, %"].iloc[0]
    assert f"\x1b[1m{best}\x1b[0m" in console.export_text(styles=True)


def test_sentences_say_what_is_beaten_and_what_is_not(comparison: Comparison) -> None:
    lines = in_words(comparison)
    assert lines[0].startswith("digits_vit, 1 neuron per block: removing the path of joint attribution changes the ")
    assert "(n = 60): it beats 4 of 5 other methods (corrected p < 0.01), by " in lines[0]
    assert re.search(
        r"and \d+\.\d \[\d+\.\d, \d+\.\d\] points over activation matched random \(p = 0\.\d+\)\.", lines[0]
    )
    assert "it is not shown to beat the following (corrected p ≥ 0.01)" in lines[1]
    assert "complete attribution (p = " in lines[1]
    assert sum("4 neurons per block: removing the path" in line for line in lines) == 1


def test_sentences_admit_defeat_and_gaps(tmp_path: Path) -> None:
    strength = {"joint_attribution": 0.05, "activation": 0.2, "random": 0.0}
    write_run(tmp_path / "a", list(strength), strength=strength)
    write_run(tmp_path / "b", ["activation"], top_k=2)
    write_run(tmp_path / "c", ["joint_attribution"], top_k=3, operations=["enhance"])
    write_run(tmp_path / "d", ["joint_attribution"], top_k=4)
    lines = in_words(compare([tmp_path], **FAST))
    assert "beats 1 of 2 other methods" in lines[0]
    assert re.search(
        r"it does not beat the following, whose removal lowers the probability more; the differences are "
        r"−\d+\.\d \[−\d+\.\d, −\d+\.\d\] points over activation \(p (= |< )0\.\d+\)\.",
        lines[1],
    )
    assert (
        lines[2] == "digits_vit, 2 neurons per block: no run holds joint attribution, so nothing is tested against it."
    )
    assert lines[3] == "digits_vit, 3 neurons per block: the removal of paths was not measured for joint attribution."
    assert lines[4].endswith("(n = 60); no other method was run.")


def test_different_numbers_of_images_are_shown_in_the_cells(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution", "random"], n=12)
    write_run(tmp_path / "b", ["joint_attribution", "random"], n=20, model="vit_b_16")
    main = by_name(make_sections(compare([tmp_path], **FAST)), "main")
    assert main.caption == "Methods compared (1 neuron per block)"
    assert main.table[["Model", "n"]].drop_duplicates().to_numpy().tolist() == [
        ["digits_vit", "12"],
        ["vit_b_16", "20"],
    ]


def test_the_files_hold_the_numbers_and_are_the_same_again(comparison: Comparison, tmp_path: Path) -> None:
    files = write_comparison(comparison, tmp_path / "new" / "out")
    assert [file.name for file in files] == [
        "table.md", "table.csv", "table.tex", "table.html", "tests.csv", "classes.csv", "comparison.json",
    ]  # fmt: skip
    again = write_comparison(comparison, tmp_path / "again")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    table = pd.read_csv(files[1], keep_default_na=False, na_values=[""])
    assert len(table) == len(comparison.cells)
    np.testing.assert_allclose(table["mean"].to_numpy(), comparison.cells["mean"].to_numpy(), rtol=1e-11)
    with files[4].open(newline="") as file:
        assert len(list(csv.reader(file))) == len(comparison.tests) + 1
    record = json.loads(files[-1].read_text())
    assert record["settings"]["reference"] == "joint_attribution"
    assert record["sentences"] == in_words(comparison)
    assert len(record["runs"]) == 12
    assert record["runs"][0]["provenance"]["evaluation"] == {"factor": 2.0, "tokens": "scope"}
    assert [Path(run["run_dir"]).name for run in record["missing"]] == ["failed"]


def test_of_a_margin_all_is_told_in_logits(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution", "activation", "random"], target="margin", valued=True)
    comparison = compare([tmp_path], **FAST)
    (line, *_) = in_words(comparison)
    assert re.search(r"changes the target margin \(logits\) by −\d\.\d+ \[−\d\.\d+, −\d\.\d+\] \(n = 60\)", line)
    assert re.search(r"\d\.\d+ \[.*\] logits over random \(p (=|<) 0\.\d+\)", line)
    assert "probability" not in line
    sections = make_sections(comparison)
    assert list(by_name(sections, "main").table.columns) == [
        "Method", "Remove: margin, logits", "Remove: accuracy, points", "Enhance: margin, logits", "Joint score"
    ]  # fmt: skip
    console = Console(record=True, width=200, file=io.StringIO())
    print_comparison(console, comparison, sections)
    printed = console.export_text()
    assert "Remove: margin, logits: paired difference from joint attribution" in printed
    assert "margin: change of the target's log-odds over the other classes" in legend(comparison)
