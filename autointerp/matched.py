"""`matched:N`: features of several dictionaries that stand for one direction, so that they can be compared in pairs.

Samples drawn apart from dictionaries of thousands of features hardly ever hold both halves of a pair. Directions and
counts flow in, feature numbers flow out; what pairs is settled before any score is known.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.errors import UsageError
from autointerp.nearest import COSINE_FLOOR, mutual, nearest
from autointerp.selection import spread_over_density

PREFIX = "matched:"


class Side(NamedTuple):
    """One dictionary of a run, as far as matching needs it."""

    id: str
    trained: bool
    model: str
    hook_point: str
    directions: Float[np.ndarray, "d_sae d_out"]
    """Empty where it cannot decode."""
    n_active: Int[np.ndarray, " d_sae"]


def draw_matched(sides: Sequence[Side], n: int, seed: int) -> Mapping[str, list[int]]:
    """Feature numbers by dictionary, ascending: of the trained ones pairs, of all others a sample of `n`.

    Pairs are live features that are each other's nearest at a cosine of 0.7 or more. The first trained dictionary
    leads: of its features with a partner in every other, then of those with one in some, `n` are drawn, spread over
    their density; each other dictionary gets their partners. Where that is fewer than `n` the rest is a sample, spread
    over density, of what is left.

    Raises:
        UsageError: there are no two trained dictionaries at one hook point with decoder directions.
    """
    _check(sides)
    trained = [side for side in sides if side.trained]
    lead, others = trained[0], trained[1:]
    partner = {side.id: _partners(lead, side) for side in others}
    count = sum((found >= 0).astype(int) for found in partner.values())
    chosen: list[int] = []
    for wanted in range(len(others), 0, -1):
        pool = np.flatnonzero(count == wanted)
        chosen += spread_over_density(pool, lead.n_active, n - len(chosen), lead.id, seed, "matched")
    drawn = {lead.id: chosen}
    for side in others:
        found = partner[side.id][chosen]
        drawn[side.id] = found[found >= 0].tolist()
    return {side.id: _filled(side, drawn.get(side.id, []), n, seed) for side in sides}


def _check(sides: Sequence[Side]) -> None:
    trained = [side for side in sides if side.trained]
    if len(trained) < 2:
        names = ", ".join(side.id for side in trained) or "none"
        raise UsageError(
            f"features matched:N pairs those of two or more trained dictionaries, and this run has {names}; "
            f"add one with --dictionary, or use sample:N"
        )
    first = trained[0]
    for side in trained:
        if not len(side.directions):
            raise UsageError(f"{side.id} has no decoder directions to match features by; leave it out, or use sample:N")
        if (side.model, side.hook_point, side.directions.shape[1]) != (
            first.model, first.hook_point, first.directions.shape[1],
        ):  # fmt: skip
            raise UsageError(
                f"{first.id} at {first.hook_point} and {side.id} at {side.hook_point} are of different places or "
                f"models, so that their directions cannot be matched; run those of one place together, or use sample:N"
            )


def _partners(lead: Side, side: Side) -> Int[np.ndarray, " d_sae"]:
    """The live partner in another dictionary of each live feature of the first; -1 without one."""
    pairs = mutual(nearest(lead.directions, side.directions), COSINE_FLOOR)
    alive: Bool[np.ndarray, " pair"] = (lead.n_active[pairs.a] > 0) & (side.n_active[pairs.b] > 0)
    found = np.full(len(lead.directions), -1, np.int64)
    found[pairs.a[alive]] = pairs.b[alive]
    return found


def _filled(side: Side, drawn: Sequence[int], n: int, seed: int) -> list[int]:
    left = np.setdiff1d(np.flatnonzero(side.n_active), np.asarray(drawn, np.int64))
    more = spread_over_density(left, side.n_active, n - len(drawn), side.id, seed, "sample")
    return sorted([*drawn, *more])
