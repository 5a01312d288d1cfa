"""Top examples of a harvest that keeps a sample: from all text, complete, and of the explain part alone."""

from pathlib import Path

import numpy as np
import pytest

from autointerp.config import ProtocolName
from autointerp.harvest.events import Harvest
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.records import Example, FeatureRecord
from autointerp.sources import HarvestSource
from autointerp.splits import PARTS, CorpusIndex, part_of
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config
from tests.unit.small_corpus import make_corpus

SEED = 4
KEEP = {"keep": "sample", "keep_tokens": 1200, "keep_strongest": 4}


@pytest.fixture(scope="module", params=[False, True], ids=["one-a-row", "packed"])
def sampled(small: SmallRun, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The small run, keeping about a tenth of its text."""
    config = small_config(small, tmp_path_factory.mktemp("sampled"), pack=request.param, **KEEP)
    return run_harvest(config, ["topk"])


def record_of(sample: Harvest, feature: int, protocol: ProtocolName = "simulate") -> FeatureRecord:
    source = HarvestSource(sample, lambda harvest: CorpusIndex(harvest.corpus, SEED, harvest.masked_slots))
    return source.maker(PROTOCOLS[protocol].design, SEED).feature_record(feature)


def is_outside(example: Example, sample: Harvest) -> bool:
    return example.record.row >= sample.corpus.n_row


@pytest.mark.parametrize("protocol", ["simulate", "graded"])
def test_the_top_stratum_is_that_of_all_text(harvested: Path, sampled: Path, protocol: ProtocolName) -> None:
    """Top examples of a thousandth of a corpus alone would show what is strong there, not what the feature is for.

    By brute force over the documents of the explain part that are kept or hold a strongest window.
    """
    whole, sample = Harvest(harvested, "topk"), Harvest(sampled, "topk")
    context, corpus = whole.corpus.context, whole.corpus
    beyond = sample.corpus.whole
    assert beyond is not None
    n_outside = 0
    for feature in range(whole.spec.d_sae):
        record = record_of(sample, feature, protocol)
        kept = np.asarray(sample.corpus.kept)
        known = set(kept[sample.read(feature).slot // context].tolist())
        known |= set(beyond.document_of(sample.strongest(feature).slot).tolist())
        slot, value = whole.read(feature)
        peak: dict[int, float] = {}
        for document, v in zip((slot // context).tolist(), value.tolist(), strict=True):
            source = corpus.sources[corpus.source[document]]
            if document in known and part_of(source, SEED) == "explain":
                peak[document] = max(v, peak.get(document, 0.0))
        top = [e for e in record.splits.explain if e.stratum == "top"]
        found = [max(e.record.activations) for e in top]
        assert found == pytest.approx(sorted(peak.values(), reverse=True)[:10], rel=2e-3)
        assert all(part_of(e.record.document, SEED) == "explain" for e in top)
        n_outside += sum(is_outside(e, sample) for e in top)
        assert not any(is_outside(e, sample) for e in (*record.splits.select, *record.splits.score))
    assert n_outside > 50


def test_windows_outside_hold_all_their_activations(harvested: Path, sampled: Path) -> None:
    """Half of an activation pattern shown to an explainer is a wrong pattern."""
    whole, sample = Harvest(harvested, "topk"), Harvest(sampled, "topk")
    text = [tuple(whole.corpus.vocabulary[t] for t in row) for row in whole.corpus.tokens]
    n_checked = 0
    for feature in range(whole.spec.d_sae):
        flat = np.zeros(whole.corpus.tokens.size)
        slot, value = whole.read(feature)
        flat[slot] = value
        dense = flat.reshape(whole.corpus.tokens.shape)
        for example in record_of(sample, feature).splits.explain:
            r = example.record
            start = r.start if r.place is None else r.place
            end = start + len(r.tokens)
            source = whole.corpus.sources.index(r.document)
            rows = np.flatnonzero(whole.corpus.source == source).tolist()
            row = next(row for row in rows if text[row][start:end] == r.tokens)
            assert r.activations == pytest.approx(dense[row, start:end], rel=2e-3)
            n_checked += is_outside(example, sample)
    assert n_checked > 50


def test_text_of_other_parts_by_brute_force() -> None:
    """A page outside the sample that repeats a licence header of a scored page would show what is scored."""
    corpus = make_corpus(n_source=120, repeated={4: 30, 9: 50})
    index = CorpusIndex(corpus, SEED)
    documents = [tuple(row[1:length].tolist()) for row, length in zip(corpus.tokens, corpus.length, strict=True)]
    others = [d for d, part in zip(documents, index.document_part, strict=True) if part != PARTS.index("explain")]
    for width in (2, 3, 8):
        runs = {d[i : i + width] for d in others for i in range(len(d) - width + 1)}
        for length in (4, 16, 39):
            rows = [d[:length] for d in documents if len(d) >= length]
            expected = [
                any(r[i : i + width] in runs for i in range(max(length - width, 0) + 1))
                if length >= width
                else any(d[-length:] == r for d in others)
                for r in rows
            ]
            assert index.stand_elsewhere(np.array(rows), width, "explain").tolist() == expected
            assert not all(expected) or width < 8
