"""A comparison's page as a reader meets it: verdicts, pairs, values under the pointer, themes, narrow screens."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.compare.data import Comparison
from autointerp.compare.page.html import render_comparison
from tests.browser.conftest import Watched
from tests.browser.test_report import wait_until
from tests.unit.compare.comparisons import by_explainer, make_comparison, with_features, with_nothing_to_rank


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return Comparison.model_validate(make_comparison())


@pytest.fixture(scope="module")
def pages(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compare")
    data = {
        "plain": comparison,
        "hostile": Comparison.model_validate(make_comparison(hostile=True, alike=False)),
        "nothing": Comparison.model_validate(with_nothing_to_rank()),
        "explainers": Comparison.model_validate(by_explainer()),
        "large": Comparison.model_validate(with_features(2_000, 120)),
    }
    for name, each in data.items():
        (folder / f"{name}.html").write_text(render_comparison(each), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in data}


@pytest.fixture
def seen(browser: Any, pages: dict[str, Path]) -> Iterator[Watched]:
    page = Watched(browser, pages["plain"])
    page.page.wait_for_selector(".side .track")
    yield page
    assert page.trouble == []
    assert page.requests == [page.address]
    page.context.close()


def test_the_verdict_is_on_the_first_screen(seen: Watched) -> None:
    """The fixture holds the rest: no console error, no dialog, and no request but the file itself."""
    first = seen.page.locator(".verdict-box").first
    assert "topk is easier to explain than relu." in " ".join(first.inner_text().split())
    box = first.bounding_box()
    assert box["y"] + box["height"] < 900


def test_scripts_and_requests_are_refused(browser: Any, pages: dict[str, Path]) -> None:
    page = Watched(browser, pages["plain"]).page
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'sent', () => 'refused')") == "refused"


def test_a_pair_opens_to_what_both_features_did(seen: Watched, comparison: Comparison) -> None:
    """Each side shows its own feature's windows, levels and predictions."""
    page = seen.page
    pair = comparison.contrasts[0].differing[2]
    box = page.locator("[data-contrast='0'] .pair").nth(2)
    assert box.locator(".track").count() == 0
    box.locator("summary").click()
    wait_until(page, "document.querySelectorAll(\"[data-contrast='0'] .pair\")[2].querySelector('.track')")
    for k, side in enumerate((pair.a, pair.b)):
        shown = box.locator(f"[data-side='{k}']")
        tracks = shown.locator(".track").evaluate_all(LEVELS)
        wanted = [[list(w.levels), w.target, w.simulated] for w in side.windows]
        assert len(tracks) == len(wanted)
        for place, levels, target, said in tracks:
            window = side.windows[place]
            if window.target is None:
                assert levels == list(window.levels)
                continue
            assert target == window.target
            assert said == (window.simulated or (None,))[0]
        assert " ".join((side.explanation or "").split()) in " ".join(shown.inner_text().split())


# Of each track: its window's place, the levels above, the framed token and the level below it.
LEVELS = """all => all.map((track) => {
  const cells = [...track.querySelectorAll('.k')];
  const target = cells.findIndex((c) => c.classList.contains('target'));
  const said = target < 0 ? null : Number(cells[target].dataset.s);
  return [Number(track.dataset.w), cells.map((c) => Number(c.className.match(/ t(\\d+)/)[1])), target, said];
})"""


def test_values_of_tokens_and_of_features_under_the_pointer(seen: Watched, comparison: Comparison) -> None:
    """The tip must name the feature that is drawn there; an axis read differently names another one."""
    page = seen.page
    page.locator(".side .k.t10").first.hover()
    assert "true level" in page.inner_text("#tip")
    arm = comparison.arms[0]
    plot = page.locator("[data-arms]").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".field").bounding_box()
    axes = page.evaluate("JSON.parse(document.getElementById('data').textContent).axes")
    k = max(range(len(arm.points.index)), key=lambda i: arm.points.value[i])
    across = (math.log10(arm.points.density[k]) - axes["low"]) / (axes["high"] - axes["low"])
    up = (arm.points.value[k] - axes["bottom"]) / (axes["top"] - axes["bottom"])
    page.mouse.move(box["x"] + across * box["width"], box["y"] + (1 - up) * box["height"])
    wait_until(page, f"document.getElementById('tip').innerText.includes('{arm.key}/{arm.points.index[k]}')")
    assert f"{arm.points.value[k]:.2f}" in page.inner_text("#tip")
    page.mouse.move(5, 5)
    wait_until(page, "document.getElementById('tip').hidden")


def test_dots_are_drawn_where_the_axis_says(seen: Watched, comparison: Comparison) -> None:
    """The drawn cloud, as the browser lays it out, spans the densities and scores of its arm."""
    arm = comparison.arms[0]
    left, top, field_left, field_top, width, height = seen.page.eval_on_selector("[data-arms] use.a0", CORNER)
    axes = seen.page.evaluate("JSON.parse(document.getElementById('data').textContent).axes")
    low = (math.log10(min(arm.points.density)) - axes["low"]) / (axes["high"] - axes["low"])
    high = (max(arm.points.value) - axes["bottom"]) / (axes["top"] - axes["bottom"])
    assert left == pytest.approx(field_left + low * width, abs=1.5)
    assert top == pytest.approx(field_top + (1 - high) * height, abs=1.5)


# The corner of the dots' own box on the screen, and the field it lies in.
CORNER = """(use) => {
  const [box, field] = [use.getBBox(), use.closest('.field').getBoundingClientRect()];
  const at = new DOMPoint(box.x, box.y).matrixTransform(use.getScreenCTM());
  return [at.x, at.y, field.x, field.y, field.width, field.height];
}"""


def test_tabs_show_one_contrast_at_a_time(seen: Watched) -> None:
    page = seen.page
    assert page.locator(".contrast-pairs:visible").count() == 1
    page.click("[data-tab='1']")
    assert page.locator("[data-contrast='1']").is_visible()
    assert page.locator("[data-contrast='0']").is_hidden()
    assert page.locator("[data-contrast='1'] .track").count() > 0


def test_hostile_text_is_text(browser: Any, pages: dict[str, Path]) -> None:
    """`<script>`, handlers, bidi marks and nulls from a corpus or a folder's name are shown, never run."""
    seen = Watched(browser, pages["hostile"])
    page = seen.page
    page.wait_for_selector(".side .track")
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    wait_until(page, "[...document.querySelectorAll('.pair')].every(p => p.querySelector('.track'))")
    text = page.inner_text("main")
    assert not set(text) & set("\x00\u202e\u202c\u200b")
    raw = page.evaluate("document.querySelector('main').textContent")
    for shown in ('<script>alert("x")</script>', '"onload=', "<script>alert(1)</script>", "<i onclick=alert(1)>"):
        assert shown in raw
    assert page.locator("main script, main img, main bdi b, [onload], [onerror], [onclick]").count() == 0
    for plot in page.locator("[data-arms]").all():
        plot.scroll_into_view_if_needed()
        box = plot.locator(".field").bounding_box()
        for step in range(12):
            page.mouse.move(box["x"] + box["width"] * step / 12, box["y"] + box["height"] / 2)
            page.wait_for_timeout(10)
    assert seen.trouble == []


@pytest.mark.parametrize("width", [1400, 700, 390])
@pytest.mark.parametrize("name", ["plain", "hostile", "nothing", "explainers"])
def test_no_sideways_scroll(browser: Any, pages: dict[str, Path], width: int, name: str) -> None:
    seen = Watched(browser, pages[name], width=width)
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.trouble == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["hostile", "nothing"])
def test_text_contrast(browser: Any, pages: dict[str, Path], theme: str, name: str) -> None:
    """Every piece of text is at least 4.5 to 1 against what lies under it."""
    seen = Watched(browser, pages[name], theme=theme)
    seen.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    seen.page.wait_for_timeout(300)
    found = seen.page.evaluate((Path(__file__).parent / "contrast.js").read_text(encoding="utf-8"))
    assert found["n"] > 100
    assert found["low"] == []


def test_theme_follows_the_system_and_the_button(browser: Any, pages: dict[str, Path]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (Watched(browser, pages["plain"], theme=theme) for theme in ("light", "dark"))
    day, night = light.page.evaluate(ground), dark.page.evaluate(ground)
    assert day != night
    light.page.keyboard.press("t")
    light.page.click("#theme")
    assert light.page.evaluate(ground) == night
    light.page.reload()
    assert light.page.evaluate(ground) == night
    assert light.trouble == dark.trouble == []


def test_readable_without_scripts(browser: Any, pages: dict[str, Path], comparison: Comparison) -> None:
    seen = Watched(browser, pages["plain"], java_script_enabled=False)
    text = " ".join(seen.page.inner_text("body").split())
    assert all(contrast.sentence in text for contrast in comparison.contrasts)
    assert seen.page.locator(".panel").count() == len(comparison.arms)
    assert seen.page.locator(".contrast-pairs:visible").count() == 2
    assert seen.page.locator("#tabs").is_hidden()


def test_many_features_are_still_found_under_the_pointer(browser: Any, pages: dict[str, Path]) -> None:
    """10,000 dots and 120 pairs: the page stands, and the tip still names one of them."""
    seen = Watched(browser, pages["large"])
    page = seen.page
    page.wait_for_selector(".side .track")
    plot = page.locator("[data-arms]").first
    plot.scroll_into_view_if_needed()
    box = plot.locator("use.a0").bounding_box()
    for step in range(40):
        page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] / 2)
        page.wait_for_timeout(20)
        if page.is_visible("#tip"):
            break
    assert "density" in page.inner_text("#tip")
    assert seen.trouble == []
