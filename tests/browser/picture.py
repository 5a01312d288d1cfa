"""The README's picture of a report, taken by hand: `python -m tests.browser.picture RUN/report.html PICTURE.png`.

A report flows in, a picture of its first screen flows out. Needs playwright and Chromium, as the browser tests do.
"""

import sys
from importlib import import_module
from pathlib import Path

from tests.browser.conftest import FLAGS, Watched, find_chromium

WIDTH, HEIGHT = 1400, 1500


def take_picture(report: Path, picture: Path) -> None:
    """Write the top of the page, light, once its chart is drawn."""
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = Watched(browser, report.resolve(), WIDTH).with_chart().page
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.wait_for_timeout(500)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), Path(sys.argv[2]))
