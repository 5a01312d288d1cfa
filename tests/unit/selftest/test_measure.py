"""The bench's own figures: d', tie rules, floors, equal dictionaries, stopping, prices."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from autointerp.provenance import generator
from autointerp.selftest import dictionaries
from autointerp.selftest.accuracy import NONE_FLOOR, compare_floors
from autointerp.selftest.generator import Sample, plant
from autointerp.selftest.measure import draw_scores, separation
from autointerp.selftest.price import price_of
from autointerp.selftest.samplers import DESIGNS
from autointerp.selftest.stopping import LOOKS, compare_stopping, nested
from autointerp.selftest.ties import CLOSED_FORMS, compare_tie_rules


def test_separation_by_hand() -> None:
    """Means 2 and 1 with sample variances 1 and 3: d' = 1 / sqrt(2); an undefined score counts as 0."""
    good = np.array([1.0, 2.0, 3.0])
    rival = np.array([1.0 - np.sqrt(3), 1.0, 1.0 + np.sqrt(3)])
    assert separation({"good": good, "broad": rival}, "broad") == pytest.approx(1 / np.sqrt(2))
    undefined = np.array([np.nan, 0.0, 0.0])
    assert separation({"good": undefined, "broad": undefined}, "broad") == 0


def test_draws_are_scored_as_scipy_scores_them() -> None:
    planted = plant(1e-2, generator("measure"), n_fragments=2_000)
    drawn = draw_scores(DESIGNS["simulate"], planted, 3, ("seed",))
    for i in range(3):
        truth, levels = drawn.sample.activation[i].reshape(-1), drawn.levels["noisy"][i].reshape(-1)
        assert drawn.scores["noisy"][i] == pytest.approx(spearmanr(truth, levels).statistic)


@pytest.mark.parametrize(("density", "expected"), [(0.5, 0.926), (0.4, 0.958), (0.2, 0.992)])
def test_closed_form_of_the_perfect_detector(density: float, expected: float) -> None:
    assert CLOSED_FORMS["mid-rank"](density) == pytest.approx(expected, abs=1e-3)


def test_simulated_tie_rules_meet_their_closed_forms() -> None:
    """Two routes to the same number; a rank statistic with another tie rule fails here."""
    table = compare_tie_rules((1e-1, 1e-2), 1, 0)
    for rule, row in table.items():
        for density, cell in row.items():
            assert cell.perfect == pytest.approx(cell.closed_form, abs=3e-3), (rule, density)
    sparse = table["mid-rank"]["1e-2"]
    assert sparse.missing == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert sparse.extra == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert table["untied expected values"]["1e-2"].extra > 0.95 * table["untied expected values"]["1e-2"].perfect


def test_always_none_earns_its_floor() -> None:
    """The accuracy of an answer that reads nothing is part of every accuracy over 14 windows."""
    rows = compare_floors(plant(1e-3, generator("floors"), n_fragments=5_000), 100, 0)
    assert rows["always None"].accuracy == pytest.approx(NONE_FLOOR) == pytest.approx(10 / 14)
    assert rows["perfect"].accuracy > 0.95
    assert abs(rows["random"].rho or 0.0) < 0.06
    assert rows["good"].above_null == 1
    # One-sided 95th percentile of a permutation null with 60 windows.
    assert rows["random"].null_threshold == pytest.approx(1.645 / np.sqrt(59), rel=0.15)


def test_equal_dictionaries_by_hand() -> None:
    """Two rounds of two features: gaps 1 and 0, undefined as 0, Welch's z."""
    dense = np.array([[1.0, 3.0], [0.5, np.nan]])
    sparse = np.array([[0.0, 2.0], [0.0, 0.5]])
    gap = dictionaries.compare_scores(dense, sparse)
    assert gap.gap == pytest.approx(0.5)
    assert gap.z == pytest.approx((1 / np.sqrt(2) + 0) / 2)
    assert gap.undefined_dense == 0.25
    assert gap.undefined_sparse == 0


def test_every_look_holds_thirds_and_all_deciles() -> None:
    """A look that held more strong activations than the last would move the score by itself."""
    target = np.concatenate([np.repeat(np.arange(1.0, 11.0), 4), np.zeros(80)])
    kind = np.repeat([False, True], [80, 40])
    sample = Sample(np.tile(target, (5, 1))[:, :, None], np.tile(kind, (5, 1))[:, :, None])
    ordered = nested(sample, generator("nested"))
    for n in LOOKS:
        active = ordered.activation[:, :n, 0]
        hard = ordered.confusable[:, :n, 0]
        assert np.abs((active > 0).sum(axis=1) - n / 3).max() < 1
        assert np.abs(hard.sum(axis=1) - n / 3).max() < 1
        for row in active:
            counts = np.bincount(row.astype(int), minlength=11)[1:]
            assert counts.max() - counts.min() <= 1
    assert np.array_equal(np.sort(ordered.activation, axis=1), np.sort(sample.activation, axis=1))


def test_stopping_uses_no_more_windows_and_keeps_what_it_has() -> None:
    rows = compare_stopping(plant(1e-3, generator("stop"), n_fragments=5_000), 30, 0)
    for row in rows.values():
        assert LOOKS[0] <= row.windows <= LOOKS[-1]
        assert row.saved == pytest.approx(1 - row.windows / LOOKS[-1])
        assert sum(row.stopped_at.values()) == pytest.approx(1)
        if row.stopped_at[str(LOOKS[-1])] == 1:
            assert row.bias == 0
    assert rows["good"].windows < rows["narrow"].windows


def test_prices_follow_the_protocols_arithmetic() -> None:
    """Calls are requests, and a longer window costs more input."""
    calls = {name: price_of(design)[0] for name, design in DESIGNS.items()}
    assert calls["simulate"] == 48
    assert calls["random"] == calls["top-random"] == 10
    assert calls["deciles-random"] == 20
    assert calls["bricken"] == 1
    assert price_of(DESIGNS["random"])[1] / 10 > price_of(DESIGNS["simulate"])[1] / 48
