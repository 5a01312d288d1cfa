"""From true activations and simulated levels to a `FeatureScore` with its interval, null and controls.

Examples, a simulation and the controls' predictions flow in; values with intervals or reasons flow out. A failed
window is left out and counted, never read as a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.interpret import detection, intervals, nulls, statistics
from autointerp.interpret.controls import control_levels
from autointerp.records import HARD_STRATA, Example, FeatureId, FeatureRecord
from autointerp.scores import FeatureScore, Score, UndefinedReason, Why

MIN_WINDOWS = 20
MIN_ACTIVE_WINDOWS = 5
MIN_DOCUMENTS = 5
MIN_HARD = 10
"""Hard negatives below which a score does not speak of specificity."""
MOST_FAILED = 0.1
LOW = 0.5
"""A Spearman below this has a `why`."""
MUCH = 0.3
"""Share of missed activations, or of false alarms, that explains a low score."""
NO_RATIO = 0.95
"""Look-up from which there is too little room above it for a ratio."""
_WEAK, _STRONG, _UNIFORM, _HARD = range(4)
_SILENT = {"uniform": _UNIFORM} | dict.fromkeys(HARD_STRATA, _HARD)
"""Strata of the intervals; what was chosen around an activation is weak or strong by its decile."""

IntervalName = Literal["bca", "jackknife"]
Predicted = Sequence[Sequence[int] | None]
"""Per window one level per scored token, or None where the answer failed."""

_NOTHING: Predicted = ()
"""In the place of predictions where the explanation found no pattern."""


@dataclass(frozen=True)
class Terms:
    """What a score is named by and how its intervals are made."""

    protocol: str
    simulator: str
    interval: IntervalName


@dataclass(frozen=True)
class Shuffled:
    """Another feature's explanation through the same simulator, or why there is none."""

    predicted: Predicted | None = None
    source: FeatureId | None = None
    missing: UndefinedReason = "no_other_explanation"


@dataclass(frozen=True)
class Guided:
    """Negatives found by the explanation's own words, and what was predicted there."""

    examples: Sequence[Example]
    predicted: Predicted


class _Grid(NamedTuple):
    """Scored tokens as padded arrays of one feature."""

    truth: Float[np.ndarray, "1 window tok"]
    levels: Float[np.ndarray, "1 window tok"]
    mask: Bool[np.ndarray, "1 window tok"]
    stratum: Int[np.ndarray, "1 window"]


class _Side(NamedTuple):
    """Predictions on the grid, where they were given, and the reason why they have no score."""

    levels: Float[np.ndarray, "1 window tok"]
    mask: Bool[np.ndarray, "1 window tok"]
    undefined: UndefinedReason | None

    @property
    def n_windows(self) -> int:
        return int(self.mask.any(axis=2).sum())


def score_feature(
    record: FeatureRecord,
    examples: Sequence[Example],
    predicted: Predicted,
    terms: Terms,
    *,
    no_pattern: bool = False,
    shuffled: Shuffled = Shuffled(),
    unrefined: Predicted | None = None,
    guided: Guided | None = None,
) -> FeatureScore:
    """Score one explanation's simulation on examples of the score part, with its controls on the same windows.

    Args:
        predicted: the simulation, one entry per example; ignored where `no_pattern`.
        unrefined: the explanation before its revision through the same simulator.
    """
    answers = {**control_levels(record, examples), "shuffled": shuffled.predicted, "unrefined": unrefined}
    for given in (None if no_pattern else predicted, *answers.values()):
        _check_aligned(examples, given)
    grid = _grid(examples)
    own = _side(examples, grid, _NOTHING if no_pattern else predicted)
    seen = grid.mask if own.undefined else own.mask
    sides = {name: _side(examples, grid, p, seen) for name, p in answers.items() if p is not None}
    spearman, lift = _headline(grid, own, sides.get("lookup"), terms.interval)
    measured = {name: _headline(grid, side, None, terms.interval)[0] for name, side in sides.items()}
    for name in ("lookup", "bigram", "position", "constant", "shuffled"):
        missing = shuffled.missing if name == "shuffled" else "no_table"
        measured.setdefault(name, Score(metric="spearman", value=None, undefined=missing, n_windows=0))
    score = FeatureScore(
        feature=record.feature,
        protocol=terms.protocol,
        simulator=terms.simulator,
        n_windows=own.n_windows,
        spearman=spearman,
        specificity_untested=int((grid.stratum[own.mask.any(axis=2)] == _HARD).sum()) < MIN_HARD,
        **measured,
        lift=lift,
        lift_ratio=_ratio(spearman, measured["lookup"]),
        shuffled_from=shuffled.source,
        profile=record.token_profile,
        **({"more": (), "per_stratum": {}} if own.undefined else _details(examples, grid, own, predicted, guided)),
    )
    return score.model_copy(update={"why": _why(score)})


def is_open(score: FeatureScore) -> bool:
    """Whether more windows could still change what is said: the interval spans the look-up baseline or the null."""
    s, lift = score.spearman, score.lift
    spans_null = s.low is not None and s.high is not None and s.null_threshold is not None
    if spans_null and s.low <= s.null_threshold <= s.high:  # type: ignore[operator]
        return True
    return lift.low is not None and lift.high is not None and lift.low <= 0 <= lift.high


def select_value(examples: Sequence[Example], predicted: Predicted) -> float | None:
    """Spearman of a candidate on the select part, for choosing among candidates only; None where it is undefined."""
    grid = _grid(examples)
    side = _side(examples, grid, predicted)
    value = float(statistics.spearman(grid.truth, side.levels, side.mask)[0])
    return value if np.isfinite(value) else None


def _check_aligned(examples: Sequence[Example], predicted: Predicted | None) -> None:
    """A simulator that answers other windows or tokens than asked is a bug, never a low score."""
    if predicted is None:
        return
    asked = [len(example.scored_levels) for example in examples]
    answered = [len(e.scored_levels) if p is None else len(p) for e, p in zip(examples, predicted, strict=True)]
    if asked != answered:
        raise ValueError(f"windows of {asked} scored tokens were answered by {answered} levels")


def _grid(examples: Sequence[Example]) -> _Grid:
    width = max((len(e.scored_levels) for e in examples), default=1)
    truth, levels = np.zeros((1, len(examples), width)), np.zeros((1, len(examples), width))
    mask = np.zeros((1, len(examples), width), dtype=bool)
    for i, example in enumerate(examples):
        n = len(example.scored_levels)
        truth[0, i, :n], levels[0, i, :n], mask[0, i, :n] = example.scored_activations, example.scored_levels, True
    stratum = np.array(
        [_SILENT.get(e.stratum, _WEAK if (e.decile or 0) <= 5 else _STRONG) for e in examples], dtype=int
    )
    return _Grid(truth, levels, mask, stratum[None])


def _side(
    examples: Sequence[Example], grid: _Grid, predicted: Predicted, seen: Bool[np.ndarray, "1 window tok"] | None = None
) -> _Side:
    """Predictions of an explanation or a control on the windows that are `seen` and were answered."""
    no_pattern = predicted is _NOTHING
    levels = np.zeros(grid.truth.shape)
    answered = np.ones(len(examples), dtype=bool)
    for i, values in enumerate(predicted):
        answered[i] = values is not None
        if values is not None:
            levels[0, i, : len(values)] = values
    mask = (grid.mask if seen is None else seen) & answered[None, :, None]
    if (~answered).sum() > MOST_FAILED * len(examples):
        return _Side(levels, mask, "too_many_failures")
    kept = np.flatnonzero(mask[0].any(axis=1))
    active = ((grid.truth[0] > 0) & mask[0]).any(axis=1).sum()
    documents = len({examples[i].record.document for i in kept.tolist()})
    if len(kept) < MIN_WINDOWS or active < MIN_ACTIVE_WINDOWS or documents < MIN_DOCUMENTS:
        return _Side(levels, mask, "too_few_windows")
    if no_pattern:
        return _Side(levels, mask, "no_pattern")
    if np.ptp(grid.truth[mask]) == 0:
        return _Side(levels, mask, "constant_truth")
    return _Side(levels, mask, "constant_prediction" if np.ptp(levels[mask]) == 0 else None)


def _headline(grid: _Grid, side: _Side, baseline: _Side | None, interval: IntervalName) -> tuple[Score, Score]:
    """Spearman with its interval, null threshold and ceiling, and its lift over the baseline on the same windows."""
    n = side.n_windows
    why_no_lift = side.undefined or ("no_table" if baseline is None else baseline.undefined)
    lift = Score(metric="lift", value=None, undefined=why_no_lift or "not_measured", n_windows=n)
    if side.undefined:
        return Score(metric="spearman", value=None, undefined=side.undefined, n_windows=n), lift
    paired = baseline.levels if baseline is not None and not why_no_lift else None
    measure = intervals.bca if interval == "bca" else intervals.jackknife
    ends = measure(grid.truth, side.levels, side.mask, grid.stratum, paired)
    value = float(statistics.spearman(grid.truth, side.levels, side.mask)[0])
    score = Score(
        metric="spearman",
        value=value,
        low=float(ends.spearman.low[0]),
        high=float(ends.spearman.high[0]),
        interval=interval,
        n_windows=n,
        null_threshold=float(nulls.null_threshold(grid.truth, side.levels, side.mask)[0]),
        ceiling=float(statistics.spearman(grid.truth, grid.levels, side.mask)[0]),
    )
    if paired is not None:
        lift = Score(
            metric="lift",
            value=value - float(statistics.spearman(grid.truth, paired, side.mask)[0]),
            low=float(ends.lift.low[0]),
            high=float(ends.lift.high[0]),
            interval=interval,
            n_windows=n,
        )
    return score, lift


def _ratio(spearman: Score, lookup: Score) -> float | None:
    if spearman.value is None or lookup.value is None or lookup.value >= NO_RATIO:
        return None
    return (spearman.value - lookup.value) / (1 - lookup.value)


def _details(
    examples: Sequence[Example], grid: _Grid, own: _Side, predicted: Predicted, guided: Guided | None
) -> dict[str, object]:
    """Everything else that is said of a defined score."""
    truth, levels, mask = grid.truth, own.levels, own.mask
    used = [e for e, seen in zip(examples, mask[0].any(axis=1), strict=True) if seen]
    weight = np.zeros((1, len(examples)))
    weight[0, mask[0].any(axis=1)] = _weights(used)
    values = {
        "pearson": statistics.pearson(truth, levels, mask),
        "kendall": statistics.kendall(truth, levels, mask),
        "auroc": detection.auroc(truth, levels, mask),
        "average_precision": detection.average_precision(truth, levels, mask),
        "spearman_among_active": statistics.spearman_among_active(truth, levels, mask),
        "spearman_weighted": statistics.spearman(truth, levels, mask, weight),
    }
    if truth.shape[2] > 1:
        values["spearman_window_mean"] = statistics.mean_window_spearman(truth, levels, mask)
    shares = {
        name: _number(detection.share_detected(levels, mask, grid.stratum == stratum)[0])
        for name, stratum in (("random", _UNIFORM), ("hard", _HARD))
    }
    decile = np.where(mask, _deciles(examples, grid), 0)
    return {
        "more": tuple(
            Score(metric=name, value=float(value[0]), n_windows=own.n_windows)
            for name, value in values.items()
            if np.isfinite(value[0])
        ),
        "recall_by_decile": tuple(map(_number, detection.recall_by_decile(levels, decile)[0])),
        "false_positives": {name: None if share is None else 1000 * share for name, share in shares.items()}
        | {"guided": _guided_share(guided)},
        "hit_rate": shares["hard"],
        "n_hard": int((mask & (grid.stratum == _HARD)[:, :, None]).sum()),
        "per_stratum": _errors(examples, predicted),
    }


def _weights(examples: Sequence[Example]) -> list[float]:
    """1 / inclusion probability of each window among those used."""
    return [1 / example.probability for example in examples]


def _deciles(examples: Sequence[Example], grid: _Grid) -> Int[np.ndarray, "1 window tok"]:
    """Decile of each active scored token: of the target it was chosen for, else its level."""
    deciles = np.where(grid.truth > 0, grid.levels, 0).astype(np.int64)
    for i, example in enumerate(examples):
        if example.target is not None:
            deciles[0, i, 0] = example.decile or 0
    return deciles


def _guided_share(guided: Guided | None) -> float | None:
    """False positives per 1,000 of the guided negatives that were answered."""
    answers = [p for p in guided.predicted if p is not None] if guided else []
    levels = [level for answer in answers for level in answer]
    return 1000 * sum(level > 0 for level in levels) / len(levels) if levels else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _errors(examples: Sequence[Example], predicted: Predicted) -> dict[str, float | None]:
    """Mean absolute level error by stratum."""
    errors: dict[str, list[float]] = {}
    for example, levels in zip(examples, predicted, strict=True):
        if levels is not None:
            gap = np.abs(np.array(levels) - np.array(example.scored_levels)).mean()
            errors.setdefault(example.stratum, []).append(float(gap))
    return {stratum: round(float(np.mean(gaps)), 4) for stratum, gaps in sorted(errors.items())}


def _why(score: FeatureScore) -> Why | None:
    """The one thing that a low score comes from most."""
    value = score.spearman.value
    if value is None:
        return "failed" if score.spearman.undefined == "too_many_failures" else "undefined"
    if value >= LOW:
        return None
    misses_low, misses_high = (_missed(score.recall_by_decile[half]) for half in (slice(0, 5), slice(5, 10)))
    alarms = max((v for v in score.false_positives.values() if v is not None), default=0.0) / 1000
    if alarms >= MUCH and alarms >= misses_high:
        return "fires_too_broadly"
    if misses_high >= MUCH:
        return "misses_high"
    return "misses_low" if misses_low >= MUCH else "wrong_order"


def _missed(recall: Sequence[float | None]) -> float:
    known = [value for value in recall if value is not None]
    return 1 - sum(known) / len(known) if known else 0.0
