"""A headless Chromium and a report to look at; everything here is skipped where either is missing.

`AUTOINTERP_CHROMIUM` names another browser than the first Chromium or Chrome on the path.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.report.data import ReportData
from autointerp.report.html import render_report
from tests.unit.report.synthetic import make_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def find_chromium() -> str | None:
    return os.environ.get("AUTOINTERP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name one in AUTOINTERP_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def data() -> ReportData:
    return ReportData.model_validate(make_report(120))


@pytest.fixture(scope="session")
def report(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(data), encoding="utf-8")
    return path


class Watched:
    """A page that remembers what should not have happened on it."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, theme: str = "light", **options: Any) -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", self._asked)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(message.text)

    def _asked(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def with_chart(self) -> "Watched":
        self.page.wait_for_selector("#scatter canvas")
        return self

    def ids(self) -> list[str]:
        """The features in sight, top first."""
        rows = self.page.eval_on_selector_all(".row", "rows => rows.map(r => [parseFloat(r.style.top), r.dataset.id])")
        return [str(name) for _, name in sorted(rows)]

    def open_id(self) -> str:
        return str(self.page.inner_text("#card h2")).replace(" / ", "/")


@pytest.fixture
def watched(browser: Any, report: Path) -> Iterator[Watched]:
    page = Watched(browser, report).with_chart()
    yield page
    assert page.trouble == []
    assert page.requests == [page.address]
    page.context.close()
