"""The windows of `graded`: one verified target each, nested blocks, an order that gives nothing away, their tables."""

from collections import Counter

import numpy as np
import pytest

from autointerp.examples import Chooser
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.records import HARD_STRATA, Example, FeatureRecord
from autointerp.splits import PARTS, CorpusIndex
from tests.unit.small_corpus import (
    CONTEXT,
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

SEED = 7
DESIGN = PROTOCOLS["graded"].design


@pytest.fixture(scope="module")
def corpus() -> SmallCorpus:
    return make_corpus(n_source=900)


@pytest.fixture(scope="module")
def reader(corpus: SmallCorpus) -> SmallReader:
    return make_reader(corpus)


@pytest.fixture(scope="module")
def chooser(corpus: SmallCorpus, reader: SmallReader) -> Chooser:
    return Chooser(reader, CorpusIndex(corpus, SEED), "d", DESIGN)


@pytest.fixture(scope="module")
def records(chooser: Chooser) -> dict[int, FeatureRecord]:
    return {feature: chooser.feature_record(feature) for feature in range(6)}


def slot(example: Example) -> int:
    assert example.target is not None
    return example.record.row * CONTEXT + example.record.start + example.target


def third(example: Example) -> str:
    return "hard" if example.stratum in HARD_STRATA else example.stratum


def test_every_target_is_what_its_stratum_says(
    records: dict[int, FeatureRecord], reader: SmallReader, corpus: SmallCorpus
) -> None:
    """An active token among the negatives punishes a right explanation; a silent one among the actives, a wrong one."""
    flat = corpus.tokens.reshape(-1)
    for feature, record in records.items():
        for example in (*record.splits.select, *record.splits.score):
            active = bool(reader.dense[feature][slot(example)])
            assert active == (example.stratum == "decile")
            assert example.verified == (not active)
            assert example.scored_activations == pytest.approx((reader.dense[feature][slot(example)],))
            if example.stratum == "hard-token" and feature == SOMETIMES:
                assert flat[slot(example)] == 7
            if example.stratum == "hard-neighbour":
                assert reader.dense[NEAR][slot(example)]


def test_a_window_of_a_silent_target_may_hold_activations(records: dict[int, FeatureRecord]) -> None:
    """Silent over the whole window, negatives would never stand near what the feature likes: too easy."""
    negatives = [e for e in records[SOMETIMES].splits.score if e.stratum == "hard-token"]
    assert any(any(e.levels) for e in negatives)


def test_the_first_block_is_a_balanced_sample_of_the_whole(records: dict[int, FeatureRecord]) -> None:
    """60 windows must be a design of their own and the first 60 of 120, so that neither is paid for twice."""
    score = records[SOMETIMES].splits.score
    assert Counter(map(third, score)) == {"decile": 40, "uniform": 40, "hard": 40}
    blocks = [Counter(third(e) for e in score if e.block == block) for block in range(3)]
    assert [sorted(set(block.values())) for block in blocks] == [[20], [10], [10]]
    for block in range(3):
        deciles = Counter(e.decile for e in score if e.block == block and e.decile)
        assert max(deciles.values()) == 2 or len(deciles) == blocks[block]["decile"]
    sources = Counter(e.stratum for e in score if e.block == 0 and third(e) == "hard")
    assert all(sources[stratum] in (6, 7) for stratum in HARD_STRATA)
    select = Counter(map(third, records[SOMETIMES].splits.select))
    assert select == {"decile": 16, "uniform": 16, "hard": 16}


def test_blocks_follow_one_another_and_strata_do_not(records: dict[int, FeatureRecord]) -> None:
    """Ten windows share a request: in the order of their strata the first twenty answers would all be high."""
    score = records[SOMETIMES].splits.score
    assert [e.block for e in score] == sorted(e.block for e in score)
    first = [third(e) for e in score if e.block == 0]
    assert first != sorted(first, key=["decile", "uniform", "hard"].index)
    halves = [Counter(first[:30])["decile"], Counter(first[30:])["decile"]]
    assert min(halves) >= 4


def test_no_target_stands_without_text_before_it(records: dict[int, FeatureRecord], corpus: SmallCorpus) -> None:
    """A target in the first place has no context, and a place that differs by stratum is a cue."""
    by_third: dict[str, list[int]] = {}
    for record in (records[SOMETIMES], records[TOKEN]):
        for example in record.splits.score:
            assert example.target is not None
            if example.record.start > corpus.first:
                assert example.target >= DESIGN.width // 4
                by_third.setdefault(third(example), []).append(example.target)
    means = [float(np.mean(places)) for places in by_third.values()]
    assert max(means) - min(means) < 5


def test_windows_do_not_overlap(records: dict[int, FeatureRecord]) -> None:
    """A token scored twice weighs double."""
    for record in records.values():
        taken: Counter[tuple[int, int]] = Counter()
        for e in (*record.splits.explain, *record.splits.select, *record.splits.score):
            taken.update((e.record.row, e.record.start + i) for i in range(len(e.levels)))
        assert max(taken.values(), default=1) == 1


def test_a_dense_feature_has_no_silent_target_and_a_rare_one_few_active(records: dict[int, FeatureRecord]) -> None:
    """What does not exist is left out and never made up."""
    assert {third(e) for e in records[EVERYWHERE].splits.score} == {"decile"}
    assert sum(third(e) == "decile" for e in records[RARE].splits.score) <= 2
    assert records[NEVER].splits.score == ()


def test_uniform_targets_are_uniform(chooser: Chooser, corpus: SmallCorpus, reader: SmallReader) -> None:
    """Their probability is n over all silent tokens of the part, whatever text they stand in."""
    record = chooser.feature_record(TOKEN)
    part = chooser.index.part_text("score")
    silent = (reader.dense[TOKEN][part] == 0).sum()
    chosen = [e for e in record.splits.score if e.stratum == "uniform"]
    assert {e.probability for e in chosen} == {len(chosen) / silent}
    common = np.bincount(corpus.tokens.reshape(-1)[part[reader.dense[TOKEN][part] == 0]]).argsort()[-3:]
    share = (np.isin(corpus.tokens.reshape(-1)[part], common)).mean()
    seen = np.mean([corpus.tokens.reshape(-1)[slot(e)] in common for e in chosen])
    assert abs(seen - share) < 3 * np.sqrt(share * (1 - share) / len(chosen))


def test_the_position_table_counts_all_explain_text(
    records: dict[int, FeatureRecord], corpus: SmallCorpus, reader: SmallReader, chooser: Chooser
) -> None:
    """By brute force: mean level of the places of each bin, scaled so that the highest is 10."""
    table = records[SOMETIMES].position_table
    assert table is not None
    assert table.starts == (1, 2, 3, 5, 9, 17, 33, 65)
    edges, _ = reader.level_rule(SOMETIMES)
    rows = np.flatnonzero(chooser.index.document_part == PARTS.index("explain"))
    means = []
    for low, high in zip(table.starts, [*table.starts[1:], CONTEXT], strict=True):
        levels = [
            1 + int((edges < np.float32(value)).sum()) if value else 0
            for row in rows
            for place in range(low, min(high, corpus.length[row]))
            for value in [reader.dense[SOMETIMES][row * CONTEXT + place]]
        ]
        means.append(sum(levels) / max(len(levels), 1))
    assert table.levels == tuple(int(10 * mean / max(means) + 0.5) for mean in means)


def test_the_token_profile_by_hand(records: dict[int, FeatureRecord], reader: SmallReader, corpus: SmallCorpus) -> None:
    """H = -sum p log2 p over token ids, p by summed activation; one token has none and is flagged."""
    one, every = records[TOKEN].token_profile, records[EVERYWHERE].token_profile
    assert one is not None
    assert every is not None
    assert (one.entropy_bits, one.single_token, one.n_distinct) == (0.0, True, 1)
    mass = np.bincount(corpus.tokens.reshape(-1), weights=reader.dense[EVERYWHERE])
    share = mass[mass > 0] / mass.sum()
    assert every.entropy_bits == pytest.approx(-(share * np.log2(share)).sum())
    assert not every.single_token
    assert records[NEVER].token_profile is None


def test_every_pair_that_ends_in_a_target_is_in_the_table(records: dict[int, FeatureRecord]) -> None:
    """A pair the bigram control does not know falls back on the token, which makes the control weaker than it is."""
    record = records[SOMETIMES]
    assert record.token_table is not None
    known = set(record.token_table.pairs)
    for example in record.splits.score:
        if example.target:
            tokens = example.record.tokens
            assert (tokens[example.target - 1], tokens[example.target]) in known


def test_guided_negatives_are_silent_and_hold_the_explanations_words(
    chooser: Chooser, reader: SmallReader, corpus: SmallCorpus
) -> None:
    """They test what the explanation claims; drawn without its words they would be random text again."""
    found = chooser.guided_examples(SOMETIMES, 'the word "w7", or W9 in lists', 10)
    assert len(found) == 10
    for example in found:
        assert example.stratum == "guided"
        assert example.verified
        assert not reader.dense[SOMETIMES][slot(example)]
        assert corpus.tokens.reshape(-1)[slot(example)] in (7, 9)
    assert chooser.guided_examples(SOMETIMES, "nothing it knows", 10) == ()
    assert chooser.guided_examples(SOMETIMES, 'the word "w7", or W9 in lists', 10) == found
