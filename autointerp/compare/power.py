"""How many features a comparison needs, before it is paid for.

Standard deviations and gaps flow in, numbers of features flow out; normal approximation, two-sided.
"""

from math import ceil, sqrt
from statistics import NormalDist

POWER = 0.8


def reach(alpha: float, power: float = POWER) -> float:
    """Standard errors that a gap must have to be seen at level `alpha` with this power: 2.80 at .05 and .8."""
    return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)


def features_needed(gap: float, sd_a: float, sd_b: float, alpha: float, power: float = POWER) -> int:
    """Features of each of two independent arms to see a gap between their means; `gap` is not 0."""
    return max(2, ceil((reach(alpha, power) / gap) ** 2 * (sd_a**2 + sd_b**2)))


def features_needed_at(gap: float, error: float, n: float, alpha: float, power: float = POWER) -> int:
    """The same from a design whose standard error at n features of each arm is known, and falls with their root."""
    return max(2, ceil(n * (reach(alpha, power) * error / gap) ** 2))


def least_gap(error: float, alpha: float, power: float = POWER) -> float:
    """The gap that a standard error shows with this power."""
    return reach(alpha, power) * error


def spread_of(error: float, n: float) -> float:
    """The standard deviation of one of n features that gives a mean this standard error."""
    return error * sqrt(n)
