"""A harvest that keeps a sample: the same numbers over all text, complete activations where it says so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import UsageError
from autointerp.harvest.events import Harvest, StatsArrays
from autointerp.harvest.sample import (
    WINDOW,
    draw_documents,
    feature_of,
    keep_documents,
    shard_documents,
    strongest_windows,
    totals,
)
from autointerp.harvest.shards import Shard, ShardArrays
from autointerp.harvest.stats import _rank_strongest
from autointerp.harvest.tokens import Corpus
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config

KEEP = {"keep": "sample", "keep_tokens": 3000, "keep_strongest": 2}


@pytest.fixture(scope="module")
def sampled(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run, keeping about a quarter of its text."""
    return run_harvest(small_config(small, tmp_path_factory.mktemp("sampled"), **KEEP))


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_kept_rows_hold_all_their_activations(harvested: Path, sampled: Path, name: str) -> None:
    """A reader that numbers rows otherwise than the shards puts activations on other words."""
    whole, sample = Harvest(harvested, name), Harvest(sampled, name)
    kept = sample.corpus.kept
    assert kept is not None
    context = whole.corpus.context
    assert 3000 <= (sample.corpus.length - sample.corpus.first).sum() < 3100
    assert (sample.corpus.tokens == whole.corpus.tokens[kept]).all()
    assert (sample.corpus.source == whole.corpus.source[kept]).all()
    for feature in range(whole.spec.d_sae):
        everything, some = whole.read(feature), sample.read(feature)
        there = np.isin(everything.slot // context, kept)
        assert (kept[some.slot // context] * context + some.slot % context).tolist() == everything.slot[there].tolist()
        assert some.value == pytest.approx(everything.value[there], rel=1e-3)


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_counts_are_over_all_text(harvested: Path, sampled: Path, name: str) -> None:
    """Densities from a sample alone would call rare features dead."""
    whole, sample = Harvest(harvested, name), Harvest(sampled, name)
    assert sample.n_tokens == whole.n_tokens
    assert (sample.stats.n_active == whole.stats.n_active).all()
    assert (sample.stats.n_document == whole.stats.n_document).all()
    assert sample.stats.max == pytest.approx(np.array(whole.stats.max), rel=1e-3)
    assert sample.stats.total == pytest.approx(np.array(whole.stats.total), rel=1e-3)
    assert sample.metrics.reconstruction == whole.metrics.reconstruction
    assert sample.metrics.loss == whole.metrics.loss


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_the_strongest_window_is_there_complete(harvested: Path, sampled: Path, name: str) -> None:
    """The strongest activation of a billion tokens is what explanations start from; it may lie in no kept document."""
    whole, sample = Harvest(harvested, name), Harvest(sampled, name)
    for feature in range(whole.spec.d_sae):
        everything, strongest = whole.read(feature), sample.strongest(feature)
        if not len(everything.slot):
            assert not len(strongest.slot)
            continue
        peak = everything.slot[np.argmax(everything.value)]
        assert strongest.value.max() == pytest.approx(everything.value.max(), rel=1e-3)
        best = strongest.slot[np.argmax(strongest.value)]
        near = (everything.slot >= best - WINDOW // 2) & (everything.slot < best + WINDOW // 2)
        near &= everything.slot // whole.corpus.context == best // whole.corpus.context
        assert set(everything.slot[near]) <= set(strongest.slot.tolist())
        assert everything.value[everything.slot == best] == pytest.approx(
            everything.value[everything.slot == peak], rel=1e-3
        )
    assert not len(whole.strongest(0).slot)


def test_what_is_kept_depends_on_no_batch(small: SmallRun, sampled: Path, tmp_path: Path) -> None:
    """Two machines with other batches must keep the same documents, or their shards cannot be compared."""
    folder = run_harvest(small_config(small, tmp_path, **{**KEEP, "batch_size": 3, "shard_tokens": 4096}))
    one, other = Corpus.open(sampled), Corpus.open(folder)
    assert one.kept is not None
    assert one.kept.tolist() == (other.kept if other.kept is not None else np.zeros(0)).tolist()
    assert Harvest(folder, "topk").read(3).slot.tolist() == Harvest(sampled, "topk").read(3).slot.tolist()


def test_all_dictionaries_of_a_run_keep_the_same(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """A second dictionary with a sample of its own would renumber the first one's rows."""
    shutil.copytree(harvested, tmp_path / "harvest")
    shutil.rmtree(tmp_path / "harvest" / "topk")
    with pytest.raises(UsageError, match="was harvested with keep = 'all'"):
        run_harvest(small_config(small, tmp_path, **KEEP))


def test_a_feature_outside_the_sample_has_levels_of_its_own(sampled: Path) -> None:
    """With no kept event its deciles are unknown, not 0; and edges of 0 made every activation the strongest."""
    harvest = Harvest(sampled, "topk")
    shards = [Shard(path, harvest.corpus.context) for path in sorted((sampled / "topk").glob("shard-*"))]
    features = [f for f in range(harvest.spec.d_sae) if len(np.unique(harvest.strongest(f).value)) > 1]
    stats = StatsArrays(*(np.array(field) for field in harvest.stats))
    stats.histogram[features] = 0
    stats.level_edges[features] = 0
    _rank_strongest(stats, shards)
    harvest.__dict__["stats"] = stats
    assert features
    for feature in features:
        told = harvest.feature_stats(feature)
        assert (told.n_active > 0, told.deciles) == (True, ())
        known = np.sort(harvest.strongest(feature).value)
        edges, _ = harvest.level_rule(feature)
        levels = 1 + (edges[:, None] < known).sum(axis=0)
        assert levels[0] < levels[-1]


def test_the_maximum_is_the_exact_one(harvested: Path, sampled: Path) -> None:
    """Stored activations are rounded, upwards too; the maximum over all text is not."""
    shards = [Shard(path, 64) for path in sorted((sampled / "topk").glob("shard-*"))]
    exact = np.max([shard.more["max"] for shard in shards], axis=0)
    assert (Harvest(sampled, "topk").stats.max == exact).all()


def test_rows_are_drawn_evenly() -> None:
    """A hash of neighbouring numbers that runs in steps would keep one end of the corpus."""
    n = 20_000
    corpus = Corpus(Path(), "x", "blake2b:1", n, 8, 1, 6 * n, {}, (), ())
    object.__setattr__(corpus, "length", np.full(n, 7))
    rows = draw_documents(corpus, 6 * n // 4)
    assert len(rows) == n // 4
    tenths = np.bincount(rows // (n // 10), minlength=10)
    assert tenths == pytest.approx(np.full(10, n / 40), rel=0.12)
    assert np.bincount(rows % 2) == pytest.approx([n / 8, n / 8], rel=0.06)


def packed_corpus(rng: np.random.Generator, n_row: int, context: int, share: float) -> Corpus:
    """Rows of documents of 1 to 90 places with padding behind the last; a share of the documents is kept."""
    start, length = [], []
    for row in range(n_row):
        place, n = 0, int(rng.integers(1, 91))
        while place + n <= context:
            start.append(row * context + place)
            length.append(n)
            place, n = place + n, int(rng.integers(1, 91))
    kept = np.flatnonzero(rng.random(len(start)) < share)
    corpus = Corpus(Path(), "x", "d", n_row, context, 0, sum(length), {}, (), (), packed=True, kept=kept)
    object.__setattr__(corpus, "start", np.array(start))
    object.__setattr__(corpus, "length", np.array(length))
    return corpus


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_reducing_a_shard_by_brute_force(seed: int, n: int, share: float) -> None:
    """Prefix sums and segment maxima over empty features, borders inside rows and ties, against loops."""
    rng = np.random.default_rng(seed)
    d_sae, context, rows = 4, 200, slice(2, 5)
    corpus = packed_corpus(rng, 6, context, share)
    kept = set() if corpus.kept is None else set(corpus.kept.tolist())
    spans = [(i, s, s + m) for i, (s, m) in enumerate(zip(corpus.start.tolist(), corpus.length.tolist(), strict=True))]
    spans = [(i, s - 2 * context, e - 2 * context) for i, s, e in spans if 2 * context <= s < 5 * context]
    dense = np.zeros((d_sae, 3 * context), np.int64)
    for _, low, high in spans:
        dense[:, low:high] = rng.integers(1, 4, (d_sae, high - low)) * (rng.random((d_sae, high - low)) < 0.05)
    dense[rng.integers(0, d_sae)] = 0
    feature, position = dense.nonzero()
    indptr = np.searchsorted(feature, np.arange(d_sae + 1))
    shard = ShardArrays(indptr, position.astype(np.uint32), dense[feature, position].astype(np.float32))
    documents = shard_documents(corpus, rows)
    assert feature_of(shard).tolist() == feature.tolist()
    summed = totals(shard, documents)
    assert summed["n_active"].tolist() == (dense > 0).sum(axis=1).tolist()
    assert summed["n_document"].tolist() == [sum(bool(dense[f, a:b].any()) for _, a, b in spans) for f in range(d_sae)]
    assert summed["total"].tolist() == dense.sum(axis=1).tolist()
    assert summed["max"].tolist() == dense.max(axis=1).tolist()
    some = keep_documents(shard, documents)
    own = [np.pad(dense[:, a:b], ((0, 0), (0, context - b + a))) for i, a, b in spans if i in kept]
    told = np.zeros((d_sae, len(own) * context))
    told[feature_of(some), some.position] = some.value
    assert told.tolist() == np.concatenate([np.zeros((d_sae, 0)), *own], axis=1).tolist()
    assert documents.first_kept == sum(i < spans[0][0] for i in kept)
    strongest = strongest_windows(shard, n, documents)
    expected = np.zeros_like(dense)
    for f in range(d_sae):
        best = sorted(((-dense[f, a:b].max(), a, b) for _, a, b in spans if dense[f, a:b].any()))[:n]
        for _, low, high in best:
            peak = low + int(dense[f, low:high].argmax())
            window = slice(max(peak - WINDOW // 2, low), min(peak + WINDOW // 2, high))
            expected[f, window] = dense[f, window]
    found = np.zeros_like(dense)
    found[feature_of(strongest), strongest.position] = strongest.value
    assert found.tolist() == expected.tolist()


def test_too_many_kept_documents_for_one_shard_are_refused() -> None:
    """Positions of 32 bits that run over would put activations on other documents without a word."""
    n = 2**13 + 1
    corpus = Corpus(Path(), "x", "d", 1, 2**19, 0, n, {}, (), (), packed=True, kept=np.arange(n))
    object.__setattr__(corpus, "start", np.arange(n))
    object.__setattr__(corpus, "length", np.ones(n, np.int64))
    with pytest.raises(UsageError, match="too many for one shard"):
        shard_documents(corpus, slice(0, 1))
