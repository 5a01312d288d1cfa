"""The counting sort: what goes in comes out by feature, however it is cut."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from autointerp.errors import RunError
from autointerp.harvest import sort
from autointerp.harvest.shards import Shard, ShardArrays, ShardWriter
from autointerp.harvest.sort import Sorter

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def batches(rng: np.random.Generator, n_slot: int, d_sae: int, density: float) -> list[Batch]:
    """Events in slot order, in batches of ten slots."""
    dense = np.where(rng.random((n_slot, d_sae)) < density, rng.normal(size=(n_slot, d_sae)), 0).astype(np.float32)
    dense[:, d_sae // 2] = 1.5  # one feature is on everywhere
    dense[:, -1] = 0
    found = []
    for low in range(0, n_slot, 10):
        slot, feature = np.nonzero(dense[low : low + 10])
        found.append(((slot + low).astype(np.uint32), feature.astype(np.int32), dense[slot + low, feature]))
    return found


def sort_all(given: list[Batch], d_sae: int) -> tuple[Sorter, list[ShardArrays]]:
    sorter = Sorter("shard-00000", d_sae)
    for batch in given:
        sorter.add(*batch)
    assert sorter.finish() == sum(len(slot) for slot, _, _ in given)
    return sorter, list(sorter.ranges())


@pytest.mark.parametrize("a_run", [7, 100, 2**20])
@pytest.mark.parametrize("a_range", [5, 64, 2**20])
def test_events_come_out_by_feature(monkeypatch: pytest.MonkeyPatch, a_run: int, a_range: int) -> None:
    """Runs that end inside a token and ranges that end inside a dense feature are where events would be lost."""
    monkeypatch.setattr(sort, "EVENTS_A_RUN", a_run)
    monkeypatch.setattr(sort, "EVENTS_A_RANGE", a_range)
    d_sae = 30
    given = batches(np.random.default_rng(a_run), 73, d_sae, 0.1)
    sorter, ranges = sort_all(given, d_sae)
    slot, feature, value = (np.concatenate(column) for column in zip(*given, strict=True))
    wanted = scipy.sparse.csc_matrix((value, (slot, feature)), shape=(73, d_sae))
    counts = np.concatenate([np.diff(r.indptr) for r in ranges])
    assert counts.tolist() == np.diff(wanted.indptr).tolist()
    assert np.concatenate([r.position for r in ranges]).tolist() == wanted.indices.tolist()
    assert np.concatenate([r.value for r in ranges]).tolist() == wanted.data.tolist()
    assert sorter.largest == np.abs(value).max()
    assert all(len(r.value) <= a_range or len(r.indptr) == 2 for r in ranges)


def test_nothing_active_is_empty_ranges() -> None:
    """A shard in which nothing fires is data."""
    sorter, ranges = sort_all([], 5)
    assert [r.indptr.tolist() for r in ranges] == [[0] * 6]
    assert sorter.largest == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_stops_with_feature_and_position(bad: float) -> None:
    """A NaN that is stored poisons every statistic; the position says where to look."""
    sorter = Sorter("shard-00002", 3)
    value = np.array([1, 2, bad], np.float32)
    with pytest.raises(RunError, match=r"feature 1 has the activation .* at position 2 of shard-00002"):
        sorter.add(np.arange(3, dtype=np.uint32), np.ones(3, np.int32), value)


def test_memory_is_what_the_result_takes_and_a_constant(tmp_path: Path) -> None:
    """A shard of tens of millions of events must not need its size over again to be merged, converted or written."""
    n_run = 12
    n = n_run * sort.EVENTS_A_RUN
    slot = np.arange(n // 32, dtype=np.uint32).repeat(32)
    feature = np.tile(np.arange(0, 4096, 128, dtype=np.int32), n // 32)
    value = np.ones(n, np.float32)
    tracemalloc.start()
    sorter = Sorter("shard-00000", 4096)
    for low in range(0, n, 2**16):
        part = slice(low, low + 2**16)
        sorter.add(slot[part], feature[part], value[part])
    writer = ShardWriter(tmp_path / "shard-00000.safetensors", float(sorter.largest), sorter.finish())
    for events in sorter.ranges():
        writer.add(events)
    writer.commit({"dictionary": "d", "first_row": 0, "first_kept": 0, "n_token": n // 32, "n_outlier": 0}, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    in_runs, as_stored, at_work = 8 * n, 6 * n, 48 * sort.EVENTS_A_RUN
    assert peak < in_runs + as_stored + at_work
    assert len(Shard(tmp_path / "shard-00000.safetensors", 1024).events.read(128).slot) == n // 32
