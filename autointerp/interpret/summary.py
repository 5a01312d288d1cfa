"""Per-dictionary summaries: the two means, their interval, the controls, and every feature accounted for.

Feature scores and outcomes flow in; a `DictionarySummary` flows out. Knows no store and no file.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from autointerp.interpret.statistics import bootstrap_mean
from autointerp.metrics import DictionaryMetrics
from autointerp.records import Failed, Outcome, Record, Refinement, Role, Skipped, Usage
from autointerp.scores import FeatureScore, Score

COUNTED_AS_ZERO = ("no_pattern", "constant_prediction")
"""Reasons that mean the explanation failed, so `counted` means take them as 0."""

LEAST_FOR_INTERVAL = 10
"""Features below which a mean over features has no interval: a bootstrap of two runs from the one to the other, and
says of a judge without skill that it has some."""

CONTROLS = ("lookup", "bigram", "position", "constant", "shuffled")
"""The fields of a `FeatureScore` that hold a control's Spearman."""


class Means(Record):
    """A statistic over features, both ways."""

    mean: float | None
    """Over defined scores."""
    counted_mean: float | None
    """With `no_pattern` and `constant_prediction` as 0; other undefined scores excluded."""
    low: float | None = None
    high: float | None = None
    """95 % bootstrap interval over features of `counted_mean`; None below `LEAST_FOR_INTERVAL` of them."""
    n: int = 0
    """Features that `counted_mean` is over."""

    @model_validator(mode="before")
    @classmethod
    def _without_few(cls, values: object) -> object:
        """Summaries that were written when two features had an interval have none here either."""
        if isinstance(values, dict) and 0 < values.get("n", 0) < LEAST_FOR_INTERVAL:
            return {**values, "low": None, "high": None}
        return values


class HeadlineMeans(Means):
    """The headline statistic over features; None throughout where no feature has a score."""

    median: float | None

    @model_validator(mode="before")
    @classmethod
    def _without_none(cls, values: object) -> object:
        """Zeros that stand for failed explanations alone are no mean score."""
        if isinstance(values, dict) and values.get("mean") is None:
            return {**values, "counted_mean": None, "low": None, "high": None}
        return values


class RefinementSummary(Record):
    """What showing explanations their errors came to."""

    asked: int
    """Explanations for which a revision came."""
    kept: int
    """Revisions that were better on the select part."""
    gain: float | None
    """Mean gain in Spearman on the score part over all explanations asked, unkept revisions counting as 0."""
    low: float | None
    high: float | None
    """95 % bootstrap interval over features of `gain`; None below `LEAST_FOR_INTERVAL` of them."""
    usage: Usage


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
    """Windows a feature where all strata are full; under `graded-ci` the fewest."""
    spearman: HeadlineMeans
    null_threshold: float | None = None
    """Mean over features of the 95 % point of their scores without any explanation."""
    lookup: Means
    bigram: Means = Means(mean=None, counted_mean=None)
    position: Means = Means(mean=None, counted_mean=None)
    constant: Means = Means(mean=None, counted_mean=None)
    shuffled: Means
    statistics: dict[str, float] = Field(default_factory=dict)
    """Mean over scored features of every further statistic."""
    false_positives: dict[str, float] = Field(default_factory=dict)
    """Mean false positives per 1,000 tokens of `random`, `hard` and `guided` text."""
    hit_rate: float | None = None
    specificity_untested: int = 0
    """Scored features with fewer than 10 answered hard negatives."""
    splits: dict[str, Means] = Field(default_factory=dict)
    """Spearman by the single-token flag and by tertile of token entropy."""
    why: dict[str, int] = Field(default_factory=dict)
    """Why scores are low, counted."""
    windows_asked: int = 0
    windows_saved: int = 0
    """Windows simulated for the headline, and left unasked because a score was clear before."""
    refinement: RefinementSummary | None = None
    n_tokens: int
    l0: float | None
    """Mean number of active features a token; None for bare records."""
    density: float | None
    """Median over the dictionary's live features."""
    n_alive: int
    """Features of the dictionary active at least once on `n_tokens`."""
    metrics: DictionaryMetrics | None = None
    """What the dictionary does over the whole harvest; None for bare records."""
    loss_recovered_zero: float | None = None
    """Loss recovered against zero ablation; None where it was not measured or zeroing costs nothing."""
    loss_recovered_mean: float | None = None


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
    refinements: Mapping[int, Refinement],
    seed: int,
    metrics: DictionaryMetrics | None = None,
) -> DictionarySummary:
    """Account for every asked feature: its score, or how its last step ended (`ended`)."""
    asked = set(features)
    scores = [score for score in scores if score.feature.index in asked]
    others = [ended[index] for index in sorted(asked - {score.feature.index for score in scores})]
    firsts = [score.first or score for score in scores]
    headline = [score.spearman for score in firsts]
    return DictionarySummary(
        role=role,
        n_features=len(asked),
        explained=explained,
        scored=sum(score.value is not None for score in headline),
        undefined=_tally(score.undefined for score in headline if score.undefined),
        **_reasons(others),
        protocol=protocol,
        n_windows=n_windows,
        spearman=_headline(headline, seed),
        null_threshold=_mean(_present(score.spearman.null_threshold for score in firsts)),
        **{name: _means([getattr(score, name) for score in firsts], seed) for name in CONTROLS},
        statistics=_statistics(firsts),
        false_positives=_false_positives(firsts),
        hit_rate=_mean(_present(score.hit_rate for score in firsts)),
        specificity_untested=sum(s.specificity_untested for s in firsts if s.spearman.value is not None),
        splits=_splits(firsts, seed),
        why=_tally(score.why for score in scores if score.why),
        windows_asked=sum(score.n_windows for score in scores),
        windows_saved=sum(score.n_saved for score in scores),
        refinement=_refinement(scores, refinements, seed),
        n_tokens=n_tokens,
        l0=None if l0 is None else round(l0, 4),
        density=density,
        n_alive=n_alive,
        **_measures(metrics),
    )


class _Reasons(TypedDict):
    failed: dict[str, int]
    skipped: dict[str, int]


def _reasons(others: Sequence[Outcome]) -> _Reasons:
    return {
        "failed": _tally(outcome.reason for outcome in others if isinstance(outcome, Failed)),
        "skipped": _tally(outcome.reason for outcome in others if isinstance(outcome, Skipped)),
    }


class _Measures(TypedDict):
    metrics: DictionaryMetrics | None
    loss_recovered_zero: float | None
    loss_recovered_mean: float | None


def _measures(metrics: DictionaryMetrics | None) -> _Measures:
    loss = metrics.loss if metrics else None
    return {
        "metrics": metrics,
        "loss_recovered_zero": loss.recovered_zero if loss else None,
        "loss_recovered_mean": loss.recovered_mean if loss else None,
    }


def _tally(reasons: object) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))  # type: ignore[call-overload]


def _means(scores: Sequence[Score], seed: int) -> Means:
    defined = [score.value for score in scores if score.value is not None]
    values = counted_values(scores)
    low, high = _interval(values, seed)
    return Means(mean=_mean(np.array(defined)), counted_mean=_mean(values), low=low, high=high, n=len(values))


def _interval(values: Float[np.ndarray, " n"], seed: int) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of the mean; none below `LEAST_FOR_INTERVAL` values."""
    if len(values) < LEAST_FOR_INTERVAL:
        return None, None
    low, high = bootstrap_mean(values, seed)
    return round(low, 6), round(high, 6)


def _present(values: Iterable[float | None]) -> Float[np.ndarray, " n"]:
    return np.array([value for value in values if value is not None])


def _statistics(scores: Sequence[FeatureScore]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for score in scores:
        for more in score.more:
            if more.value is not None:
                found.setdefault(more.metric, []).append(more.value)
    return {name: round(float(np.mean(values)), 6) for name, values in sorted(found.items())}


def _false_positives(scores: Sequence[FeatureScore]) -> dict[str, float]:
    kinds = sorted({kind for score in scores for kind in score.false_positives})
    means = {kind: _mean(_present(score.false_positives.get(kind) for score in scores)) for kind in kinds}
    return {kind: mean for kind, mean in means.items() if mean is not None}


def _splits(scores: Sequence[FeatureScore], seed: int) -> dict[str, Means]:
    """Means by the single-token flag, and by tertile of token entropy over the features with a score or a counted 0."""
    known = [(score.spearman, score.profile) for score in scores if score.profile is not None]
    groups: dict[str, list[Score]] = {"single token": [], "several tokens": []}
    for spearman, profile in known:
        groups["single token" if profile.single_token else "several tokens"].append(spearman)
    order = sorted(known, key=lambda pair: pair[1].entropy_bits)
    for i, name in enumerate(("low entropy", "middle entropy", "high entropy")):
        groups[name] = [spearman for spearman, _ in order[i * len(order) // 3 : (i + 1) * len(order) // 3]]
    return {name: _means(group, seed) for name, group in groups.items() if group}


def _refinement(
    scores: Sequence[FeatureScore], refinements: Mapping[int, Refinement], seed: int
) -> RefinementSummary | None:
    if not refinements:
        return None
    gains = []
    for score in scores:
        refinement = refinements.get(score.feature.index)
        after, before = counted(score.spearman), counted(score.unrefined) if score.unrefined else None
        if refinement and not refinement.kept and after is not None:
            gains.append(0.0)
        elif refinement and after is not None and before is not None:
            gains.append(after - before)
    values = np.array(gains)
    low, high = _interval(values, seed)
    return RefinementSummary(
        asked=len(refinements),
        kept=sum(refinement.kept for refinement in refinements.values()),
        gain=_mean(values),
        low=low,
        high=high,
        usage=sum((refinement.usage for refinement in refinements.values()), Usage()),
    )


def _headline(scores: Sequence[Score], seed: int) -> HeadlineMeans:
    defined = [score.value for score in scores if score.value is not None]
    median = round(float(np.median(defined)), 6) if defined else None
    return HeadlineMeans(median=median, **_means(scores, seed).model_dump())


def _mean(values: Float[np.ndarray, " n"]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
