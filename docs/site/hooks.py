"""The pages of the documentation site that docs/ does not hold, made while mkdocs builds: nothing is written twice.

- ``reference/``: one page for each part of the package, from the docstrings.
- ``gallery.md``: the pictures of the page of figures.
- ``tutorials/``: the notebooks as they are stored, with their outputs.
- ``repository/``: the files outside docs/ that pages link to. On such a page, and on those of docs/, links are written
  for who reads the files in the checkout; here they are turned to the site's pages. A link to what is not there stays
  as it is, and fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
PACKAGE = "neuron_path"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
"""What is read as a page though it lies outside docs/."""
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
_slug = slugify(case="lower")  # as GitHub makes anchors of headings


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.mdx_configs["toc"]["slugify"] = _slug
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    written = {
        file.src_uri: (ROOT / "docs" / file.src_uri).read_text(encoding="utf-8") for file in files.documentation_pages()
    }
    notebooks = [file.src_uri for file in files if file.src_uri.endswith(".ipynb")]
    made = {name.replace(".ipynb", ".md"): read_notebook(ROOT / "docs" / name) for name in notebooks}
    made["gallery.md"] = gallery(written["figures.md"])
    made |= dict(reference())
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    linked = {place for uri, text in (written | made).items() for place in outside(text, f"docs/{uri}")}
    for place, text in repository(linked | set(PAGES)):
        level = InclusionLevel.INCLUDED if place in PAGES else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, site_uri(place), content=text, inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to the site's pages."""
    uri = page.file.src_uri
    own = uri.removeprefix("repository/")
    return relink(markdown, f"docs/{uri}" if own == uri else own, uri)


def site_uri(place: str) -> str:
    """Where the site has a file of the checkout.

    >>> site_uri("docs/data.md"), site_uri("neuron_path/api.py"), site_uri("docs/tutorials/digits.ipynb")
    ('data.md', 'repository/neuron_path/api.py.md', 'tutorials/digits.md')
    """
    if place.startswith("docs/"):
        return place.removeprefix("docs/").replace(".ipynb", ".md")
    return f"repository/{place}" if place.endswith(".md") else f"repository/{place}.md"


def relink(markdown: str, origin: str, uri: str) -> str:
    """Turn the links of a file of the checkout to the site's pages.

    Args:
        markdown: the file's text.
        origin: its place in the checkout.
        uri: its page.
    """

    def turned(link: re.Match[str]) -> str:
        return posixpath.relpath(site_uri(_place(link[0], origin)), posixpath.dirname(uri) or ".")

    return _LINK.sub(turned, markdown)


def outside(markdown: str, origin: str) -> Iterator[str]:
    """The files outside docs/ that a text links to."""
    for target in _LINK.findall(markdown):
        place = _place(target, origin)
        if not place.startswith("docs/") and (ROOT / place).is_file():
            yield place


def _place(target: str, origin: str) -> str:
    """The place in the checkout that a link leads to; a folder of the package stands for what its ``__init__`` says."""
    place = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    return f"{place}/__init__.py" if (ROOT / place / "__init__.py").exists() else place


def repository(linked: set[str]) -> Iterator[tuple[str, str]]:
    """The text of files outside docs/ and of those that they link to: pages as they are, all else as a listing."""
    seen: set[str] = set()
    while waiting := linked - seen:
        seen |= waiting
        for place in sorted(waiting):
            text = (ROOT / place).read_text(encoding="utf-8")
            if place.endswith(".md"):
                linked = linked | set(outside(text, place))
                yield place, text
            else:
                language = {".py": "python"}.get(PurePosixPath(place).suffix, PurePosixPath(place).suffix.lstrip("."))
                yield place, f"{_UNSEARCHED}# {place}\n\n````{language}\n{text}\n````\n"


def reference() -> Iterator[tuple[str, str]]:
    """A page for what ``import neuron_path`` gives, and one for each module or folder of the package."""
    names = re.findall(r'^    "(\w+)",$', (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    body = "\n".join(f"::: {PACKAGE}.{name}\n" for name in names if name != "__version__")
    yield f"reference/{PACKAGE}.md", f"# {PACKAGE}\n\nWhat `import {PACKAGE}` gives.\n\n{body}"
    for part in sorted((ROOT / PACKAGE).iterdir()):
        if (
            part.name.startswith("_")
            or part.name == "api.py"
            or not (part.suffix == ".py" or (part / "__init__.py").exists())
        ):
            continue
        modules = [part] if part.suffix == ".py" else sorted(part.rglob("*.py"))
        body = "\n".join(f"::: {name}\n" for name in map(_module, modules))
        yield f"reference/{part.stem}.md", f"# {PACKAGE}.{part.stem}\n\n{body}"


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def gallery(figures: str) -> str:
    """The pictures of the page of figures, each with a link to how it is drawn."""
    cards = []
    for section in re.split(r"^##+ ", figures, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        where = f"figures.md#{_slug(title, '-')}"
        cards += [
            f"-   [![{alt}]({image})]({where})\n\n    [{title}]({where})\n"
            for alt, image in re.findall(r"!\[(.*?)\]\((.*?)\)", section)
        ]
    return '# Gallery\n\n<div class="grid cards" markdown>\n\n' + "\n".join(cards) + "\n</div>\n"


def read_notebook(file: Path) -> str:
    """A stored notebook as a page: text, code, and what the cells have printed and drawn."""
    parts = []
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```python\n{cell.source}\n```", *map(_output, cell.outputs)]
    parts.insert(1, f"[Download the notebook]({file.name}){{download}}")
    return "\n\n".join(parts)


def _output(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return (
            f'<img class="output" alt="{data["text/plain"]}" src="data:image/png;base64,{data["image/png"].strip()}">'
        )
    if "text/html" in data:
        return f'<div class="output">\n{data["text/html"]}\n</div>'
    return f"```{{.text .output}}\n{output.get('text') or data['text/plain']}\n```"
