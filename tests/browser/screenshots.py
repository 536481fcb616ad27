"""Pictures of a report at three widths, in light and dark, to be looked at.

python -m tests.browser.screenshots REPORT.html FOLDER [ADDRESS]
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import QUIET, find_chromium

WIDTHS = (390, 800, 1440)


def take(report: Path, folder: Path, address: str = "") -> None:
    """Write WIDTH-light.png and WIDTH-dark.png of the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=QUIET)
        for width, scheme in itertools.product(WIDTHS, ("light", "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(report.absolute().as_uri() + address)
            page.locator("#classes").scroll_into_view_if_needed()
            page.wait_for_selector("#similarity-map .main-svg")
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{width}-{scheme}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
