"""Counting sort of events by feature, a million at a time, so that memory stays near what the result takes.

(slot, feature, value) in slot order flow in; `ShardArrays` of ranges of features flow out. All that grows with a shard
is two arrays, enlarged in place: thousands of small ones would leave holes that no other allocation fits. Knows no
model and no torch.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from autointerp.errors import RunError
from autointerp.harvest.shards import ShardArrays

EVENTS_A_RUN = 2**20
EVENTS_A_RANGE = 2**20
_ROOM_AT_FIRST = 2**23 + 2**16
"""Of 4 bytes each: an array of more than 32 MB has pages of its own, of which only those written to are real."""


class Sorter:
    """Takes a shard's events as they come; `ranges` gives them by feature."""

    def __init__(self, name: str, d_sae: int) -> None:
        self._name, self._d_sae = name, d_sae
        self._slot = np.empty(EVENTS_A_RUN, np.uint32)
        self._feature = np.empty(EVENTS_A_RUN, np.int32)
        self._value = np.empty(EVENTS_A_RUN, np.float32)
        self._n_waiting = 0
        self._runs: list[tuple[int, np.ndarray]] = []
        """Where a run begins in `_sorted_slot`, and from there the first events of its features, and its end."""
        self._sorted_slot = np.empty(_ROOM_AT_FIRST, np.uint32)
        self._sorted_value = np.empty(_ROOM_AT_FIRST, np.float32)
        self._n_sorted = 0
        self.largest = np.float32(0)
        """Largest absolute value of the runs."""

    def add(self, slot: Int[np.ndarray, " n"], feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> None:
        """More events; their slots follow all earlier ones, ascending.

        Raises:
            RunError: an activation is NaN or infinite; the text names its feature and position.
        """
        bad = np.flatnonzero(~np.isfinite(value))
        if len(bad):
            raise RunError(
                f"feature {feature[bad[0]]} has the activation {value[bad[0]]} at position {slot[bad[0]]} of "
                f"{self._name}; check the model's and the dictionary's weights and dtype"
            )
        taken = 0
        while taken < len(slot):
            low, n = self._n_waiting, min(len(slot) - taken, EVENTS_A_RUN - self._n_waiting)
            for into, events in ((self._slot, slot), (self._feature, feature), (self._value, value)):
                into[low : low + n] = events[taken : taken + n]
            self._n_waiting += n
            taken += n
            if self._n_waiting == EVENTS_A_RUN:
                self._sort_run()

    def finish(self) -> int:
        """Sort what is left; the number of all events."""
        if self._n_waiting:
            self._sort_run()
        return self._n_sorted

    def ranges(self) -> Iterator[ShardArrays]:
        """All events after `finish`, about `EVENTS_A_RANGE` at a time by consecutive features; slots ascend in each."""
        n_event = sum((np.diff(run) for _, run in self._runs), np.zeros(self._d_sae, np.int64))
        ends = np.cumsum(n_event)
        low = 0
        while low < self._d_sae:
            before = int(ends[low - 1]) if low else 0
            high = max(low + 1, int(np.searchsorted(ends, before + EVENTS_A_RANGE, side="right")))
            yield self._merge(low, high, np.append(before, ends[low:high]) - before)
            low = high

    def _merge(self, low: int, high: int, indptr: Int[np.ndarray, " n_plus_1"]) -> ShardArrays:
        """The runs' events of a range of features."""
        position, value = np.empty(indptr[-1], np.uint32), np.empty(indptr[-1], np.float32)
        free = indptr[:-1].copy()
        for start, run in self._runs:
            edges = start + run[low : high + 1].astype(np.int64)
            count = np.diff(edges)
            part = slice(int(edges[0]), int(edges[-1]))
            into = np.repeat(free - (edges[:-1] - edges[0]), count) + np.arange(part.stop - part.start)
            position[into], value[into] = self._sorted_slot[part], self._sorted_value[part]
            free += count
        return ShardArrays(indptr, position, value)

    def _sort_run(self) -> None:
        """Slot-major events are compressed rows, whose columns are features."""
        n, before = self._n_waiting, self._n_sorted
        after = before + n
        slot, feature, value = self._slot[:n], self._feature[:n], self._value[:n]
        first = int(slot[0])
        n_slot = int(slot[-1]) - first + 1
        rows = np.zeros(n_slot + 1, np.int32)
        np.cumsum(np.bincount(slot - slot[0], minlength=n_slot), out=rows[1:])
        wide = scipy.sparse.csr_matrix((value, feature, rows), shape=(n_slot, self._d_sae)).tocsc()
        for array, events in ((self._sorted_slot, wide.indices), (self._sorted_value, wide.data)):
            if len(array) < after:
                array.resize(after, refcheck=False)
            array[before:after] = events
        self._sorted_slot[before:after] += np.uint32(first)
        self._n_sorted = after
        self._runs.append((before, wide.indptr))
        self.largest = np.maximum(self.largest, np.abs(value).max())
        self._n_waiting = 0
