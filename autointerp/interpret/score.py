"""From true activations and simulated levels to a `FeatureScore` with its interval, null and controls.

A feature record, a simulation and the controls' predictions flow in; values with intervals or reasons flow out. A
failed window is left out and counted, never read as a level.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.interpret.intervals import Interval, jackknife
from autointerp.interpret.nulls import null_threshold
from autointerp.interpret.statistics import mean_window_spearman, pearson, spearman
from autointerp.records import Example, FeatureId, FeatureRecord, FeatureScore, Score, UndefinedReason, Usage

MIN_WINDOWS = 20
MIN_ACTIVE_WINDOWS = 5
MIN_DOCUMENTS = 5
MOST_FAILED = 0.1

Predicted = Sequence[Sequence[int] | None]
"""Per window one level per token, or None where the answer failed."""


class _Grid(NamedTuple):
    """Windows as padded arrays."""

    truth: Float[np.ndarray, "window tok"]
    levels: Float[np.ndarray, "window tok"]
    mask: Bool[np.ndarray, "window tok"]


class _Measured(NamedTuple):
    """A score and what it was computed from."""

    score: Score
    kept: Sequence[int]
    """Windows that were answered."""
    levels: Float[np.ndarray, "window tok"]


def score_feature(
    record: FeatureRecord,
    predicted: Predicted,
    *,
    no_pattern: bool,
    lookup: Predicted | None,
    shuffled: Predicted | None,
    shuffled_from: FeatureId | None,
    protocol: str,
    simulator: str,
    usage: Usage,
) -> FeatureScore:
    """Score one explanation's simulation on the record's score windows, with its controls on the same windows.

    Args:
        predicted: the simulation, one entry per score window; ignored where `no_pattern`.
        lookup: the look-up baseline's levels, where the record has a token table.
        shuffled: another feature's explanation through the same simulator.
    """
    examples = record.splits.score
    grid = _grid(examples)
    for answers in (None if no_pattern else predicted, lookup, shuffled):
        _check_aligned(examples, answers)
    main = _measure(examples, grid, predicted, "spearman", no_pattern=no_pattern)
    if lookup is not None and main.score.undefined is None:
        lookup = [levels if own is not None else None for levels, own in zip(lookup, predicted, strict=True)]
    table = _control(examples, grid, lookup, "no_table")
    other = _control(examples, grid, shuffled, "no_other_explanation")
    return FeatureScore(
        feature=record.feature,
        protocol=protocol,
        simulator=simulator,
        n_windows=main.score.n_windows,
        spearman=main.score,
        more=_more(examples, grid, predicted, main.score),
        lookup=table.score,
        lift=_lift(grid, main, table),
        shuffled=other.score,
        shuffled_from=shuffled_from,
        per_stratum=_errors(examples, predicted) if main.score.undefined is None else {},
        usage=usage,
    )


def select_value(examples: Sequence[Example], predicted: Predicted) -> float:
    """Spearman of a candidate on the select part, for choosing among candidates only; 0 where it is undefined."""
    grid = _grid(examples)
    kept = [i for i, p in enumerate(predicted) if p is not None]
    value = float(spearman(grid.truth[None, kept], _predictions(grid, predicted, kept)[None], grid.mask[None, kept])[0])
    return value if np.isfinite(value) else 0.0


def _check_aligned(examples: Sequence[Example], predicted: Predicted | None) -> None:
    """A simulator that answers other windows or tokens than asked is a bug, never a low score."""
    if predicted is None:
        return
    asked = [len(example.levels) for example in examples]
    answered = [len(e.levels) if p is None else len(p) for e, p in zip(examples, predicted, strict=True)]
    if asked != answered:
        raise ValueError(f"windows of {asked} tokens were answered by {answered} levels")


def _grid(examples: Sequence[Example]) -> _Grid:
    width = max((len(e.levels) for e in examples), default=1)
    truth, levels = np.zeros((len(examples), width)), np.zeros((len(examples), width))
    mask = np.zeros((len(examples), width), dtype=bool)
    for i, example in enumerate(examples):
        n = len(example.levels)
        truth[i, :n], levels[i, :n], mask[i, :n] = example.record.activations, example.levels, True
    return _Grid(truth, levels, mask)


def _predictions(grid: _Grid, predicted: Predicted, kept: Sequence[int]) -> Float[np.ndarray, "window tok"]:
    levels = np.zeros((len(kept), grid.truth.shape[1]))
    for i, window in enumerate(kept):
        values = predicted[window]
        if values is not None:
            levels[i, : len(values)] = values
    return levels


def _undefined(
    examples: Sequence[Example], grid: _Grid, kept: Sequence[int], levels: np.ndarray, *, no_pattern: bool
) -> UndefinedReason | None:
    if len(examples) - len(kept) > MOST_FAILED * len(examples):
        return "too_many_failures"
    active = (grid.truth[list(kept)] > 0).any(axis=1).sum()
    documents = len({examples[i].record.document for i in kept})
    if len(kept) < MIN_WINDOWS or active < MIN_ACTIVE_WINDOWS or documents < MIN_DOCUMENTS:
        return "too_few_windows"
    if no_pattern:
        return "no_pattern"
    mask = grid.mask[list(kept)]
    if np.ptp(grid.truth[list(kept)][mask]) == 0:
        return "constant_truth"
    if np.ptp(levels[mask]) == 0:
        return "constant_prediction"
    return None


def _measure(
    examples: Sequence[Example], grid: _Grid, predicted: Predicted, metric: str, *, no_pattern: bool = False
) -> _Measured:
    kept = list(range(len(examples))) if no_pattern else [i for i, p in enumerate(predicted) if p is not None]
    levels = _predictions(grid, [None] * len(examples) if no_pattern else predicted, kept)
    reason = _undefined(examples, grid, kept, levels, no_pattern=no_pattern)
    if reason:
        return _Measured(Score(metric=metric, value=None, undefined=reason, n_windows=len(kept)), kept, levels)
    one = grid.truth[None, kept], levels[None], grid.mask[None, kept]
    low, high = _ends(jackknife(*one, _one_stratum(kept)).spearman)
    score = Score(
        metric=metric,
        value=float(spearman(*one)[0]),
        low=low,
        high=high,
        interval="jackknife",
        n_windows=len(kept),
        null_threshold=float(null_threshold(*one)[0]),
        ceiling=float(spearman(one[0], grid.levels[None, kept], one[2])[0]),
    )
    return _Measured(score, kept, levels)


def _one_stratum(kept: Sequence[int]) -> Int[np.ndarray, "one window"]:
    return np.zeros((1, len(kept)), dtype=np.int64)


def _ends(interval: Interval) -> tuple[float, float]:
    return float(interval.low[0]), float(interval.high[0])


def _control(
    examples: Sequence[Example], grid: _Grid, predicted: Predicted | None, missing: UndefinedReason
) -> _Measured:
    if predicted is None:
        return _Measured(
            Score(metric="spearman", value=None, undefined=missing, n_windows=0), [], np.zeros((0, grid.truth.shape[1]))
        )
    return _measure(examples, grid, predicted, "spearman")


def _lift(grid: _Grid, main: _Measured, table: _Measured) -> Score:
    """spearman - lookup on the same windows, with a paired jackknife interval."""
    n = main.score.n_windows
    if main.score.value is None or table.score.value is None or main.kept != table.kept:
        reason = main.score.undefined or table.score.undefined or "too_many_failures"
        return Score(metric="lift", value=None, undefined=reason, n_windows=n)
    one = grid.truth[None, main.kept], main.levels[None], grid.mask[None, main.kept]
    low, high = _ends(jackknife(*one, _one_stratum(main.kept), table.levels[None]).lift)
    value = main.score.value - table.score.value
    return Score(metric="lift", value=value, low=low, high=high, interval="jackknife", n_windows=n)


def _more(examples: Sequence[Example], grid: _Grid, predicted: Predicted, own: Score) -> tuple[Score, ...]:
    """Pearson, and the mean of the windows' own Spearman."""
    if own.undefined:
        return ()
    kept = [i for i, p in enumerate(predicted) if p is not None]
    one = grid.truth[None, kept], _predictions(grid, predicted, kept)[None], grid.mask[None, kept]
    scores = [Score(metric="pearson", value=float(pearson(*one)[0]), n_windows=len(kept))]
    mean = float(mean_window_spearman(*one)[0])
    if np.isfinite(mean):
        scores.append(Score(metric="spearman_window_mean", value=mean, n_windows=len(kept)))
    return tuple(scores)


def _errors(examples: Sequence[Example], predicted: Predicted) -> dict[str, float | None]:
    """Mean absolute level error by stratum."""
    errors: dict[str, list[float]] = {}
    for example, levels in zip(examples, predicted, strict=True):
        if levels is not None:
            gap = np.abs(np.array(levels) - np.array(example.levels)).mean()
            errors.setdefault(example.stratum, []).append(float(gap))
    return {stratum: round(float(np.mean(gaps)), 4) for stratum, gaps in sorted(errors.items())}
