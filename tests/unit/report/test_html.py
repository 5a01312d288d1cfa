"""The report as text: complete, small, closed to the network, and deaf to hostile tokens."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from autointerp.report.data import ReportData
from autointerp.report.html import FOLDER, read_charts, render_report
from autointerp.report.text import fixed, interval
from tests.unit.report.outline import HIDDEN, check_closed, check_policy, outline
from tests.unit.report.synthetic import make_report


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    return make_report(60)


@pytest.fixture(scope="module")
def html(raw: dict[str, Any]) -> str:
    return render_report(ReportData.model_validate(raw))


def test_every_feature_and_summary_is_readable_without_scripts(raw: dict[str, Any], html: str) -> None:
    """A report whose numbers exist only after a script ran cannot be read in a mail or a diff."""
    text = outline(html).text
    for feature in raw["features"]:
        assert f"{feature['dictionary']}/{feature['index']}" in text
        if feature.get("reason"):
            assert feature["reason"].replace("_", " ") in text
    for finding in raw["run"]["findings"]:
        assert finding in text
    for dictionary in raw["dictionaries"]:
        assert f"{dictionary['summary']['spearman']['counted_mean']:.2f}" in text


def test_nothing_in_the_file_asks_for_another(html: str) -> None:
    """One `src`, `link` or `@import` left in makes the report call home from a reader's machine."""
    parsed = check_closed(html)
    own = "\n".join(path.read_text(encoding="utf-8") for path in sorted((FOLDER / "app").glob("*.js")))
    addresses = re.findall(r"https?://[^\"'\s]+", own + parsed.scripts["style"])
    assert set(addresses) <= {"https://vega.github.io/schema/vega-lite/v6.json"}  # a name of a format, never fetched


def test_policy_forbids_requests_and_other_scripts(html: str) -> None:
    """The second wall: a token that became markup would still find every script and request refused."""
    check_policy(html)


def test_hostile_text_stays_text(html: str) -> None:
    """Token texts come from anybody's corpus: no markup, no control and no direction marks reach the page raw."""
    parsed = outline(html)
    assert not HIDDEN.search(html)
    inline = [tag for tag, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    assert inline == []
    kinds = [attributes.get("type") for tag, attributes in parsed.elements if tag == "script"]
    assert kinds.count(None) == 1
    assert '<script>alert("x")</script> "onload=alert(1) \\u{202E}evil' in parsed.text


def test_rows_are_json_and_complete(raw: dict[str, Any], html: str) -> None:
    rows = json.loads(outline(html).scripts["data"])["rows"]
    assert [row[1] for row in rows] == [feature["index"] for feature in raw["features"]]
    for row, feature in zip(rows, raw["features"], strict=True):
        score = (feature.get("score") or {}).get("spearman", {})
        assert (row[13][0] is None) == (score.get("value") is None)
        if row[13][0] is not None:
            wanted = [score[key] for key in ("value", "low", "high", "null_threshold", "ceiling")]
            assert row[13] == pytest.approx(wanted, abs=1e-4)
            assert row[14][0] == pytest.approx(feature["score"]["lookup"]["value"], abs=1e-4)


def test_five_hundred_features_stay_under_three_megabytes() -> None:
    html = render_report(ReportData.model_validate(make_report(500)))
    assert len(html.encode()) < 3_000_000


def test_every_mean_has_its_interval_and_absent_ones_say_why(raw: dict[str, Any], html: str) -> None:
    """A control's mean without its interval cannot be compared, and one that was not measured is no 0."""
    text = " ".join(outline(html).text.split())
    for dictionary in raw["dictionaries"]:
        summary = dictionary["summary"]
        for name in ("spearman", "lookup", "bigram", "position", "shuffled", "constant"):
            means = summary[name]
            assert f"{fixed(means['counted_mean'])} {interval(means['low'], means['high'])}" in text
        assert f"null {fixed(summary['null_threshold'])}" in text
        for split in summary["splits"].values():
            assert f"{fixed(split['counted_mean'])} {interval(split['low'], split['high'])}{split['n']}" in text
    absent = {"mean": None, "counted_mean": None}
    summary = {**raw["dictionaries"][0]["summary"], "bigram": absent}
    dictionaries = [{**raw["dictionaries"][0], "summary": summary}, *raw["dictionaries"][1:]]
    no_table = {"metric": "spearman", "value": None, "undefined": "no_table", "n_windows": 0}
    features = [{**f, "score": f.get("score") and {**f["score"], "bigram": no_table}} for f in raw["features"]]
    html = render_report(ReportData.model_validate({**raw, "dictionaries": dictionaries, "features": features}))
    poorer = " ".join(outline(html).text.split())
    assert "Bigram look-up no table" in poorer


def test_same_data_same_file(raw: dict[str, Any], html: str) -> None:
    assert render_report(ReportData.model_validate(raw)) == html


def test_report_without_features_still_renders() -> None:
    """A run that stopped before its first score still has a report that says so."""
    raw = make_report(0)
    text = outline(render_report(ReportData.model_validate(raw))).text
    assert "How good are the explanations" in text
    assert "–" in text


def test_charts_carry_their_licences() -> None:
    charts = read_charts()
    for name in ("vega 6", "vega-lite 6", "vega-embed 7", "d3-scale"):
        assert name in charts[:30_000]
    assert "Redistributions in binary form" in charts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "scored", "reason": None, "score": None}, "is scored and its score None"),
        ({"state": "failed", "reason": None, "score": None}, "without a reason"),
        ({"dictionary": "unknown"}, "belongs to no dictionary"),
        ({"density": float("nan")}, "finite number"),
    ],
)
def test_nonsense_is_refused(raw: dict[str, Any], change: dict[str, Any], message: str) -> None:
    """Undefined is a state with a reason: never 0, never NaN, never a score without a value."""
    feature = {**next(f for f in raw["features"] if f["state"] == "scored"), **change}
    with pytest.raises(ValidationError, match=message):
        ReportData.model_validate({**raw, "features": [feature]})


def test_window_tracks_must_align(raw: dict[str, Any]) -> None:
    feature = next(f for f in raw["features"] if f["state"] == "scored")
    scored = next(w for w in feature["windows"] if w["part"] == "score")
    for window, message in (
        ({**scored, "target": None, "simulated": [1, 2]}, "other lengths"),
        ({**scored, "simulated": [1, 2]}, "2 levels for one target"),
        ({**scored, "levels": [1, 2]}, "other lengths"),
    ):
        with pytest.raises(ValidationError, match=message):
            ReportData.model_validate({**raw, "features": [{**feature, "windows": [window]}]})


def test_under_early_stopping_distributions_are_over_the_first_windows(raw: dict[str, Any]) -> None:
    """Which features go on depends on their scores: a mean of firsts over a distribution of ends fits neither."""
    feature = next(f for f in raw["features"] if f["state"] == "scored")
    first = {**feature["score"], "spearman": {**feature["score"]["spearman"], "value": -0.55, "low": -0.6, "high": 0.1}}
    open_one = {**feature, "score": {**feature["score"], "first": first, "n_windows": 120}}
    run = {**raw["run"], "protocol": {**raw["run"]["protocol"], "most_windows": 120}}
    data = ReportData.model_validate({**raw, "run": run, "features": [open_one]})
    page = outline(render_report(data))
    assert data.features[0].compared is not None
    assert data.features[0].compared.spearman.value == -0.55
    assert json.loads(page.scripts["data"])["low"] == -0.6
    assert json.loads(page.scripts["data"])["rows"][0][13][0] == pytest.approx(
        feature["score"]["spearman"]["value"], abs=1e-4
    )
    assert "the first 60 windows, which every feature has" in " ".join(page.text.split())
    assert "graded-60, 60 to 120 windows" in page.text


def test_what_the_dictionaries_do_stands_in_the_report(raw: dict[str, Any], html: str) -> None:
    """Scores of features say nothing of a dictionary that drops half of the model; a basis has no such figures.

    Of topk: loss recovered (8.5 - 2.48) / (8.5 - 2.5) against zero and (6.5 - 2.48) / (6.5 - 2.5) against the mean.
    """
    table = html[html.index('class="scores measures"') :]
    table = table[: table.index("</table>")]
    rows = {re.search(r"<b>(.*?)</b>", row).group(1): row for row in table.split("<tr>")[2:]}  # type: ignore[union-attr]
    assert set(rows) == {dictionary["id"] for dictionary in raw["dictionaries"]}
    for figure in ("16.0", "99 %", "0.820", "0.0198", "0.910", "1.003", "1.005", "2.50 to 2.48", "0.290"):
        assert figure in rows["topk"]
    assert "at 612,345 tokens" in rows["topk"]
    assert "cannot decode" in rows["neurons"]
    assert "not measured" in rows["neurons"]


def test_a_run_of_records_has_no_dictionary_to_measure(raw: dict[str, Any]) -> None:
    """An empty table would look like a dictionary that does nothing."""
    dictionaries = [{**d, "summary": {**d["summary"], "metrics": None}} for d in raw["dictionaries"]]
    assert "measures" not in render_report(ReportData.model_validate({**raw, "dictionaries": dictionaries}))
