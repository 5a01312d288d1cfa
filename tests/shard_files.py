"""Shards written at once, for what is about reading them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autointerp.harvest.shards import ShardArrays, ShardWriter


def write_shard(
    path: Path, shard: ShardArrays, meta: dict[str, object], more: Mapping[str, np.ndarray] | None = None
) -> None:
    """All of a shard's events in one range of features."""
    writer = ShardWriter(path, float(np.abs(shard.value).max(initial=0)), len(shard.value))
    writer.add(shard)
    writer.commit(meta, dict(more or {}))
