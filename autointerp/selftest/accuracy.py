"""What SAEBench's accuracy and our rho give to explanations that say nothing: a score is read beside its floor.

A planted feature flows in; the accuracy over 14 windows that each explanation earns, and its graded rho with the null
threshold, flow out. Method: SAEBench autointerp, 2 strongest, 2 importance-weighted and 10 random windows of 21 tokens,
the random ones taken for silent without looking.
"""

import numpy as np

from autointerp.interpret import nulls
from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.generator import JUDGES, QUALITIES, Planted, Sample, draw_luck, judge_levels
from autointerp.selftest.measure import draw_scores
from autointerp.selftest.samplers import DESIGNS, TOP_POOL, choose

WIDTH = 21
N_TOP, N_WEIGHTED, N_RANDOM = 2, 2, 10
NONE_FLOOR = N_RANDOM / (N_TOP + N_WEIGHTED + N_RANDOM)
"""What a judge earns that always answers "None"."""


class FloorRow(Record):
    """One explanation, or one answer that needs none."""

    accuracy: float
    """Share of the 14 windows answered as SAEBench takes them to be."""
    rho: float | None = None
    """Mean graded rho at 60 windows, undefined as 0; None where there is nothing to correlate."""
    null_threshold: float | None = None
    above_null: float | None = None
    """Share of draws with rho above their own null threshold."""


def compare_floors(planted: Planted, n_draws: int, seed: int) -> dict[str, FloorRow]:
    """Every explanation, a perfect judge, and one that always answers "None"."""
    rng = generator(seed, "saebench", planted.density)
    sample = _draw(planted, n_draws, rng)
    luck = draw_luck(sample, rng)
    said = np.repeat([True, False], [N_TOP + N_WEIGHTED, N_RANDOM])
    graded = draw_scores(DESIGNS["graded-60"], planted, n_draws, (seed, "floors", planted.density))
    rows: dict[str, FloorRow] = {}
    for q in QUALITIES:
        claimed = (judge_levels(JUDGES[q], planted, sample, luck) > 0).any(axis=2)
        truth, rho = graded.sample.activation, graded.scores[q]
        threshold = nulls.null_threshold(truth, graded.levels[q], np.ones(truth.shape, dtype=bool))
        rows[q] = FloorRow(
            accuracy=float((claimed == said).mean()),
            rho=float(np.nan_to_num(rho).mean()),
            null_threshold=float(np.nanmean(threshold)),
            above_null=float((rho > threshold).mean()),
        )
    fires = (sample.activation > 0).any(axis=2)
    rows["perfect"] = FloorRow(accuracy=float((fires == said).mean()))
    rows["always None"] = FloorRow(accuracy=float((~said).mean()))
    return rows


def _draw(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    top, rest = planted.active[-TOP_POOL:], planted.active[:-TOP_POOL]
    share = planted.values[:-TOP_POOL] / planted.values[:-TOP_POOL].sum()
    slot = np.concatenate(
        [
            top[choose(rng, n_draws, len(top), N_TOP)],
            rest[np.searchsorted(share.cumsum(), rng.random((n_draws, N_WEIGHTED))).clip(max=len(rest) - 1)],
            rng.integers(0, planted.activation.size, (n_draws, N_RANDOM)),
        ],
        axis=1,
    )
    return planted.read(planted.window_around(slot, np.full(slot.shape, WIDTH // 2), WIDTH), WIDTH)
