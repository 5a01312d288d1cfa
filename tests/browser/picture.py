"""The README's pictures, taken by hand: `python -m tests.browser.picture PAGE.html PICTURE.png`.

A report or a comparison flows in, a picture of its first screen flows out. Needs playwright and Chromium, as the
browser tests do.
"""

import sys
from importlib import import_module
from pathlib import Path

from tests.browser.conftest import FLAGS, Watched, find_chromium

WIDTH, HEIGHT = 1400, 1500


def take_picture(shown: Path, picture: Path) -> None:
    """Write the top of the page, light, once its chart is drawn or its first pair of features is open."""
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = Watched(browser, shown.resolve(), WIDTH).page
        page.wait_for_selector("#scatter canvas, .side .track")
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.wait_for_timeout(500)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), Path(sys.argv[2]))
