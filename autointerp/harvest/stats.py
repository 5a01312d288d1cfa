"""Per-feature statistics of a finished harvest, from its shards alone.

Shards flow in, `StatsArrays` flow out; memory holds as many ranges of features as there are threads, each of about a
hundred thousand events, or one feature's events of one shard. Exact over the kept documents. Where these are a sample,
counts, sums and maxima are still exact over all, and quantiles, histograms and top tokens are the sample's (a feature
without an event there has levels by its strongest windows' activations, the only ones known): with n kept activations a
quantile's rank is off by more than 1/sqrt(n) in one feature of twenty at most, as long as documents are independent.
Equal for any number of threads. Knows no model and no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.format import MIN_DISTINCT_FOR_DECILES, level_edges, rank_edges, weighted_quantiles
from autointerp.harvest.events import StatsArrays
from autointerp.harvest.sample import first_of_document
from autointerp.harvest.shards import EventTable, Shard
from autointerp.harvest.tokens import Corpus

N_BINS = 24
N_LOG_BINS = 24
N_TOP_TOKENS = 10
EVENTS_A_BLOCK = 2**17
"""Events of a range of features; a megabyte an array, so that sorting stays in a core's own cache."""
FEATURES_A_BLOCK = 2**15
EVENTS_AT_ONCE = 2**19
"""A feature that alone has more is read shard by shard."""
_DECILES = np.arange(1, 10) / 10
_SIGN = np.uint32(2**31)


def compute_stats(shards: Sequence[Shard], d_sae: int, corpus: Corpus, threads: int = 1) -> StatsArrays:
    """Counts, maxima, sums, decile and level edges, histograms and top tokens of all features.

    Raises:
        RunError: a shard is damaged.
    """
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

    def add(low: int, high: int) -> None:
        part = StatsArrays(*(field[low:high] for field in stats))
        if sum(int(shard.events.indptr[high] - shard.events.indptr[low]) for shard in shards) > EVENTS_AT_ONCE:
            _add_dense_feature(part, shards, low, corpus)
            return
        feature, slot, value = _read_block(shards, low, high, part.n_document, corpus)
        _add_top_tokens(part, feature, tokens[slot], value)
        _add_values(part, feature, value)

    _over_blocks([shard.events for shard in shards], d_sae, add, threads)
    if sampled:
        _use_totals(stats, shards)
        _rank_strongest(stats, shards, threads)
    return stats


def _over_blocks(tables: Sequence[EventTable], d_sae: int, work: Callable[[int, int], None], threads: int) -> None:
    """Ranges of features through `work`, several at a time: what is slow there lets other threads run."""
    if threads == 1:
        for low, high in _blocks(tables, d_sae):
            work(low, high)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun = [pool.submit(work, low, high) for low, high in _blocks(tables, d_sae)]
        try:
            for one in begun:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _blocks(tables: Sequence[EventTable], d_sae: int) -> Iterator[tuple[int, int]]:
    """Ranges of features with at most `EVENTS_A_BLOCK` events, or of one feature."""
    ends = np.cumsum(sum((np.diff(table.indptr).astype(np.int64) for table in tables), np.zeros(d_sae, int)))
    low = 0
    while low < d_sae:
        before = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + EVENTS_A_BLOCK, side="right")))
        high = min(high, low + FEATURES_A_BLOCK)
        yield low, high
        low = high


def _read_block(
    shards: Sequence[Shard], low: int, high: int, n_document: Int[np.ndarray, " n"], corpus: Corpus
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(feature from `low`, slot, value) of a range of features; counts the documents of each on the way."""
    features, slots, values = [], [], []
    for shard in shards:
        slot, value = shard.events.read_range(low, high)
        feature = _features(shard.events, low, high)
        first = first_of_document(feature, corpus.document_of(slot))
        n_document += np.bincount(feature[first], minlength=high - low)
        features.append(feature)
        slots.append(slot)
        values.append(value)
    return np.concatenate(features), np.concatenate(slots), np.concatenate(values)


def _features(table: EventTable, low: int, high: int) -> Int[np.ndarray, " n"]:
    """The feature, from `low`, of each event of a range of features."""
    return np.repeat(np.arange(high - low), np.diff(table.indptr[low : high + 1]))


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


class _Sorted(NamedTuple):
    """The values of a range of features, by feature and ascending in each."""

    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    """float64."""
    is_new: Bool[np.ndarray, " n"]
    """Where a feature's value is another one than before."""
    n: Int[np.ndarray, " f"]
    """How many each feature has."""
    start: Int[np.ndarray, " f"]

    @classmethod
    def of(cls, feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"], n_feature: int) -> "_Sorted":
        """From one sort of 64-bit integers, a feature above the bits of a float."""
        bits = value.view(np.uint32)
        rising = np.where(bits & _SIGN, ~bits, bits | _SIGN)  # unsigned integers in the order of the floats
        key = feature.astype(np.uint64)
        key <<= np.uint64(32)
        key |= rising
        key.sort()
        feature = (key >> np.uint64(32)).astype(np.int64)
        rising = key.astype(np.uint32)
        ordered = np.where(rising & _SIGN, rising & ~_SIGN, ~rising).view(np.float32).astype(np.float64)
        count = np.bincount(feature, minlength=n_feature)
        return cls(feature, ordered, _is_new(key), count, np.cumsum(count) - count)

    def levels(self) -> tuple[Float[np.ndarray, "f 9"], Float[np.ndarray, "f 9"], Bool[np.ndarray, " f"]]:
        """Deciles and level edges of each feature, zeros without a value, and whether the edges are by rank."""
        n_feature, some = len(self.n), np.flatnonzero(self.n)
        deciles = np.zeros((n_feature, 9))
        deciles[some] = _quantiles(self.value, self.start[some], self.n[some])
        new = np.flatnonzero(self.is_new)
        owner = self.feature[new]
        by_rank = np.bincount(owner, minlength=n_feature) < MIN_DISTINCT_FOR_DECILES
        few = by_rank[owner]
        times = np.diff(new, append=len(self.value))
        by_ranks = rank_edges(owner[few], self.value[new[few]], times[few], n_feature)
        return deciles, np.where(by_rank[:, None], by_ranks, deciles), by_rank


def _is_new(key: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Where a sorted array goes on to another value."""
    new = np.ones(len(key), np.bool_)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    return new


def _add_values(part: StatsArrays, feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> None:
    """What the values of a range of features say, from one sort of them all."""
    n_feature = len(part.n_active)
    by_value = _Sorted.of(feature, value, n_feature)
    feature, value, start, count = by_value.feature, by_value.value, by_value.start, by_value.n
    some = np.flatnonzero(count)
    part.n_active[:] = count
    part.total[some] = np.add.reduceat(value, start[some]) if len(some) else 0.0
    part.max[some] = np.maximum(part.max[some], value[start[some] + count[some] - 1])
    part.deciles[:], part.level_edges[:], part.by_rank[:] = by_value.levels()
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
    part: StatsArrays, feature: Int[np.ndarray, " n"], token: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"]
) -> None:
    """The tokens on which each feature's activations sum highest; of equal sums the lower token first."""
    pair = feature.astype(np.uint64)  # 15 bits beside 17 for the event, or one beside 19: 32 are left for the token
    pair <<= np.uint64(32)
    pair |= token
    pair, event = _sort_numbered(pair)
    new = np.flatnonzero(_is_new(pair))
    count = np.diff(new, append=len(pair))
    total = np.add.reduceat(value[event].astype(np.float64), new) if len(new) else np.zeros(0)
    feature, token = feature[event[new]], token[event[new]]
    n_pair = np.bincount(feature, minlength=len(part.n_active))
    rank = np.arange(len(feature)) - (np.cumsum(n_pair) - n_pair)[feature]
    order = _by_falling(feature, total, rank)
    first = np.flatnonzero(rank < N_TOP_TOKENS)
    best, into = order[first], (feature[first], rank[first])
    part.top_token[into] = token[best]
    part.top_token_count[into] = count[best]
    part.top_token_total[into] = total[best]


def _by_falling(
    feature: Int[np.ndarray, " n"], total: Float[np.ndarray, " n"], rank: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Each feature's totals in falling order, equal ones as they come, beyond the first ten in about that order.

    `rank` counts a feature's places, which its totals only change among themselves. They are sorted by half of their
    bits; a feature that this leaves undecided is sorted again by all.
    """
    bits = (total + 0.0).view(np.uint64)  # -0 becomes 0
    falling = np.where(bits >> np.uint64(63), bits, ~bits & np.uint64(2**63 - 1))
    key, order = _sort_numbered(feature.astype(np.uint64) << np.uint64(32) | falling >> np.uint64(32))
    alike = ~_is_new(key)[1:] & (total[order[1:]] != total[order[:-1]]) & (rank[:-1] < N_TOP_TOKENS)
    again = np.flatnonzero(np.isin(feature, feature[:-1][alike]))
    order[again] = again[np.lexsort((-total[again], feature[again]))]
    return order


def _sort_numbered(key: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Keys, sorted, and where each stood; equal ones keep their order. A key and a place must fit into 64 bits."""
    n_bit = np.uint64(max(len(key) - 1, 0).bit_length())
    numbered = key << n_bit
    numbered |= np.arange(len(key), dtype=np.uint64)
    numbered.sort()
    return numbered >> n_bit, (numbered & ((np.uint64(1) << n_bit) - np.uint64(1))).astype(np.int64)


def _use_totals(stats: StatsArrays, shards: Sequence[Shard]) -> None:
    """Counts, sums and maxima over all documents in the place of the sample's."""
    stats.max[:] = np.max([shard.more["max"] for shard in shards], axis=0)
    stats.n_active[:] = np.sum([shard.more["n_active"].astype(np.int64) for shard in shards], axis=0)
    stats.n_document[:] = np.sum([shard.more["n_document"].astype(np.int64) for shard in shards], axis=0)
    stats.total[:] = np.sum([shard.more["total"] for shard in shards], axis=0)


def _rank_strongest(stats: StatsArrays, shards: Sequence[Shard], threads: int = 1) -> None:
    """Level edges of features that are active in no kept document."""
    tables = [shard.strongest for shard in shards if shard.strongest is not None]
    unseen = (stats.n_active > 0) & ~stats.histogram.any(axis=1)

    def add(low: int, high: int) -> None:
        here = unseen[low:high]
        if not here.any():
            return
        feature = np.concatenate([_features(table, low, high) for table in tables])
        value = np.concatenate([table.read_range(low, high).value for table in tables])
        _, edges, by_rank = _Sorted.of(feature[here[feature]], value[here[feature]], high - low).levels()
        stats.level_edges[low:high][here], stats.by_rank[low:high][here] = edges[here], by_rank[here]

    _over_blocks(tables, len(unseen), add, threads)
