"""Correlations against scipy, replication and the closed forms of a zero-inflated target."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from jaxtyping import Float

from autointerp.interpret import ranks
from autointerp.interpret.statistics import (
    bootstrap_mean,
    kendall,
    mean_window_spearman,
    pearson,
    spearman,
    spearman_among_active,
)
from tests.unit.interpret.grids import Grid, make_grid, tied_grids

Z95 = 1.959963984540054
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], Float[np.ndarray, " feature"]]
SCIPY: list[tuple[Statistic, Callable[..., object]]] = [
    (spearman, scipy.stats.spearmanr),
    (pearson, scipy.stats.pearsonr),
    (kendall, scipy.stats.kendalltau),
]
ALL: list[Statistic] = [spearman, pearson, kendall, spearman_among_active, mean_window_spearman]


@given(tied_grids())
def test_any_ties_and_masks_are_scipys(grid: Grid) -> None:
    """Ties ranked otherwise than by their average, padding that leaks in, a constant side that becomes a number."""
    for statistic, peer in SCIPY:
        for found, truth, predicted, mask in zip(statistic(*grid), *grid, strict=True):
            x, y = truth[mask], predicted[mask]
            if len(x) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
                assert np.isnan(found)
            else:
                assert found == pytest.approx(peer(x, y).statistic, abs=1e-9)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(3))
def test_raw_activations_are_scipys(seed: int) -> None:
    """Small whole numbers hide a rounding that real activations show."""
    rng = np.random.default_rng(seed)
    truth = rng.exponential(size=(4, 60, 1)) * (rng.random((4, 60, 1)) < 0.4)
    predicted = rng.normal(size=truth.shape)
    for statistic, peer in SCIPY:
        expected = [peer(x[:, 0], y[:, 0]).statistic for x, y in zip(truth, predicted, strict=True)]  # type: ignore[attr-defined]
        assert statistic(truth, predicted, truth >= 0) == pytest.approx(np.array(expected), abs=1e-9)


def _target(density: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One window of n positions of which a share `density` is active, all differently; and which ones."""
    active = np.arange(n) < round(density * n)
    order = np.random.default_rng(3).permutation(n)
    return np.where(active, 1 + order / n, 0.0)[None, None], active[None, None]


def _one(statistic: Statistic, truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(statistic(truth, predicted.astype(float), np.ones(truth.shape, dtype=bool))[0])


@pytest.mark.parametrize("d", [0.5, 0.4, 0.2, 0.1, 0.01, 0.001])
def test_a_perfect_binary_detector_has_its_closed_form(d: float) -> None:
    """SCORING B 4.1: rho = sqrt(3 d (1 - d) / (1 - (1 - d)^3)), which only average ranks give."""
    value = _one(spearman, *_target(d, 100_000))
    assert value == pytest.approx((3 * d * (1 - d) / (1 - (1 - d) ** 3)) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("d", [0.5, 0.2, 0.1, 0.01, 0.001])
def test_untied_predictions_lose_what_the_closed_form_says(d: float) -> None:
    """SCORING B 4.1: sqrt(1 - (1 - d)^3) for a perfect but untied detector; why expectations are rounded first."""
    n = 100_000
    truth, active = _target(d, n)
    noise = np.random.default_rng(0).permutation(n) / (2 * n)
    assert _one(spearman, truth, np.where(active, truth, noise)) == pytest.approx((1 - (1 - d) ** 3) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("d", [0.5, 0.2, 0.1, 0.05])
def test_kendall_of_a_perfect_binary_detector_has_its_closed_form(d: float) -> None:
    """SCORING B 4.1: tau-b = sqrt(2 (1 - d) / (2 - d)); tau-a or tau-c would be far from it."""
    assert _one(kendall, *_target(d, 2_000)) == pytest.approx((2 * (1 - d) / (2 - d)) ** 0.5, abs=1e-3)


def test_spearman_of_a_sparse_feature_is_detection() -> None:
    """SCORING B 4.1: a 0/1 predictor of a rare feature scores sqrt(precision recall), whatever the magnitudes."""
    truth, active = _target(1e-4, 1_000_000)
    predicted = active.copy()
    predicted[..., :30] = False
    predicted[..., -35:] = True
    recall, precision = 70 / 100, 70 / 105
    assert _one(spearman, truth, predicted) == pytest.approx((precision * recall) ** 0.5, abs=1e-3)


def test_a_weight_stands_for_as_many_windows() -> None:
    """Ranks that ignore the weights, or weights that ignore the ranks, estimate no population's rho."""
    grid = make_grid(4, n_window=9)
    weight = np.array([[1, 3, 1, 2, 5, 1, 1, 4, 2]])
    repeated = (np.repeat(side, weight[0], axis=1) for side in grid)
    weighted = spearman(*grid, weight=weight.astype(float))
    assert weighted == pytest.approx(spearman(*repeated), abs=1e-12)
    assert spearman(*grid, weight=weight / 7) == pytest.approx(weighted, abs=1e-12)
    assert weighted != pytest.approx(spearman(*grid), abs=1e-3)


def test_among_active_only_the_active_count() -> None:
    """Silent positions make any detector look graded. Actives 1, 2, 3 are answered in ranks 1.5, 1.5, 3."""
    truth = np.array([0.0, 0, 0, 1, 2, 3]).reshape(1, 6, 1)
    predicted = np.array([0.0, 9, 1, 5, 5, 9]).reshape(1, 6, 1)
    assert spearman_among_active(truth, predicted, truth >= 0) == pytest.approx([0.75**0.5])


def test_mean_over_windows_leaves_constant_windows_out() -> None:
    """A window without a pattern has no rho; counting it as 0 would punish silent windows."""
    truth = np.array([[[0.0, 1, 2], [0, 0, 0], [0, 1, 2], [0, 1, 2]]])
    predicted = np.array([[[0.0, 1, 2], [1, 2, 3], [2, 1, 0], [0, 3, 3]]])
    mask = np.ones(truth.shape, dtype=bool)
    assert mean_window_spearman(truth, predicted, mask) == pytest.approx([(1 - 1 + 0.75**0.5) / 3])
    assert np.isnan(mean_window_spearman(truth * 0, predicted, mask))


@pytest.mark.parametrize("statistic", ALL)
def test_no_feature_sees_another(statistic: Statistic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that moves with its batch makes a resumed run differ from an uninterrupted one."""
    grid = make_grid(5, n_feature=5)
    together = statistic(*grid)
    assert np.isfinite(together).all()
    alone = [statistic(*(side[i : i + 1] for side in grid))[0] for i in range(5)]
    assert together.tolist() == alone
    monkeypatch.setattr(ranks, "CHUNK_ELEMENTS", 1)
    assert statistic(*grid).tolist() == alone


@pytest.mark.parametrize("statistic", ALL)
def test_sign_scale_and_huge_values(statistic: Statistic) -> None:
    """The sign is a finding, and activations of 1e30 must not overflow into NaN."""
    truth, predicted, mask = make_grid(1)
    value = statistic(truth, predicted, mask)
    assert statistic(truth, -predicted, mask) == pytest.approx(-value)
    assert statistic(truth * 1e30, predicted, mask) == pytest.approx(value)
    assert statistic(truth * 1e-30, predicted, mask) == pytest.approx(value)


def test_arrays_of_different_shapes_are_refused() -> None:
    """numpy would quietly spread one window's answers over all windows."""
    truth, predicted, mask = make_grid(0)
    with pytest.raises(ValueError, match="differ in shape"):
        spearman(truth, predicted[:, :1], mask)


def test_no_features_are_no_values() -> None:
    """An empty batch is an empty answer, not a crash in a reduction."""
    empty = np.zeros((0, 60, 1)), np.zeros((0, 60, 1)), np.zeros((0, 60, 1), dtype=bool)
    for statistic in ALL:
        assert statistic(*empty).shape == (0,)


def test_bootstrap_interval_is_near_the_normal_one_and_seeded() -> None:
    """An interval over something else than the mean, or an unseeded one, would change from run to run."""
    values = np.random.default_rng(0).normal(0.5, 0.2, 200)
    low, high = bootstrap_mean(values, 7)
    error = values.std() / 200**0.5
    assert (low, high) == pytest.approx((values.mean() - Z95 * error, values.mean() + Z95 * error), abs=0.004)
    assert bootstrap_mean(values, 7) == (low, high)
