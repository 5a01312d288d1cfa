"""Per-dictionary summaries: the two means, their interval, the controls, and every feature accounted for.

Feature scores and outcomes flow in; a `DictionarySummary` flows out. Knows no store and no file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from autointerp.interpret.statistics import bootstrap_mean
from autointerp.records import Failed, Outcome, Record, Role, Skipped
from autointerp.scores import FeatureScore, Score

COUNTED_AS_ZERO = ("no_pattern", "constant_prediction")
"""Reasons that mean the explanation failed, so `counted` means take them as 0."""


class Means(Record):
    """A statistic over features, both ways."""

    mean: float | None
    """Over defined scores."""
    counted_mean: float | None
    """With `no_pattern` and `constant_prediction` as 0; other undefined scores excluded."""


class HeadlineMeans(Means):
    """The headline statistic over features."""

    median: float | None
    low: float | None
    high: float | None
    """95 % bootstrap interval over features of `counted_mean`."""


class DictionarySummary(Record):
    """What a run found of one dictionary; n_features = scored + undefined + failed + skipped."""

    role: Role
    n_features: int
    explained: int
    scored: int
    undefined: dict[str, int]
    failed: dict[str, int]
    skipped: dict[str, int]
    protocol: str
    n_windows: int
    spearman: HeadlineMeans
    lookup: Means
    shuffled: Means
    n_tokens: int
    l0: float | None
    """Mean number of active features a token; None for bare records."""
    density: float | None
    """Median over the dictionary's live features."""
    n_alive: int
    """Features of the dictionary active at least once on `n_tokens`."""


def counted(score: Score) -> float | None:
    """A score as comparisons count it: its value, 0 where the explanation failed, None where excluded."""
    if score.undefined in COUNTED_AS_ZERO:
        return 0.0
    return score.value


def counted_values(scores: Sequence[Score]) -> Float[np.ndarray, " n"]:
    """The counted values of scores, excluded ones left out."""
    return np.array([value for value in map(counted, scores) if value is not None])


def summarise(
    role: Role,
    features: Sequence[int],
    scores: Sequence[FeatureScore],
    ended: Mapping[int, Outcome],
    *,
    explained: int,
    protocol: str,
    n_windows: int,
    n_tokens: int,
    l0: float | None,
    density: float | None,
    n_alive: int,
    seed: int,
) -> DictionarySummary:
    """Account for every asked feature: its score, or how its last step ended (`ended`)."""
    asked = set(features)
    scores = [score for score in scores if score.feature.index in asked]
    others = [ended[index] for index in sorted(asked - {score.feature.index for score in scores})]
    headline = [score.spearman for score in scores]
    return DictionarySummary(
        role=role,
        n_features=len(asked),
        explained=explained,
        scored=sum(score.value is not None for score in headline),
        undefined=_tally(score.undefined for score in headline if score.undefined),
        failed=_tally(outcome.reason for outcome in others if isinstance(outcome, Failed)),
        skipped=_tally(outcome.reason for outcome in others if isinstance(outcome, Skipped)),
        protocol=protocol,
        n_windows=n_windows,
        spearman=_headline(headline, seed),
        lookup=_means([score.lookup for score in scores]),
        shuffled=_means([score.shuffled for score in scores]),
        n_tokens=n_tokens,
        l0=None if l0 is None else round(l0, 4),
        density=density,
        n_alive=n_alive,
    )


def _tally(reasons: object) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))  # type: ignore[call-overload]


def _means(scores: Sequence[Score]) -> Means:
    defined = [score.value for score in scores if score.value is not None]
    values = counted_values(scores)
    return Means(mean=_mean(np.array(defined)), counted_mean=_mean(values))


def _headline(scores: Sequence[Score], seed: int) -> HeadlineMeans:
    means = _means(scores)
    defined = [score.value for score in scores if score.value is not None]
    values = counted_values(scores)
    low, high = bootstrap_mean(values, seed) if len(values) > 1 else (None, None)
    return HeadlineMeans(
        mean=means.mean,
        counted_mean=means.counted_mean,
        median=round(float(np.median(defined)), 6) if defined else None,
        low=round(low, 6) if low is not None else None,
        high=round(high, 6) if high is not None else None,
    )


def _mean(values: Float[np.ndarray, " n"]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
