"""The report as a reader meets it: sort, filter, search, open, keys, themes; and that it troubles nobody."""

import math
from pathlib import Path
from typing import Any

import pytest

from autointerp.report.data import FeatureEntry, ReportData
from autointerp.report.figures import axis_of
from autointerp.report.html import render_report
from autointerp.report.text import fixed, interval
from tests.browser.conftest import Watched
from tests.unit.report.synthetic import make_report


def by_score(data: ReportData) -> list[FeatureEntry]:
    scored = [f for f in data.features if f.value is not None]
    return sorted(scored, key=lambda f: -(f.value or 0))


def name(feature: FeatureEntry) -> str:
    return f"{feature.dictionary}/{feature.index}"


def wait_until(page: Any, expression: str) -> None:
    """Asked from outside: the page forbids Playwright to evaluate text inside, its own way of asking again."""
    for _ in range(200):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def count_shown(page: Any) -> str:
    return str(page.inner_text("#count"))


def test_opens_sorted_by_score_without_trouble(watched: Watched, data: ReportData) -> None:
    """The fixture holds the rest: no console error, no dialog, and no request but the file itself."""
    assert watched.ids()[:3] == [name(f) for f in by_score(data)[:3]]
    assert count_shown(watched.page) == "120 features"


def test_a_request_is_refused_by_the_page_itself(browser: Any, report: Path) -> None:
    page = Watched(browser, report).page
    refused = page.evaluate("fetch('data:text/plain,x').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    inserted = page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        "document.body.append(s); return window.bad ?? 'refused'; })()"
    )
    assert inserted == "refused"


def test_sort_turns_and_keeps_the_unscored_last(watched: Watched, data: ReportData) -> None:
    """Undefined sorted as 0 would put a failure above an honest negative score."""
    watched.page.click("[data-sort=score]")
    worst = by_score(data)[::-1]
    assert watched.ids()[0] == name(worst[0])
    watched.page.click("[data-sort=density]")
    densest = max(data.features, key=lambda f: f.density)
    assert watched.ids()[0] == name(densest)
    watched.page.click("[data-preset=worst]")
    watched.page.evaluate("document.getElementById('rows').scrollTop = 1e6")
    wait_until(watched.page, "document.querySelector('.row:last-child')")
    assert "failed" not in watched.page.inner_text("#rows")


@pytest.mark.parametrize("state", ["undefined", "failed"])
def test_filter_by_state(watched: Watched, data: ReportData, state: str) -> None:
    watched.page.select_option("#show", state)
    wanted = {name(f) for f in data.features if f.state == state}
    assert set(watched.ids()) == wanted
    texts = watched.page.eval_on_selector_all(".row .state", "all => all.map(e => e.textContent)")
    assert len(texts) == len(wanted)
    assert all(text.startswith(f"{state}: ") for text in texts)


def test_filter_by_reason_from_the_outcomes(watched: Watched, data: ReportData) -> None:
    button = watched.page.locator("[data-reason]").first
    reason, place = button.get_attribute("data-reason"), int(button.get_attribute("data-dictionary") or 0)
    button.click()
    dictionary = data.dictionaries[place].id
    assert set(watched.ids()) == {name(f) for f in data.features if f.reason == reason and f.dictionary == dictionary}
    watched.page.click("#chosen")
    assert str(len([f for f in data.features if f.dictionary == dictionary])) in count_shown(watched.page)


def test_search_finds_explanations_and_ids(watched: Watched, data: ReportData) -> None:
    feature = by_score(data)[5]
    watched.page.fill("#search", name(feature))
    assert name(feature) in watched.ids()
    watched.page.fill("#search", "<script>")
    assert set(watched.ids()) == {name(f) for f in data.features if f.explanation and "<script>" in f.explanation}
    watched.page.fill("#search", "nothing says this")
    assert watched.ids() == []
    assert "No feature matches" in watched.page.inner_text("#rows")


def test_card_shows_the_evidence(watched: Watched, data: ReportData) -> None:
    feature = by_score(data)[0]
    score = feature.score
    assert score is not None
    watched.page.click(".row >> nth=0")
    watched.page.wait_for_selector("#card .track")
    text = watched.page.inner_text("#card")
    assert watched.open_id() == name(feature)
    assert feature.explanation in text
    assert "by lookup" in text
    spearman, lookup, lift = score.spearman, score.lookup, score.lift
    for each in (spearman, lookup, lift):
        assert interval(each.low, each.high) in watched.page.inner_text(".headline")
    assert fixed(spearman.null_threshold) in watched.page.inner_text(".headline")
    assert f"score / ceiling {(spearman.value or 0) / (spearman.ceiling or 1):.2f}" in text
    for part in (
        "Recall by decile",
        "False positives",
        "Tempted by hard negatives",
        "Kendall",
        "Token entropy",
        "Nearest features",
    ):
        assert part in text
    assert watched.page.locator("#card .window").count() == 60
    assert watched.page.locator("#card .histogram:not(.recall) rect").count() == sum(n > 0 for n in feature.histogram)
    watched.page.click("[data-part=g]")
    assert watched.page.locator("#card .window").count() == 10
    assert "never part of the score" in watched.page.inner_text("#windows")
    watched.page.click("[data-part=e]")
    assert watched.page.locator("#card .window").count() == 20
    assert watched.page.locator("#card .target").count() == 0


def test_controls_stand_on_one_axis(watched: Watched, data: ReportData) -> None:
    """A control drawn at another's value, or an undefined one drawn as measured, would turn the comparison around."""
    feature = next(f for f in by_score(data) if f.score and f.score.bigram.undefined and f.score.shuffled.value)
    score = feature.score
    assert score is not None
    open_feature(watched, feature)
    rows = watched.page.eval_on_selector_all("#card .score tbody tr", "all => all.map(r => r.innerText)")
    labels = ["Explanation", "Token look-up", "Bigram look-up", "Position only", "Constant", "Shuffled", "Difference"]
    kept = [row for row in rows if not row.startswith("Before")]
    assert [label for label, row in zip(labels, kept, strict=True) if row.startswith(label)] == labels
    for label, value in (("Token", score.lookup), ("Position", score.position), ("Shuffled", score.shuffled)):
        row = next(row for row in rows if row.startswith(label))
        assert f"{fixed(value.value)} {interval(value.low, value.high)}" in " ".join(row.split())
    assert "no table" in next(row for row in rows if row.startswith("Bigram"))
    assert "constant prediction, counted as 0" in next(row for row in rows if row.startswith("Constant"))
    marks = watched.page.eval_on_selector_all(
        "#card .score tbody .mini svg",
        "all => all.map(s => [s.firstChild.getAttribute('class'), +s.getAttribute('x').slice(0, -1)])",
    )
    shown = (score.spearman, score.lookup, score.position, score.shuffled, score.lift)
    ends = [end for each in shown for end in (each.value, each.low) if end is not None]
    low = max(-1, math.floor(5 * min(-0.2, *ends, axis_of(data.features).low)) / 5)
    places = dict(marks)
    assert "mark-bigram" not in places
    for mark, value in (("score", score.spearman), ("lookup", score.lookup), ("position", score.position)):
        assert places[f"mark-{mark}"] == pytest.approx(100 * ((value.value or 0) - low) / (1 - low), abs=0.02)
    assert places["mark-counted"] == pytest.approx(-100 * low / (1 - low), abs=0.02)
    assert watched.page.locator("#card .score .null").count() == len(rows)


def open_feature(watched: Watched, feature: FeatureEntry) -> None:
    watched.page.evaluate(f"location.hash = '#{name(feature)}'")
    watched.page.wait_for_selector("#card .track")


def test_targets_are_marked_with_what_became_of_them(watched: Watched, data: ReportData) -> None:
    """A miss and a false alarm must be told apart by words, not by colour, on the right token with the right levels."""
    seen: set[str] = set()
    for feature in by_score(data)[::-1][:6]:
        open_feature(watched, feature)
        tracks = watched.page.eval_on_selector_all("#card .window", WINDOWS)
        assert len(tracks) == 60
        for place, verdict, marked, true, said in tracks:
            window = feature.windows[int(place)]
            assert window.target is not None
            assert window.simulated is not None
            assert marked == [window.target]
            level, guess = window.levels[window.target], window.simulated[0]
            assert (true, said) == (str(level), str(guess))
            hit, alarm = ("hit" if guess else "missed"), ("false alarm" if guess else "rightly silent")
            assert verdict.endswith(hit if level else alarm)
            seen.add(verdict[1:])
    assert seen == {"hit", "missed", "false alarm", "rightly silent"}


WINDOWS = """all => all.map(w => {
  const marked = [...w.querySelectorAll('.target')];
  const { t, s } = marked[0].dataset;
  const verdict = w.querySelector('.verdict').textContent;
  return [w.querySelector('.track').dataset.w, verdict, marked.map(e => +e.dataset.i), t, s];
})"""


def test_worst_predicted_first_and_one_stratum(watched: Watched) -> None:
    page = watched.page
    page.click(".row >> nth=3")
    page.wait_for_selector("#card .track")
    page.select_option("#order", "worst")
    errors = page.eval_on_selector_all("#card .target", "all => all.map(e => Math.abs(e.dataset.t - e.dataset.s))")
    assert errors == sorted(errors, reverse=True)
    page.click("[data-stratum=uniform]")
    assert page.locator("#card .window").count() == 20


def test_a_refined_feature_shows_what_it_was(watched: Watched, data: ReportData) -> None:
    """Whether a revision was kept decides which text the score is of."""
    for kept in (True, False):
        revised = [f for f in by_score(data) if f.refinement and f.refinement.kept == kept]
        feature = next(f for f in revised if f.refinement and f.refinement.before == "fires on words")
        open_feature(watched, feature)
        text = watched.page.inner_text("#card .refined")
        assert "fires on words" in text
        assert ("Revised; before:" in text) == kept
        assert ("not kept" in text) == (not kept)
        assert "0.31 → 0.42" in text
        assert ("on the score part" in text) == kept
        assert ("Before revision" in watched.page.inner_text("#card .score")) == kept


def test_filter_by_why_and_by_flag(watched: Watched, data: ReportData) -> None:
    """The buttons beside a dictionary's counts lead to those very features."""
    page = watched.page
    low = {name(f) for f in data.features if f.score and f.score.why == "misses_high"}
    page.select_option("#show", "why-misses_high")
    assert f"{len(low)} of 120" in count_shown(page)
    assert set(watched.ids()) <= low
    button = page.locator("[data-why=misses_high]").first
    place = int(button.get_attribute("data-dictionary") or 0)
    n = int(button.locator("b").inner_text())
    button.click()
    assert count_shown(page) == f"{n} of 120 features"
    assert n == len([i for i in low if i.startswith(f"{data.dictionaries[place].id}/")])
    page.select_option("#dictionary", "")
    for show, wanted in (
        ("single", [f for f in data.features if f.profile and f.profile.single_token]),
        ("untested", [f for f in data.features if f.value is not None and f.score and f.score.specificity_untested]),
    ):
        page.select_option("#show", show)
        assert count_shown(page) == f"{len(wanted)} of 120 features"
    assert "specificity not tested" in page.inner_text("#rows")
    page.select_option("#show", "all")
    page.click("[data-sort=why]")
    words = page.eval_on_selector_all(".row .why", "all => all.map(e => e.textContent)")
    assert words
    assert set(words) == {"fires too broadly"}


def test_every_score_in_the_table_has_its_null_and_lookup(watched: Watched, data: ReportData) -> None:
    """At the narrowest width too, where the plot is gone."""
    for width in (1400, 390):
        watched.page.set_viewport_size({"width": width, "height": 900})
        for feature, text in zip(by_score(data)[:4], watched.page.locator(".row .num").all_inner_texts(), strict=False):
            score = feature.score
            assert score is not None
            shown = " ".join(text.split())
            assert f"{fixed(score.spearman.value)} {interval(score.spearman.low, score.spearman.high)}" in shown
            assert f"null {fixed(score.spearman.null_threshold)}, look-up {fixed(score.lookup.value)}" in shown


def test_levels_of_all_tokens(browser: Any, tmp_path: Path) -> None:
    """A run whose protocol asks for every token shows every token's levels."""
    data = ReportData.model_validate(make_report(12, targets=False))
    path = tmp_path / "report.html"
    path.write_text(render_report(data), encoding="utf-8")
    watched = Watched(browser, path)
    feature = by_score(data)[0]
    open_feature(watched, feature)
    assert watched.page.locator("#card .window").count() == 48
    assert watched.page.locator("[data-part=g]").count() == watched.page.locator(".target").count() == 0
    window = next(w for w in feature.windows if w.part == "score")
    first = watched.page.locator(f"#card .track[data-w='{feature.windows.index(window)}']")
    levels = first.locator(".k").evaluate_all("all => all.map(e => [+e.dataset.t, +e.dataset.s])")
    assert levels == [list(pair) for pair in zip(window.levels, window.simulated or (), strict=True)]
    watched.page.select_option("#order", "worst")
    errors = watched.page.eval_on_selector_all("#card .track", ERRORS)
    assert errors == sorted(errors, reverse=True)
    assert watched.trouble == []


ERRORS = (
    "all => all.map(t => { const k = [...t.children];"
    "return k.reduce((sum, e) => sum + Math.abs(e.dataset.t - e.dataset.s), 0) / k.length; })"
)


def test_keys(watched: Watched, data: ReportData) -> None:
    page, order = watched.page, [name(f) for f in by_score(data)]
    for key, place in (("j", 0), ("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowLeft", 0), ("k", 0)):
        page.keyboard.press(key)
        wait_until(page, f"document.querySelector('#card h2')?.innerText.replace(' / ', '/') === '{order[place]}'")
    assert page.evaluate("location.hash") == f"#{order[0]}"
    page.keyboard.press("w")
    assert page.input_value("#order") == "worst"
    page.keyboard.press("n")
    assert page.is_checked("#numbers")
    page.keyboard.press("Escape")
    assert page.is_hidden("#card")
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.input_value("#search") == "jk"
    assert page.is_hidden("#card")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#help")


def test_address_opens_the_feature(browser: Any, report: Path, data: ReportData) -> None:
    """A link to a feature is what people send each other."""
    feature = by_score(data)[7]
    watched = Watched(browser, report)
    watched.page.goto(f"{watched.address}#{name(feature)}")
    watched.page.wait_for_selector("#card .track, #card .none")
    assert watched.open_id() == name(feature)
    watched.page.evaluate("location.hash = '#nothing/here'")
    watched.page.wait_for_selector("#card", state="hidden")
    assert watched.trouble == []


def test_values_on_hover(watched: Watched, data: ReportData) -> None:
    watched.page.click(".row >> nth=0")
    watched.page.wait_for_selector("#card .track")
    watched.page.locator("#card .window .k.t10").first.hover()
    tip = watched.page.inner_text("#tip")
    assert all(word in tip for word in ("activation", "true level", "10", "simulated"))


def test_values_on_tap(browser: Any, report: Path) -> None:
    """A finger that lifts must not take the values away."""
    watched = Watched(browser, report, width=700, has_touch=True)
    watched.page.tap(".row >> nth=0")
    watched.page.wait_for_selector("#card .track")
    watched.page.locator("#card .window .k.t10").first.tap()
    watched.page.wait_for_timeout(100)
    assert "true level" in watched.page.inner_text("#tip")
    assert watched.trouble == []


def test_chart_opens_features_and_filters(watched: Watched, data: ReportData) -> None:
    page = watched.page
    page.locator("#scatter-box").scroll_into_view_if_needed()
    box = page.locator("#scatter canvas").bounding_box()
    page.mouse.move(box["x"] + 130, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 200, steps=4)
    page.mouse.up()
    page.wait_for_selector("#chosen:visible")
    assert " of 120 features" in count_shown(page)
    page.select_option("#against", "lookup")
    page.wait_for_selector("#chosen", state="hidden")
    wait_until(page, "document.getElementById('scatter').chart.spec.layer[1].mark.type === 'line'")
    place, box = page.evaluate(POINT), page.locator("#scatter canvas").bounding_box()
    page.mouse.click(box["x"] + place["x"], box["y"] + place["y"])
    page.wait_for_selector("#card .track")


# Where the chart drew its first feature: any mark that holds one will do.
POINT = """(() => {
  const { view } = document.getElementById('scatter').chart;
  const marks = view.scenegraph().root.items[0].items.flatMap((m) => m.items);
  const item = marks.find((i) => i.datum && i.datum.id && i.datum.on);
  const [[x, y], { left, top }] = [view.origin(), view.padding()];
  return { x: item.x + x + left, y: item.y + y + top };
})()"""


def test_hostile_tokens_are_text(browser: Any, report: Path, data: ReportData) -> None:
    """`<script>`, handlers, bidi marks and nulls from a corpus are shown, never run, and never turn a line around."""
    feature = next(f for f in data.features if f.explanation and "<script>" in f.explanation and f.windows)
    watched = Watched(browser, report)
    watched.page.goto(f"{watched.address}#{name(feature)}")
    watched.page.wait_for_selector("#card .track")
    for part in ("s", "g", "e"):
        watched.page.click(f"[data-part={part}]")
        text = watched.page.inner_text("#windows")
        assert not set(text) & set("\x00\u202e\u202c\u200b")
    raw = watched.page.evaluate("document.getElementById('card').textContent")
    for shown in ('<script>alert("x")</script>', '"onload=', "<script>alert(1)</script>", "<i>words</i>"):
        assert shown in raw
    assert (
        watched.page.locator("#card script, #card img, #card b b, #card .refined i, [onload], [onerror]").count() == 0
    )
    isolated = watched.page.eval_on_selector("#card .k bdi", "e => getComputedStyle(e).unicodeBidi")
    assert "isolate" in isolated
    assert watched.trouble == []


def test_theme_follows_the_system_and_the_button(browser: Any, report: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (Watched(browser, report, theme=theme) for theme in ("light", "dark"))
    day, night = light.page.evaluate(ground), dark.page.evaluate(ground)
    assert day != night
    light.page.click("#theme")
    assert light.page.evaluate(ground) == day
    light.page.click("#theme")
    assert light.page.evaluate(ground) == night
    light.page.reload()
    assert light.page.evaluate(ground) == night
    assert light.trouble == dark.trouble == []


@pytest.mark.parametrize("width", [1400, 700, 390])
def test_no_sideways_scroll(browser: Any, report: Path, width: int) -> None:
    watched = Watched(browser, report, width=width).with_chart()
    wide = "document.documentElement.scrollWidth"
    assert watched.page.evaluate(wide) <= width
    watched.page.keyboard.press("j")
    watched.page.wait_for_selector("#card .track")
    watched.page.keyboard.press("n")
    assert watched.page.evaluate(wide) <= width
    body = "(() => { const b = document.querySelector('.card-body'); return b.scrollWidth - b.clientWidth; })()"
    assert watched.page.evaluate(body) <= 0
    watched.page.click("[data-part=e]")
    assert watched.page.evaluate(body) <= 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_contrast(browser: Any, report: Path, data: ReportData, theme: str) -> None:
    """Every piece of text, on the page and in a card, is at least 4.5 to 1 against what lies under it."""
    hostile = next(f for f in data.features if f.explanation and "<script>" in f.explanation and f.windows)
    failed = next(f for f in data.features if f.state == "failed")
    revised = next(f for f in by_score(data) if f.refinement and f.score and f.score.why)
    script = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    for target in ("", name(by_score(data)[0]), name(revised), name(hostile), name(failed)):
        watched = Watched(browser, report, theme=theme)
        watched.page.goto(f"{watched.address}#{target}")
        if target:
            watched.page.wait_for_selector("#card .card-body")
        else:
            watched.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
            watched.page.select_option("#show", "untested")
        found = watched.page.evaluate(script)
        assert found["n"] > 50
        assert found["low"] == []


def test_contrast_is_really_measured(browser: Any, report: Path) -> None:
    """A measure that never finds anything would pass every theme."""
    watched = Watched(browser, report)
    watched.page.add_style_tag(content=".note { color: #8a8f95 }")
    script = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    assert {found[1] for found in watched.page.evaluate(script)["low"]} == {"note"}


def test_readable_without_scripts(browser: Any, report: Path, data: ReportData) -> None:
    watched = Watched(browser, report, java_script_enabled=False)
    text = watched.page.inner_text("body")
    assert all(name(f) in text for f in data.features)
    assert watched.page.locator(".panel").count() == 4
    assert watched.page.is_hidden("#card")


def test_large_report_paints_and_answers_quickly(browser: Any, tmp_path: Path) -> None:
    """500 features: first paint under a second; 2,000 stay usable is measured by hand, not on a shared machine."""
    path = tmp_path / "report.html"
    path.write_text(render_report(ReportData.model_validate(make_report(500))), encoding="utf-8")
    paints = []
    for _ in range(3):  # the best of three: the machine may be busy with something else
        watched = Watched(browser, path).with_chart()
        paints.append(watched.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(paints) < 1000
    assert watched.page.locator(".row").count() < 60
    watched.page.keyboard.press("j")
    watched.page.wait_for_selector("#card .track")
    assert watched.trouble == []


def strip(raw: dict[str, Any]) -> dict[str, Any]:
    """A run in which every feature failed before it had anything to show."""
    for feature in raw["features"]:
        for key in ("score", "profile", "refinement", "facts", "windows", "explanation"):
            feature.pop(key, None)
        feature.update(state="failed", reason="refused", why=None, density=0.0, n_active=0, max=0.0, histogram=[])
    return raw


@pytest.mark.parametrize("raw", [make_report(0), make_report(3, n_dictionaries=1), strip(make_report(6))])
def test_poor_runs_show_what_they_have(browser: Any, tmp_path: Path, raw: dict[str, Any]) -> None:
    """Nothing scored, one dictionary, or no features at all: still a page, and still no error on it."""
    path = tmp_path / "report.html"
    path.write_text(render_report(ReportData.model_validate(raw)), encoding="utf-8")
    watched = Watched(browser, path)
    wait_until(watched.page, "document.querySelector('#scatter').childNodes.length > 0")
    watched.page.keyboard.press("j")
    if raw["features"]:
        watched.page.wait_for_selector("#card .card-body")
        assert "never active" in watched.page.inner_text("#card") or watched.page.locator("#card .histogram").count()
    assert count_shown(watched.page) == f"{len(raw['features'])} features"
    assert watched.trouble == []
