"""What a protocol says of explanations whose quality is known: separation, bias, coverage, null behaviour, price.

A planted feature and a protocol's design flow in, a `Cell` of figures flows out. Replicate draws stand in the place of
features in the project's own statistics. An undefined score counts as 0 where explanations are ranked.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from autointerp.interpret import intervals, statistics
from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.generator import JUDGES, QUALITIES, Planted, Quality, Sample, draw_luck, judge_levels
from autointerp.selftest.samplers import BenchDesign

RIVALS: tuple[Quality, ...] = ("broad", "lookup", "narrow", "noisy", "random")
LEAST_DRAWS = 50
"""Defined draws below which no coverage is given."""

FindIntervals = Callable[..., intervals.Intervals]
"""`intervals.bca` or `intervals.jackknife`."""
Scores = Mapping[Quality, Float[np.ndarray, " draw"]]
"""Rho of each explanation on the same draws; NaN where it is undefined."""


class Cell(Record):
    """One protocol at one density."""

    n_windows: int
    mean: float
    """Of the good explanation's rho over the draws where it is defined; likewise the next ones."""
    sd: float
    population: float
    """Its rho over the planted feature's whole corpus."""
    bias: float
    """mean - population."""
    undefined: float
    """Share of draws in which a side is constant."""
    d_prime: dict[str, float]
    """Good against each near-miss: difference of means over the pooled sd, unpaired; undefined as 0."""
    ranks_above: dict[str, float]
    """Share of draws that rank good strictly above each near-miss."""
    coverage: float | None
    """Share of 95 % jackknife intervals of good that hold the design's large-sample value; None where hardly any draw
    is defined."""
    coverage_bca: float | None
    """The same of stratified BCa intervals."""
    random_mean: float
    random_mean_abs: float
    """Of an explanation that has nothing to do with the feature; undefined as 0."""
    calls: int
    """Requests for one explanation's score."""
    input_tokens: int


class Draws(NamedTuple):
    """How many of them, and how many of these get intervals."""

    scored: int
    covered: int


class Measured(NamedTuple):
    """One protocol's draws with every explanation's answers."""

    sample: Sample
    levels: Mapping[Quality, Int[np.ndarray, "draw window tok"]]
    scores: Scores


def draw_scores(design: BenchDesign, planted: Planted, n_draws: int, seed: tuple[object, ...]) -> Measured:
    """Every explanation's rho on the same windows, answered by the same judge with the same luck."""
    rng = generator(*seed)
    sample = design.draw(planted, n_draws, rng)
    luck = draw_luck(sample, rng)
    levels = {q: judge_levels(JUDGES[q], planted, sample, luck) for q in QUALITIES}
    mask = np.ones(sample.activation.shape, dtype=bool)
    return Measured(sample, levels, {q: statistics.spearman(sample.activation, levels[q], mask) for q in QUALITIES})


def measure(
    design: BenchDesign,
    planted: Planted,
    population: float,
    draws: Draws,
    price: tuple[int, int],
    seed: tuple[object, ...],
) -> Cell:
    """All figures of one protocol on one planted feature.

    Args:
        population: the good explanation's rho over the whole corpus.
        price: calls and input tokens of one score.
    """
    drawn = draw_scores(design, planted, draws.scored, seed)
    covered = first_draws(drawn, draws.covered)
    good, null = drawn.scores["good"], np.nan_to_num(drawn.scores["random"])
    defined = good[np.isfinite(good)]
    mean = float(defined.mean()) if len(defined) else 0.0
    return Cell(
        n_windows=drawn.sample.activation.shape[1],
        mean=mean,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 else 0.0,
        population=population,
        bias=mean - population,
        undefined=1 - len(defined) / len(good),
        d_prime={q: separation(drawn.scores, q) for q in RIVALS},
        ranks_above={q: float((np.nan_to_num(good) > np.nan_to_num(drawn.scores[q])).mean()) for q in RIVALS},
        coverage=coverage(intervals.jackknife, design, covered, "good"),
        coverage_bca=coverage(intervals.bca, design, covered, "good"),
        random_mean=float(null.mean()),
        random_mean_abs=float(np.abs(null).mean()),
        calls=price[0],
        input_tokens=price[1],
    )


def first_draws(drawn: Measured, n: int) -> Measured:
    """The first n draws."""
    return Measured(
        Sample(*(side[:n] for side in drawn.sample)),
        {q: levels[:n] for q, levels in drawn.levels.items()},
        {q: scores[:n] for q, scores in drawn.scores.items()},
    )


def separation(scores: Scores, rival: Quality) -> float:
    """d' of good against a rival, unpaired, over the pooled sd; 0 where neither ever varies."""
    good, other = np.nan_to_num(scores["good"]), np.nan_to_num(scores[rival])
    pooled = np.sqrt((good.var(ddof=1) + other.var(ddof=1)) / 2)
    return float((good.mean() - other.mean()) / pooled) if pooled > 0 else 0.0


def coverage(find: FindIntervals, design: BenchDesign, drawn: Measured, quality: Quality) -> float | None:
    """Share of the draws' intervals that hold the rho of all draws' windows pooled; None with few defined draws."""
    truth, levels = drawn.sample.activation, drawn.levels[quality]
    flat = (1, -1, 1)
    pooled = statistics.spearman(truth.reshape(flat), levels.reshape(flat), np.ones((1, truth.size, 1), dtype=bool))[0]
    strata = design.strata_of(drawn.sample)
    found = find(truth, levels, np.ones(truth.shape, dtype=bool), strata).spearman
    defined = np.isfinite(found.low)
    if defined.sum() < LEAST_DRAWS:
        return None
    return float(((found.low <= pooled) & (pooled <= found.high))[defined].mean())


def population_score(planted: Planted, quality: Quality, seed: tuple[object, ...]) -> float:
    """An explanation's rho over the whole corpus, a fragment a window."""
    sample = Sample(planted.activation[None], planted.confusable[None])
    luck = draw_luck(sample, generator(*seed))
    return _whole_spearman(planted, judge_levels(JUDGES[quality], planted, sample, luck))


def _whole_spearman(planted: Planted, levels: Int[np.ndarray, "1 fragment tok"]) -> float:
    """Mid-rank rho from counts: the silent tokens are one tie."""
    flat, n = levels.reshape(-1), levels.size
    counts = np.bincount(flat, minlength=11)
    y = np.cumsum(counts) - (counts - 1) / 2 - (n + 1) / 2
    n_silent = n - len(planted.active)
    x_silent = (n_silent + 1) / 2 - (n + 1) / 2
    x_active = n_silent + rankdata(planted.values) - (n + 1) / 2
    on_active = y[flat[planted.active]]
    covariance = x_active @ on_active + x_silent * (counts @ y - on_active.sum())
    return float(covariance / np.sqrt((n_silent * x_silent**2 + x_active @ x_active) * (counts @ y**2)))
