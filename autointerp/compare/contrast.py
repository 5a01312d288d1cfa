"""One contrast between two arms: everything that is computed of it, on arrays.

Two arms' features and how they pair flow in, a `Contrast` flows out; then the family's p-values are corrected together.
The unit is the feature throughout; scores play no part in choosing strata or pairs. Knows no run and no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.compare.bootstrap import (
    ALPHA,
    N_BESIDE,
    N_BOOTSTRAP,
    Resampled,
    plain_mean,
    stratified_mean,
    weighted_mean,
)
from autointerp.compare.data import (
    GROUPS,
    By,
    Contrast,
    Difference,
    Estimate,
    Group,
    NoEstimate,
    Pairing,
    StratumRow,
)
from autointerp.compare.features import Column, Features
from autointerp.compare.permutation import N_PERMUTATION, holm, permutation_p, sign_flip_p
from autointerp.compare.power import features_needed_at
from autointerp.compare.strata import LEAST_IN_STRATUM, PER_DECADE, Strata, common_strata, level_out
from autointerp.compare.verdict import notes_on, sentence_of, verdict_of
from autointerp.provenance import generator

LEAST_FEATURES = 20
"""Features of each arm inside the common support, or pairs, below which nothing is ranked."""


@dataclass(frozen=True)
class Pairs:
    """Which features of two arms are the same one."""

    same_feature: bool
    """One dictionary's features, scored two ways; else matched between two dictionaries."""
    rows_a: Int[np.ndarray, " pair"]
    """Rows of the arms' features that are scored on both sides."""
    rows_b: Int[np.ndarray, " pair"]
    cosine: Float[np.ndarray, " pair"]
    """Of decoder directions; NaN for one dictionary's features."""
    same_windows: bool
    has_partner_a: Bool[np.ndarray, " n_a"]
    """Whether each of the arm's features has a partner, scored or not."""
    has_partner_b: Bool[np.ndarray, " n_b"]
    n_matched_a: int
    n_matched_b: int
    floor: float | None = None
    median_cosine: float | None = None


@dataclass(frozen=True)
class Sides:
    """Two arms under comparison and what it is by."""

    key_a: str
    key_b: str
    a: Features
    b: Features
    by: By
    planned: bool
    pairs: Pairs | str
    """Or why features could not be paired."""
    entropy_edges: tuple[float, float] | None
    seed: int

    @property
    def same_feature(self) -> bool:
        """Whether both arms are one dictionary's features, so that differences are paired."""
        return isinstance(self.pairs, Pairs) and self.pairs.same_feature

    def rng(self, purpose: str) -> np.random.Generator:
        """Draws for one purpose, whatever else is drawn."""
        return generator(self.seed, "compare", self.by, self.key_a, self.key_b, purpose)


def measure(sides: Sides) -> Contrast:
    """All figures of one contrast, as if it were the only one planned."""
    a, b = sides.a, sides.b
    strata = common_strata([a.density, b.density])
    found = _paired_headline(sides) if sides.same_feature else _headline(sides, strata)
    headline, p_permutation, inside = found.gap, found.p_permutation, found.inside
    reason = None if headline is not None else _why_none(a, b, sides.same_feature)
    value, low, high, p = _numbers(headline)
    error = None if headline is None else round(headline.error, 6)
    contrast = Contrast(
        a=sides.key_a,
        b=sides.key_b,
        by=sides.by,
        planned=sides.planned,
        verdict="not_comparable" if reason else "not_separable",
        sentence="",
        reason=reason,
        difference=value,
        low=low,
        high=high,
        error=error,
        p=p,
        p_permutation=p_permutation,
        p_holm=p,
        family=1,
        n_a=len(a),
        n_b=len(b),
        n_inside_a=inside[0],
        n_inside_b=inside[1],
        n_needed=None,
        mean_a=found.mean_a,
        mean_b=found.mean_b,
        strata=_rows(a, b, strata),
        adjusted=_adjusted(sides, strata),
        uniform=_uniform(sides),
        firing_weighted=_firing_weighted(sides),
        lift=difference(sides, "lift"),
        groups={group: difference(sides, "value", group) for group in GROUPS},
        pairing=_pairing(sides),
        no_pairing=sides.pairs if isinstance(sides.pairs, str) else None,
    )
    return conclude(contrast, 1, p)


def standard_error(sides: Sides) -> float | None:
    """Of the contrast's difference, without resampling; None where it would not be comparable."""
    if sides.same_feature:
        gaps = _paired_gaps(sides, "value")
        return float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) >= LEAST_FEATURES else None
    strata = common_strata([sides.a.density, sides.b.density])
    groups = [strata.split(arm.density, arm.value) for arm in (sides.a, sides.b)]
    if min(sum(map(len, group)) for group in groups) < LEAST_FEATURES:
        return None
    rng = sides.rng("error")
    one, other = (stratified_mean(group, strata.weights, 1, rng) for group in groups)
    return (one - other).error


def correct(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Contrasts of one family with their p-values corrected for their number, and their verdicts."""
    ranked = [i for i, c in enumerate(contrasts) if c.p is not None]
    corrected = dict(zip(ranked, holm([c.p for c in contrasts if c.p is not None]), strict=True))
    return [conclude(c, max(1, len(ranked)), corrected.get(i)) for i, c in enumerate(contrasts)]


def conclude(contrast: Contrast, family: int, p_holm: float | None) -> Contrast:
    """The contrast with its corrected p, verdict, sentence and notes."""
    c = contrast
    if c.difference is None or c.low is None or c.high is None or c.error is None or p_holm is None:
        sentence = sentence_of(c.a, c.b, "not_comparable", c.reason, (0, 0, 0), None)
        return c.model_copy(update={"sentence": sentence, "family": family})
    n_needed = None
    if c.difference and c.error:
        n = 2 / (1 / c.n_a + 1 / c.n_b)
        n_needed = features_needed_at(abs(c.difference), c.error, n, ALPHA / family)
    verdict = verdict_of(c.low, c.high, p_holm, ALPHA)
    sentence = sentence_of(c.a, c.b, verdict, None, (c.difference, c.low, c.high), n_needed)
    update = {"verdict": verdict, "sentence": sentence, "p_holm": round(p_holm, 6), "n_needed": n_needed}
    settled = c.model_copy(update={**update, "family": family})
    return settled.model_copy(update={"notes": tuple(notes_on(settled, ALPHA))})


class _Headline(NamedTuple):
    """The difference that the verdict is on."""

    gap: Resampled | None
    """None where nothing may be ranked."""
    p_permutation: float | None
    inside: tuple[int, int]
    """Features of each arm that it is over."""
    mean_a: Estimate
    mean_b: Estimate


def _headline(sides: Sides, strata: Strata) -> _Headline:
    """Standardised over the common support."""
    x, y = strata.split(sides.a.density, sides.a.value), strata.split(sides.b.density, sides.b.value)
    inside = sum(map(len, x)), sum(map(len, y))
    if min(inside) < LEAST_FEATURES:
        none = [Estimate(value=None, n=n, undefined=_why_none(sides.a, sides.b, False)) for n in inside]
        return _Headline(None, None, inside, none[0], none[1])
    rng, weights = sides.rng("headline"), strata.weights
    one, other = stratified_mean(x, weights, N_BOOTSTRAP, rng), stratified_mean(y, weights, N_BOOTSTRAP, rng)
    p = permutation_p(x, y, weights, N_PERMUTATION, sides.rng("permutation"))
    means = as_estimate(one, inside[0]), as_estimate(other, inside[1])
    return _Headline(one - other, round(p, 6), inside, *means)


def _paired_headline(sides: Sides) -> _Headline:
    """The mean of the pairs' differences."""
    assert isinstance(sides.pairs, Pairs)
    gaps, rng = _paired_gaps(sides, "value"), sides.rng("headline")
    inside = len(gaps), len(gaps)
    means = [mean_of(arm.value, rng) for arm in (sides.a.take(sides.pairs.rows_a), sides.b.take(sides.pairs.rows_b))]
    if len(gaps) < LEAST_FEATURES:
        return _Headline(None, None, inside, means[0], means[1])
    p = sign_flip_p(gaps, N_PERMUTATION, sides.rng("permutation"))
    return _Headline(plain_mean(gaps, N_BOOTSTRAP, rng), round(p, 6), inside, means[0], means[1])


def _paired_gaps(sides: Sides, column: Column, group: Group | None = None) -> Float[np.ndarray, " pair"]:
    """Differences of the pairs that have the column on both sides, of a group of a's features."""
    assert isinstance(sides.pairs, Pairs)
    a, b = sides.a.take(sides.pairs.rows_a), sides.b.take(sides.pairs.rows_b)
    gaps = a.column(column) - b.column(column)
    wanted = np.isfinite(gaps) & (True if group is None else a.within(group, sides.entropy_edges))
    return np.asarray(gaps[wanted])


def difference(sides: Sides, column: Column, group: Group | None = None) -> Difference:
    """Density-standardised difference of a column, or its paired mean, within a group of features."""
    rng = sides.rng(f"{column} {group}")
    if sides.same_feature:
        return paired_difference(_paired_gaps(sides, column, group), rng)
    a, b = (_having(arm, column, group, sides.entropy_edges) for arm in (sides.a, sides.b))
    return standardised_difference(a, b, column, rng)


def standardised_difference(a: Features, b: Features, column: Column, rng: np.random.Generator) -> Difference:
    """Over the strata that these features share; `no_overlap` where they share none."""
    strata = common_strata([a.density, b.density])
    if not len(strata.weights):
        few = min(len(a), len(b)) < LEAST_IN_STRATUM
        return Difference(value=None, n_a=len(a), n_b=len(b), undefined="too_few_features" if few else "no_overlap")
    x, y = (strata.split(arm.density, arm.column(column)) for arm in (a, b))
    weights = strata.weights
    gap = stratified_mean(x, weights, N_BESIDE, rng) - stratified_mean(y, weights, N_BESIDE, rng)
    return as_difference(gap, sum(map(len, x)), sum(map(len, y)))


def paired_difference(gaps: Float[np.ndarray, " pair"], rng: np.random.Generator) -> Difference:
    """Mean of paired differences."""
    n = len(gaps)
    if n < LEAST_IN_STRATUM:
        return Difference(value=None, n_a=n, n_b=n, undefined="too_few_pairs")
    return as_difference(plain_mean(gaps, N_BESIDE, rng), n, n)


def as_difference(gap: Resampled, n_a: int, n_b: int) -> Difference:
    """As a record."""
    value, low, high, p = _numbers(gap)
    return Difference(value=value, low=low, high=high, p=p, n_a=n_a, n_b=n_b)


def as_estimate(mean: Resampled, n: int) -> Estimate:
    """As a record."""
    value, low, high, _ = _numbers(mean)
    return Estimate(value=value, low=low, high=high, n=n)


def mean_of(values: Float[np.ndarray, " n"], rng: np.random.Generator) -> Estimate:
    """Plain mean of the values that are there."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST_IN_STRATUM:
        return Estimate(value=None, n=len(known), undefined="too_few_features" if len(known) else "not_measured")
    return as_estimate(plain_mean(known, N_BESIDE, rng), len(known))


def _having(arm: Features, column: Column, group: Group | None, edges: tuple[float, float] | None) -> Features:
    known = np.isfinite(arm.column(column))
    return arm.take(known & (True if group is None else arm.within(group, edges)))


def _adjusted(sides: Sides, strata: Strata) -> Difference:
    """As the headline, after scores are levelled out inside strata; pairs have one density each and need none."""
    if sides.same_feature or not len(strata.weights):
        return difference(sides, "value")
    densities = [sides.a.density, sides.b.density]
    levelled = level_out(strata, densities, [sides.a.value, sides.b.value])
    x, y = (strata.split(d, v) for d, v in zip(densities, levelled, strict=True))
    rng, weights = sides.rng("adjusted"), strata.weights
    gap = stratified_mean(x, weights, N_BESIDE, rng) - stratified_mean(y, weights, N_BESIDE, rng)
    return as_difference(gap, sum(map(len, x)), sum(map(len, y)))


def _uniform(sides: Sides) -> Difference:
    """Every feature counts the same, wherever its density."""
    rng = sides.rng("uniform")
    if sides.same_feature:
        return paired_difference(_paired_gaps(sides, "value"), rng)
    n_a, n_b = len(sides.a), len(sides.b)
    if min(n_a, n_b) < LEAST_IN_STRATUM:
        return Difference(value=None, n_a=n_a, n_b=n_b, undefined="too_few_features")
    return as_difference(plain_mean(sides.a.value, N_BESIDE, rng) - plain_mean(sides.b.value, N_BESIDE, rng), n_a, n_b)


def _firing_weighted(sides: Sides) -> Difference:
    """Every feature counts by its density."""
    rng, a, b = sides.rng("firing"), sides.a, sides.b
    if isinstance(sides.pairs, Pairs) and sides.same_feature:
        gaps, n = _paired_gaps(sides, "value"), len(sides.pairs.rows_a)
        if n < LEAST_IN_STRATUM:
            return Difference(value=None, n_a=n, n_b=n, undefined="too_few_pairs")
        return as_difference(weighted_mean(gaps, a.density[sides.pairs.rows_a], N_BESIDE, rng), n, n)
    if min(len(a), len(b)) < LEAST_IN_STRATUM:
        return Difference(value=None, n_a=len(a), n_b=len(b), undefined="too_few_features")
    gap = weighted_mean(a.value, a.density, N_BESIDE, rng) - weighted_mean(b.value, b.density, N_BESIDE, rng)
    return as_difference(gap, len(a), len(b))


def _pairing(sides: Sides) -> Pairing | None:
    pairs = sides.pairs
    if not isinstance(pairs, Pairs):
        return None
    gaps, rng = _paired_gaps(sides, "value"), sides.rng("pairs")
    enough = len(gaps) >= LEAST_IN_STRATUM
    rest: dict[str, object] = {}
    if not pairs.same_feature:
        a, b = sides.a.take(~pairs.has_partner_a), sides.b.take(~pairs.has_partner_b)
        rest = {"unmatched_a": mean_of(a.value, rng), "unmatched_b": mean_of(b.value, rng)}
        rest["unmatched"] = standardised_difference(a, b, "value", rng)
        apart = np.abs(np.log10(sides.a.density[pairs.rows_a] / sides.b.density[pairs.rows_b]))
        rest["alike"] = paired_difference(gaps[apart <= 1 / PER_DECADE], rng)
    return Pairing.model_validate(
        {
            "kind": "same_feature" if pairs.same_feature else "matched",
            "same_windows": pairs.same_windows,
            "floor": pairs.floor,
            "n_matched_a": pairs.n_matched_a,
            "n_matched_b": pairs.n_matched_b,
            "median_cosine": pairs.median_cosine,
            "density_ratio": _density_ratio(sides, pairs),
            "difference": paired_difference(gaps, rng),
            "p_permutation": round(sign_flip_p(gaps, N_BESIDE, rng), 6) if enough else None,
            **rest,
        }
    )


def _density_ratio(sides: Sides, pairs: Pairs) -> float | None:
    if not len(pairs.rows_a):
        return None
    logs = np.log(sides.a.density[pairs.rows_a] / sides.b.density[pairs.rows_b])
    return float(f"{np.exp(logs.mean()):.4g}")


def _rows(a: Features, b: Features, strata: Strata) -> tuple[StratumRow, ...]:
    """The cuts that hold any feature."""
    cuts = strata.cut_of(a.density), strata.cut_of(b.density)
    rows = []
    for k, (n_a, n_b) in enumerate(strata.counts.T.tolist()):
        if n_a or n_b:
            means = [_mean(arm.value[cut == k]) for arm, cut in zip((a, b), cuts, strict=True)]
            rows.append(
                StratumRow(
                    low=float(strata.edges[k]),
                    high=float(strata.edges[k + 1]),
                    n_a=n_a,
                    n_b=n_b,
                    weight=round(float(strata.weight[k]), 6),
                    mean_a=means[0],
                    mean_b=means[1],
                )
            )
    return tuple(rows)


def _mean(values: Float[np.ndarray, " n"]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None


def _numbers(found: Resampled | None) -> tuple[float | None, float | None, float | None, float | None]:
    """Value, interval and p, rounded to a millionth."""
    if found is None:
        return None, None, None, None
    low, high = found.interval()
    return round(found.value, 6), round(low, 6), round(high, 6), round(found.p_value(), 6)


def _why_none(a: Features, b: Features, same_feature: bool) -> NoEstimate:
    if same_feature:
        return "too_few_pairs"
    return "too_few_features" if min(len(a), len(b)) < LEAST_FEATURES else "no_overlap"
