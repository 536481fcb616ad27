"""The documentation site as it is built: nothing missing, nothing dead, nothing from elsewhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import neuron_path
from tests.browser.chromium import QUIET, find_chromium

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """What a page names, links to and loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif "src" in values or tag == "link":
            self.loads.append(values.get("src") or values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs-build` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def public_names() -> Iterator[str]:
    """What has a docstring and no underscore, in every module of the package but those that only name others."""
    for file in sorted((ROOT / "neuron_path").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if any(part.startswith("_") for part in module.split(".")) or file == ROOT / "neuron_path" / "api.py":
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_" and ast.get_docstring(node):
                yield f"{module}.{node.name}"


def test_every_public_name_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    top = pages[site / "reference" / "neuron_path.html"].ids
    assert {f"neuron_path.{name}" for name in neuron_path.__all__ if name != "__version__"} <= top
    named = {name for file, page in pages.items() if file.parent.name == "reference" for name in page.ids}
    names = set(public_names())
    assert len(names) > 500
    assert names - named == set()


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    dead = []
    for file, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or file.name == "404.html":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            known = target in pages and (not anchor or anchor.startswith("__") or anchor in pages[target].ids)
            if not known and not (target.is_file() and not anchor):
                dead.append(f"{file.name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    loaded = {link for page in pages.values() for link in page.loads}
    assert {link for link in loaded if urlsplit(link).scheme not in ("", "data")} == set()
    assert len(loaded) > 10


def test_it_is_searched_from_disk_and_asks_nobody(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    troubles = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=QUIET)
        page = browser.new_page()
        page.on("console", lambda told: troubles.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else troubles.append(sent.url))
        page.goto((site / "index.html").as_uri())
        page.get_by_role("textbox", name="Search").press_sequentially("find_paths")
        hit = page.locator(".md-search-result__link[href$='#neuron_path.find_paths']").first
        hit.wait_for(timeout=60_000)
        hit.click()
        page.wait_for_url("**/reference/neuron_path.html*")
        assert page.locator("[id='neuron_path.find_paths']").is_visible()
        browser.close()
    assert troubles == []
