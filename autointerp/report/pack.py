"""Features as the page carries them: one short row each at once, everything else in compressed chunks.

Feature entries flow in, JSON text and base64 of zlib streams flow out; `app/unpack.js` is the inverse. Text that
several windows share is carried once, and within a chunk like stands by like (all levels, then all activations), which
is what makes thousands of features fit into one file.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from autointerp.interpret.summary import CONTROLS
from autointerp.report.data import DictionaryEntry, FeatureEntry, ReportWindow
from autointerp.report.text import one_line, visible
from autointerp.scores import FeatureScore, Score

FEATURES_PER_CHUNK = 16
TOKENS_PER_BLOCK = 32_768
LEVEL_DIGITS = "0123456789a"
TEXTS = ("random", "hard", "guided")
"""Kinds of silent text on which false positives are counted."""
_ABSENT = Score(metric="spearman", value=None, undefined="not_measured", n_windows=0)


def to_json(value: object) -> str:
    """Compact JSON that may stand inside a script element."""
    return _json(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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
    score = feature.score
    rho, lift = (score.spearman, score.lift) if score else (_ABSENT, _ABSENT)
    return [
        dictionary,
        feature.index,
        feature.state,
        feature.reason and visible(feature.reason),
        score.why if score else None,
        feature.why and one_line(feature.why),
        feature.explanation and one_line(feature.explanation),
        feature.author and visible(feature.author),
        None if feature.profile is None else int(feature.profile.single_token),
        int(bool(score and rho.value is not None and score.specificity_untested)),
        short(feature.density),
        feature.n_active,
        short(feature.max),
        [*_interval(rho), short(rho.null_threshold), short(rho.ceiling)],
        _interval(score.lookup if score else _ABSENT),
        _interval(lift),
    ]


def _interval(value: Score) -> list[float | None]:
    return [short(value.value), short(value.low), short(value.high)]


class TextStore:
    """The text of all windows, each stretch once: rows of the corpus one after another, in compressed blocks.

    A row's windows hold the same tokens where they overlap; where they do not (no report of a run), each keeps its own.
    """

    def __init__(self, windows: Sequence[ReportWindow]) -> None:
        self.tokens: list[str] = []
        self._at: dict[tuple[int, int, tuple[str, ...]], int] = {}
        self._blocks = [0]
        order = {(w.row, w.start, w.tokens) for w in windows}
        row, begin, end = -1, 0, 0  # the stretch that ends the store so far: its row, and its first and last place
        for place in sorted(order):
            row_, start, tokens = place
            first = len(self.tokens) - (end - start)
            shared = self.tokens[first : first + len(tokens)] if row_ == row and begin <= start <= end else None
            if shared is None or shared != [visible(token) for token in tokens[: len(shared)]]:
                if len(self.tokens) - self._blocks[-1] >= TOKENS_PER_BLOCK:
                    self._blocks.append(len(self.tokens))
                row, begin, end, first, shared = row_, start, start, len(self.tokens), []
            self.tokens += [visible(token) for token in tokens[len(shared) :]]
            end = max(end, start + len(tokens))
            self._at[place] = first

    @property
    def starts(self) -> list[int]:
        """Number of the first token of each block."""
        return self._blocks

    def at(self, window: ReportWindow) -> int:
        """Number of a window's first token; all of them are in one block."""
        return self._at[window.row, window.start, window.tokens]

    def blocks(self) -> Iterator[str]:
        """Compressed blocks of tokens, one a line."""
        for first, last in zip(self._blocks, [*self._blocks[1:], len(self.tokens)], strict=True):
            yield deflate("\n".join(self.tokens[first:last]))


def make_chunks(features: Sequence[FeatureEntry], store: TextStore) -> Iterator[str]:
    """Compressed details, `FEATURES_PER_CHUNK` features at a time, in the order of the rows."""
    for start in range(0, len(features), FEATURES_PER_CHUNK):
        yield deflate(_json(_chunk(features[start : start + FEATURES_PER_CHUNK], store)))


def _chunk(features: Sequence[FeatureEntry], store: TextStore) -> dict[str, object]:
    packed = pack_windows([feature.windows for feature in features], store)
    return {"facts": [_facts(feature) for feature in features], **packed}


def pack_windows(groups: Sequence[Sequence[ReportWindow]], store: TextStore) -> dict[str, object]:
    """The windows of some features, one group each, column by column; `app/unpack.js` is the inverse."""
    windows = [window for group in groups for window in group]
    documents = list(dict.fromkeys(visible(window.document) for window in windows))
    place = {name: position for position, name in enumerate(documents)}
    heads = list(dict.fromkeys(_head(window) for window in windows))
    head = {kind: position for position, kind in enumerate(heads)}
    return {
        "documents": documents,
        "heads": [list(kind) for kind in heads],
        "windows": [[head[_head(window)] for window in group] for group in groups],
        "at": [store.at(window) for window in windows],
        "document": [place[visible(window.document)] for window in windows],
        "target": [window.target for window in windows if window.target is not None],
        "levels": "".join(LEVEL_DIGITS[level] for window in windows for level in window.levels),
        "simulated": "".join(LEVEL_DIGITS[level] for window in windows for level in window.simulated or ()),
        "silent": [_silent(window) for window in windows if _silent(window)],
        "activations": [short(a) for window in windows for a in _shown(window) if a],
    }


class _Head(NamedTuple):
    """What windows have in common with many others."""

    part: str
    stratum: str
    decile: int
    n: int
    has_target: int
    simulated: int
    masked: int


def _head(window: ReportWindow) -> _Head:
    return _Head(
        window.part[0],
        window.stratum,
        window.decile or 0,
        len(window.tokens),
        int(window.target is not None),
        int(window.simulated is not None),
        int(bool(_silent(window))),
    )


def _shown(window: ReportWindow) -> Sequence[float]:
    """Activations the page shows as numbers: the target's, or all."""
    return window.activations if window.target is None else (window.activations[window.target],)


def _silent(window: ReportWindow) -> str:
    """A digit per shown activation, 1 where there is one; empty where levels already say which have one."""
    active = [activation != 0 for activation in _shown(window)]
    levels = window.levels if window.target is None else (window.levels[window.target],)
    if active == [level > 0 for level in levels]:
        return ""
    return "".join(str(int(a)) for a in active)


def _facts(feature: FeatureEntry) -> dict[str, object]:
    facts, profile, refinement = feature.facts, feature.profile, feature.refinement
    return {
        "score": feature.score and _score(feature.score),
        "refinement": refinement
        and [
            one_line(refinement.before),
            int(refinement.kept),
            short(refinement.select_before),
            short(refinement.select_after),
            refinement.usage.calls,
        ],
        "profile": profile and [short(profile.entropy_bits), int(profile.single_token), profile.n_distinct],
        "histogram": feature.histogram,
        "deciles": [short(edge) for edge in feature.deciles],
        "norm": short(facts.decoder_norm),
        "cosine": short(facts.encoder_decoder_cosine),
        "near": [[index, short(cosine, 3)] for index, cosine in facts.neighbours],
        "top": [[visible(token), short(weight, 3)] for token, weight in facts.top_outputs],
        "bottom": [[visible(token), short(weight, 3)] for token, weight in facts.bottom_outputs],
    }


def _score(score: FeatureScore) -> dict[str, object]:
    """What the card shows of a score beyond its row."""
    return {
        "windows": [score.n_windows, score.n_saved],
        "first": score.first and [score.first.n_windows, *_interval(score.first.spearman)],
        "controls": {name: _control(getattr(score, name)) for name in CONTROLS},
        "shuffledFrom": score.shuffled_from and visible(str(score.shuffled_from)),
        "unrefined": score.unrefined and _control(score.unrefined),
        "ratio": short(score.lift_ratio),
        "lift": score.lift.undefined,
        "recall": [short(share, 3) for share in score.recall_by_decile],
        "alarms": [short(score.false_positives.get(kind)) for kind in TEXTS],
        "tempted": [short(score.hit_rate), score.n_hard],
        "more": [[more.metric, short(more.value)] for more in score.more],
    }


def _control(score: Score) -> list[object]:
    return [*_interval(score), short(score.null_threshold), score.undefined]
