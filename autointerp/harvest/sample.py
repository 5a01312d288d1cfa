"""What a harvest that keeps a sample keeps: some documents whole, the strongest windows, and sums of the rest.

A corpus or one shard's events flow in; rows, smaller shards and sums flow out. Nothing depends on batches or workers:
rows are drawn by hash, windows are chosen within a shard. Knows no model and no torch.
"""

import numpy as np
from jaxtyping import Bool, Int

from autointerp.harvest.events import Corpus
from autointerp.harvest.shards import ShardArrays
from autointerp.provenance import seed_of

WINDOW = 64
"""Tokens of a strongest window, its peak in the middle."""
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def draw_rows(corpus: Corpus, keep_tokens: int) -> Int[np.ndarray, " n"]:
    """The rows of the corpus with the smallest hashes whose tokens are at least `keep_tokens` together, ascending."""
    order = np.argsort(_hashes(corpus.n_row, seed_of(corpus.digest)), kind="stable")
    n = int(np.searchsorted(np.cumsum(corpus.length[order] - corpus.first), keep_tokens)) + 1
    return np.sort(order[:n])


def _hashes(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """SplitMix64 of 0 to n - 1 under a seed (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))


def feature_of(shard: ShardArrays) -> Int[np.ndarray, " n_event"]:
    """The feature of each event."""
    return np.repeat(np.arange(len(shard.indptr) - 1), np.diff(shard.indptr))


def totals(shard: ShardArrays, context: int) -> dict[str, np.ndarray]:
    """Active tokens, rows, sum and maximum of each feature over a whole shard."""
    d_sae = len(shard.indptr) - 1
    n_active = np.diff(shard.indptr)
    some = np.flatnonzero(n_active)
    total, largest = np.zeros(d_sae, np.float64), np.zeros(d_sae, np.float32)
    if len(some):
        total[some] = np.add.reduceat(shard.value.astype(np.float64), shard.indptr[some])
        largest[some] = np.maximum.reduceat(shard.value, shard.indptr[some])
    feature = feature_of(shard)
    n_row = np.bincount(feature[_first_of_row(shard, feature, context)], minlength=d_sae)
    return {"n_active": n_active.astype(np.uint32), "n_row": n_row.astype(np.uint32), "total": total, "max": largest}


def keep_rows(shard: ShardArrays, kept: Bool[np.ndarray, " n_row"], context: int) -> ShardArrays:
    """The events of the kept rows of a shard, positions counting kept rows."""
    row, place = np.divmod(shard.position, np.uint32(context))
    number = np.cumsum(kept) - 1
    stays = kept[row]
    indptr = np.concatenate([[0], np.cumsum(stays)])[shard.indptr]
    position = number[row[stays]] * context + place[stays]
    return ShardArrays(indptr, position.astype(np.uint32), shard.value[stays])


def strongest_windows(shard: ShardArrays, n: int, context: int) -> ShardArrays:
    """Each feature's events in the windows around its n largest activations, one a row; ties keep corpus order."""
    if not len(shard.value):
        return shard
    feature = feature_of(shard)
    start = np.flatnonzero(_first_of_row(shard, feature, context))
    size = np.diff(start, append=len(feature))
    largest = np.maximum.reduceat(shard.value, start)
    order = np.lexsort((-largest, feature[start]))
    owner = feature[start[order]]
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[rank < n]] = True
    is_peak = shard.value == np.repeat(largest, size)
    peak = np.minimum.reduceat(np.where(is_peak, shard.position, np.iinfo(np.uint32).max), start)
    away = shard.position.astype(np.int64) - np.repeat(peak, size)
    stays = np.repeat(chosen, size) & (away >= -(WINDOW // 2)) & (away < WINDOW // 2)
    indptr = np.concatenate([[0], np.cumsum(stays)])[shard.indptr]
    return ShardArrays(indptr, shard.position[stays], shard.value[stays])


def _first_of_row(
    shard: ShardArrays, feature: Int[np.ndarray, " n_event"], context: int
) -> Bool[np.ndarray, " n_event"]:
    """True at each feature's first event of a row."""
    row = shard.position // np.uint32(context)
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (feature[1:] != feature[:-1])
    return first
