"""Density strata: half decades of log10 density, clipped to the range that all arms have.

Densities of two or more arms flow in, the strata that all of them fill flow out. Scores play no part, so what is
conditioned on here biases no comparison of them. Direct standardisation: each arm's mean is taken stratum by stratum,
and the strata are weighted alike, by their share of all arms' features. Without it density alone can fake a gap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

PER_DECADE = 2
LEAST_IN_STRATUM = 5
"""Features that every arm must have in a stratum for it to be in the common support."""
OUTSIDE = -1

Densities = Float[np.ndarray, " n"]


class Strata(NamedTuple):
    """Cuts of the density axis, and which of them all arms share."""

    edges: Float[np.ndarray, " cut_1"]
    """Ascending, one more than cuts; a cut holds its lower end and not its upper one."""
    counts: Int[np.ndarray, "arm cut"]
    weight: Float[np.ndarray, " cut"]
    """Share of all arms' features in the common support; 0 outside it."""

    @property
    def weights(self) -> Float[np.ndarray, " stratum"]:
        """Of the strata in the common support, ascending; empty where there is none."""
        return self.weight[self.weight > 0]

    def cut_of(self, density: Densities) -> Int[np.ndarray, " n"]:
        """The cut each density falls in; `OUTSIDE` beyond all."""
        cut = np.searchsorted(self.edges, density, side="right") - 1
        return np.where((cut >= 0) & (cut < len(self.weight)), cut, OUTSIDE)

    def split(self, density: Densities, values: Float[np.ndarray, " n"]) -> list[Float[np.ndarray, " k"]]:
        """The values in each stratum of the common support."""
        cut = self.cut_of(density)
        return [values[cut == k] for k in np.flatnonzero(self.weight)]


def common_strata(densities: Sequence[Densities], least: int = LEAST_IN_STRATUM) -> Strata:
    """Half decades over all densities, cut once more at the ends of the range that all arms have.

    A stratum is in the common support where it lies in that range and each arm has `least` features in it. Densities
    are positive. Where an arm has no feature there is one cut, outside.
    """
    if not all(len(d) for d in densities):
        return Strata(np.array([0.0, 1.0]), np.array([[len(d)] for d in densities]), np.zeros(1))
    low = max(float(d.min()) for d in densities)
    high = float(np.nextafter(min(float(d.max()) for d in densities), np.inf))
    everything = np.concatenate(densities)
    first, last = (PER_DECADE * np.log10([everything.min(), everything.max()])).tolist()
    halves = 10.0 ** (np.arange(np.floor(first), np.floor(last) + 2) / PER_DECADE)
    edges = np.unique(np.concatenate([halves, [low, high] if low < high else []]))
    bare = Strata(edges, np.zeros((0, 0), np.int64), np.zeros(len(edges) - 1))
    counts = np.array([np.bincount(bare.cut_of(d), minlength=len(edges) - 1) for d in densities])
    shared = (edges[:-1] >= low) & (edges[1:] <= high) & (counts >= least).all(axis=0)
    pooled = np.where(shared, counts.sum(axis=0), 0)
    return Strata(edges, counts, pooled / max(1, int(pooled.sum())))


def level_out(
    strata: Strata, densities: Sequence[Densities], values: Sequence[Float[np.ndarray, " n"]]
) -> list[Float[np.ndarray, " n"]]:
    """Each arm's values as they would be at the middle of their stratum's densities, all arms together.

    By one slope of values on log density, fitted inside arms and strata (analysis of covariance; Cochran 1957): where
    scores fall steeply with density, two arms can lie differently inside half a decade.
    """
    logs, cuts = [np.log10(d) for d in densities], [strata.cut_of(d) for d in densities]
    up = across = 0.0
    middle = np.zeros(len(strata.weight))
    for k in np.flatnonzero(strata.weight):
        own = [(x[cut == k], y[cut == k]) for x, y, cut in zip(logs, values, cuts, strict=True)]
        middle[k] = np.concatenate([x for x, _ in own]).mean()
        for x, y in own:
            up += float((x - x.mean()) @ (y - y.mean()))
            across += float(np.square(x - x.mean()).sum())
    slope = up / across if across else 0.0
    return [y - slope * (x - middle[cut]) for x, y, cut in zip(logs, values, cuts, strict=True)]
