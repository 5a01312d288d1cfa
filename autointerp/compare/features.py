"""The features of an arm as arrays: what every figure of a comparison is computed from.

Columns aligned by feature, nothing else. Knows no record of a run and no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.compare.data import Group

Column = Literal["value", "lift"]


@dataclass(frozen=True)
class Features:
    """Those of an arm's features that are in its means, by index ascending."""

    index: Int[np.ndarray, " n"]
    density: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    """Counted scores."""
    lookup: Float[np.ndarray, " n"]
    """The look-up baseline's counted scores; NaN where there is none, as in the columns below."""
    shuffled: Float[np.ndarray, " n"]
    entropy: Float[np.ndarray, " n"]
    """Bits."""
    single: Float[np.ndarray, " n"]
    """The single-token flag: 1 or 0."""

    def __len__(self) -> int:
        return len(self.index)

    def column(self, name: Column) -> Float[np.ndarray, " n"]:
        """The counted score, or what it is above look-up."""
        return self.value if name == "value" else self.value - self.lookup

    def take(self, rows: Int[np.ndarray, " k"] | Bool[np.ndarray, " n"]) -> "Features":
        """Some of the features."""
        return Features(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def within(self, group: Group, entropy_edges: tuple[float, float] | None) -> Bool[np.ndarray, " n"]:
        """Which features are of a group; without entropies none is of a tertile."""
        if group in ("single token", "several tokens"):
            return np.asarray(self.single == (group == "single token"))
        if entropy_edges is None:
            return np.zeros(len(self), bool)
        low, high = entropy_edges
        tertile = np.searchsorted([low, high], np.where(np.isnan(self.entropy), 0, self.entropy), side="left")
        names = ("low entropy", "middle entropy", "high entropy")
        return np.asarray((tertile == names.index(group)) & ~np.isnan(self.entropy))


def entropy_tertiles(arms: Sequence[Features]) -> tuple[float, float] | None:
    """Bits between the tertiles of all these features together; None where too few are known."""
    known = np.concatenate([arm.entropy for arm in arms] or [np.zeros(0)])
    known = known[~np.isnan(known)]
    if len(known) < 3:
        return None
    low, high = np.quantile(known, [1 / 3, 2 / 3]).tolist()
    return round(low, 4), round(high, 4)
