"""What the page unpacks is what was packed: a second, independent reading of the chunks."""

import json

import pytest

from autointerp.report import pack
from autointerp.report.data import FeatureEntry, ReportData, ReportWindow
from autointerp.report.pack import FEATURES_PER_CHUNK, TextStore, make_chunks, to_json
from autointerp.report.text import fixed, interval, share, visible
from tests.unit.report.synthetic import make_report
from tests.unit.report.unpacked import check_windows, inflate, text_at, unpack


@pytest.mark.parametrize("targets", [True, False])
def test_windows_survive_packing(targets: bool) -> None:
    """A cursor that slips by one shows every later window with its neighbour's levels."""
    features = ReportData.model_validate(make_report(40, targets=targets)).features
    store = TextStore([window for feature in features for window in feature.windows])
    blocks = [inflate(block).split("\n") for block in store.blocks()]
    for number, chunk in enumerate(make_chunks(features, store)):
        first = number * FEATURES_PER_CHUNK
        groups = [feature.windows for feature in features[first : first + FEATURES_PER_CHUNK]]
        check_windows(groups, unpack(chunk), store.starts, blocks)


def window(row: int, start: int, tokens: list[str]) -> ReportWindow:
    levels = [0] * len(tokens)
    return ReportWindow.model_validate(
        {"part": "explain", "stratum": "top", "document": f"d{row}", "row": row, "start": start, "tokens": tokens,
         "levels": levels, "activations": levels}
    )  # fmt: skip


def test_text_that_windows_share_is_stored_once() -> None:
    """Hundreds of features show the same pages; storing each window's text makes the file several times larger."""
    windows = [window(0, 3, list("defg")), window(0, 0, list("abcde")), window(1, 4, list("ab")), window(0, 1, ["b"])]
    store = TextStore(windows)
    assert "".join(store.tokens) == "abcdefgab"
    assert [store.at(w) for w in windows] == [3, 0, 7, 1]
    assert TextStore([window(0, k, [token]) for k, token in enumerate("xyz")]).tokens == ["x", "y", "z"]


def test_windows_that_disagree_keep_their_own_text() -> None:
    """Two runs' text at one place must not overwrite each other."""
    first, second = window(0, 0, list("abc")), window(0, 1, list("xy"))
    store = TextStore([first, second])
    for each in (first, second):
        assert tuple(store.tokens[store.at(each) :][: len(each.tokens)]) == each.tokens


def test_a_window_lies_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window cut in two by a block's end would show half its text."""
    monkeypatch.setattr(pack, "TOKENS_PER_BLOCK", 4)
    windows = [window(k, 0, list("abc")) for k in range(5)]
    store = TextStore(windows)
    assert store.starts == [0, 6, 12]
    blocks = [inflate(block).split("\n") for block in store.blocks()]
    assert all(text_at(store.starts, blocks, store.at(w), 3) == list("abc") for w in windows)


def test_negative_and_unlevelled_activations_keep_their_place() -> None:
    """An activation below zero has level 0, so levels alone do not say where activations are."""
    raw = make_report(4)
    negative = {
        "part": "score",
        "stratum": "uniform",
        "document": "d",
        "tokens": ["a", "b", "c"],
        "levels": [0, 3, 0],
        "activations": [-1.5, 2.0, 0.0],
    }
    feature = FeatureEntry.model_validate({**raw["features"][0], "windows": [negative, {**negative, "target": 0}]})
    packed = unpack(next(make_chunks([feature], TextStore(feature.windows))))
    assert packed["silent"] == ["110", "1"]
    assert packed["activations"] == [-1.5, 2.0, -1.5]


def test_json_cannot_close_its_script() -> None:
    assert "<" not in to_json(["</script><!--"])
    assert json.loads(to_json(["</script>\u2028"])) == ["</script>\u2028"]


def test_hidden_characters_become_visible() -> None:
    assert visible("plain «ünïcode»") == "plain «ünïcode»"
    assert visible("a\u202eb\x00\ud800\n") == "a\\u{202E}b\\u{0}\\u{D800}\\u{A}"


def test_numbers() -> None:
    assert fixed(-0.123) == "\u22120.12"
    assert fixed(-0.001) == "0.00"
    assert fixed(-0.001, sign=True) == "+0.00"
    assert fixed(0.5, sign=True) == "+0.50"
    assert fixed(None) == "–"
    assert interval(0.1, None) == ""
    assert interval(-0.1, 0.2) == "[\u22120.10, 0.20]"
    assert share(0.0) == "0"
    assert share(0.00123) == "0.12 %"
    assert share(0.25) == "25 %"
    assert share(0.00001234) == "1.2e\u22125"
