"""Rank statistics against scipy, brute force and the closed forms of a zero-inflated target."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool, Float

from autointerp.interpret.statistics import (
    Z95,
    bootstrap_mean,
    jackknife,
    mean_window_spearman,
    null_threshold,
    pearson,
    spearman,
)

Grid = tuple[Float[np.ndarray, "window tok"], Float[np.ndarray, "window tok"], Bool[np.ndarray, "window tok"]]


def make_grid(seed: int, n_window: int = 12, width: int = 7) -> Grid:
    """Ties on both sides, and windows of different lengths whose padding holds nonsense."""
    rng = np.random.default_rng(seed)
    truth = np.maximum(rng.normal(size=(n_window, width)), 0).round(1)
    predicted = np.clip((truth * 4 + rng.normal(size=truth.shape)).round(), 0, 10)
    mask = np.arange(width) < rng.integers(2, width + 1, n_window)[:, None]
    truth[~mask], predicted[~mask] = 99.0, -99.0
    return truth, predicted, mask


@pytest.mark.parametrize("seed", range(6))
def test_pooled_values_are_scipys(seed: int) -> None:
    """Ties ranked otherwise than by their average, or padding that leaks in, move every score."""
    truth, predicted, mask = make_grid(seed)
    rho = spearman(truth, predicted, mask).value
    r = pearson(truth, predicted, mask).value
    assert rho == pytest.approx(scipy.stats.spearmanr(truth[mask], predicted[mask]).statistic, abs=1e-12)
    assert r == pytest.approx(scipy.stats.pearsonr(truth[mask], predicted[mask]).statistic, abs=1e-12)


@pytest.mark.parametrize("statistic", [spearman, pearson])
@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_is_the_statistic_on_the_rest(statistic: object, seed: int) -> None:
    """Leave-one-out by updating counts is only right if ranks are taken anew without the window."""
    assert statistic in (spearman, pearson)
    compute = spearman if statistic is spearman else pearson
    truth, predicted, mask = make_grid(seed)
    for i, without in enumerate(compute(truth, predicted, mask).without):
        rest = np.delete(np.arange(len(truth)), i)
        assert without == pytest.approx(compute(truth[rest], predicted[rest], mask[rest]).value, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_any_ties_are_scipys(pairs: list[tuple[int, int]]) -> None:
    """Hand-picked ties miss the case where a whole side is one value."""
    x, y = (np.array(side, dtype=float)[None] for side in zip(*pairs, strict=True))
    rho = spearman(x, y, np.ones_like(x, dtype=bool)).value
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(rho)
    else:
        assert rho == pytest.approx(scipy.stats.spearmanr(x[0], y[0]).statistic, abs=1e-12)


DENSITIES = (0.5, 0.2, 0.1, 0.01, 0.001)


def _target(density: float, n: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
    active = np.arange(n) < round(density * n)
    rng = np.random.default_rng(3)
    return np.where(active, 1 + rng.permutation(n) / n, 0.0), active


@pytest.mark.parametrize("density", DENSITIES)
def test_a_perfect_binary_detector_has_its_closed_form(density: float) -> None:
    """SCORING B 4.1: rho = sqrt(3 d (1 - d) / (1 - (1 - d)^3)), which only average ranks give."""
    truth, active = _target(density)
    rho = spearman(truth[None], active[None].astype(float), np.ones((1, len(truth)), bool)).value
    d = density
    assert rho == pytest.approx((3 * d * (1 - d) / (1 - (1 - d) ** 3)) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1])
def test_untied_predictions_lose_what_the_closed_form_says(density: float) -> None:
    """SCORING B 4.1: sqrt(1 - (1 - d)^3) for a perfect but untied detector; why expectations are rounded first."""
    n = 800
    truth, active = _target(density, n)
    noise = np.random.default_rng(0).permutation(n) / (2 * n)
    untied = np.where(active, truth, noise)
    value = spearman(truth[None], untied[None], np.ones((1, n), bool)).value
    assert value == pytest.approx((1 - (1 - density) ** 3) ** 0.5, abs=1e-3)


def test_a_constant_side_is_no_number_and_leaving_out_its_only_change_counts_as_zero() -> None:
    """A constant prediction has no correlation; 0 / 0 must not become 0, 1 or a warning."""
    truth = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    mask = np.ones_like(truth, dtype=bool)
    assert np.isnan(spearman(truth, np.ones_like(truth), mask).value)
    assert np.isnan(spearman(np.zeros_like(truth), truth, mask).value)
    only_first = spearman(truth, truth, mask)
    assert only_first.value == pytest.approx(1.0)
    assert only_first.without.tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_sign_scale_and_huge_values() -> None:
    """The sign is a finding, and activations of 1e30 must not overflow into NaN."""
    truth, predicted, mask = make_grid(1)
    for statistic in (spearman, pearson):
        value = statistic(truth, predicted, mask).value
        assert statistic(truth, -predicted, mask).value == pytest.approx(-value)
        assert statistic(truth * 1e30, predicted, mask).value == pytest.approx(value)
        assert statistic(truth * 1e-30, predicted, mask).value == pytest.approx(value)


def test_jackknife_by_hand() -> None:
    """Leave-one-out values 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, variance 3/4 * 14 = 10.5."""
    low, high = jackknife(5.0, np.array([1.0, 2.0, 3.0, 6.0]))
    assert (low, high) == pytest.approx((5 - Z95 * 10.5**0.5, 5 + Z95 * 10.5**0.5))


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """For a mean the jackknife is exact: s / sqrt(n)."""
    values = np.random.default_rng(0).normal(size=50)
    without = (values.sum() - values) / 49
    low, high = jackknife(values.mean(), without)
    assert (high - low) / 2 / Z95 == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_null_threshold_is_that_of_brute_force_permutations() -> None:
    """The table of rank products stands for recomputing rho after each permutation of whole windows."""
    truth, predicted, _ = make_grid(2, n_window=30, width=6)
    truth, predicted = np.abs(truth) % 3, np.abs(predicted) % 11
    mask = np.ones_like(truth, dtype=bool)
    rng = np.random.default_rng(5)
    draws = [spearman(truth, predicted[rng.permutation(30)], mask).value for _ in range(3000)]
    assert null_threshold(truth, predicted, mask) == pytest.approx(np.quantile(draws, 0.95), abs=0.015)


def test_null_threshold_is_the_same_every_time_and_finite_with_short_windows() -> None:
    """A threshold drawn from a shared generator would change with the order of features."""
    truth, predicted, mask = make_grid(3)
    first = null_threshold(truth, predicted, mask)
    null_threshold(*make_grid(4))
    assert null_threshold(truth, predicted, mask) == first
    assert 0 < first < 1


def test_mean_over_windows_leaves_constant_windows_out() -> None:
    """A window without a pattern has no rho; counting it as 0 would punish silent windows."""
    truth = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    predicted = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 1.0, 0.0]])
    mask = np.ones_like(truth, dtype=bool)
    assert mean_window_spearman(truth, predicted, mask) == pytest.approx(0.0)
    assert np.isnan(mean_window_spearman(truth * 0, predicted, mask))


def test_bootstrap_interval_is_near_the_normal_one_and_seeded() -> None:
    """An interval over something else than the mean, or an unseeded one, would change from run to run."""
    values = np.random.default_rng(0).normal(0.5, 0.2, 200)
    low, high = bootstrap_mean(values, 7)
    error = values.std() / 200**0.5
    assert (low, high) == pytest.approx((values.mean() - Z95 * error, values.mean() + Z95 * error), abs=0.004)
    assert bootstrap_mean(values, 7) == (low, high)
