"""Twenty planted features, the text they fire on, and answer functions for a rehearsal server that know them.

A feature fires on one word, and harder where the word before it is "very". Its explanation says so; the oracle reads
that sentence and nothing else. Records come for both kinds of protocol: all tokens of a window scored, or one target.
"""

import json
import re
from collections.abc import Sequence

import numpy as np

from autointerp.format import level_edges, to_levels
from autointerp.interpret.oracle import ShownWindow, oracle
from autointerp.interpret.simulate import WINDOWS_A_REQUEST, Tokens
from autointerp.llm.answers import Answer, RequestBody
from autointerp.provenance import digest, generator
from autointerp.records import (
    ActivationRecord,
    Example,
    ExampleSplit,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    Stratum,
    Window,
)

N_FEATURES = 20
# fmt: off
WORDS = (
    " acorn", " badge", " cedar", " delta", " ember", " fjord", " grove", " haste", " inlet", " jolly",
    " kiosk", " ledge", " maple", " noble", " onion", " pearl", " quilt", " ridge", " stone", " tulip",
)
COMMON = (
    " the", " of", " a", " to", " in", " was", " it", " on", " by", " as", " at", " from", " very", " or", " an",
)
# fmt: on
N_WINDOWS = 20
WINDOW = 16
N_OF_THIRD = 20
"""Windows with a target of each kind: on the word, on any silent token, on the word's silent neighbours."""
N_SELECT_OF_THIRD = 10
TARGET_WINDOW = 32
WEAK, STRONG = 4, 9
_SENTENCE = re.compile(r'the word "(.+)", more strongly after "very"')


def explanation_of(feature: int) -> str:
    """The true explanation."""
    return f'the word "{WORDS[feature]}", more strongly after "very"'


def levels_of(explanation: str, tokens: Tokens) -> list[int] | None:
    """What someone who understands the sentence predicts."""
    match = _SENTENCE.fullmatch(explanation)
    if match is None:
        return None
    return [
        0 if token != match[1] else STRONG if previous == " very" else WEAK
        for previous, token in zip(["", *tokens], tokens, strict=False)
    ]


def rule_of(windows: Sequence[ShownWindow]) -> str | None:
    """The sentence about the word that carries most level."""
    totals: dict[str, int] = {}
    for tokens, levels in windows:
        for token, level in zip(tokens, levels, strict=True):
            totals[token] = totals.get(token, 0) + level
    best = max(totals, key=lambda token: totals[token])
    return explanation_of(WORDS.index(best)) if best in WORDS else None


truthful = oracle(levels_of, rule_of)


def garbled(body: RequestBody) -> Answer:
    """Something different and useless for every question, the same when it is asked again."""
    draw = generator("garbled", digest(body))
    texts = (
        "",
        "I think the levels are mostly zero, with a few sevens.",
        '{"1": 0, "2": 3',
        "1: 0\n2: 3\n2: 3",
        json.dumps({str(i): 5 for i in range(1, WINDOW + 1) if i != 5}),
        json.dumps([0] * WINDOW),
        "\t".join("0" * WINDOW),
        json.dumps({str(i): "high" for i in range(1, WINDOW + 1)}),
        json.dumps({str(i): 55 for i in range(1, WINDOW + 1)}),
        json.dumps({str(i): 55 for i in range(1, WINDOWS_A_REQUEST + 1)}),
        "\n".join(f"{i}: 0" for i in range(WINDOW, 0, -1)),
        "\n".join(f"{i}: 0" for i in range(WINDOWS_A_REQUEST, 0, -1)),
    )
    kind = int(draw.integers(len(texts) + 2))
    if kind == len(texts):
        return Answer("Explanation: the", finish_reason="length")
    if kind == len(texts) + 1:
        return Answer("", refusal="I cannot help with that.")
    return Answer(texts[kind])


def activations(feature: int, tokens: Tokens, seed: int) -> list[float]:
    """The true activations: zero off the word, noisy on it."""
    noise = generator("noise", feature, seed).uniform(0.8, 1.2, len(tokens))
    return [
        level * float(n) / 3 for level, n in zip(levels_of(explanation_of(feature), tokens) or [], noise, strict=True)
    ]


def windows_of(feature: int, part: str) -> list[tuple[str, ...]]:
    """Half of the windows hold the word, every other word turns up too."""
    windows = []
    for i in range(N_WINDOWS):
        draw = generator("text", feature, part, i)
        tokens = [str(token) for token in draw.choice([*COMMON, *WORDS], WINDOW)]
        if i % 2 == 0:
            place = int(draw.integers(1, WINDOW))
            tokens[place] = WORDS[feature]
            tokens[place - 1] = " very" if i % 4 == 0 else " the"
        windows.append(tuple(tokens))
    return windows


def marked_windows(feature: int, part: str, n: int) -> list[tuple[Window, Stratum]]:
    """n windows on the word, n on silent tokens, n on a silent neighbour of the word, in an order that mixes them."""
    windows: list[tuple[Window, Stratum]] = []
    kinds: tuple[Stratum, ...] = ("decile", "uniform", "hard-text")
    for i in range(3 * n):
        draw = generator("marked", feature, part, i)
        tokens = [str(token) for token in draw.choice([*4 * COMMON, *WORDS], TARGET_WINDOW)]
        place = int(draw.integers(TARGET_WINDOW // 4, TARGET_WINDOW - 1))
        kind = kinds[i % 3]
        if kind == "uniform":
            tokens[place] = " of" if tokens[place] == WORDS[feature] else tokens[place]
        else:
            tokens[place] = WORDS[feature]
            tokens[place - 1] = " very" if i % 2 else " the"
            tokens[place + 1] = " it"
        target = place if kind != "hard-text" else place + int(draw.choice([-1, 1]))
        windows.append((Window(tuple(tokens), target), kind))
    order = generator("marked", feature, part, "order").permutation(len(windows))
    return [windows[i] for i in order]


def feature_record(feature: int, design: str = "planted", *, targets: bool = False) -> FeatureRecord:
    """The planted feature with an explain and a score part; with targets, a select part as well."""
    chosen: dict[str, list[tuple[Window, Stratum]]] = {
        part: [(Window(tokens), "top") for tokens in windows_of(feature, part)] for part in ("explain", "score")
    }
    if targets:
        chosen["select"] = marked_windows(feature, "select", N_SELECT_OF_THIRD)
        chosen["score"] = marked_windows(feature, "score", N_OF_THIRD)
    values = {
        part: [activations(feature, window.tokens, i) for i, (window, _) in enumerate(windows)]
        for part, windows in chosen.items()
    }
    active = np.sort([a for rows in values.values() for row in rows for a in row if a > 0])
    edges = level_edges(active, np.ones(len(active), dtype=int))

    def examples(part: str) -> tuple[Example, ...]:
        return tuple(
            Example(
                record=ActivationRecord(tokens=window.tokens, activations=tuple(row), document=f"{part}-{i}", start=0),
                levels=tuple(to_levels(np.array(row), edges).tolist()),
                stratum=stratum,
                probability=1.0,
                verified=window.target is not None and row[window.target] == 0,
                target=window.target,
            )
            for i, ((window, stratum), row) in enumerate(zip(chosen.get(part, []), values.get(part, []), strict=True))
        )

    return FeatureRecord(
        feature=FeatureId(dictionary="planted", index=feature),
        design=design,
        level_rule="decile",
        level_edges=tuple(edges.tolist()),
        stats=FeatureStats(
            n_tokens=sum(len(row) for rows in values.values() for row in rows),
            n_active=len(active),
            max=float(active[-1]),
            mean_active=float(active.mean()),
            deciles=tuple(edges.tolist()),
            histogram=(),
        ),
        splits=ExampleSplit(
            explain=examples("explain"), select=examples("select"), calibrate=(), score=examples("score"), seed=0
        ),
    )
