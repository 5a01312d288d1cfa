"""Tokens that a harvest did not look at are neither scored nor called silent nor counted."""

from collections import Counter

import numpy as np
import pytest
from jaxtyping import Int

from autointerp.config import ProtocolName
from autointerp.examples import Chooser
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.records import FeatureRecord
from autointerp.splits import PARTS, CorpusIndex
from tests.unit.small_corpus import SOMETIMES, TOKEN, SmallCorpus, make_corpus, make_reader

SEED = 5


def masked_slots(corpus: SmallCorpus) -> Int[np.ndarray, " n"]:
    """A tenth of all text."""
    text = np.flatnonzero(CorpusIndex(corpus, SEED).text)
    return np.sort(np.random.default_rng(3).choice(text, len(text) // 10, replace=False))


def records(corpus: SmallCorpus, masked: Int[np.ndarray, " n"] | None, protocol: ProtocolName) -> list[FeatureRecord]:
    """Of two features, silent wherever a tenth of the text is masked; the index is told of it or not."""
    reader = make_reader(corpus)
    reader.dense[:, masked_slots(corpus)] = 0
    chooser = Chooser(reader, CorpusIndex(corpus, SEED, masked), "d", PROTOCOLS[protocol].design)
    return [chooser.feature_record(feature) for feature in (TOKEN, SOMETIMES)]


def n_unknown(record: FeatureRecord, corpus: SmallCorpus) -> int:
    """Tokens scored that are masked."""
    masked = set(masked_slots(corpus).tolist())
    found = 0
    for example in (*record.splits.select, *record.splits.score):
        first = example.record.row * corpus.context + example.record.start
        places = range(len(example.record.tokens)) if example.target is None else [example.target]
        found += sum(first + place in masked for place in places)
    return found


@pytest.mark.parametrize("protocol", ["simulate", "graded"])
def test_a_masked_token_is_never_scored(protocol: ProtocolName) -> None:
    """A zero that nobody measured would punish an explanation for being right."""
    corpus = make_corpus()
    assert sum(n_unknown(record, corpus) for record in records(corpus, None, protocol)) > 5
    for record in records(corpus, masked_slots(corpus), protocol):
        assert n_unknown(record, corpus) == 0
        strata = Counter(example.stratum for example in record.splits.score)
        assert strata["decile"] >= 5
        assert strata["uniform"] >= 5
        assert strata["hard-token"] + strata["hard-text"] >= 5 or record.feature.index == TOKEN


def test_tables_count_what_was_looked_at() -> None:
    """Counted as silent, masked occurrences of a token would make the look-up baseline too weak."""
    corpus = make_corpus()
    masked = masked_slots(corpus)
    index = CorpusIndex(corpus, SEED, masked)
    table = records(corpus, masked, "simulate")[0].token_table
    assert table is not None
    known = index.text.copy()
    known[masked] = False
    known &= np.repeat(index.document_part == PARTS.index("explain"), corpus.context)
    counts = Counter(corpus.vocabulary[t] for t in corpus.tokens.reshape(-1)[known])
    assert {t: n for t, n in zip(table.tokens, table.counts, strict=True) if n} == {
        t: counts[t] for t in table.tokens if counts[t]
    }
