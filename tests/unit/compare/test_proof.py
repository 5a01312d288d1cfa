"""The fast part of the proof on planted dictionaries; `tests/bench/prove_compare.py` is the whole of it."""

import pytest

from tests.planted_dictionaries import (
    Pool,
    Row,
    coverage,
    disjoint,
    equal_quality,
    make_pool,
    power,
    sloped_quality,
)

REPEATS = 200


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool(300, 8_000)


def check(rows: list[Row], slack: float) -> None:
    """Each share within its bounds, widened by what so few repeats scatter: three standard errors."""
    for row in rows:
        assert row.low - slack <= row.share <= row.high + slack, row


def test_equal_dictionaries_are_rejected_as_often_as_the_level_says(pool: Pool) -> None:
    """Guards against density, or features resampled wrongly, making a gap out of nothing."""
    check(equal_quality(pool, REPEATS, 1), 0.047)


def test_density_alone_makes_a_gap_only_without_standardising(pool: Pool) -> None:
    """The failure that standardising is for: plain means of equal dictionaries differ nearly always."""
    plain, _, adjusted = sloped_quality(pool, REPEATS, 1)
    assert plain.share > 0.9
    check([adjusted], 0.047)


def test_intervals_hold_the_truth(pool: Pool) -> None:
    """Guards against intervals over the wrong unit, or too narrow in small strata."""
    check(coverage(pool, REPEATS, 1), 0.047)


def test_dictionaries_without_common_densities_are_not_ranked(pool: Pool) -> None:
    """Guards against strata that reach over the gap between two ranges."""
    assert disjoint(pool, 100, 1).share == 0


def test_a_planned_number_finds_the_gap_it_was_planned_for(pool: Pool) -> None:
    """Guards against a plan that promises what its number of features does not hold."""
    found, wrong = power(pool, REPEATS, 1)
    assert found.share > 0.7
    assert wrong.share == 0
