"""What scoring an explanation comes to: statistics with intervals or reasons, and the controls beside them.

Plain validated data, no I/O. Knows no array, and not how its numbers are computed (`interpret.score`).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from autointerp.records import FeatureId, Record, TokenProfile, Usage

UndefinedReason = Literal[
    "no_pattern",
    "constant_truth",
    "constant_prediction",
    "too_few_windows",
    "too_many_failures",
    "no_table",
    "no_other_explanation",
    "not_drawn",
    "not_measured",
]
Why = Literal["misses_low", "misses_high", "fires_too_broadly", "wrong_order", "undefined", "failed"]
"""Why a score is low, or why there is none."""


class Score(Record):
    """A statistic with its interval, or the reason why there is none."""

    metric: str
    value: float | None
    undefined: UndefinedReason | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval over windows; None below 20 windows."""
    interval: Literal["jackknife", "bca"] | None = None
    n_windows: int
    null_threshold: float | None = None
    """95th percentile of the statistic with the predictions permuted over the windows."""
    ceiling: float | None = None
    """The statistic of the true levels themselves against the raw activations."""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.undefined is None):
            raise ValueError("a score has a value or a reason for lacking one, not both")
        return self


class FeatureScore(Record):
    """An explanation's score on one feature with its controls beside it."""

    feature: FeatureId
    protocol: str
    """Name and, where there are several, number of windows: `graded-60`."""
    simulator: str
    n_windows: int
    spearman: Score
    more: tuple[Score, ...]
    """Further statistics: Pearson, Kendall's tau-b, AUROC, average precision, Spearman among actives, …"""
    recall_by_decile: tuple[float | None, ...] = ()
    """Share of the activations of each decile, weakest first, that were predicted above 0; None without windows."""
    false_positives: dict[str, float | None] = Field(default_factory=dict)
    """Silent tokens predicted above 0 per 1,000, on `random`, `hard` and `guided` text; None where there was none."""
    hit_rate: float | None = None
    """Share of hard negatives answered above 0; None without hard negatives."""
    n_hard: int | None = None
    """Tokens of hard negatives that were answered; None in scores that were made when this was not noted."""
    specificity_untested: bool = False
    """Fewer than 10 hard negatives could be found and were answered."""
    lookup: Score
    """The look-up baseline's Spearman on the same windows."""
    bigram: Score = Score(metric="spearman", value=None, undefined="not_measured", n_windows=0)
    """The same with a table of neighbouring pairs."""
    position: Score = Score(metric="spearman", value=None, undefined="not_measured", n_windows=0)
    """Of predictions from the place in the text alone."""
    constant: Score = Score(metric="spearman", value=None, undefined="not_measured", n_windows=0)
    """Of the same level everywhere: undefined, and counted as 0."""
    lift: Score
    """spearman - lookup with a paired interval."""
    lift_ratio: float | None = None
    """(spearman - lookup) / (1 - lookup); None from a look-up of .95 on."""
    shuffled: Score
    """Spearman of another feature's explanation through the same simulator."""
    shuffled_from: FeatureId | None = None
    unrefined: Score | None = None
    """Spearman of the explanation before the revision that was kept; None where none was."""
    profile: TokenProfile | None = None
    """The feature's own, so that scores can be split by it."""
    per_stratum: dict[str, float | None]
    """Mean absolute level error by stratum; None where the stratum is empty."""
    n_saved: int = 0
    """Windows that stopping early left unasked."""
    first: "FeatureScore | None" = None
    """The same on the first block of windows, where an open score went on to more. Means are of these: whether a
    feature went on depends on its score, so a mean over what each ended with would be biased."""
    why: Why | None = None
    """Why the score is low or undefined; None for a good one."""
    usage: Usage = Usage()
