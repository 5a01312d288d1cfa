"""Counting sort of events by feature, a few million at a time, so that memory stays near what the result takes.

(slot, feature, value) in slot order flow in, one `ShardArrays` flows out. Knows no model and no torch.
"""

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from autointerp.harvest.shards import ShardArrays

EVENTS_A_RUN = 2**22


class Sorter:
    """Takes a shard's events as they come; `finish` gives them by feature."""

    def __init__(self, n_slot: int, d_sae: int) -> None:
        self._n_slot, self._d_sae = n_slot, d_sae
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n = 0
        self._runs: list[ShardArrays] = []

    def add(self, slot: Int[np.ndarray, " n"], feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> None:
        """More events; their slots follow all earlier ones, ascending."""
        self._pieces.append((slot, feature, value))
        self._n += len(slot)
        if self._n >= EVENTS_A_RUN:
            self._sort_run()

    def finish(self) -> ShardArrays:
        """All events, feature-major, slots ascending within a feature."""
        if self._pieces or not self._runs:
            self._sort_run()
        if len(self._runs) == 1:
            return self._runs.pop()
        indptr = np.zeros(self._d_sae + 1, np.int64)
        for run in self._runs:
            indptr += run.indptr
        position, value = np.empty(indptr[-1], np.uint32), np.empty(indptr[-1], np.float32)
        free = indptr[:-1].copy()
        for run in self._runs:
            count = np.diff(run.indptr)
            into = np.repeat(free - run.indptr[:-1], count) + np.arange(len(run.value))
            position[into], value[into] = run.position, run.value
            free += count
        self._runs.clear()
        return ShardArrays(indptr, position, value)

    def _sort_run(self) -> None:
        """Slot-major events are compressed rows, whose columns are features."""
        slot, feature, value = (np.concatenate([p[i] for p in self._pieces] or [np.zeros(0)]) for i in range(3))
        self._pieces.clear()
        self._n = 0
        first = int(slot[0]) if len(slot) else 0
        n_slot = int(slot[-1]) - first + 1 if len(slot) else 0
        rows = np.zeros(n_slot + 1, np.int32)
        np.cumsum(np.bincount(slot.astype(np.int64) - first, minlength=n_slot), out=rows[1:])
        wide = scipy.sparse.csr_matrix(
            (value.astype(np.float32, copy=False), feature.astype(np.int32, copy=False), rows),
            shape=(n_slot, self._d_sae),
        ).tocsc()
        position = wide.indices.astype(np.uint32) + np.uint32(first)
        self._runs.append(ShardArrays(wide.indptr.astype(np.int64), position, wide.data))
