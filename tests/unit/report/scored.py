"""Scores for tests of the report: a value, or a reason, with controls that say nothing."""

from collections.abc import Mapping

from autointerp.records import FeatureId, TokenProfile
from autointerp.scores import FeatureScore, Score, UndefinedReason


def plain(value: float | None, undefined: UndefinedReason | None = None, half: float = 0.1) -> Score:
    """A score with an interval of this half width."""
    if value is None:
        return Score(metric="spearman", value=None, undefined=undefined or "constant_prediction", n_windows=24)
    return Score(metric="spearman", value=value, low=value - half, high=value + half, n_windows=24, null_threshold=0.2)


def feature_score(
    index: int,
    value: float | None,
    undefined: UndefinedReason | None = None,
    *,
    lookup: float | None = 0.0,
    half: float = 0.1,
    changes: Mapping[str, object] | None = None,
) -> FeatureScore:
    """A feature's score, its shuffled control 0 and its lift the difference to `lookup`; `changes` are other fields."""
    lift = None if value is None or lookup is None else value - lookup
    return FeatureScore.model_validate(
        {
            "feature": FeatureId(dictionary="d", index=index),
            "protocol": "graded-60",
            "simulator": "lookup",
            "n_windows": 24,
            "spearman": plain(value, undefined, half),
            "more": (),
            "lookup": plain(lookup, "no_table"),
            "lift": plain(lift, undefined, half),
            "shuffled": plain(0.0),
            "profile": TokenProfile(entropy_bits=1.0 + index, single_token=index % 2 == 0, n_distinct=3),
            "per_stratum": {},
            **(changes or {}),
        }
    )
