"""Two planted dictionaries of equal quality and different density: the gap that a protocol makes up between them.

A protocol's design and a generator's seed flow in; the false gap and its z flow out. An undefined score counts as 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from autointerp.interpret import statistics
from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.generator import JUDGES, N_FRAGMENTS, Planted, Quality, Sample, draw_luck, judge_levels, plant
from autointerp.selftest.samplers import BenchDesign, BenchProtocol

MIXTURE: tuple[Quality, ...] = ("good", "broad", "noisy", "narrow")
"""Equal parts of each dictionary; in each of four rounds every feature has another one."""
DENSITIES = {"dense": (1e-3, 1e-1), "sparse": (5e-5, 1e-3)}


class Gap(Record):
    """What a protocol says of two dictionaries that are equally good."""

    gap: float
    """Mean score of the dense dictionary less that of the sparse one."""
    z: float
    """The gap over its standard error with features as units, mean of the four rounds."""
    undefined_dense: float
    """Share of undefined scores."""
    undefined_sparse: float


def equal_quality(
    designs: Mapping[BenchProtocol, BenchDesign], n_features: int, seed: int, n_fragments: int = N_FRAGMENTS
) -> dict[BenchProtocol, Gap]:
    """The false gap of each protocol between two dictionaries of `n_features` features each."""
    scores = {side: _score_dictionary(designs, side, n_features, seed, n_fragments) for side in DENSITIES}
    return {name: compare_scores(scores["dense"][name], scores["sparse"][name]) for name in designs}


def _score_dictionary(
    designs: Mapping[BenchProtocol, BenchDesign], side: str, n_features: int, seed: int, n_fragments: int
) -> dict[BenchProtocol, Float[np.ndarray, "round feature"]]:
    scores = {name: np.empty((len(MIXTURE), n_features)) for name in designs}
    for i, density in enumerate(_densities(side, n_features, seed)):
        planted = plant(float(density), generator(seed, "dictionary", side, i), n_fragments)
        for name, design in designs.items():
            rng = generator(seed, "dictionary", side, i, name)
            sample = design.draw(planted, len(MIXTURE), rng)
            qualities = [MIXTURE[(i + k) % len(MIXTURE)] for k in range(len(MIXTURE))]
            scores[name][:, i] = _scores(planted, sample, qualities, rng)
    return scores


def _densities(side: str, n_features: int, seed: int) -> Float[np.ndarray, " feature"]:
    """Evenly spread over the dictionary's range of log density, from a seeded start."""
    low, high = np.log(DENSITIES[side])
    places = (np.arange(n_features) + generator(seed, "densities", side).random()) / n_features
    return np.asarray(np.exp(low + (high - low) * places))


def _scores(
    planted: Planted, sample: Sample, qualities: Sequence[Quality], rng: np.random.Generator
) -> Float[np.ndarray, " round"]:
    """Rho of each draw under its own explanation."""
    luck = draw_luck(sample, rng)
    levels = {q: judge_levels(JUDGES[q], planted, sample, luck) for q in qualities}
    answered = np.stack([levels[q][k] for k, q in enumerate(qualities)])
    return statistics.spearman(sample.activation, answered, np.ones(answered.shape, dtype=bool))


def compare_scores(dense: Float[np.ndarray, "round feature"], sparse: Float[np.ndarray, "round feature"]) -> Gap:
    """The gap in every round and its mean; rounds of one dictionary share its features."""
    a, b = np.nan_to_num(dense), np.nan_to_num(sparse)
    gap = a.mean(axis=1) - b.mean(axis=1)
    error = np.sqrt(a.var(axis=1, ddof=1) / a.shape[1] + b.var(axis=1, ddof=1) / b.shape[1])
    return Gap(
        gap=float(gap.mean()),
        z=float((gap / error).mean()),
        undefined_dense=float(np.isnan(dense).mean()),
        undefined_sparse=float(np.isnan(sparse).mean()),
    )
