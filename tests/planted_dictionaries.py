"""Planted dictionaries whose true gap is known: does a comparison reject, cover and find what it should?

Scores are those of the selftest's planted explanations under `graded-60`, drawn at each density from a pool; a
dictionary is a number of features with densities of its own and explanations of mixed quality. `prove` draws pairs of
dictionaries again and again, and says how often each figure of a comparison is right. Everything is seeded.
"""

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

import numpy as np

from autointerp.compare.bootstrap import ALPHA, Resampled, plain_mean, stratified_mean, weighted_mean
from autointerp.compare.permutation import permutation_p, sign_flip_p
from autointerp.compare.power import features_needed_at
from autointerp.compare.strata import Strata, common_strata, level_out
from autointerp.provenance import generator
from autointerp.selftest.generator import Quality, plant
from autointerp.selftest.measure import draw_scores
from autointerp.selftest.samplers import DESIGNS

MIXTURE: tuple[Quality, ...] = ("good", "broad", "noisy", "narrow")
DENSE, SPARSE, RARE = (1e-3, 1e-2), (2e-4, 5e-3), (2e-5, 4e-4)
"""Ranges of density, log-uniform inside: of A, of B, and of a B that shares none with A."""
N_FEATURE = 200
N_PILOT = 100
N_DRAWS = 1_000
GAP = 0.05
_GRID_PER_DECADE = 8


class Pool(NamedTuple):
    """Scores of planted explanations by density and quality."""

    log_density: np.ndarray
    scores: np.ndarray
    """[density, quality, draw]; undefined as 0."""

    def _place(self, log_density: np.ndarray) -> np.ndarray:
        """The nearest density on the grid."""
        places = np.rint((log_density - self.log_density[0]) * _GRID_PER_DECADE).astype(int)
        return np.asarray(np.clip(places, 0, len(self.log_density) - 1))

    def draw(
        self, log_density: np.ndarray, quality: np.ndarray, rng: np.random.Generator, slope: float = 0.0
    ) -> np.ndarray:
        """One score a feature; with a slope, so much more for each decade of density."""
        place = self._place(log_density)
        own = self.scores[place, quality, rng.integers(0, self.scores.shape[2], len(place))]
        return np.asarray(own + slope * (log_density + 3))

    def mean_at(self, log_density: np.ndarray, chance: np.ndarray, slope: float = 0.0) -> np.ndarray:
        """The expected score at each density."""
        place = self._place(log_density)
        return np.asarray((self.scores.mean(axis=2) @ chance)[place] + slope * (log_density + 3))


class Drawn(NamedTuple):
    """One dictionary's scored features."""

    density: np.ndarray
    score: np.ndarray
    expected: np.ndarray


class Row(NamedTuple):
    """One line of the proof: a share of repeats, and where it must lie."""

    what: str
    share: float
    low: float
    high: float
    n: int

    @property
    def ok(self) -> bool:
        """Inside its bounds."""
        return self.low <= self.share <= self.high


def make_pool(n_draw: int, fragments: int, seed: int = 0) -> Pool:
    """Scores of every quality at eight densities a decade, from 2e-5 to 1e-2."""
    grid = np.arange(np.log10(RARE[0]), np.log10(DENSE[1]) + 0.1, 1 / _GRID_PER_DECADE)
    scores = np.empty((len(grid), len(MIXTURE), n_draw))
    for i, log_density in enumerate(grid.tolist()):
        planted = plant(float(10**log_density), generator(seed, "pool", i), fragments)
        drawn = draw_scores(DESIGNS["graded-60"], planted, n_draw, (seed, "pool", i, "scores")).scores
        scores[i] = np.nan_to_num([drawn[quality] for quality in MIXTURE])
    return Pool(grid, scores)


EQUAL = np.full(len(MIXTURE), 1 / len(MIXTURE))


def worse_by(pool: Pool, gap: float) -> np.ndarray:
    """Chances of the qualities whose expected score is `gap` below an equal mixture's: less good, more noisy."""
    means = pool.scores.mean(axis=(0, 2))
    moved = gap / (means[MIXTURE.index("good")] - means[MIXTURE.index("noisy")])
    chance = EQUAL.copy()
    chance[MIXTURE.index("good")] -= moved
    chance[MIXTURE.index("noisy")] += moved
    return chance


def draw_dictionary(
    pool: Pool,
    span: tuple[float, float],
    n: int,
    rng: np.random.Generator,
    chance: np.ndarray = EQUAL,
    slope: float = 0.0,
    lean: float = 1.0,
) -> Drawn:
    """Features with log-uniform densities, and qualities that know nothing of them; a `lean` above 1 is to the rare."""
    low, high = _logs(span)
    log_density = low + (high - low) * rng.random(n) ** lean
    quality = rng.choice(len(MIXTURE), n, p=chance)
    score = pool.draw(log_density, quality, rng, slope)
    return Drawn(10**log_density, score, pool.mean_at(log_density, chance, slope))


def standardised(
    a: Drawn, b: Drawn, strata: Strata, rng: np.random.Generator, *, levelled: bool = False
) -> tuple[Resampled, Resampled]:
    """Both means over the common strata."""
    scores = [a.score, b.score]
    if levelled:
        scores = level_out(strata, [a.density, b.density], scores)
    x, y = (strata.split(d.density, s) for d, s in zip((a, b), scores, strict=True))
    weights = strata.weights
    return stratified_mean(x, weights, N_DRAWS, rng), stratified_mean(y, weights, N_DRAWS, rng)


def _logs(span: tuple[float, float]) -> tuple[float, float]:
    return log10(span[0]), log10(span[1])


def excludes(found: Resampled, truth: float) -> bool:
    """Whether a 95 % interval leaves the truth out."""
    low, high = found.interval()
    return not low <= truth <= high


def prove(pool: Pool, repeats: int, power_repeats: int, seed: int = 0) -> list[Row]:
    """Every line of the proof."""
    rows = equal_quality(pool, repeats, seed)
    rows += sloped_quality(pool, repeats, seed)
    rows += coverage(pool, repeats, seed)
    rows += [disjoint(pool, power_repeats, seed), *power(pool, power_repeats, seed)]
    return rows


def equal_quality(pool: Pool, repeats: int, seed: int) -> list[Row]:
    """How often a gap is found where there is none: by the interval and by permutation, unpaired and paired."""
    found = np.zeros((repeats, 4), bool)
    for i in range(repeats):
        rng = generator(seed, "equal", i)
        a, b = draw_dictionary(pool, DENSE, N_FEATURE, rng), draw_dictionary(pool, SPARSE, N_FEATURE, rng)
        strata = common_strata([a.density, b.density])
        one, other = standardised(a, b, strata, rng)
        sides = [strata.split(d.density, d.score) for d in (a, b)]
        gaps = paired_gaps(pool, rng)
        found[i] = (
            excludes(one - other, 0),
            permutation_p(sides[0], sides[1], strata.weights, N_DRAWS, rng) <= ALPHA,
            excludes(plain_mean(gaps, N_DRAWS, rng), 0),
            sign_flip_p(gaps, N_DRAWS, rng) <= ALPHA,
        )
    names = ("mean, interval", "mean, permutation", "paired, interval", "paired, signs flipped")
    shares = found.mean(axis=0).tolist()
    return [_row(f"equal quality rejected: {n}", s, 0.03, 0.07, repeats) for n, s in zip(names, shares, strict=True)]


def paired_gaps(pool: Pool, rng: np.random.Generator, n: int = 100) -> np.ndarray:
    """Differences of matched features: one quality a pair, each side at a density of its own dictionary."""
    quality = rng.integers(0, len(MIXTURE), n)
    sides = [pool.draw(rng.uniform(*_logs(span), n), quality, rng) for span in (DENSE, SPARSE)]
    return np.asarray(sides[0] - sides[1])


def sloped_quality(pool: Pool, repeats: int, seed: int, slope: float = -0.3) -> list[Row]:
    """The same where every score falls by .3 a decade of density, and B's features lean to its rare end.

    Then B's features are rarer inside half a decade too, so strata leave a part of the gap standing.
    """
    found = np.zeros((repeats, 3), bool)
    for i in range(repeats):
        rng = generator(seed, "sloped", i)
        a = draw_dictionary(pool, DENSE, N_FEATURE, rng, slope=slope)
        b = draw_dictionary(pool, SPARSE, N_FEATURE, rng, slope=slope, lean=2)
        strata = common_strata([a.density, b.density])
        one, other = standardised(a, b, strata, rng)
        level, levelled = standardised(a, b, strata, rng, levelled=True)
        plain = plain_mean(a.score, N_DRAWS, rng) - plain_mean(b.score, N_DRAWS, rng)
        found[i] = excludes(plain, 0), excludes(one - other, 0), excludes(level - levelled, 0)
    shares = found.mean(axis=0).tolist()
    return [
        _row("scores fall with density, rejected: plain means", shares[0], 0.0, 1.0, repeats),
        _row("scores fall with density, rejected: standardised", shares[1], 0.0, 1.0, repeats),
        _row("scores fall with density, rejected: adjusted inside strata too", shares[2], 0.03, 0.07, repeats),
    ]


def coverage(pool: Pool, repeats: int, seed: int) -> list[Row]:
    """How often the 95 % intervals hold the truth: means of one dictionary, differences, paired differences."""
    many = draw_dictionary(pool, DENSE, 400_000, generator(seed, "truth"))
    uniform = float(many.expected.mean())
    firing = float((many.density * many.expected).sum() / many.density.sum())
    worse = worse_by(pool, GAP)
    held = np.zeros((repeats, 5), bool)
    for i in range(repeats):
        rng = generator(seed, "coverage", i)
        a = draw_dictionary(pool, DENSE, N_FEATURE, rng)
        b = draw_dictionary(pool, SPARSE, N_FEATURE, rng, worse)
        strata = common_strata([a.density, b.density])
        one, other = standardised(a, b, strata, rng)
        means = [float(strata.weights @ _means(strata.split(d.density, d.expected))) for d in (a, b)]
        gaps = paired_gaps(pool, rng) + GAP
        held[i] = (
            not excludes(one, means[0]),
            not excludes(plain_mean(a.score, N_DRAWS, rng), uniform),
            not excludes(weighted_mean(a.score, a.density, N_DRAWS, rng), firing),
            not excludes(one - other, means[0] - means[1]),
            not excludes(plain_mean(gaps, N_DRAWS, rng), GAP + _paired_truth(pool)),
        )
    names = (
        "standardised mean",
        "uniform mean",
        "firing-weighted mean",
        "standardised difference",
        "paired difference",
    )
    shares = held.mean(axis=0).tolist()
    return [_row(f"interval holds the {n}", s, 0.92, 0.97, repeats) for n, s in zip(names, shares, strict=True)]


def _paired_truth(pool: Pool) -> float:
    """The expected difference of a matched pair: what density alone does to the same quality."""
    means = []
    for span in (DENSE, SPARSE):
        log_density = np.linspace(*_logs(span), 10_001)
        means.append(float(pool.mean_at(log_density, EQUAL).mean()))
    return means[0] - means[1]


def disjoint(pool: Pool, repeats: int, seed: int) -> Row:
    """How often dictionaries without a density in common are held to share a stratum."""
    shared = 0
    for i in range(repeats):
        rng = generator(seed, "disjoint", i)
        a, b = draw_dictionary(pool, DENSE, N_FEATURE, rng), draw_dictionary(pool, RARE, N_FEATURE, rng)
        shared += bool(len(common_strata([a.density, b.density]).weights))
    return _row("disjoint densities ranked all the same", shared / repeats, 0.0, 0.0, repeats)


def power(pool: Pool, repeats: int, seed: int) -> list[Row]:
    """How often a true gap is found at the number of features that a pilot asked for, and how many those were."""
    worse = worse_by(pool, GAP)
    right = wrong = 0
    for i in range(repeats):
        rng = generator(seed, "power", i)
        pilot = draw_dictionary(pool, DENSE, N_PILOT, rng), draw_dictionary(pool, SPARSE, N_PILOT, rng, worse)
        n = features_needed_at(GAP, _error(*pilot, rng), N_PILOT, ALPHA)
        a, b = draw_dictionary(pool, DENSE, n, rng), draw_dictionary(pool, SPARSE, n, rng, worse)
        one, other = standardised(a, b, common_strata([a.density, b.density]), rng)
        low, high = (one - other).interval()
        right, wrong = right + (low > 0), wrong + (high < 0)
    return [
        _row(f"a gap of {GAP:g} found at the planned number", right / repeats, 0.75, 1.0, repeats),
        _row("and found the wrong way round", wrong / repeats, 0.0, 0.01, repeats),
    ]


def planned_numbers(pool: Pool, repeats: int, seed: int = 0) -> np.ndarray:
    """The numbers of features that pilots ask for."""
    worse = worse_by(pool, GAP)
    found = []
    for i in range(repeats):
        rng = generator(seed, "power", i)
        pilot = draw_dictionary(pool, DENSE, N_PILOT, rng), draw_dictionary(pool, SPARSE, N_PILOT, rng, worse)
        found.append(features_needed_at(GAP, _error(*pilot, rng), N_PILOT, ALPHA))
    return np.array(found)


def _error(a: Drawn, b: Drawn, rng: np.random.Generator) -> float:
    one, other = standardised(a, b, common_strata([a.density, b.density]), rng)
    return (one - other).error


def _means(groups: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([group.mean() for group in groups])


def _row(what: str, share: float, low: float, high: float, n: int) -> Row:
    return Row(what, round(float(share), 4), low, high, n)
