"""Statistics of all features at once against a few lines of numpy for one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import autointerp.harvest.stats as harvest_stats
from autointerp.errors import RunError
from autointerp.format import level_edges
from autointerp.harvest.shards import FeatureEvents, Shard, ShardArrays
from autointerp.harvest.stats import N_TOP_TOKENS, compute_stats
from autointerp.harvest.tokens import Corpus
from tests.shard_files import write_shard

CONTEXT, N_ROW, D_SAE, D_VOCAB = 32, 24, 40, 17
TENTHS = np.arange(1, 10) / 10


def corpus_of(tokens: np.ndarray) -> Corpus:
    """Rows of one document each, no BOS."""
    n_row, context = tokens.shape
    corpus = Corpus(
        folder=Path(), name="made", digest="made", n_row=n_row, context=context, first=0, n_tokens=tokens.size,
        file_digests={}, sources=(), vocabulary=tuple(map(str, range(D_VOCAB))), packed=False,
    )  # fmt: skip
    corpus.__dict__["tokens"] = tokens.astype(np.uint32)
    return corpus


def write(folder: Path, events: Sequence[ShardArrays], n_row: int, context: int) -> list[Shard]:
    """A shard a stretch of rows."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"shard-{i:05d}.safetensors" for i in range(len(events))]
    for i, (path, shard) in enumerate(zip(paths, events, strict=True)):
        first = i * n_row // len(events)
        meta = {"dictionary": "made", "first_row": first, "first_kept": first, "n_token": 1, "n_outlier": 0}
        write_shard(path, shard, dict(meta))
    return [Shard(path, context) for path in paths]


def draw(rng: np.random.Generator, n_slot: int, scale: float) -> ShardArrays:
    """Features of every density, from none to all slots; every other one with a handful of values only."""
    share = np.concatenate([[0.0, 1.0], 1.5 ** -rng.uniform(0, 14, D_SAE - 2)])
    columns = [np.flatnonzero(rng.random(n_slot) < s) for s in share]
    values = [
        scale * (rng.integers(1, 12, len(c)) if f % 2 else rng.exponential(size=len(c)) + 1e-3)
        for f, c in enumerate(columns)
    ]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    return ShardArrays(indptr, np.concatenate(columns).astype(np.uint32), np.concatenate(values).astype(np.float32))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of(np.random.default_rng(0).integers(0, D_VOCAB, (N_ROW, CONTEXT)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    rng = np.random.default_rng(1)
    events = [draw(rng, N_ROW // 3 * CONTEXT, scale) for scale in (1.0, 64.0, 1.0)]
    return write(tmp_path_factory.mktemp("stats") / "made", events, N_ROW, CONTEXT)


def read(shards: Sequence[Shard], feature: int) -> FeatureEvents:
    parts = [shard.events.read(feature) for shard in shards]
    return FeatureEvents(np.concatenate([p.slot for p in parts]), np.concatenate([p.value for p in parts]))


def test_every_field_by_brute_force(shards: list[Shard], corpus: Corpus) -> None:
    """A range's features are told apart by the upper bits of one sorted number: a slip there mixes neighbours."""
    stats = compute_stats(shards, D_SAE, corpus)
    for feature in range(D_SAE):
        slot, value = read(shards, feature)[0], read(shards, feature)[1].astype(np.float64)
        assert stats.n_active[feature] == len(value)
        assert stats.n_document[feature] == len(np.unique(slot // CONTEXT))
        assert stats.total[feature] == pytest.approx(value.sum())
        assert stats.max[feature] == value.max(initial=0)
        distinct, counts = np.unique(value, return_counts=True)
        assert stats.by_rank[feature] == (len(distinct) < 10)
        assert stats.level_edges[feature].tolist() == level_edges(distinct, counts).tolist()
        assert stats.deciles[feature].tolist() == (np.quantile(value, TENTHS).tolist() if len(value) else [0.0] * 9)
        bins = np.histogram(value, bins=24, range=(0, value.max(initial=1)))[0]
        assert stats.histogram[feature].tolist() == bins.tolist()
        assert stats.log_histogram[feature].sum() == len(value)
        token = corpus.tokens.reshape(-1)[slot]
        total = {int(t): value[token == t].sum() for t in np.unique(token)}
        best = sorted(total, key=lambda t: (-total[t], t))[:N_TOP_TOKENS]
        fill = [-1] * (N_TOP_TOKENS - len(best))
        assert stats.top_token[feature].tolist() == best + fill
        assert stats.top_token_count[feature, : len(best)].tolist() == [int((token == t).sum()) for t in best]
        assert stats.top_token_total[feature, : len(best)] == pytest.approx([total[t] for t in best])
    assert stats.by_rank.sum() > 3
    assert (~stats.by_rank).sum() > 3


@pytest.mark.parametrize(("block", "width", "threads"), [(50, 2**15, 1), (10**6, 3, 1), (50, 5, 3), (2**17, 2**15, 2)])
def test_ranges_and_threads_do_not_show(
    shards: list[Shard], corpus: Corpus, monkeypatch: pytest.MonkeyPatch, block: int, width: int, threads: int
) -> None:
    """Statistics are in the manifest's digest: another machine with more threads must write the same bytes."""
    wanted = compute_stats(shards, D_SAE, corpus)
    monkeypatch.setattr(harvest_stats, "EVENTS_A_BLOCK", block)
    monkeypatch.setattr(harvest_stats, "FEATURES_A_BLOCK", width)
    for field, one, other in zip(wanted._fields, wanted, compute_stats(shards, D_SAE, corpus, threads), strict=True):
        assert np.array_equal(one, other), field


def test_sums_that_differ_in_their_last_bits_only(tmp_path: Path) -> None:
    """1 + 2^-21 is above 1 + 2^-22, though half of their bits are the same and its token comes later."""
    tokens = np.array([[0, 1, 0, 1, 2, 3, 3, 2]])
    value = np.array([1, 1, 2.0**-22, 2.0**-21, 0.5, 0.25, 0.25, 2.0**-23], np.float32)
    events = ShardArrays(np.array([0, 0, 8]), np.arange(8, dtype=np.uint32), value)
    stats = compute_stats(write(tmp_path / "made", [events], 1, 8), 2, corpus_of(tokens))
    assert stats.top_token[1, :5].tolist() == [1, 0, 2, 3, -1]
    assert stats.top_token_total[1, :2].tolist() == [1 + 2.0**-21, 1 + 2.0**-22]
    assert stats.top_token_count[1, :4].tolist() == [2, 2, 2, 2]


def test_equal_sums_are_told_by_the_lower_token_first(tmp_path: Path) -> None:
    """Else the tokens of a rare feature, which often fires equally, would depend on how its range was cut."""
    events = ShardArrays(np.array([0, 4]), np.arange(4, dtype=np.uint32), np.ones(4, np.float32))
    stats = compute_stats(write(tmp_path / "made", [events], 1, 4), 1, corpus_of(np.array([[9, 3, 7, 3]])))
    assert stats.top_token[0, :4].tolist() == [3, 7, 9, -1]


def test_damage_found_by_a_thread_is_told(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a thread of its own must not be lost, and names the features that changed."""
    whole = draw(np.random.default_rng(2), N_ROW * CONTEXT, 1.0)
    [shard] = write(tmp_path / "made", [whole], N_ROW, CONTEXT)
    data = bytearray(shard.path.read_bytes())
    data[-1] ^= 1  # the last bytes are the last value
    shard.path.write_bytes(data)
    monkeypatch.setattr(harvest_stats, "EVENTS_A_BLOCK", 50)
    with pytest.raises(RunError, match=f"events of features {(D_SAE - 1) // 8 * 8} to {D_SAE - 1} changed"):
        compute_stats([Shard(shard.path, CONTEXT)], D_SAE, corpus, threads=2)
