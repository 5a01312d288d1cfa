"""One shard of a harvest: a stretch of the corpus, its events by feature, and sums over all that was seen there.

    indptr [d_sae + 1], position [n_event], value [n_event]   events of the kept documents, feature-major
    check [blocks]                                            CRC-32 of eight features' positions and values
    masked [n]                                                positions whose norm was too large to be looked at
    sums [name], sum_in [d_out]                               what a dictionary's metrics need, in float64
    massive [n], massive_sums, massive_sum_in                 positions with massive activations, and their sums alone

`position` is row * context + place in the row, counted from the shard's first row; where a sample is kept, each kept
document is a row of its own, and rows count from the shard's first such; `massive` always counts all the shard's
rows. `value` is fp16 after division by the shard's
power of two, which stands in its header: activations below 2^-29 of the shard's largest lose digits, which a feature
that is scaled a hundred million times smaller than its neighbours has all its life. In a harvest that keeps a sample
the shard also holds, over all its rows, `n_active`, `n_document`, `max` and `total` of each feature, and each feature's
strongest windows as `strongest_indptr`, `strongest_position`, `strongest_value` and `strongest_check`, whose positions
count all the shard's rows. Knows no model.
"""

import math
import zlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.errors import RunError
from autointerp.harvest.arrays import REPAIR, bytes_of, map_arrays, save_arrays

_TARGET_EXPONENT = 15
_LEAST_EXPONENT = -125
"""Below it the scale, or the smallest stored value times it, would be 0 in float32."""
_SMALLEST = np.float16(2.0**-24)
_FEATURES_A_CHECK = 8
"""A checksum's eight features cost 0.05 bytes an event at ten events a feature, and microseconds to hold against."""


class FeatureEvents(NamedTuple):
    """One feature's activations, by slot."""

    slot: Int[np.ndarray, " n"]
    """row * context + place, ascending."""
    value: Float[np.ndarray, " n"]
    """Raw units, never zero; float32."""


class ShardArrays(NamedTuple):
    """Events, feature-major."""

    indptr: Int[np.ndarray, " d_sae_plus_1"]
    position: Int[np.ndarray, " n_event"]
    value: Float[np.ndarray, " n_event"]
    """Raw units, float32."""


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.safetensors"


class ShardWriter:
    """Takes a shard's events a range of features at a time, in their order; `commit` writes the file.

    What it holds is what will be written: values become fp16 as they come.
    """

    def __init__(self, path: Path, largest: float, n_event: int, *, strongest: bool = False) -> None:
        """`largest` is the largest absolute value to come, `n_event` the most events, `strongest` if some are apart."""
        self._path = path
        self._exponent = max(math.frexp(largest)[1] - _TARGET_EXPONENT, _LEAST_EXPONENT) if largest else 0
        self._columns = {"": _Columns(n_event, self._exponent)}
        if strongest:
            self._columns["strongest_"] = _Columns(n_event, self._exponent)

    def add(self, *events: ShardArrays) -> None:
        """The next features' events; then their strongest windows, if the shard has them."""
        for columns, some in zip(self._columns.values(), events, strict=True):
            columns.add(some)

    def commit(self, meta: dict[str, object], more: dict[str, np.ndarray]) -> None:
        """Write the shard, with further arrays as the header of this module lists them."""
        arrays = dict(more)
        for prefix, columns in self._columns.items():
            arrays |= {prefix + name: array for name, array in columns.arrays().items()}
        save_arrays(self._path, arrays, {**meta, "scale_exponent": self._exponent})


class _Columns:
    """Events in the form in which they are stored."""

    def __init__(self, n_event: int, exponent: int) -> None:
        self._exponent = exponent
        self._position = np.empty(n_event, np.uint32)
        self._value = np.empty(n_event, np.float16)
        self._indptr = [np.zeros(1, np.int64)]
        self._n = 0

    def add(self, events: ShardArrays) -> None:
        value = np.ldexp(events.value, -self._exponent).astype(np.float16)
        zero = value == 0
        value[zero] = np.copysign(_SMALLEST, events.value[zero])
        part = slice(self._n, self._n + len(value))
        self._position[part], self._value[part] = events.position, value
        self._indptr.append(events.indptr[1:] + self._n)
        self._n = part.stop

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, with the checksums of blocks of features."""
        indptr = np.concatenate(self._indptr).astype(np.int32 if self._n < 2**31 else np.int64, copy=False)
        position, value = self._position[: self._n], self._value[: self._n]
        check = _block_checks(indptr, position, value)
        return {"indptr": indptr, "position": position, "value": value, "check": check}


def _block_checks(
    indptr: Int[np.ndarray, " n_plus_1"], position: Int[np.ndarray, " n_event"], value: Float[np.ndarray, " n_event"]
) -> Int[np.ndarray, " block"]:
    """CRC-32 of the events of each eight features; `indptr` may begin anywhere in the events."""
    edges = [*indptr[:-1:_FEATURES_A_CHECK].tolist(), int(indptr[-1])]
    positions, values = bytes_of(position), bytes_of(value)  # once: a view of each block's events would cost more
    a, b = position.itemsize, value.itemsize
    checks = [
        zlib.crc32(values[b * low : b * high], zlib.crc32(positions[a * low : a * high]))
        for low, high in pairwise(edges)
    ]
    return np.array(checks, np.uint32)


class EventTable:
    """The events of a shard, feature by feature; a block of features is held against its checksum when first read."""

    def __init__(self, path: Path, arrays: dict[str, np.ndarray], prefix: str, first_slot: int, scale: float) -> None:
        self.indptr = arrays[f"{prefix}indptr"]
        self._path = path
        self._position, self._value = arrays[f"{prefix}position"], arrays[f"{prefix}value"]
        self._check = arrays[f"{prefix}check"]
        self._seen: Bool[np.ndarray, " block"] = np.zeros(len(self._check), np.bool_)
        self.first_slot, self._scale = first_slot, np.float32(scale)

    def read(self, feature: int) -> FeatureEvents:
        """One feature's events."""
        return self.read_range(feature, feature + 1)

    def read_range(self, low: int, high: int) -> FeatureEvents:
        """The events of features `low` to `high`, feature by feature.

        Raises:
            RunError: a byte differs from what was written.
        """
        self._look_at(low // _FEATURES_A_CHECK, -(-high // _FEATURES_A_CHECK))
        part = slice(int(self.indptr[low]), int(self.indptr[high]))
        slot = self._position[part].astype(np.int64)
        slot += self.first_slot
        value = self._value[part].astype(np.float32)
        value *= self._scale
        return FeatureEvents(slot, value)

    def read_slots(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(feature, slot, value) of all events from slot `low` to `high`, features ascending."""
        self.verify()
        position = np.asarray(self._position)
        index = np.flatnonzero((position >= low - self.first_slot) & (position < high - self.first_slot))
        feature = np.searchsorted(self.indptr, index, side="right") - 1
        slot = position[index].astype(np.int64) + self.first_slot
        return feature, slot, self._value[index].astype(np.float32) * self._scale

    def verify(self) -> None:
        """Look at every event that was not looked at before.

        Raises:
            RunError: a byte differs from what was written.
        """
        self._look_at(0, len(self._seen))

    def _look_at(self, first: int, end: int) -> None:
        """Hold some blocks of features against their checksums, unless all were before."""
        if self._seen[first:end].all():
            return
        low, high = first * _FEATURES_A_CHECK, min(end * _FEATURES_A_CHECK, len(self.indptr) - 1)
        found = _block_checks(self.indptr[low : high + 1], self._position, self._value)
        wrong = np.flatnonzero(found != self._check[first:end])
        if len(wrong):
            low += int(wrong[0]) * _FEATURES_A_CHECK
            high = min(low + _FEATURES_A_CHECK, high)
            raise RunError(f"{self._path} is damaged: events of features {low} to {high - 1} changed; {REPAIR}")
        self._seen[first:end] = True


_OWN_CHECKS = ("position", "value", "strongest_position", "strongest_value")


class Shard:
    """One open shard."""

    def __init__(self, path: Path, context: int) -> None:
        self.path = path
        arrays, meta = map_arrays(path, later=_OWN_CHECKS)
        try:
            self.dictionary = str(meta["dictionary"])
            names = ("first_row", "first_kept", "scale_exponent", "n_token", "n_outlier")
            first_row, first_kept, exponent, self.n_token, self.n_outlier = (int(str(meta[name])) for name in names)
            self.first_row = first_row
            scale = 2.0**exponent
            self.events = EventTable(path, arrays, "", first_kept * context, scale)
            """Of the kept documents; slots as in `Corpus.seen`."""
            self.strongest = (
                EventTable(path, arrays, "strongest_", first_row * context, scale)
                if "strongest_indptr" in arrays
                else None
            )
            """Of the strongest windows; slots count all rows."""
        except KeyError as error:
            raise RunError(f"{path} lacks {error}; {REPAIR}") from None
        self.more = {name: array for name, array in arrays.items() if name not in _OWN_CHECKS}
        """What else the shard holds, by name."""

    @property
    def n_event(self) -> int:
        """Events of the kept documents."""
        return int(self.events.indptr[-1])

    @property
    def masked(self) -> Int[np.ndarray, " n"]:
        """Slots of kept documents whose activations were too large to be looked at, ascending."""
        return np.asarray(self.more["masked"].astype(np.int64) + self.events.first_slot)

    def verify(self) -> None:
        """Look at every byte that opening it did not.

        Raises:
            RunError: one of them changed.
        """
        self.events.verify()
        if self.strongest is not None:
            self.strongest.verify()
