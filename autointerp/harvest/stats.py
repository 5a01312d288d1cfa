"""Per-feature statistics of a finished harvest, from its shards alone.

Shards flow in, `StatsArrays` flow out; memory holds half a million events, or one feature's of one shard. Exact over
the kept documents. Where these are a sample, counts, sums and maxima are still exact over all, and quantiles,
histograms and top tokens are the sample's (a feature without an event there has levels by its strongest windows'
activations, the only ones known): with n kept activations a quantile's rank is off by more than 1/sqrt(n) in
one feature of twenty at most, as long as documents are independent. Knows no model and no torch.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from autointerp.format import MIN_DISTINCT_FOR_DECILES, level_edges, weighted_quantiles
from autointerp.harvest.events import StatsArrays
from autointerp.harvest.sample import first_of_document
from autointerp.harvest.shards import Shard
from autointerp.harvest.tokens import Corpus

N_BINS = 24
N_LOG_BINS = 24
N_TOP_TOKENS = 10
EVENTS_A_BLOCK = 2**19
"""Events in memory at once; of a feature that alone has more, those of one shard."""
_DECILES = np.arange(1, 10) / 10
_SIGN = np.uint32(2**31)


def compute_stats(shards: Sequence[Shard], d_sae: int, corpus: Corpus) -> StatsArrays:
    """Counts, maxima, sums, decile and level edges, histograms and top tokens of all features."""
    stats = StatsArrays(
        n_active=np.zeros(d_sae, np.int64),
        max=np.zeros(d_sae, np.float32),
        total=np.zeros(d_sae, np.float64),
        deciles=np.zeros((d_sae, 9), np.float64),
        level_edges=np.zeros((d_sae, 9), np.float64),
        by_rank=np.ones(d_sae, np.bool_),
        histogram=np.zeros((d_sae, N_BINS), np.int64),
        log_histogram=np.zeros((d_sae, N_LOG_BINS), np.int64),
        n_document=np.zeros(d_sae, np.int64),
        top_token=np.full((d_sae, N_TOP_TOKENS), -1, np.int32),
        top_token_count=np.zeros((d_sae, N_TOP_TOKENS), np.int64),
        top_token_total=np.zeros((d_sae, N_TOP_TOKENS), np.float64),
    )
    sampled = any(shard.strongest is not None for shard in shards)
    if sampled:  # before the histograms, which end at the maximum
        stats.max[:] = np.max([shard.more["max"] for shard in shards], axis=0)
    tokens = corpus.tokens.reshape(-1)
    for low, high in _blocks(shards, d_sae):
        part = StatsArrays(*(field[low:high] for field in stats))
        if sum(int(shard.events.indptr[high] - shard.events.indptr[low]) for shard in shards) > EVENTS_A_BLOCK:
            _add_dense_feature(part, shards, low, corpus)
            continue
        feature, slot, value = _read_block(shards, low, high, part.n_document, corpus)
        _add_top_tokens(part, feature, tokens[slot], value, len(corpus.vocabulary))
        _add_values(part, feature, value)
    if sampled:
        _use_totals(stats, shards)
        _rank_strongest(stats, shards)
    return stats


def _blocks(shards: Sequence[Shard], d_sae: int) -> Iterator[tuple[int, int]]:
    """Ranges of features with at most `EVENTS_A_BLOCK` events, or of one feature."""
    ends = np.cumsum(sum((np.diff(shard.events.indptr).astype(np.int64) for shard in shards), np.zeros(d_sae, int)))
    low = 0
    while low < d_sae:
        before = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + EVENTS_A_BLOCK, side="right")))
        yield low, high
        low = high


def _read_block(
    shards: Sequence[Shard], low: int, high: int, n_document: Int[np.ndarray, " n"], corpus: Corpus
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(feature from `low`, slot, value) of a range of features; counts the documents of each on the way."""
    features, slots, values = [], [], []
    for shard in shards:
        slot, value = shard.events.read_range(low, high)
        feature = np.repeat(np.arange(high - low), np.diff(shard.events.indptr[low : high + 1]))
        first = first_of_document(feature, corpus.document_of(slot))
        n_document += np.bincount(feature[first], minlength=high - low)
        features.append(feature)
        slots.append(slot)
        values.append(value)
    return np.concatenate(features), np.concatenate(slots), np.concatenate(values)


def _add_dense_feature(part: StatsArrays, shards: Sequence[Shard], feature: int, corpus: Corpus) -> None:
    """The statistics of one feature, shard by shard: values of 16 bits repeat, so different ones are few."""
    tokens, d_vocab = corpus.tokens.reshape(-1), len(corpus.vocabulary)
    token_total, token_count = np.zeros(d_vocab), np.zeros(d_vocab, np.int64)
    seen: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for shard in shards:
        slot, value = shard.events.read(feature)
        part.n_document[0] += len(np.unique(corpus.document_of(slot)))
        token = tokens[slot].astype(np.int64)
        token_total += np.bincount(token, weights=value, minlength=d_vocab)
        token_count += np.bincount(token, minlength=d_vocab)
        distinct, counts = np.unique(value, return_counts=True)
        seen.append(distinct)
        times.append(counts)
    distinct, place = np.unique(np.concatenate(seen), return_inverse=True)
    counts = np.bincount(place, weights=np.concatenate(times)).astype(np.int64)
    distinct = distinct.astype(np.float64)
    part.n_active[0] = counts.sum()
    part.total[0] = (distinct * counts).sum()
    part.max[0] = max(part.max[0], distinct[-1])
    part.by_rank[0] = len(distinct) < MIN_DISTINCT_FOR_DECILES
    part.deciles[0] = weighted_quantiles(distinct, counts, _DECILES)
    part.level_edges[0] = level_edges(distinct, counts)
    for into, bins in zip((part.histogram, part.log_histogram), _bins(distinct / part.max[0]), strict=True):
        into[0] = np.bincount(bins, weights=counts, minlength=into.shape[1])
    best = np.lexsort((-token_total,))[: min(N_TOP_TOKENS, int((token_count > 0).sum()))]
    part.top_token[0, : len(best)] = best
    part.top_token_count[0, : len(best)] = token_count[best]
    part.top_token_total[0, : len(best)] = token_total[best]


def _bins(share: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Linear and logarithmic histogram bins of activations as shares of the maximum."""
    linear = np.clip((share * N_BINS).astype(np.int64), 0, N_BINS - 1)
    half_octaves = np.ceil(2 * np.log2(np.clip(share, 2.0**-N_LOG_BINS, 1))).astype(np.int64)
    return linear, np.maximum(N_LOG_BINS - 1 + half_octaves, 0)


def _add_values(part: StatsArrays, feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> None:
    """What the values of a range of features say, from one sort of them all."""
    n_feature = len(part.n_active)
    bits = value.view(np.uint32)
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)  # unsigned integers in the order of the floats
    key = np.sort((feature.astype(np.uint64) << np.uint64(32)) | rising)
    feature = (key >> np.uint64(32)).astype(np.int64)
    rising = key.astype(np.uint32)
    value = np.where(rising & _SIGN, rising & ~_SIGN, ~rising).view(np.float32).astype(np.float64)
    count = np.bincount(feature, minlength=n_feature)
    start = np.cumsum(count) - count
    some = np.flatnonzero(count)
    part.n_active[:] = count
    part.total[some] = np.add.reduceat(value, start[some]) if len(some) else 0.0
    part.max[some] = np.maximum(part.max[some], value[start[some] + count[some] - 1])
    part.deciles[some] = _quantiles(value, start[some], count[some])
    new = np.ones(len(key), np.bool_)
    new[1:] = key[1:] != key[:-1]
    part.by_rank[:] = np.bincount(feature[new], minlength=n_feature) < MIN_DISTINCT_FOR_DECILES
    part.level_edges[:] = part.deciles
    for i in some[part.by_rank[some]]:
        part.level_edges[i] = level_edges(*np.unique(value[start[i] : start[i] + count[i]], return_counts=True))
    for into, bins in zip((part.histogram, part.log_histogram), _bins(value / part.max[feature]), strict=True):
        n_bin = into.shape[1]
        into[:] = np.bincount(feature * n_bin + bins, minlength=n_feature * n_bin).reshape(-1, n_bin)


def _quantiles(
    value: Float[np.ndarray, " n"], start: Int[np.ndarray, " f"], count: Int[np.ndarray, " f"]
) -> Float[np.ndarray, "f 9"]:
    """`numpy.quantile` of each feature's stretch of sorted values, at the deciles."""
    position = _DECILES * (count[:, None] - 1)
    low = np.floor(position).astype(np.int64)
    left = value[start[:, None] + low]
    right = value[start[:, None] + np.minimum(low + 1, count[:, None] - 1)]
    share, step = position - low, right - left
    return np.asarray(np.where(share < 0.5, left + step * share, right - step * (1 - share)))


def _add_top_tokens(
    part: StatsArrays,
    feature: Int[np.ndarray, " n"],
    token: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    d_vocab: int,
) -> None:
    """The tokens on which each feature's activations sum highest."""
    shape = len(part.n_active), d_vocab
    places = feature, token.astype(np.int64)
    total = scipy.sparse.csr_matrix((value.astype(np.float64), places), shape=shape)
    count = scipy.sparse.csr_matrix((np.ones(len(feature), np.int64), places), shape=shape)
    row = np.repeat(np.arange(shape[0]), np.diff(total.indptr))
    order = np.lexsort((-total.data, row))
    rank = np.arange(len(order)) - total.indptr[row]
    best = order[rank < N_TOP_TOKENS]
    into = row[rank < N_TOP_TOKENS], rank[rank < N_TOP_TOKENS]
    part.top_token[into] = total.indices[best]
    part.top_token_count[into] = count.data[best]
    part.top_token_total[into] = total.data[best]


def _use_totals(stats: StatsArrays, shards: Sequence[Shard]) -> None:
    """Counts, sums and maxima over all documents in the place of the sample's."""
    stats.max[:] = np.max([shard.more["max"] for shard in shards], axis=0)
    stats.n_active[:] = np.sum([shard.more["n_active"].astype(np.int64) for shard in shards], axis=0)
    stats.n_document[:] = np.sum([shard.more["n_document"].astype(np.int64) for shard in shards], axis=0)
    stats.total[:] = np.sum([shard.more["total"] for shard in shards], axis=0)


def _rank_strongest(stats: StatsArrays, shards: Sequence[Shard]) -> None:
    """Level edges of features that are active in no kept document."""
    tables = [shard.strongest for shard in shards if shard.strongest is not None]
    for feature in np.flatnonzero((stats.n_active > 0) & ~stats.histogram.any(axis=1)).tolist():
        known = np.concatenate([table.read(feature).value for table in tables]).astype(np.float64)
        distinct, counts = np.unique(known, return_counts=True)
        stats.level_edges[feature] = level_edges(distinct, counts)
        stats.by_rank[feature] = len(distinct) < MIN_DISTINCT_FOR_DECILES
