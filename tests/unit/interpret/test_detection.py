"""Detection statistics against pair counting, scipy and thresholds one by one."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given

from autointerp.interpret.detection import auroc, average_precision, recall_by_decile, share_detected
from tests.unit.interpret.grids import Grid, make_grid, tied_grids


def _pairs(truth: np.ndarray, predicted: np.ndarray) -> float:
    wins = [(p > q) + (p == q) / 2 for p in predicted[truth > 0] for q in predicted[truth <= 0]]
    return float(np.mean(wins))


def _thresholds(truth: np.ndarray, predicted: np.ndarray) -> float:
    """As sklearn defines it: the sum over descending thresholds of (R_n - R_{n-1}) P_n."""
    total, recall = 0.0, 0.0
    for level in np.unique(predicted)[::-1]:
        claimed = predicted >= level
        found = (truth > 0) & claimed
        now = found.sum() / (truth > 0).sum()
        total += (now - recall) * found.sum() / claimed.sum()
        recall = now
    return total


@given(tied_grids())
def test_any_ties_and_masks(grid: Grid) -> None:
    """Ties counted as wins, or split by their order in the array, move AUROC and average precision."""
    for area, precision, truth, predicted, mask in zip(auroc(*grid), average_precision(*grid), *grid, strict=True):
        t, p = truth[mask], predicted[mask]
        if (t > 0).any() and (t <= 0).any():
            u = scipy.stats.mannwhitneyu(p[t > 0], p[t <= 0]).statistic
            assert area == pytest.approx(_pairs(t, p), abs=1e-12)
            assert area == pytest.approx(u / ((t > 0).sum() * (t <= 0).sum()), abs=1e-12)
        else:
            assert np.isnan(area)
        if (t > 0).any():
            assert precision == pytest.approx(_thresholds(t, p), abs=1e-12)
        else:
            assert np.isnan(precision)


def test_by_hand() -> None:
    """Levels 9 (active), 5 (active, silent), 0 (active, three silent).

    AUROC: of 12 pairs 4 + 3.5 + 1.5. Average precision: (1 + 2 / 3 + 3 / 7) / 3.
    """
    truth = np.array([3.0, 1, 0, 2, 0, 0, 0]).reshape(1, 7, 1)
    predicted = np.array([9.0, 5, 5, 0, 0, 0, 0]).reshape(1, 7, 1)
    assert auroc(truth, predicted, truth >= 0) == pytest.approx([9 / 12])
    assert average_precision(truth, predicted, truth >= 0) == pytest.approx([(1 + 2 / 3 + 3 / 7) / 3])


@pytest.mark.parametrize("density", [0.5, 0.1, 0.01])
def test_a_perfect_detector_reaches_one_at_every_density(density: float) -> None:
    """SCORING B 4.1: Somers' D = 2 AUROC - 1 has ceiling 1 whatever the density."""
    truth = (np.arange(2_000) < density * 2_000).astype(float).reshape(1, -1, 1)
    assert 2 * auroc(truth, truth, truth >= 0) - 1 == pytest.approx([1.0])
    assert average_precision(truth, truth, truth >= 0) == pytest.approx([1.0])


def test_share_detected_counts_only_the_named_windows() -> None:
    """False positives of hard text must not be diluted by uniform text or by padding."""
    predicted = np.array([[[0.0, 4], [1, 1], [0, 7]]])
    mask = np.array([[[True, True], [True, True], [True, False]]])
    assert share_detected(predicted, mask, np.array([[True, False, True]])) == pytest.approx([1 / 3])
    assert np.isnan(share_detected(predicted, mask, np.zeros((1, 3), dtype=bool)))


def test_recall_by_decile_by_hand() -> None:
    """A decile without windows is not one of recall 0, and features must not share their counts."""
    predicted = np.array([[1.0, 0, 10, 3, 9], [0, 0, 1, 1, 1]])[:, :, None]
    decile = np.array([[1, 1, 10, 10, 0], [2, 2, 2, 0, 0]])[:, :, None]
    found = recall_by_decile(predicted, decile)
    assert found.shape == (2, 10)
    assert found[0, [0, 9]].tolist() == [0.5, 1.0]
    assert found[1, 1] == pytest.approx(1 / 3)
    assert np.isnan(found).sum() == 17


def test_no_feature_sees_another() -> None:
    """A value that moves with its batch makes a resumed run differ from an uninterrupted one."""
    grid = make_grid(5, n_feature=4)
    for statistic in (auroc, average_precision):
        assert statistic(*grid).tolist() == [statistic(*(s[i : i + 1] for s in grid))[0] for i in range(4)]
