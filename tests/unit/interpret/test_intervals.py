"""Intervals against windows left out one by one, resampling by hand, and scipy's BCa."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from autointerp.interpret import ranks
from autointerp.interpret.intervals import Intervals, bca, jackknife
from autointerp.interpret.resampling import MOST_SINGLE, bootstrap_draws
from autointerp.interpret.statistics import spearman
from tests.unit.interpret.grids import Grid, make_grid, masked, thirds

Z95 = 1.959963984540054
WIDTHS = [1, 5]
Method = Callable[..., Intervals]


def _baseline(grid: Grid, seed: int = 0) -> np.ndarray:
    """Another prediction for the same windows: the own one with noise."""
    noise = np.random.default_rng(seed).integers(-3, 4, grid.predicted.shape)
    return np.clip(grid.predicted + noise, 0, 10)


def _one_stratum(grid: Grid) -> np.ndarray:
    return np.zeros(grid.mask.shape[:2], dtype=int)


def _lost(grid: Grid) -> Grid:
    """The same without an answer to windows 2 and 7."""
    return masked(grid.truth, grid.predicted, grid.mask & ~np.isin(np.arange(grid.mask.shape[1]), [2, 7])[:, None])


def _rho(truth: np.ndarray, predicted: np.ndarray, mask: np.ndarray) -> float:
    """By scipy; 0 where a side is constant."""
    x, y = truth[mask], predicted[mask]
    return 0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else float(scipy.stats.spearmanr(x, y).statistic)


def _without(grid: Grid, stratum: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The statistic without each kept window, whose stratum's rest stands in for it; 0 where a side is constant."""
    weights = np.isin(np.arange(len(stratum)), kept) * np.ones((len(kept), 1))
    for row, i in zip(weights, kept, strict=True):
        same = (stratum == stratum[i]) & (row > 0)
        row[same] = same.sum() / (same.sum() - 1)
        row[i] = 0
    truth, predicted = (np.repeat(side, len(kept), axis=0) for side in (grid.truth, grid.predicted))
    return np.asarray(np.nan_to_num(spearman(truth, predicted, grid.mask & (weights > 0)[:, :, None], weights)))


def _error(without: np.ndarray, stratum: np.ndarray) -> float:
    """The stratified jackknife's standard error, stratum by stratum."""
    groups = [without[stratum == h] for h in np.unique(stratum)]
    return float(sum((len(g) - 1) / len(g) * ((g - g.mean()) ** 2).sum() for g in groups) ** 0.5)


def _on_z_scale(value: float, error: float) -> list[float]:
    return [float(np.tanh(np.arctanh(value) + z * error / (1 - value**2))) for z in (-Z95, Z95)]


@pytest.mark.parametrize("n_tok", WIDTHS)
@pytest.mark.parametrize("strata", [_one_stratum, lambda grid: thirds(grid.mask)], ids=["one", "thirds"])
def test_jackknife_is_the_statistic_on_all_windows_but_one(n_tok: int, strata: Callable[[Grid], np.ndarray]) -> None:
    """Ranks must be taken anew without the window, on the answered windows only, and deviations inside the stratum."""
    grid = _lost(make_grid(3, n_window=14, n_tok=n_tok))
    base, stratum = grid._replace(predicted=_baseline(grid)), strata(grid)
    found = jackknife(*grid, stratum, base.predicted)
    kept = np.flatnonzero(grid.mask[0].any(axis=1))
    own, other = (_without(side, stratum[0], kept) for side in (grid, base))
    value = float(spearman(*grid)[0])
    error = _error(own, stratum[0][kept])
    assert [float(end[0]) for end in found.spearman] == pytest.approx(_on_z_scale(value, error), abs=1e-9)
    lift, error = value - float(spearman(*base)[0]), _error(own - other, stratum[0][kept])
    assert [float(end[0]) for end in found.lift] == pytest.approx([lift - Z95 * error, lift + Z95 * error], abs=1e-9)


def test_without_strata_the_jackknife_leaves_whole_windows_out() -> None:
    """By scipy on the windows that are left, so that the weights of the strata are not all that is tested."""
    grid = make_grid(4, n_window=12)
    own = np.array([_rho(*(np.delete(side[0], i, axis=0) for side in grid)) for i in range(12)])
    expected = _on_z_scale(float(spearman(*grid)[0]), _error(own, np.zeros(12)))
    assert np.array(jackknife(*grid, _one_stratum(grid)).spearman)[:, 0] == pytest.approx(expected, abs=1e-9)


def test_the_error_of_a_stratified_share_is_the_textbooks() -> None:
    """Deletions that shrink their stratum are (n - 1) / n too small, and the stratified interval too narrow.

    On two values rho is phi; with truth and prediction equal but for one stratum, phi moves with that stratum's share
    of hits alone, which has the standard error s / sqrt(n) of any mean, here by the delta method on a large sample.
    """
    n = 2_000
    stratum = np.repeat([0, 1], [20, n])[None]
    truth = np.repeat([1.0, 0.0], [20, n]).reshape(1, -1, 1)
    predicted = truth.copy()
    predicted[0, :8] = 0
    low, high = jackknife(truth, predicted, truth >= 0, stratum).spearman
    hit = 12 / 20
    rho = float(spearman(truth, predicted, truth >= 0)[0])
    step = 1e-4
    slope = (_phi(20, hit + step, n) - _phi(20, hit - step, n)) / (2 * step)
    expected = slope * (hit * (1 - hit) / 19) ** 0.5
    measured = (np.arctanh(high[0]) - np.arctanh(low[0])) / 2 / Z95 * (1 - rho**2)
    assert rho == pytest.approx(_phi(20, hit, n))
    assert measured == pytest.approx(expected, rel=0.03)


def _phi(n_active: int, hit: float, n_silent: int) -> float:
    """Correlation of a 0/1 truth with a 0/1 prediction that misses some actives and fires nowhere else."""
    share, claimed = n_active / (n_active + n_silent), n_active * hit / (n_active + n_silent)
    return float((claimed - share * claimed) / (share * (1 - share) * claimed * (1 - claimed)) ** 0.5)


def _bca_by_hand(value: float, draws: np.ndarray, without: np.ndarray, stratum: np.ndarray) -> tuple[float, float]:
    """Efron 1987 with Davison & Hinkley's acceleration for several samples."""
    groups = [without[stratum == h] for h in np.unique(stratum)]
    influence = [(len(g) - 1) * (g.mean() - g) for g in groups]
    cubes = sum((u**3).sum() / len(u) ** 3 for u in influence)
    squares = sum((u**2).sum() / len(u) ** 2 for u in influence)
    a = cubes / squares**1.5 / 6
    z0 = scipy.stats.norm.ppf(((draws < value).sum() + (draws == value).sum() / 2) / len(draws))
    levels = [scipy.stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (-Z95, Z95)]
    low, high = np.quantile(draws, levels)
    return float(low), float(high)


@pytest.mark.parametrize("n_tok", WIDTHS)
def test_bca_is_the_one_computed_draw_by_draw(n_tok: int) -> None:
    """Windows must be resampled whole, inside their stratum, with the ranks of each draw taken anew."""
    grid = make_grid(5, n_window=15, n_tok=n_tok)
    stratum, base = thirds(grid.mask), _baseline(grid)
    found = bca(*grid, stratum, base, n_draws=150)
    order = np.argsort(stratum[0], kind="stable")
    truth, mask = grid.truth[0][order], grid.mask[0][order]
    rhos = []
    for side in (grid.predicted[0][order], base[0][order]):
        samples = [np.repeat(np.arange(15), m.astype(int)) for m in bootstrap_draws((5, 5, 5), 150)]
        draws = np.array([_rho(truth[s], side[s], mask[s]) for s in samples])
        without = _without(masked(truth[None], side[None], mask[None]), stratum[0][order], np.arange(15))
        rhos.append((_rho(truth, side, mask), draws, without))
    own = _bca_by_hand(*rhos[0], stratum[0][order])
    value, draws, without = (a - b for a, b in zip(*rhos, strict=True))
    assert [float(end[0]) for end in found.spearman] == pytest.approx(own, abs=1e-9)
    lift = _bca_by_hand(value, draws.round(12), without, stratum[0][order])
    assert [float(end[0]) for end in found.lift] == pytest.approx(lift, abs=1e-9)


def test_bca_of_one_stratum_is_scipys() -> None:
    """A second route by other hands, with its own draws: equal up to the noise of 4,000 of them."""
    grid = make_grid(8, n_window=40, n_tok=1)
    x, y = grid.truth[0, :, 0], grid.predicted[0, :, 0]
    peer = scipy.stats.bootstrap(
        (x, y),
        lambda a, b: float(scipy.stats.spearmanr(a, b).statistic),
        paired=True,
        vectorized=False,
        n_resamples=4_000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = bca(*grid, _one_stratum(grid), n_draws=4_000).spearman
    assert [float(ours.low[0]), float(ours.high[0])] == pytest.approx([peer.low, peer.high], abs=0.03)


@pytest.mark.parametrize("interval", [jackknife, bca])
def test_the_lift_over_itself_is_exactly_zero(interval: Method) -> None:
    """An unpaired interval would be wide here; the paired one has no width."""
    grid = make_grid(2, n_window=30)
    found: Intervals = interval(*grid, thirds(grid.mask), grid.predicted)
    assert (found.lift.low[0], found.lift.high[0]) == (0, 0)
    assert found.spearman.low[0] < spearman(*grid)[0] < found.spearman.high[0]


def test_a_draw_without_variation_counts_as_zero() -> None:
    """One window makes the prediction vary: without it there is no rho, and NaN would spread to the interval."""
    truth = np.array([1.0, 0, 0, 0]).reshape(1, 4, 1)
    strata = np.zeros((1, 4), dtype=int)
    base = np.array([0.0, 1, 1, 2]).reshape(1, 4, 1)
    # Lift: 1 + 0.944; without each window 0 (rho 0 of both), 1 + 0.866, 1 + 0.866, 2 (all but a pair tied).
    own, other = np.array([0, 1, 1, 1]), -np.array([0, 0.75**0.5, 0.75**0.5, 1])
    found = jackknife(truth, truth, truth >= 0, strata, base)
    low, high = found.lift
    half = Z95 * _error(own - other, np.zeros(4))
    value = 1 - float(spearman(truth, base, truth >= 0)[0])
    assert (low[0], high[0]) == pytest.approx((max(value - half, -2), min(value + half, 2)))
    assert np.isfinite(found.spearman).all()
    assert np.isfinite(bca(truth, truth, truth >= 0, strata).spearman).all()


def test_bounds_are_those_of_the_statistic() -> None:
    """A lift of 1.9 is legal: the bounds of rho must not be put on it, nor its own left off."""
    truth = np.arange(20.0).reshape(1, 20, 1)
    predicted = np.where(np.arange(20) == 3, 9.0, truth[0, :, 0]).reshape(1, 20, 1)
    for interval in (jackknife, bca):
        found = interval(truth, predicted, truth >= 0, np.zeros((1, 20), dtype=int), -predicted)
        assert 0.7 < found.spearman.low[0] < 0.95 < found.spearman.high[0] <= 1
        assert 1.4 < found.lift.low[0] < 1.9 < found.lift.high[0] <= 2


def test_undefined_values_have_no_interval() -> None:
    """No interval beside a value that does not exist; a constant baseline leaves the score's own interval alone."""
    truth, predicted, mask = make_grid(1, n_feature=3, n_window=20)
    base = _baseline(Grid(truth, predicted, mask))
    predicted[0] = 4
    base[1] = 0
    mask[2] = False
    for interval in (jackknife, bca):
        found = interval(truth, predicted, mask, thirds(mask), base)
        assert [np.isnan(end).tolist() for end in found.spearman] == [[True, False, True]] * 2
        assert np.isnan(found.lift).all()
        assert np.isnan(interval(truth, predicted, mask, thirds(mask)).lift).all()


@pytest.mark.parametrize("n_tok", WIDTHS)
@pytest.mark.parametrize("interval", [jackknife, bca])
def test_no_feature_sees_another(interval: Method, n_tok: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws shared by features, chunks and groups of strata must leave each feature's interval as it is alone."""
    grid = make_grid(6, n_feature=5, n_window=21, n_tok=n_tok)
    grid.mask[1, [0, 5]] = grid.mask[3, [3, 5]] = False
    stratum, base = thirds(grid.mask), _baseline(grid)
    stratum[4, :10] = 7
    arrays = (*grid, stratum, base)
    together = np.array(interval(*arrays))
    assert np.isfinite(together).all()
    alone = np.concatenate([interval(*(a[i : i + 1] for a in arrays)) for i in range(5)], axis=2)
    assert together.tolist() == alone.tolist()
    monkeypatch.setattr(ranks, "CHUNK_ELEMENTS", 1)
    assert np.array(interval(*arrays)).tolist() == alone.tolist()


@pytest.mark.parametrize("interval", [jackknife, bca])
def test_the_names_and_places_of_strata_do_not_matter(interval: Method) -> None:
    """Strata numbered otherwise, or shuffled among each other, hold the same windows."""
    grid = make_grid(7, n_window=18, n_tok=1)
    stratum = thirds(grid.mask)
    order = np.argsort(stratum[0], kind="stable")
    sorted_sides = [side[:, order] for side in (*grid, stratum * 10 + 3)]
    found, expected = interval(*grid, stratum), interval(*sorted_sides)
    assert np.isfinite(found.spearman).all()
    assert found.spearman == expected.spearman


def test_many_positions_stay_exact() -> None:
    """Beyond 369 positions single precision would round the sums, and the jackknife multiplies that by n."""
    n = MOST_SINGLE + 40
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(1, n, 1)), rng.integers(0, 11, (1, n, 1)).astype(float)
    mask = np.ones(truth.shape, dtype=bool)
    without = np.array([spearman(*(np.delete(v, i, axis=1) for v in (truth, predicted, mask)))[0] for i in range(n)])
    expected = _on_z_scale(float(spearman(truth, predicted, mask)[0]), _error(without, np.zeros(n)))
    found = jackknife(truth, predicted, mask, np.zeros((1, n), dtype=int)).spearman
    assert [float(end[0]) for end in found] == pytest.approx(expected, abs=1e-10)


def test_draws_are_seeded_and_keep_the_strata_full() -> None:
    """Windows resampled over all strata would vary the share of active ones, which the design fixes."""
    draws = bootstrap_draws((4, 2), 500)
    assert (draws[:, :4].sum(axis=1) == 4).all()
    assert (draws[:, 4:].sum(axis=1) == 2).all()
    assert len(np.unique(draws, axis=0)) > 50
    bootstrap_draws.cache_clear()
    assert (bootstrap_draws((4, 2), 500) == draws).all()
