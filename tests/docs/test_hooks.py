"""How the site's pages are made from the files of the checkout."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load("hooks")


@pytest.mark.parametrize(
    ("link", "origin", "page", "turned"),
    [
        ("searches.md#cost", "docs/data.md", "data.md", "searches.md#cost"),
        ("../data.md", "docs/how-to/cluster.md", "how-to/cluster.md", "../data.md"),
        ("docs/data.md", "README.md", "repository/README.md", "../data.md"),
        ("docs/images/path.png", "README.md", "repository/README.md", "../images/path.png"),
        ("../README.md", "docs/index.md", "index.md", "repository/README.md"),
        ("../neuron_path/api.py", "docs/how-it-works.md", "how-it-works.md", "repository/neuron_path/api.py.md"),
        ("../neuron_path/store", "docs/searches.md", "searches.md", "repository/neuron_path/store/__init__.py.md"),
        ("tutorials/digits.ipynb", "docs/index.md", "index.md", "tutorials/digits.md"),
        ("#here", "docs/data.md", "data.md", "#here"),
        ("https://arxiv.org/abs/2503.09046", "README.md", "repository/README.md", "https://arxiv.org/abs/2503.09046"),
    ],
)
def test_links_of_the_checkout_lead_to_pages(link: str, origin: str, page: str, turned: str) -> None:
    assert hooks.relink(f"see [this]({link}).", origin, page) == f"see [this]({turned})."


def test_a_file_that_is_not_there_gets_no_page() -> None:
    linked = set(hooks.outside("[a](../neuron_path/api.py) [b](../neuron_path/gone.py)", "docs/index.md"))
    assert linked == {"neuron_path/api.py"}


def test_what_pages_outside_link_to_has_pages_too() -> None:
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE"} <= dict(hooks.repository({"README.md"})).keys()


def test_every_picture_of_the_figures_is_in_the_gallery() -> None:
    figures = "# Figures\n\n## One\n\n![a](x.png)\n\n## The other, `b`\n\n![b](y.png)\n"
    page = hooks.gallery(figures)
    assert "[![a](x.png)](figures.md#one)" in page
    assert "[![b](y.png)](figures.md#the-other-b)" in page


def test_a_notebook_keeps_text_code_and_outputs(tmp_path: Path) -> None:
    new = nbformat.v4
    display = {"output_type": "display_data"}
    outputs = [
        new.new_output("stream", text="said\n"),
        new.new_output(**display, data={"text/plain": "Figure", "image/png": "QUJD\n"}),
        new.new_output(**display, data={"text/plain": "table", "text/html": "<table></table>"}),
        new.new_output(**display, data={"text/plain": "(2, 3)"}),
    ]
    cells = [new.new_markdown_cell("# Title"), new.new_code_cell("1 + 1", outputs=outputs)]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "book.ipynb")
    page = hooks.read_notebook(tmp_path / "book.ipynb")
    order = ["# Title", "(book.ipynb)", "```python\n1 + 1\n```", "said", "base64,QUJD", "<table></table>", "(2, 3)"]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert "table\n" not in page.replace("</table>\n", "")


def test_docstrings_become_markdown() -> None:
    import griffe

    text = "Do it, see :func:`~a.b`.\n\n>>> do()\n1\n\n>>> again()\n2\n\nThe end: `>>>` is no example."
    made = griffe.Function("f", docstring=griffe.Docstring(text))
    load("docstrings").AsMarkdown().on_object(obj=made)
    assert made.docstring is not None
    assert made.docstring.value == (
        "Do it, see `a.b`.\n\n```pycon\n>>> do()\n1\n\n>>> again()\n2\n```\n\nThe end: `>>>` is no example."
    )
