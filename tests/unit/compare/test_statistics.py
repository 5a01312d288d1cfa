"""Estimates, tests and plans of comparisons, against closed forms, second routes and hand computations."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from autointerp.compare.bootstrap import plain_mean, stratified_mean, weighted_mean
from autointerp.compare.permutation import holm, permutation_p, sign_flip_p
from autointerp.compare.power import features_needed, features_needed_at, least_gap
from autointerp.compare.strata import common_strata, level_out


def test_strata_are_half_decades_of_the_range_that_both_have() -> None:
    """By hand: A from 1e-3 on, B up to 5e-3; what lies outside counts for nothing, and says so."""
    a = np.concatenate([np.full(6, 1e-3), np.full(6, 4e-3), np.full(6, 8e-3)])
    b = np.concatenate([np.full(6, 3e-4), np.full(10, 1.5e-3), np.full(10, 5e-3)])
    strata = common_strata([a, b])
    assert strata.weights.tolist() == pytest.approx([0.5, 0.5])
    assert [len(x) for x in strata.split(a, a)] == [6, 6]
    assert [len(x) for x in strata.split(b, b)] == [10, 10]
    assert strata.counts.sum(axis=1).tolist() == [18, 26]
    inside = np.flatnonzero(strata.weight)
    assert strata.edges[inside].tolist() == pytest.approx([1e-3, 10**-2.5])
    assert strata.edges[inside + 1].tolist() == pytest.approx([10**-2.5, 5e-3])


@pytest.mark.parametrize(
    ("a", "b"), [([1e-3] * 9, [1e-5] * 9), ([1e-3] * 9, [1e-3] * 4), ([], [1e-3] * 9), ([1e-3] * 9, [])]
)
def test_no_stratum_without_features_of_both(a: list[float], b: list[float]) -> None:
    """Guards against a ranking where densities do not meet, or where one side has next to nothing."""
    assert len(common_strata([np.array(a), np.array(b)]).weights) == 0


def test_standardising_takes_a_gap_of_density_alone_away() -> None:
    """Scores that are a function of the stratum alone: plain means differ by .3, standardised ones by nothing."""
    density = np.array([2e-3] * 40 + [2e-2] * 10)
    score = np.where(density < 1e-2, 0.8, 0.3) + np.tile([0.01, -0.01], 25)
    other_density = np.array([2e-3] * 10 + [2e-2] * 40)
    other = np.where(other_density < 1e-2, 0.8, 0.3) + np.tile([0.01, -0.01], 25)
    strata = common_strata([density, other_density])
    rng = np.random.default_rng(0)
    sides = [
        stratified_mean(strata.split(d, s), strata.weights, 200, rng)
        for d, s in ((density, score), (other_density, other))
    ]
    assert score.mean() - other.mean() == pytest.approx(0.3)
    assert (sides[0] - sides[1]).value == pytest.approx(0)


def test_levelling_out_takes_a_slope_inside_strata_away() -> None:
    """Scores exactly linear in log density, arms apart inside one stratum: means differ before, and not after."""
    places = np.linspace(0, 1, 12)
    densities = [10 ** (-2.9 + 0.3 * places**2), 10 ** (-2.9 + 0.3 * places**0.5)]
    scores = [0.5 - 0.4 * np.log10(d) for d in densities]
    strata = common_strata(densities)
    before = [np.concatenate(strata.split(d, s)).mean() for d, s in zip(densities, scores, strict=True)]
    levelled = level_out(strata, densities, scores)
    after = [np.concatenate(strata.split(d, s)).mean() for d, s in zip(densities, levelled, strict=True)]
    assert abs(before[0] - before[1]) > 0.02
    assert after[0] == pytest.approx(after[1])


def test_errors_are_those_of_the_closed_forms() -> None:
    """s / sqrt(n), its weighted sum over strata, and the root of the sum of squares for a difference."""
    rng = np.random.default_rng(1)
    x, y, z = rng.random(30), rng.random(20), rng.random(25)
    one = stratified_mean([x, y], np.array([0.25, 0.75]), 50, rng)
    assert one.value == pytest.approx(0.25 * x.mean() + 0.75 * y.mean())
    assert one.error == pytest.approx(np.hypot(0.25 * stats.sem(x), 0.75 * stats.sem(y)))
    assert (one - plain_mean(z, 50, rng)).error == pytest.approx(np.hypot(one.error, stats.sem(z)))
    assert weighted_mean(x, np.ones(30), 50, rng).error == pytest.approx(stats.sem(x))
    twice = weighted_mean(x, np.arange(1, 31), 50, rng)
    assert twice.value == pytest.approx(np.average(x, weights=np.arange(1, 31)))


def test_the_interval_is_students_on_normal_values() -> None:
    """The second route: on normal values bootstrap-t and Student's t agree; a percentile interval would be narrower."""
    x = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    low, high = plain_mean(x, 40_000, np.random.default_rng(2)).interval()
    wanted = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    assert (low, high) == pytest.approx(wanted, abs=0.06)


def test_p_and_interval_speak_with_one_voice() -> None:
    """A p below .05 beside an interval that holds 0, or the other way round, would be two verdicts."""
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.05, 0.1, 0.15, 0.2, 0.4):
        gap = plain_mean(rng.random(40) + shift, 2_000, rng) - plain_mean(rng.random(40), 2_000, rng)
        low, high = gap.interval()
        if abs(gap.p_value() - 0.05) > 0.005:
            assert (gap.p_value() < 0.05) == (not low <= 0 <= high)


def test_values_without_spread_have_a_point_and_no_division_by_zero() -> None:
    """Every score 0, as when all explanations fail, is a mean of exactly 0, p 1; a gap of constants is a sure one."""
    rng = np.random.default_rng(4)
    nothing = plain_mean(np.zeros(10), 100, rng)
    assert nothing.interval() == (0.0, 0.0)
    assert nothing.p_value() == 1.0
    rounded = plain_mean(np.full(10, 0.1), 100, rng) - plain_mean(np.full(13, 0.3 - 0.2), 100, rng)
    assert rounded.p_value() == 1.0
    gap = plain_mean(np.ones(10), 100, rng) - nothing
    assert gap.interval() == (1.0, 1.0)
    assert gap.p_value() < 0.05


@pytest.mark.parametrize("other", [0.0, 0.3, 1 / 3])
def test_one_value_among_equals_has_a_finite_interval(other: float) -> None:
    """A third of the resamples then have no spread (or rounding for one): dividing by it made intervals without end."""
    x = np.array([0.9] + [other] * 24)
    found = plain_mean(x, 2_000, np.random.default_rng(8))
    low, high = found.interval()
    assert np.isfinite([low, high]).all()
    assert low < found.value < high
    assert high - low < 1


def test_permutation_agrees_with_all_relabellings() -> None:
    """Three against three: the exact p is a count over the 20 ways to label them."""
    x, y = np.array([0.9, 0.8, 0.75]), np.array([0.1, 0.2, 0.78])
    p = permutation_p([x], [y], np.ones(1), 20_000, np.random.default_rng(5))
    both = np.concatenate([x, y])
    labels = [list(chosen) for chosen in combinations(range(6), 3)]
    gaps = [abs(welch(both[own], np.delete(both, own))) for own in labels]
    assert p == pytest.approx(np.mean(np.array(gaps) >= abs(welch(x, y)) - 1e-9), abs=0.01)


def welch(x: np.ndarray, y: np.ndarray) -> float:
    return float(stats.ttest_ind(x, y, equal_var=False).statistic)


def test_permutation_stays_inside_strata() -> None:
    """Arms that differ only in how their features fall into strata are alike; labels moved across would say not."""
    rng = np.random.default_rng(6)
    a = [0.8 + 0.01 * rng.standard_normal(30), 0.2 + 0.01 * rng.standard_normal(10)]
    b = [0.8 + 0.01 * rng.standard_normal(10), 0.2 + 0.01 * rng.standard_normal(30)]
    assert permutation_p(a, b, np.array([0.5, 0.5]), 500, rng) > 0.01
    assert permutation_p([np.concatenate(a)], [np.concatenate(b)], np.ones(1), 500, rng) < 0.01


def test_sign_flips_agree_with_all_signs() -> None:
    """Eight differences: the exact p is a count over 256 signs."""
    d = np.array([0.3, 0.1, 0.25, -0.05, 0.4, 0.15, -0.1, 0.2])
    means = [abs(np.dot(signs, d)) for signs in product([-1, 1], repeat=8)]
    exact = np.mean(np.array(means) >= d.sum() - 1e-9)
    assert sign_flip_p(d, 50_000, np.random.default_rng(7)) == pytest.approx(exact, abs=0.01)


def test_holm_by_hand() -> None:
    """.01 x 3, .03 x 2, .04 raised to what came before; and in the order given."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("gap", "between", "wanted"),
    [
        (0.02, 0.15, 1276), (0.02, 0.25, 2846), (0.02, 0.3, 3925),
        (0.05, 0.15, 205), (0.05, 0.25, 456), (0.05, 0.3, 628),
        (0.1, 0.15, 52), (0.1, 0.25, 114), (0.1, 0.3, 157),
    ],
)  # fmt: skip
def test_numbers_of_features_are_the_known_ones(gap: float, between: float, wanted: int) -> None:
    """The table of docs/compare.md: between-feature sd beside .10 within, power .8, unpaired."""
    sd = float(np.hypot(between, 0.1))
    assert features_needed(gap, sd, sd, 0.05) == wanted
    error = float(np.sqrt(2 * sd**2 / 100))
    assert features_needed_at(gap, error, 100, 0.05) == wanted
    assert least_gap(float(np.sqrt(2 * sd**2 / wanted)), 0.05) == pytest.approx(gap, rel=0.01)
