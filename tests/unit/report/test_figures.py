"""The figures that need no script: positions and shares by hand."""

import re

import pytest

from autointerp.interpret.summary import DictionarySummary
from autointerp.report.data import FeatureEntry
from autointerp.report.figures import Axis, Mean, distribution, dot, histogram
from tests.unit.report.scored import feature_score


def feature(index: int, value: float) -> FeatureEntry:
    return FeatureEntry.model_validate(
        {
            "dictionary": "d",
            "index": index,
            "state": "scored",
            "density": 0.01,
            "n_active": 3,
            "max": 1.0,
            "score": feature_score(index, value),
        }
    )


def summary(**means: float) -> DictionarySummary:
    absent: dict[str, float | None] = dict.fromkeys(("mean", "counted_mean"))
    return DictionarySummary.model_validate(
        {
            "role": "trained",
            "n_features": 2,
            "explained": 2,
            "scored": 2,
            "undefined": {},
            "failed": {},
            "skipped": {},
            "protocol": "simulate",
            "n_windows": 48,
            "spearman": {**absent, **dict.fromkeys(("median", "low", "high")), **means},
            "lookup": absent,
            "shuffled": absent,
            "n_tokens": 10,
            "l0": None,
            "density": None,
            "n_alive": 2,
        }
    )


def test_axis_spans_what_it_is_given() -> None:
    axis = Axis([-0.31, 0.9])
    assert axis.low == pytest.approx(-0.4)
    assert axis.at(-0.4) == 0
    assert axis.at(1.0) == 100
    assert axis.at(0.3) == 50
    assert [label for _, label in axis.ticks()][:2] == ["\u22120.4", "\u22120.2"]


def test_axis_never_leaves_correlations() -> None:
    assert Axis([-1.0]).low == -1.0
    assert Axis([]).low == pytest.approx(-0.2)


def test_histogram_shares_add_up_and_hold_the_ends() -> None:
    axis = Axis([])
    shares = histogram([-0.2, 0.0, 0.0, 1.0], axis)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == 0.25
    assert shares[4] == 0.5
    assert shares[-1] == 0.25


def test_mean_and_interval_stand_where_they_should() -> None:
    axis = Axis([])
    svg = str(
        distribution(
            [feature(0, 0.2), feature(1, 0.6)], summary(mean=0.4, counted_mean=0.4, low=0.1, high=0.7), axis, 0.5
        )
    )
    assert 'class="mark-score" cx="50.0%"' in svg
    assert re.search(r'class="span-score" x1="25.0%" x2="75.0%"', svg)


def test_absent_statistics_leave_no_mark() -> None:
    """A mean that does not exist must not be drawn at 0."""
    svg = str(distribution([], summary(), Axis([]), 0.5))
    assert "mark-" not in svg
    assert "–" in svg


def test_a_control_beside_the_null_threshold() -> None:
    """A control that was not measured has no mark, and above all none at 0."""
    axis = Axis([])
    svg = str(dot(Mean(0.4, 0.1, 0.7), "bigram", axis, 0.25))
    assert '<svg x="50.0%"' in svg
    assert 'class="span-bigram" x1="25.0%" x2="75.0%"' in svg
    assert 'class="null" x1="37.5%"' in svg
    assert "mark-" not in str(dot(Mean(None, None, None), "bigram", axis, 0.25))
