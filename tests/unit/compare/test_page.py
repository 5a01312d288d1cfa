"""A comparison's page as text: complete, closed to the network, deaf to hostile text, and small."""

import json

import pytest

from autointerp.compare.data import BYS, GROUPS, Comparison, Contrast
from autointerp.compare.page import pack, words
from autointerp.compare.page.html import render_comparison
from autointerp.report.text import fixed, interval, visible
from tests.unit.compare.comparisons import (
    MISMATCH,
    SAID,
    by_explainer,
    make_comparison,
    with_features,
    with_nothing_to_rank,
)
from tests.unit.report.outline import HIDDEN, check_closed, check_policy, outline
from tests.unit.report.unpacked import check_windows, inflate, unpack


@pytest.fixture(scope="module")
def data() -> Comparison:
    return Comparison.model_validate(make_comparison())


@pytest.fixture(scope="module")
def html(data: Comparison) -> str:
    return render_comparison(data)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render_comparison(Comparison.model_validate(make_comparison(hostile=True, alike=False)))


def text_of(html: str) -> str:
    return " ".join(outline(html).text.split())


def test_every_figure_is_readable_without_scripts(data: Comparison, html: str) -> None:
    """A page whose numbers exist only after a script ran cannot be read in a mail or a diff."""
    text = text_of(html)
    for contrast in data.contrasts:
        assert contrast.sentence in text
        for note in contrast.notes:
            assert note in text
        differences = [contrast.groups[group] for group in GROUPS]
        differences += [contrast.lift, contrast.uniform, contrast.firing_weighted] if contrast.planned else []
        for each in differences:
            if each.value is not None:
                assert f"{fixed(each.value, sign=True)} {interval(each.low, each.high)}" in text
    for arm in data.arms:
        controls = (arm.controls["lookup"], arm.controls["shuffled"])
        for mean in (arm.standardised, arm.uniform, arm.firing_weighted, *controls):
            assert f"{fixed(mean.value)} {interval(mean.low, mean.high)}" in text
        for reason in (*arm.denominators.undefined, *arm.denominators.failed, *arm.denominators.skipped):
            assert reason.replace("_", " ") in text
    for pair in data.contrasts[0].differing:
        for side in (pair.a, pair.b):
            assert f"/{side.index}" in text
            assert " ".join((side.explanation or "").split()) in text
    for card in data.cards:
        assert card.activity is None or fixed(card.activity.l0, 1) in text
        assert all(visible(why) in text for why in card.missing.values())
    assert data.commands[0] in text


def test_the_verdict_comes_first(data: Comparison, html: str) -> None:
    """A reader who stops after the first screen must have read what came out."""
    text = text_of(html)
    first = "topk is easier to explain than relu."
    assert text.index(first) < text.index(data.contrasts[0].sentence) < text.index("How high are the scores")


def test_the_page_is_closed(html: str) -> None:
    """One address left in makes the page call home from a reader's machine."""
    check_closed(html)
    check_policy(html)
    assert "://" not in html


def test_hostile_text_stays_text(hostile: str) -> None:
    """Tokens, explanations and folders' names come from anybody: none of them may become markup or turn a line."""
    parsed = check_closed(hostile)
    assert not HIDDEN.search(hostile)
    assert not [tag for tag, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    scripts = [attributes.get("type") for tag, attributes in parsed.elements if tag == "script"]
    assert scripts.count(None) == 1
    assert "{{ 7*7 }}" not in parsed.text
    for said in (visible(SAID), MISMATCH, "<i onclick=alert(1)>relu</i>\\u{202E}"):
        assert said in parsed.text
    assert parsed.scripts["data"].count("<") == 0


def test_every_table_is_marked_where_runs_are_not_alike(html: str, hostile: str) -> None:
    """A table copied out of the page must carry the mark with it."""
    for page, marked in ((html, False), (hostile, True)):
        tables = page.split("<table")[1:]
        assert len(tables) >= 8
        assert all(("Not alike" in table.split("</caption>")[0]) is marked for table in tables)
    assert "These runs are not alike" in text_of(hostile)
    assert "not alike" not in text_of(html).lower()


def test_what_cannot_be_ranked_has_no_number(hostile: str) -> None:
    """A missing difference that is drawn at 0 reads as no difference."""
    data = Comparison.model_validate(with_nothing_to_rank())
    html = render_comparison(data)
    text = text_of(html)
    assert "cannot be ranked" in text
    assert "no shared densities" in text
    assert "bare records hold the text of single features" in text
    assert "gapfigure" not in html.split("</style>")[1]
    assert (data.contrasts[0].no_pairing or "never") in text
    assert "tertiles at" not in text
    assert "Not known for neurons." in text


def test_explainers_are_compared_feature_by_feature() -> None:
    """Words about dictionaries and shared densities would be wrong of one dictionary explained twice."""
    data = Comparison.model_validate(by_explainer())
    text = text_of(render_comparison(data))
    assert "topk explains better than openai:some-model" in text
    assert "features have a score both ways, on the same windows." in text
    assert "which explainer scores higher?" in text
    assert "give up something else" not in text
    assert "which alone the verdict speaks of" not in text
    assert "Level in strata" not in text.split("How this was done")[0]
    assert "Same features" in text
    assert "Not in these runs" not in text


@pytest.mark.parametrize("by", BYS)
def test_plain_words_have_the_right_sign_and_no_statistics(data: Comparison, by: str) -> None:
    """`harder` under an `above`, or a gap with its sign turned, would be read by most and doubted by none."""
    contrast = next(c for c in data.contrasts if c.verdict == "above")
    above = contrast.model_copy(update={"by": by})
    turned = {"verdict": "below", "difference": -0.06, "low": -0.09, "high": -0.03}
    below = above.model_copy(update=turned)
    assert words.headline(above) != words.headline(below)
    for each in (above, below):
        assert "{a}" in words.headline(each)
        assert not any(digit in words.headline(each) for digit in "0123456789")
    assert "0.06 lower" in words.meaning(below)
    assert "from 0.03 to 0.09" in words.meaning(below)
    assert f"{fixed(above.difference)} higher" in words.meaning(above)


def test_an_interval_without_0_that_several_contrasts_explain_is_told_so(data: Comparison) -> None:
    """Holm's correction can leave a verdict open where the interval alone would not."""
    update = {"verdict": "not_separable", "difference": 0.05, "low": 0.01, "high": 0.09, "family": 6}
    contrast: Contrast = data.contrasts[0].model_copy(update=update)
    assert "6 contrasts looked at together" in words.meaning(contrast)
    assert "fits as well" in words.meaning(contrast.model_copy(update={"low": -0.01}))


def test_windows_and_features_survive_packing(data: Comparison) -> None:
    """Side b's windows under side a's explanation would show the wrong feature's failures."""
    pairs = pack.pairs_of([c for c in data.contrasts if c.planned])
    assert len(pairs) == 6
    store = pack.text_of(pairs)
    blocks = [inflate(block).split("\n") for block in store.blocks()]
    groups = [side.windows for pair in pairs for side in (pair.a, pair.b)]
    for number, chunk in enumerate(pack.make_chunks(pairs, store)):
        first = 2 * pack.PAIRS_PER_CHUNK * number
        check_windows(groups[first : first + 2 * pack.PAIRS_PER_CHUNK], unpack(chunk), store.starts, blocks)
    for arm in data.arms:
        index, density, value, lookup = unpack(pack.make_points(arm))
        assert tuple(index) == arm.points.index
        assert density == pytest.approx(arm.points.density, rel=1e-3)
        assert value == pytest.approx(arm.points.value, rel=5e-3)
        assert [v is None for v in lookup] == [v is None for v in arm.points.lookup]


def test_many_features_stay_small() -> None:
    """200 pairs opened to their text and 4,000 dots take a tenth of what 2,000 features may."""
    html = render_comparison(Comparison.model_validate(with_features(800, 200)))
    assert len(html.encode()) < 2_000_000
    assert html.count('class="pair"') == 203


def test_axes_in_the_page_are_those_of_the_dots(html: str, data: Comparison) -> None:
    """The tip of a feature is found by the axes in the data; other ones than the dots' would name another feature."""
    axes = json.loads(outline(html).scripts["data"])["axes"]
    densities = [d for arm in data.arms for d in arm.points.density]
    assert 10 ** axes["low"] < min(densities)
    assert 10 ** axes["high"] > max(densities)
    assert axes["top"] == 1.0
