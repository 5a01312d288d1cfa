"""Per-feature statistics of a finished harvest, exact, from its shards alone.

Shards flow in, `StatsArrays` flow out, one feature in memory at a time. Knows no model and no torch.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.format import MIN_DISTINCT_FOR_DECILES, level_edges, weighted_quantiles
from autointerp.harvest.events import Shard, StatsArrays

N_BINS = 24
_DECILES = np.arange(1, 10) / 10


def compute_stats(shards: Sequence[Shard], d_sae: int) -> StatsArrays:
    """Counts, maxima, sums, decile and level edges, and histograms of all features, over positive activations."""
    stats = StatsArrays(
        n_active=np.zeros(d_sae, np.int64),
        max=np.zeros(d_sae, np.float32),
        total=np.zeros(d_sae, np.float64),
        deciles=np.zeros((d_sae, 9), np.float64),
        level_edges=np.zeros((d_sae, 9), np.float64),
        by_rank=np.zeros(d_sae, np.bool_),
        histogram=np.zeros((d_sae, N_BINS), np.int64),
    )
    for feature in range(d_sae):
        values = np.concatenate([shard.read(feature).value for shard in shards])
        if not len(values):
            stats.by_rank[feature] = True
            continue
        distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
        stats.n_active[feature] = len(values)
        stats.max[feature] = distinct[-1]
        stats.total[feature] = (distinct * counts).sum()
        stats.deciles[feature] = weighted_quantiles(distinct, counts, _DECILES)
        stats.level_edges[feature] = level_edges(distinct, counts)
        stats.by_rank[feature] = len(distinct) < MIN_DISTINCT_FOR_DECILES
        bins = np.minimum((distinct / distinct[-1] * N_BINS).astype(np.int64), N_BINS - 1)
        stats.histogram[feature] = np.bincount(bins, weights=counts, minlength=N_BINS)
    return stats
