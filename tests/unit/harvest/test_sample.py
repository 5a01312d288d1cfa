"""A harvest that keeps a sample: the same numbers over all text, complete activations where it says so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import UsageError
from autointerp.harvest.events import Corpus, Harvest
from autointerp.harvest.sample import WINDOW, draw_rows, feature_of, keep_rows, strongest_windows, totals
from autointerp.harvest.shards import ShardArrays
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
    assert (sample.stats.n_row == whole.stats.n_row).all()
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


def test_rows_are_drawn_evenly() -> None:
    """A hash of neighbouring numbers that runs in steps would keep one end of the corpus."""
    n = 20_000
    corpus = Corpus(Path(), "x", "blake2b:1", n, 8, 1, 6 * n, (), ())
    object.__setattr__(corpus, "length", np.full(n, 7))
    rows = draw_rows(corpus, 6 * n // 4)
    assert len(rows) == n // 4
    tenths = np.bincount(rows // (n // 10), minlength=10)
    assert tenths == pytest.approx(np.full(10, n / 40), rel=0.12)
    assert np.bincount(rows % 2) == pytest.approx([n / 8, n / 8], rel=0.06)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_reducing_a_shard_by_brute_force(seed: int, n: int) -> None:
    """Prefix sums and segment maxima over empty features, empty rows and ties, against loops."""
    rng = np.random.default_rng(seed)
    d_sae, n_row, context = 4, 3, 200
    dense = rng.integers(0, 4, (d_sae, n_row * context)) * (rng.random((d_sae, n_row * context)) < 0.03)
    dense[rng.integers(0, d_sae)] = 0
    feature, position = dense.nonzero()
    indptr = np.searchsorted(feature, np.arange(d_sae + 1))
    shard = ShardArrays(indptr, position.astype(np.uint32), dense[feature, position].astype(np.float32))
    assert feature_of(shard).tolist() == feature.tolist()
    summed = totals(shard, context)
    assert summed["n_active"].tolist() == (dense > 0).sum(axis=1).tolist()
    assert summed["n_row"].tolist() == (dense.reshape(d_sae, n_row, context) > 0).any(axis=2).sum(axis=1).tolist()
    assert summed["total"].tolist() == dense.sum(axis=1).tolist()
    assert summed["max"].tolist() == dense.max(axis=1).tolist()
    kept = rng.random(n_row) < 0.5
    some = keep_rows(shard, kept, context)
    told = np.zeros((d_sae, int(kept.sum()) * context))
    told[feature_of(some), some.position] = some.value
    assert told.tolist() == dense.reshape(d_sae, n_row, context)[:, kept].reshape(d_sae, -1).tolist()
    strongest = strongest_windows(shard, n, context)
    expected = np.zeros_like(dense)
    for f in range(d_sae):
        rows = dense[f].reshape(n_row, context)
        for row in np.argsort(-rows.max(axis=1), kind="stable")[:n]:
            peak = int(rows[row].argmax())
            low, high = max(peak - WINDOW // 2, 0), peak + WINDOW // 2
            expected[f, row * context + low : row * context + min(high, context)] = rows[row, low:high]
    found = np.zeros_like(dense)
    found[feature_of(strongest), strongest.position] = strongest.value
    assert found.tolist() == expected.tolist()
