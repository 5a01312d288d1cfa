"""Features as the page carries them: one short row each at once, everything else in compressed chunks.

Feature entries flow in, JSON text and base64 of zlib streams flow out; `app/store.js` is the inverse. Within a chunk
like stands by like (all tokens, then all levels), which is what makes two thousand features fit into one file.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence

from autointerp.report.data import DictionaryEntry, FeatureEntry, ReportWindow, WithInterval
from autointerp.report.text import one_line, visible

FEATURES_PER_CHUNK = 16
LEVEL_DIGITS = "0123456789a"


def to_json(value: object) -> str:
    """Compact JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def deflate(text: str) -> str:
    """Base64 of the zlib stream of a text's UTF-8."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def short(value: float | None, digits: int = 4) -> float | None:
    """A number with few significant digits, which is all the page shows."""
    return None if value is None else float(f"{value:.{digits}g}")


def make_rows(features: Sequence[FeatureEntry], dictionaries: Sequence[DictionaryEntry]) -> list[list[object]]:
    """What sorting, filtering, searching and the table need of each feature, in the order `app/store.js` names."""
    place = {dictionary.id: position for position, dictionary in enumerate(dictionaries)}
    return [_row(feature, place[feature.dictionary]) for feature in features]


def _row(feature: FeatureEntry, dictionary: int) -> list[object]:
    rho = feature.spearman
    return [
        dictionary,
        feature.index,
        feature.state,
        feature.reason and visible(feature.reason),
        feature.why and one_line(feature.why),
        feature.explanation and one_line(feature.explanation),
        feature.author and visible(feature.author),
        int(feature.no_pattern),
        short(feature.density),
        feature.n_active,
        short(feature.max),
        [*_interval(rho), short(rho.null_threshold), short(rho.ceiling)],
        short(feature.lookup),
        _interval(feature.lift),
        short(feature.shuffled),
    ]


def _interval(value: WithInterval) -> list[float | None]:
    return [short(value.value), short(value.low), short(value.high)]


def make_chunks(features: Sequence[FeatureEntry]) -> Iterator[str]:
    """Compressed details, `FEATURES_PER_CHUNK` features at a time, in the order of the rows."""
    for start in range(0, len(features), FEATURES_PER_CHUNK):
        chunk = features[start : start + FEATURES_PER_CHUNK]
        yield deflate(json.dumps(_chunk(chunk), ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _chunk(features: Sequence[FeatureEntry]) -> dict[str, object]:
    windows = [window for feature in features for window in feature.windows]
    documents = list(dict.fromkeys(visible(window.document) for window in windows))
    place = {name: position for position, name in enumerate(documents)}
    return {
        "facts": [_facts(feature) for feature in features],
        "documents": documents,
        "windows": [[_head(window, place) for window in feature.windows] for feature in features],
        "tokens": "\n".join(visible(token) for window in windows for token in window.tokens),
        "levels": "".join(LEVEL_DIGITS[level] for window in windows for level in window.levels),
        "simulated": "".join(LEVEL_DIGITS[level] for window in windows for level in window.simulated or ()),
        "silent": [_silent(window) for window in windows if _silent(window)],
        "activations": [short(a) for window in windows for a in window.activations if a],
    }


def _facts(feature: FeatureEntry) -> dict[str, object]:
    facts = feature.facts
    return {
        "more": [short(feature.more.pearson), short(feature.more.spearman_window_mean)],
        "shuffledFrom": feature.shuffled_from and visible(feature.shuffled_from),
        "histogram": feature.histogram,
        "deciles": [short(edge) for edge in feature.deciles],
        "norm": short(facts.decoder_norm),
        "cosine": short(facts.encoder_decoder_cosine),
        "near": [[index, short(cosine, 3)] for index, cosine in facts.neighbours],
        "top": [[visible(token), short(weight, 3)] for token, weight in facts.top_outputs],
        "bottom": [[visible(token), short(weight, 3)] for token, weight in facts.bottom_outputs],
    }


def _head(window: ReportWindow, place: dict[str, int]) -> list[object]:
    return [
        window.part[0],
        window.stratum,
        window.decile or 0,
        place[visible(window.document)],
        len(window.tokens),
        int(window.simulated is not None),
        int(bool(_silent(window))),
    ]


def _silent(window: ReportWindow) -> str:
    """A digit per token, 1 where it has an activation; empty where levels already say which have one."""
    active = [activation != 0 for activation in window.activations]
    if active == [level > 0 for level in window.levels]:
        return ""
    return "".join(str(int(a)) for a in active)
