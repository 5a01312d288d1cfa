"""Null thresholds against brute-force permutation, and what they may depend on."""

import numpy as np
import pytest

from autointerp.interpret import ranks
from autointerp.interpret.nulls import null_threshold
from autointerp.interpret.statistics import spearman
from tests.unit.interpret.grids import Grid, make_grid


def _whole(seed: int, n_window: int, n_tok: int) -> Grid:
    truth, predicted, mask = make_grid(seed, n_window=n_window, n_tok=n_tok)
    return Grid(np.nan_to_num(truth), np.nan_to_num(predicted, nan=3), np.ones_like(mask))


@pytest.mark.parametrize(("n_window", "n_tok"), [(60, 1), (30, 6)])
def test_it_is_that_of_brute_force_permutations(n_window: int, n_tok: int) -> None:
    """Fixed ranks stand for recomputing rho after each permutation of whole windows."""
    truth, predicted, mask = _whole(2, n_window, n_tok)
    rng = np.random.default_rng(5)
    shuffled = np.concatenate([predicted[:, rng.permutation(n_window)] for _ in range(20_000)])
    draws = spearman(np.repeat(truth, 20_000, axis=0), shuffled, np.repeat(mask, 20_000, axis=0))
    assert null_threshold(truth, predicted, mask) == pytest.approx([np.quantile(draws, 0.95)], abs=0.015)


@pytest.mark.parametrize("n", [60, 120])
def test_it_is_near_the_normal_limit(n: int) -> None:
    """SCORING B 4.4: 1.645 / sqrt(n - 1), .215 at 60 windows and .157 at 120; two-sided would be .25 and .18."""
    truth, predicted, mask = _whole(1, n, 1)
    assert null_threshold(truth, predicted, mask) == pytest.approx([1.645 / (n - 1) ** 0.5], abs=0.015)


def test_with_one_target_only_the_tie_patterns_count() -> None:
    """Strata are ignored: where the equal answers stand, and how large they are, must not move the threshold."""
    truth, predicted, mask = _whole(3, 60, 1)
    rng = np.random.default_rng(0)
    same = null_threshold(np.exp(truth[:, rng.permutation(60)]), 5 * predicted[:, rng.permutation(60)] - 7, mask)
    assert same.tolist() == null_threshold(truth, predicted, mask).tolist()


@pytest.mark.parametrize("n_tok", [1, 5])
def test_no_feature_sees_another(n_tok: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold drawn from a shared generator would change with the order and number of features."""
    grid = make_grid(4, n_feature=6, n_window=24, n_tok=n_tok)
    grid.mask[2, 3] = False
    for side in grid:
        side[5] = side[0]
    grid.predicted[5] = grid.predicted[0] * 2
    together = null_threshold(*grid)
    assert ((together > 0) & (together < 1)).all()
    alone = [null_threshold(*(side[i : i + 1] for side in grid))[0] for i in range(6)]
    assert together.tolist() == alone
    monkeypatch.setattr(ranks, "CHUNK_ELEMENTS", 1)
    assert null_threshold(*grid).tolist() == alone


@pytest.mark.parametrize("n_tok", [1, 5])
def test_an_unanswered_window_is_as_if_it_had_not_been_asked(n_tok: int) -> None:
    """Read as a window of mean rank it would stay in the permutation and lower the threshold."""
    grid = make_grid(6, n_window=24, n_tok=n_tok)
    grid.mask[0, [4, 11]] = False
    rest = [np.delete(side, [4, 11], axis=1) for side in grid]
    assert null_threshold(*grid).tolist() == null_threshold(*rest).tolist()


def test_a_constant_side_has_no_threshold() -> None:
    """0 / 0 must not become a threshold that anything passes."""
    truth, predicted, mask = make_grid(1, n_feature=3)
    predicted[0], truth[1], mask[2] = 4, 0, False
    assert np.isnan(null_threshold(truth, predicted, mask)).all()
