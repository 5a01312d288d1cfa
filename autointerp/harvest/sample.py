"""What a harvest that keeps a sample keeps: some documents whole, the strongest windows, and sums of the rest.

A corpus or one shard's events flow in; documents, smaller shards and sums flow out. Nothing depends on batches or
workers: documents are drawn by hash, windows are chosen within a shard. Knows no model and no torch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from autointerp.errors import UsageError
from autointerp.harvest.shards import ShardArrays
from autointerp.harvest.tokens import Corpus
from autointerp.provenance import seed_of

WINDOW = 64
"""Tokens of a strongest window, its peak in the middle."""
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def draw_documents(corpus: Corpus, keep_tokens: int) -> Int[np.ndarray, " n"]:
    """The documents with the smallest hashes whose tokens are at least `keep_tokens` together, ascending."""
    order = np.argsort(_hashes(len(corpus.length), seed_of(corpus.digest)), kind="stable")
    n = int(np.searchsorted(np.cumsum(corpus.length[order] - corpus.first), keep_tokens)) + 1
    return np.sort(order[:n])


def _hashes(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """SplitMix64 of 0 to n - 1 under a seed (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))


class ShardDocuments(NamedTuple):
    """Where a shard's slots stand in documents, and which of these are kept."""

    document: Int[np.ndarray, " n_slot"]
    """Number of each slot's document."""
    is_kept: Bool[np.ndarray, " n_slot"]
    position: Int[np.ndarray, " n_slot"]
    """Slot among the shard's kept documents, each in a row of its own; 0 where not kept."""
    first_kept: int
    """Kept documents before the shard."""


def shard_documents(corpus: Corpus, rows: slice) -> ShardDocuments:
    """The documents of a shard's rows, in a corpus of which a sample is kept.

    Raises:
        UsageError: the kept ones need more slots than 32 bits count.
    """
    slots = np.arange(rows.start * corpus.context, rows.stop * corpus.context)
    document = corpus.document_of(slots)
    kept = np.zeros(0, np.int64) if corpus.kept is None else corpus.kept
    first_kept, last_kept = np.searchsorted(kept, [document[0], document[-1] + 1]).tolist()
    if (last_kept - first_kept) * corpus.context > 2**32:
        raise UsageError(
            f"{last_kept - first_kept:,} kept documents of {corpus.context} places are too many for one shard; "
            f"set [harvest] shard_tokens lower"
        )
    number = np.searchsorted(kept, document)
    is_kept = np.isin(document, kept[first_kept:last_kept])
    position = (number - first_kept) * corpus.context + slots - corpus.start[document]
    return ShardDocuments(document, is_kept, np.where(is_kept, position, 0).astype(np.uint32), first_kept)


def feature_of(shard: ShardArrays) -> Int[np.ndarray, " n_event"]:
    """The feature of each event."""
    return np.repeat(np.arange(len(shard.indptr) - 1), np.diff(shard.indptr))


def totals(shard: ShardArrays, documents: ShardDocuments) -> dict[str, np.ndarray]:
    """Active tokens, documents, sum and maximum of each feature over a whole shard."""
    d_sae = len(shard.indptr) - 1
    n_active = np.diff(shard.indptr)
    some = np.flatnonzero(n_active)
    total, largest = np.zeros(d_sae, np.float64), np.zeros(d_sae, np.float32)
    if len(some):
        total[some] = np.add.reduceat(shard.value.astype(np.float64), shard.indptr[some])
        largest[some] = np.maximum.reduceat(shard.value, shard.indptr[some])
    feature = feature_of(shard)
    first = first_of_document(feature, documents.document[shard.position])
    n_document = np.bincount(feature[first], minlength=d_sae).astype(np.uint32)
    return {"n_active": n_active.astype(np.uint32), "n_document": n_document, "total": total, "max": largest}


def keep_documents(shard: ShardArrays, documents: ShardDocuments) -> ShardArrays:
    """The events of the kept documents of a shard, positions counting these."""
    stays = documents.is_kept[shard.position]
    indptr = np.concatenate([[0], np.cumsum(stays)])[shard.indptr]
    return ShardArrays(indptr, documents.position[shard.position[stays]], shard.value[stays])


def strongest_windows(shard: ShardArrays, n: int, documents: ShardDocuments) -> ShardArrays:
    """Each feature's events in the windows around its n largest activations, one a document; ties keep corpus order."""
    if not len(shard.value):
        return shard
    feature = feature_of(shard)
    start = np.flatnonzero(first_of_document(feature, documents.document[shard.position]))
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


def first_of_document(
    feature: Int[np.ndarray, " n_event"], document: Int[np.ndarray, " n_event"]
) -> Bool[np.ndarray, " n_event"]:
    """True at each feature's first event of a document, events by feature and slot."""
    first = np.ones(len(document), np.bool_)
    first[1:] = (document[1:] != document[:-1]) | (feature[1:] != feature[:-1])
    return first
