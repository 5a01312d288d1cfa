"""What the page unpacks is what was packed: a second, independent reading of the chunks."""

import base64
import json
import zlib
from typing import Any

from autointerp.report.data import FeatureEntry, ReportData
from autointerp.report.pack import FEATURES_PER_CHUNK, make_chunks, to_json
from autointerp.report.text import fixed, interval, share, visible
from tests.unit.report.synthetic import make_report


def unpack(chunk: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(chunk)))


def test_windows_survive_packing() -> None:
    """A cursor that slips by one shows every later window with its neighbour's levels."""
    features = ReportData.model_validate(make_report(40)).features
    for number, chunk in enumerate(make_chunks(features)):
        packed = unpack(chunk)
        tokens = packed["tokens"].split("\n")
        levels, simulated = iter(packed["levels"]), iter(packed["simulated"])
        activations, masks = iter(packed["activations"]), iter(packed["silent"])
        place = 0
        first = number * FEATURES_PER_CHUNK
        for feature, heads in zip(features[first : first + FEATURES_PER_CHUNK], packed["windows"], strict=True):
            for window, (part, stratum, decile, document, n, is_simulated, is_masked) in zip(
                feature.windows, heads, strict=True
            ):
                assert (window.part[0], window.stratum, window.decile or 0) == (part, stratum, decile)
                assert visible(window.document) == packed["documents"][document]
                assert [visible(token) for token in window.tokens] == tokens[place : place + n]
                mine = [int(next(levels), 16) for _ in range(n)]
                assert mine == list(window.levels)
                if is_simulated:
                    assert [int(next(simulated), 16) for _ in range(n)] == list(window.simulated or ())
                mask = next(masks) if is_masked else "".join("1" if level else "0" for level in mine)
                for bit, activation in zip(mask, window.activations, strict=True):
                    assert (bit == "1") == (activation != 0)
                    if activation:
                        assert abs(next(activations) - activation) <= 1e-3 * abs(activation)
                place += n
        assert next(levels, None) is next(simulated, None) is next(activations, None) is None


def test_negative_and_unlevelled_activations_keep_their_place() -> None:
    """An activation below zero has level 0, so levels alone do not say where activations are."""
    raw = make_report(4)
    window = {
        "part": "score",
        "stratum": "uniform",
        "document": "d",
        "tokens": ["a", "b", "c"],
        "levels": [0, 3, 0],
        "activations": [-1.5, 2.0, 0.0],
    }
    feature = FeatureEntry.model_validate({**raw["features"][0], "windows": [window]})
    packed = unpack(next(make_chunks([feature])))
    assert packed["silent"] == ["110"]
    assert packed["activations"] == [-1.5, 2.0]


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
