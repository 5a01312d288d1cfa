"""Shards written at once, for tests that are about reading them."""

from pathlib import Path

import numpy as np

from autointerp.harvest.shards import ShardArrays, ShardWriter


def write_shard(path: Path, shard: ShardArrays, meta: dict[str, object]) -> None:
    """All of a shard's events in one range of features."""
    writer = ShardWriter(path, float(np.abs(shard.value).max(initial=0)), len(shard.value))
    writer.add(shard)
    writer.commit(meta, {})
