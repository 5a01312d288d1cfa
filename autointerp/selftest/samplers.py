"""The protocols' ways to draw scored windows from a planted feature, many draws at a time.

A planted feature and a generator flow in; samples [draw, window, tok] flow out. Active windows come first, then silent
ones drawn uniformly, then hard ones. Knows no judge and no statistic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from autointerp.interpret.simulate import WINDOWS_A_REQUEST
from autointerp.selftest.generator import FRAGMENT, Planted, Sample

BenchProtocol = Literal[
    "graded-60", "graded-120", "simulate", "random", "top-random", "top-random-nonzero", "deciles-random", "bricken"
]
TOP_POOL = 20
"""Fragments from which the top ones are drawn (Bills et al. 2023, Cunningham et al. 2023)."""
N_INTERVALS = 12
SPARE = 6
"""Places tried for every silent window wanted."""
Draw = Callable[[Planted, int, np.random.Generator], Sample]


@dataclass(frozen=True)
class BenchDesign:
    """One protocol's sampler with its arithmetic."""

    n_windows: int
    """Where every stratum is full."""
    width: int
    """Tokens shown a window."""
    n_scored: int
    """Levels answered a window."""
    windows_per_request: int
    """`WINDOWS_A_REQUEST` targets; of the others as published."""
    strata: tuple[int, ...]
    """Windows of each stratum but the first, which has the rest."""
    draw: Draw

    def strata_of(self, sample: Sample) -> Int[np.ndarray, "draw window"]:
        """The number of each window's stratum."""
        n_draws, n, _ = sample.activation.shape
        sizes = (n - sum(self.strata), *self.strata)
        return np.tile(np.repeat(np.arange(len(sizes)), sizes), (n_draws, 1))


def choose(rng: np.random.Generator, n_draws: int, n: int, k: int) -> Int[np.ndarray, "draw k"]:
    """k of n without replacement in each draw, all n where there are fewer (Floyd's algorithm); order means nothing."""
    if n <= k:
        return np.tile(np.arange(n), (n_draws, 1))
    chosen = np.full((n_draws, k), -1)
    for i, last in enumerate(range(n - k, n)):
        pick = rng.integers(0, last + 1, n_draws)
        taken = (chosen[:, :i] == pick[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, last, pick)
    return chosen


def by_decile(planted: Planted, n_draws: int, n: int, rng: np.random.Generator) -> Int[np.ndarray, "draw n"]:
    """Active slots, equally many of each decile by rank."""
    deciles = np.array_split(planted.active, 10)
    return np.concatenate([d[choose(rng, n_draws, len(d), n // 10)] for d in deciles], axis=1)


def first_true(fine: np.ndarray, candidates: np.ndarray, n: int) -> Int[np.ndarray, "draw n"]:
    """The first n fine candidates of each draw."""
    order = np.argsort(~fine, axis=1, kind="stable")[:, :n]
    if not np.take_along_axis(fine, order, axis=1).all():
        raise ValueError("a planted feature so dense that silent text is rare")
    return np.take_along_axis(candidates, order, axis=1)


def silent_windows(
    planted: Planted, n_draws: int, n: int, width: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw n"]:
    """Starts of uniform windows without an active token."""
    shape = (n_draws, SPARE * n + SPARE)
    start = rng.integers(0, len(planted.activation), shape) * FRAGMENT + rng.integers(0, FRAGMENT - width + 1, shape)
    return first_true(planted.quiet(start, width), start, n)


def hard_windows(
    planted: Planted, n_draws: int, n: int, width: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw n"]:
    """Starts of windows without an active token around tokens that look like the concept."""
    slot = planted.look_alikes[choose(rng, n_draws, len(planted.look_alikes), SPARE * n)]
    start = planted.window_around(slot, rng.integers(0, width, slot.shape), width)
    return first_true(planted.quiet(start, width), start, n)


def graded(n_windows: int, hit_rate: float = 1.0) -> Draw:
    """One target a window: a third active by decile, a third uniform where silent, a third hard.

    A hard target is a look-alike with chance `hit_rate`, else a plain silent token.
    """

    def draw(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
        third = n_windows // 3
        active = by_decile(planted, n_draws, third, rng)
        uniform = silent_windows(planted, n_draws, third, 1, rng)
        hard = planted.look_alikes[choose(rng, n_draws, len(planted.look_alikes), third)]
        plain = rng.integers(0, planted.activation.size, (n_draws, SPARE * third))
        fine = planted.quiet(plain, 1) & ~planted.confusable.reshape(-1)[plain]
        missed = rng.random(hard.shape) >= hit_rate
        hard = np.where(missed, first_true(fine, plain, third), hard)
        return planted.read(np.concatenate([active, uniform, hard], axis=1), 1)

    return draw


def simulate_48x16(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """16 windows around activations spread over the deciles, 16 silent ones, 16 silent ones with a look-alike."""
    slot = by_decile(planted, n_draws, 20, rng)
    slot = np.take_along_axis(slot, choose(rng, n_draws, slot.shape[1], 16), axis=1)
    active = planted.window_around(slot, rng.integers(0, 16, slot.shape), 16)
    uniform = silent_windows(planted, n_draws, 16, 16, rng)
    hard = hard_windows(planted, n_draws, 16, 16, rng)
    return planted.read(np.concatenate([active, uniform, hard], axis=1), 16)


def random_10x64(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """Whole fragments, uniformly."""
    return planted.read(choose(rng, n_draws, len(planted.activation), 10) * FRAGMENT, FRAGMENT)


def _top_five(planted: Planted, n_draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw 5"]:
    pool = np.argsort(-planted.peaks, kind="stable")[:TOP_POOL]
    return np.asarray(pool[choose(rng, n_draws, TOP_POOL, 5)])


def top_random(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """Five of the twenty strongest fragments, five uniform ones (Bills et al. 2023)."""
    other = choose(rng, n_draws, len(planted.activation), 5)
    return planted.read(np.concatenate([_top_five(planted, n_draws, rng), other], axis=1) * FRAGMENT, FRAGMENT)


def top_random_nonzero(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """Five of the twenty strongest fragments, five others among those that fire (Cunningham et al. 2023, its code)."""
    firing = np.flatnonzero(planted.peaks)
    other = firing[choose(rng, n_draws, len(firing), 5)]
    return planted.read(np.concatenate([_top_five(planted, n_draws, rng), other], axis=1) * FRAGMENT, FRAGMENT)


def deciles_random(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """Ten windows of 32 around activations, one a decile, ten silent ones."""
    slot = by_decile(planted, n_draws, 10, rng)
    active = planted.window_around(slot, rng.integers(0, 32, slot.shape), 32)
    return planted.read(np.concatenate([active, silent_windows(planted, n_draws, 10, 32, rng)], axis=1), 32)


def bricken(planted: Planted, n_draws: int, rng: np.random.Generator) -> Sample:
    """Windows of nine around 6 of the strongest tokens, 2 of each of 12 intervals of value, 10 uniform ones and 20
    look-alikes; an interval with fewer than two tokens stays short (Bricken et al. 2023)."""
    top = planted.active[-TOP_POOL:]
    pieces = [top[choose(rng, n_draws, len(top), 6)]]
    bounds = np.linspace(0.0, planted.values[-1], N_INTERVALS + 1)[1:-1]
    for piece in np.split(planted.active, np.searchsorted(planted.values, bounds)):
        pieces.append(piece[choose(rng, n_draws, len(piece), 2)])
    pieces.append(rng.integers(0, planted.activation.size, (n_draws, 10)))
    pieces.append(planted.look_alikes[choose(rng, n_draws, len(planted.look_alikes), 20)])
    slot = np.concatenate(pieces, axis=1)
    return planted.read(planted.window_around(slot, np.full(slot.shape, 4), 9), 9)


DESIGNS: dict[BenchProtocol, BenchDesign] = {
    "graded-60": BenchDesign(60, 32, 1, WINDOWS_A_REQUEST, (10, 20, 20), graded(60)),
    "graded-120": BenchDesign(120, 32, 1, WINDOWS_A_REQUEST, (20, 40, 40), graded(120)),
    "simulate": BenchDesign(48, 16, 16, 1, (16, 16), simulate_48x16),
    "random": BenchDesign(10, 64, 64, 1, (), random_10x64),
    "top-random": BenchDesign(10, 64, 64, 1, (5,), top_random),
    "top-random-nonzero": BenchDesign(10, 64, 64, 1, (5,), top_random_nonzero),
    "deciles-random": BenchDesign(20, 32, 32, 1, (10,), deciles_random),
    "bricken": BenchDesign(60, 9, 9, 60, (10, 20), bricken),
}
