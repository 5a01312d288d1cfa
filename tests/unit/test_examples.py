"""Parts, strata and records on a planted corpus, each choice held against the dense activations."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from autointerp.config import ProtocolName
from autointerp.examples import Chooser
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.records import HARD_STRATA, Example, FeatureRecord
from autointerp.splits import PARTS, CorpusIndex, part_of
from tests.unit.small_corpus import (
    EVERYWHERE,
    NEAR,
    NEVER,
    RARE,
    SOMETIMES,
    TOKEN,
    SmallCorpus,
    SmallReader,
    make_corpus,
    make_reader,
)

DESIGN = PROTOCOLS["simulate"].design
SEED = 11


@pytest.fixture(scope="module")
def corpus() -> SmallCorpus:
    return make_corpus()


@pytest.fixture(scope="module")
def reader(corpus: SmallCorpus) -> SmallReader:
    return make_reader(corpus)


@pytest.fixture(scope="module")
def index(corpus: SmallCorpus) -> CorpusIndex:
    return CorpusIndex(corpus, SEED)


@pytest.fixture(scope="module")
def records(reader: SmallReader, index: CorpusIndex) -> dict[int, FeatureRecord]:
    chooser = Chooser(reader, index, "d", DESIGN)
    return {feature: chooser.feature_record(feature) for feature in range(6)}


def parts(record: FeatureRecord) -> Iterator[tuple[str, Example]]:
    for part in PARTS:
        for example in getattr(record.splits, part):
            yield part, example


def span(example: Example) -> tuple[int, int, int]:
    return example.record.row, example.record.start, example.record.start + len(example.record.tokens)


def test_shares_of_the_parts() -> None:
    """SCORING A8: 8, 3, 1 and 8 of 20 sources, by hash, and otherwise under another seed."""
    n = 20_000
    counts = Counter(part_of(f"page {i}", 0) for i in range(n))
    for part, share in zip(PARTS, (8, 3, 1, 8), strict=True):
        assert counts[part] / n == pytest.approx(share / 20, abs=0.012)
    assert any(part_of(f"page {i}", 0) != part_of(f"page {i}", 1) for i in range(50))


@pytest.mark.parametrize("protocol", ["simulate", "graded"])
def test_records_are_what_validation_would_have_made(
    reader: SmallReader, index: CorpusIndex, protocol: ProtocolName
) -> None:
    """Their parts are trusted, not looked at: an array's integer, or a field forgotten, must not get that far."""
    chooser = Chooser(reader, index, "d", PROTOCOLS[protocol].design)
    for feature in range(6):
        record = chooser.feature_record(feature)
        checked = FeatureRecord.model_validate(record.model_dump(), strict=True)
        assert checked == record
        assert checked.model_dump_json() == record.model_dump_json()
        assert FeatureRecord.model_validate_json(record.model_dump_json()) == record


def test_parts_hold_disjoint_sources(records: dict[int, FeatureRecord]) -> None:
    """Two documents of one page in two parts would let an explainer see what it is scored on."""
    seen: dict[str, set[str]] = {}
    for record in records.values():
        for part, example in parts(record):
            seen.setdefault(part, set()).add(example.record.document)
            assert part_of(example.record.document, SEED) == part
    assert len(seen) == 3
    assert not seen["explain"] & seen["score"]
    assert not seen["explain"] & seen["select"]
    assert not seen["select"] & seen["score"]


def test_windows_lie_inside_one_document_with_its_own_tokens(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader
) -> None:
    """A window over BOS, padding or the next document shows text that never stood together."""
    for feature, record in records.items():
        dense = reader.dense[feature].reshape(corpus.tokens.shape)
        for _, example in parts(record):
            row, low, high = span(example)
            assert corpus.first <= low < high <= corpus.length[row]
            assert example.record.tokens == tuple(corpus.vocabulary[t] for t in corpus.tokens[row, low:high])
            assert example.record.activations == pytest.approx(dense[row, low:high].tolist())
            assert example.record.document == corpus.sources[corpus.source[row]]
            assert [level > 0 for level in example.levels] == [a > 0 for a in dense[row, low:high]]


def test_widths_are_the_designs_but_in_shorter_documents(
    records: dict[int, FeatureRecord], corpus: SmallCorpus
) -> None:
    """A narrow window gives a statistic of its own; only a document that is too short may give one."""
    for record in records.values():
        for part, example in parts(record):
            row, low, high = span(example)
            width = DESIGN.explain_width if part == "explain" else DESIGN.width
            assert high - low == min(width, corpus.length[row] - corpus.first)


def test_negatives_are_silent_and_say_so(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader
) -> None:
    """SCORING B 5.6: an unverified negative that fires punishes a right explanation."""
    n_negative = 0
    for feature, record in records.items():
        dense = reader.dense[feature].reshape(corpus.tokens.shape)
        for _, example in parts(record):
            row, low, high = span(example)
            active = bool(dense[row, low:high].any())
            negative = example.stratum == "uniform" or example.stratum in HARD_STRATA
            assert active != negative
            assert example.verified == negative
            n_negative += negative
    assert n_negative > 80


def test_chosen_windows_never_overlap(records: dict[int, FeatureRecord]) -> None:
    """A token that is scored twice weighs double and makes the interval too narrow."""
    for record in records.values():
        taken: Counter[tuple[int, int]] = Counter()
        for _, example in parts(record):
            row, low, high = span(example)
            taken.update((row, place) for place in range(low, high))
        assert max(taken.values(), default=1) == 1


def test_numbers_by_stratum(records: dict[int, FeatureRecord]) -> None:
    """SCORING A2: 16 active, 16 uniform, 16 hard to score, and 20 to explain; half of it to select."""
    counts = Counter(e.stratum for e in records[TOKEN].splits.score)
    assert counts["decile"] == 16
    assert counts["uniform"] == 16
    explain = Counter(e.stratum for e in records[TOKEN].splits.explain)
    assert (explain["top"], explain["decile"]) == (10, 10)
    some = Counter(e.stratum for e in records[SOMETIMES].splits.score)
    assert sum(some[s] for s in HARD_STRATA) == 16
    assert all(some[s] >= 5 for s in HARD_STRATA)
    select = Counter(e.stratum for e in records[SOMETIMES].splits.select)
    assert (select["decile"], select["uniform"]) == (8, 8)


def test_active_windows_come_from_every_decile(records: dict[int, FeatureRecord]) -> None:
    """Top activations alone hide that weak ones mean something else."""
    deciles = Counter(e.decile for e in records[TOKEN].splits.score if e.stratum == "decile")
    assert set(deciles) == set(range(1, 11))
    assert set(deciles.values()) == {1, 2}


def test_the_top_stratum_holds_the_strongest_documents(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader, index: CorpusIndex
) -> None:
    """Brute force: the ten documents of the explain part with the highest peaks, strongest first."""
    dense = reader.dense[TOKEN].reshape(corpus.tokens.shape)
    rows = np.flatnonzero(index.document_part == PARTS.index("explain"))
    best = rows[np.argsort(-dense[rows].max(axis=1), kind="stable")][:10]
    assert [e.record.row for e in records[TOKEN].splits.explain if e.stratum == "top"] == best.tolist()


def test_hard_windows_are_what_their_stratum_says(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader
) -> None:
    """Random text under the name hard tests nothing and says that it did."""
    near = reader.dense[NEAR].reshape(corpus.tokens.shape)
    for example in records[SOMETIMES].splits.score:
        row, low, high = span(example)
        if example.stratum == "hard-token":
            assert " w7" in example.record.tokens
        if example.stratum == "hard-neighbour":
            assert near[row, low:high].any()


def test_hard_strata_are_never_topped_up(index: CorpusIndex, corpus: SmallCorpus) -> None:
    """A feature on every occurrence of a word that stands alone has no hard text at all: the stratum stays empty."""
    dense = np.zeros((1, corpus.tokens.size))
    alone = make_corpus(seed=0)
    alone.tokens[:, 1:] = np.where(alone.source[:, None] % 2, 3, 4)
    place = np.arange(alone.context)
    text = (place >= 1) & (place < alone.length[:, None])
    dense[0] = np.where(text & (alone.tokens == 3), 1.0, 0).reshape(-1)
    chooser = Chooser(SmallReader(alone, dense), CorpusIndex(alone, SEED), "d", DESIGN)
    strata = Counter(e.stratum for e in chooser.feature_record(0).splits.score)
    assert not any(strata[s] for s in HARD_STRATA)


def test_inclusion_probabilities(records: dict[int, FeatureRecord]) -> None:
    """Weights of 1 / probability must exist for every window; a top window is there for certain."""
    for record in records.values():
        for _, example in parts(record):
            assert 0 < example.probability <= 1
            if example.stratum == "top":
                assert example.probability == 1
    uniform = {e.probability for e in records[TOKEN].splits.score if e.stratum == "uniform"}
    assert len(uniform) == 1
    assert uniform.pop() < 0.5


def test_choices_depend_on_the_seed_and_not_on_the_order_of_work(
    reader: SmallReader, corpus: SmallCorpus, records: dict[int, FeatureRecord]
) -> None:
    """A resumed run works on features in another order; it must choose the same windows."""
    again = Chooser(reader, CorpusIndex(corpus, SEED), "d", DESIGN)
    for feature in reversed(range(6)):
        assert again.feature_record(feature) == records[feature]
    other = Chooser(reader, CorpusIndex(corpus, SEED + 1), "d", DESIGN)
    assert other.feature_record(TOKEN).splits.score != records[TOKEN].splits.score


def test_a_dead_feature_has_no_windows(records: dict[int, FeatureRecord]) -> None:
    """Nothing to choose must give empty parts, not an error or random text."""
    splits = records[NEVER].splits
    assert (splits.explain, splits.select, splits.score) == ((), (), ())
    assert records[NEVER].level_rule == "rank"


def test_a_dense_feature_has_no_negatives(records: dict[int, FeatureRecord]) -> None:
    """Where no window is silent, none may be called so."""
    strata = Counter(e.stratum for e in records[EVERYWHERE].splits.score)
    assert set(strata) == {"decile"}
    assert strata["decile"] == 16


def test_a_rare_feature_keeps_each_activation_once(records: dict[int, FeatureRecord]) -> None:
    """Two activations in all give at most two active windows, however many are wanted."""
    active = [e for _, e in parts(records[RARE]) if any(e.levels)]
    assert 1 <= len(active) <= 2
    assert all(max(e.levels) == 5 for e in active)


def test_text_shared_between_parts_stays_in_explain() -> None:
    """SCORING A8: licence headers stand in every file; scored on them, a memory would pass for an understanding."""
    corpus = make_corpus()
    by_part = {p: [i for i, s in enumerate(corpus.sources) if part_of(s, SEED) == p] for p in PARTS}
    pairs = dict(zip(by_part["score"][::2], by_part["explain"], strict=False))
    corpus = make_corpus(repeated=pairs)
    index = CorpusIndex(corpus, SEED)
    reader = make_reader(corpus)
    record = Chooser(reader, index, "d", DESIGN).feature_record(TOKEN)
    copied = {corpus.sources[i] for i in pairs}
    rows = {
        tuple(corpus.tokens[r]) for r in range(len(corpus.length)) if index.document_part[r] == PARTS.index("explain")
    }
    for example in record.splits.score:
        if example.record.document in copied:
            assert tuple(corpus.tokens[example.record.row]) not in rows
    shown = {e.record.document for e in record.splits.explain}
    assert shown & {corpus.sources[i] for i in pairs.values()}


def test_the_token_table_is_a_count_over_all_explain_text(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader, index: CorpusIndex
) -> None:
    """The baseline's strength is that it saw all text; a table of the 20 shown windows would flatter every lift."""
    record = records[SOMETIMES]
    table = record.token_table
    assert table is not None
    edges, _ = reader.level_rule(SOMETIMES)
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for row in np.flatnonzero(index.document_part == PARTS.index("explain")):
        for place in range(corpus.first, corpus.length[row]):
            word = corpus.vocabulary[corpus.tokens[row, place]]
            acts = np.float32(reader.dense[SOMETIMES][row * corpus.context + place])
            level = 1 + int((edges < acts).sum()) if acts > 0 else 0
            counts[word] += 1
            sums[word] += level
            pairs[corpus.vocabulary[corpus.tokens[row, place - 1]], word] += 1
    for word, n, total in zip(table.tokens, table.counts, table.level_sums, strict=True):
        assert (n, total) == (counts[word], sums[word])
    for pair, n in zip(table.pairs, table.pair_counts, strict=True):
        assert n == pairs[pair]
    assert table.mean_level == pytest.approx(sums.total() / counts.total())
    scored = {token for example in record.splits.score for token in example.record.tokens}
    assert scored <= set(table.tokens)
