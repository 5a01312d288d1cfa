"""Spending windows only while the decision is open: what it saves, and whether it moves the mean.

A planted feature flows in; for every explanation the windows used, the calls saved and the mean score, stopped and not,
flow out. The looks are nested; a look that leaves the question open asks for the next block.
"""

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.interpret import intervals, nulls, statistics
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.dictionaries import MIXTURE
from autointerp.selftest.generator import JUDGES, Planted, Quality, Sample, draw_luck, judge_levels
from autointerp.selftest.samplers import DESIGNS

LOOKS = tuple(3 * n for n in accumulate(PROTOCOLS["graded"].design.blocks))
"""Windows scored at each look: the protocol's nested blocks."""
STOPPED: tuple[Quality, ...] = ("good", "broad", "narrow", "noisy", "random")


class StopRow(Record):
    """One explanation, or an equal mixture, scored with stopping and without."""

    windows: float
    """Mean number of windows used."""
    stopped_at: dict[str, float]
    """Share of draws that end at each look."""
    saved: float
    """Share of the calls of always asking for the most."""
    mean_first: float
    """Mean rho at the first look, which every draw has; undefined as 0, likewise the next ones."""
    mean_stopped: float
    """Mean rho where each draw ends."""
    mean_full: float
    """Mean rho of the same draws at the most windows."""
    bias: float
    """mean_stopped - mean_full."""
    bias_se: float
    """Its standard error, draws as units."""


class _Ended(NamedTuple):
    """Where draws ended and what they score."""

    look: Int[np.ndarray, " draw"]
    first: Float[np.ndarray, " draw"]
    stopped: Float[np.ndarray, " draw"]
    full: Float[np.ndarray, " draw"]


class _Look(NamedTuple):
    rho: Float[np.ndarray, " draw"]
    still_open: Bool[np.ndarray, " draw"]


def compare_stopping(planted: Planted, n_draws: int, seed: int) -> dict[str, StopRow]:
    """Stop at the first look that settles both questions, against always going on to the last; `mixture` is the mean
    over an equal mixture of explanations on the same draws."""
    rng = generator(seed, "stopping", planted.density)
    sample = nested(DESIGNS["graded-120"].draw(planted, n_draws, rng), rng)
    luck = draw_luck(sample, rng)
    baseline = judge_levels(JUDGES["lookup"], planted, sample, luck)
    ended = {}
    for q in STOPPED:
        levels = judge_levels(JUDGES[q], planted, sample, luck)
        ended[q] = _end([_look(sample, levels, baseline, n) for n in LOOKS])
    rows = {str(q): _row([e]) for q, e in ended.items()}
    return {**rows, "mixture": _row([ended[q] for q in MIXTURE])}


def nested(sample: Sample, rng: np.random.Generator) -> Sample:
    """The windows in an order whose every prefix of a look is thirds, its active third spread over the deciles."""
    n_draws, n, _ = sample.activation.shape
    third = n // 3
    each = third // 10
    deciles = rng.permuted(np.tile(np.arange(10), (n_draws, each, 1)), axis=2)
    active = (deciles * each + np.arange(each)[:, None]).reshape(n_draws, third)
    rest = np.tile(np.arange(third, n).reshape(2, third), (n_draws, 1, 1))
    order = np.concatenate([active[:, None], rest], axis=1).transpose(0, 2, 1).reshape(n_draws, n)
    return Sample(*(np.take_along_axis(side, order[:, :, None], axis=1) for side in sample))


def _look(
    sample: Sample, levels: Int[np.ndarray, "draw window tok"], baseline: Int[np.ndarray, "draw window tok"], n: int
) -> _Look:
    """The score on the first n windows, and whether an interval still spans the look-up baseline or the null."""
    truth, own, other = sample.activation[:, :n], levels[:, :n], baseline[:, :n]
    mask = np.ones(truth.shape, dtype=bool)
    stratum = np.tile(np.arange(n) % 3, (len(truth), 1))
    found = intervals.bca(truth, own, mask, stratum, other)
    null = nulls.null_threshold(truth, own, mask)
    rho = np.nan_to_num(statistics.spearman(truth, own, mask))
    spans = ((found.lift.low <= 0) & (found.lift.high >= 0)) | (
        (found.spearman.low <= null) & (null <= found.spearman.high)
    )
    return _Look(rho, spans | ~np.isfinite(found.lift.low))


def _end(looks: list[_Look]) -> _Ended:
    still_open = np.stack([look.still_open for look in looks[:-1]])
    end = np.where(still_open.all(axis=0), len(looks) - 1, np.argmin(still_open, axis=0))
    rho = np.stack([look.rho for look in looks])
    return _Ended(end, rho[0], np.take_along_axis(rho, end[None], axis=0)[0], rho[-1])


def _row(ended: list[_Ended]) -> StopRow:
    look, first, stopped, full = (np.stack(side) for side in zip(*ended, strict=True))
    windows = float(np.array(LOOKS)[look].mean())
    difference = (stopped - full).mean(axis=0)
    return StopRow(
        windows=windows,
        stopped_at={str(n): float((look == i).mean()) for i, n in enumerate(LOOKS)},
        saved=1 - windows / LOOKS[-1],
        mean_first=float(first.mean()),
        mean_stopped=float(stopped.mean()),
        mean_full=float(full.mean()),
        bias=float(difference.mean()),
        bias_se=float(difference.std(ddof=1) / np.sqrt(len(difference))),
    )
