"""The look-up grammar, explainer, simulator and baseline, on tables whose answer is known."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.format import SpecialToken, escape_bytes, escape_special, escape_text
from autointerp.interpret.controls import bigram_levels, lookup_levels
from autointerp.interpret.lookup import (
    MOST_ENTRIES,
    Entry,
    LookupExplainer,
    LookupSimulator,
    choose_entries,
    format_entries,
    parse_entries,
    words_of,
)
from autointerp.records import Explanation, FeatureId, TokenTable, Window
from tests.unit.interpret.planted import make_example, make_record

HOSTILE = st.lists(
    st.sampled_from(['"', "\\", "u{22}", "; on ", " (5); else 0", ' after "', "(", ")", "\n", "\t", "é", "a", "\ud800"])
).map("".join)
TOKENS = st.one_of(
    HOSTILE.map(escape_text),
    st.binary(max_size=4).map(escape_bytes),
    HOSTILE.map(lambda n: escape_special(SpecialToken(n))),
)
ENTRIES = st.builds(Entry, TOKENS, st.none() | TOKENS, st.integers(0, 10))


@given(st.lists(ENTRIES, min_size=1, max_size=5))
def test_entries_come_back_whatever_the_tokens_hold(entries: list[Entry]) -> None:
    """A token with a quote, or one that spells our escaped quote, must not end or change an entry."""
    assert parse_entries(format_entries(entries)) == entries


def test_the_grammar_reads_as_promised() -> None:
    """People read these texts; the example in the documentation must stay true."""
    entries = [Entry("import", None, 8), Entry("as", "import", 5)]
    assert format_entries(entries) == 'fires on "import" (8); on "as" after "import" (5); else 0'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "words about food",
        'fires on "a" (11); else 0',
        'fires on "a" (5)',
        'fires on "a" (5); else 1',
        'fires on "a" (5); else 0.',
        'fires on "a" (٣); else 0',
        'fires on "a"(5); else 0',
        'fires on "a" (5);on "b" (5); else 0',
        'fires on "a" after (5); else 0',
        'x fires on "a" (5); else 0',
        'Fires on "a" (5); else 0',
        "fires ; else 0",
    ],
)
def test_text_outside_the_grammar_is_a_recorded_failure(text: str) -> None:
    """Reading half an explanation would score something that no one wrote."""
    assert parse_entries(text) is None
    if text:
        simulation = simulate(text, [["a", "b"], ["c"]])
        assert simulation == (None, None)


def explanation(text: str) -> Explanation:
    return Explanation(
        feature=FeatureId(dictionary="d", index=0), text=text, author="human", method="x", examples_digest="x"
    )


def simulate(text: str, windows: list[list[str]]) -> tuple[tuple[int, ...] | None, ...]:
    return asyncio.run(LookupSimulator().simulate(explanation(text), [Window(tuple(w)) for w in windows])).levels


def test_the_words_of_a_look_up_text_are_its_tokens() -> None:
    """Guided negatives were looked for by the levels in the brackets too, so that half of them were about digits."""
    assert words_of('fires on " as" after " import" (10); on "x" (3); else 0') == " import  as x"
    assert words_of("numbers such as 10 in dates") == "numbers such as 10 in dates"


def test_the_most_specific_entry_wins() -> None:
    """A pair says more than its token alone; nothing that matches is 0."""
    text = 'fires on "a" (3); on "a" after "b" (9); on "c" after "b" (0); on "c" (4); else 0'
    assert simulate(text, [["a", "b", "a", "x", "c"], ["b", "c"], []]) == ((3, 0, 9, 0, 4), (0, 0), ())


def table(
    tokens: dict[str, tuple[int, int]], pairs: dict[tuple[str, str], tuple[int, int]] | None = None
) -> TokenTable:
    pairs = pairs or {}
    total = sum(s for _, s in tokens.values())
    return TokenTable(
        tokens=tuple(tokens),
        counts=tuple(n for n, _ in tokens.values()),
        level_sums=tuple(s for _, s in tokens.values()),
        pairs=tuple(pairs),
        pair_counts=tuple(n for n, _ in pairs.values()),
        pair_level_sums=tuple(s for _, s in pairs.values()),
        mean_level=total / max(sum(n for n, _ in tokens.values()), 1),
    )


def test_a_token_feature_is_named_by_its_token() -> None:
    """The mean level is over all occurrences: 10 of 20 at level 8 is 4."""
    assert choose_entries(table({"a": (20, 80), "b": (50, 0)}, {("x", "a"): (10, 40), ("y", "a"): (10, 40)})) == [
        Entry("a", None, 4)
    ]


def test_a_pair_feature_is_named_by_its_pair() -> None:
    """Where a token fires only after another, the token alone would fire too broadly."""
    found = choose_entries(table({"as": (100, 80), "x": (900, 0)}, {("import", "as"): (10, 80)}))
    assert found == [Entry("as", "import", 8)]


def test_a_token_with_an_exception_has_both() -> None:
    """The token's own level is over what its pair does not cover: 180 / 90, not the mean of all, 280 / 100."""
    found = choose_entries(table({"a": (100, 280), "x": (900, 0)}, {("p", "a"): (10, 100), ("q", "a"): (90, 180)}))
    assert found == [Entry("a", None, 2), Entry("a", "p", 10)]


def test_entries_that_round_to_zero_are_left_out() -> None:
    """An entry of level 0 says nothing and takes a place."""
    assert choose_entries(table({"a": (100, 20), "b": (5, 25)})) == [Entry("b", None, 5)]
    assert choose_entries(table({"a": (100, 0)})) == []


@given(
    st.dictionaries(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.tuples(st.integers(1, 30), st.integers(0, 10)),
                    min_size=1)
)  # fmt: skip
def test_never_more_than_twenty_entries_each_a_legal_level(rows: dict[str, tuple[int, int]]) -> None:
    """SCORING A5 caps the list, else the explanation becomes the table that it is compared with."""
    tokens = {t: (n, n * level) for t, (n, level) in rows.items()}
    pairs = {("<", t): (n, n * level) for t, (n, level) in rows.items() if level}
    found = choose_entries(table(tokens, pairs))
    assert len(found) <= MOST_ENTRIES
    assert all(1 <= entry.level <= 10 for entry in found)
    assert len({(e.token, e.previous) for e in found}) == len(found)


def test_the_baseline_is_the_rounded_mean_and_an_unseen_token_gets_the_parts_mean() -> None:
    """SCORING A5: an unseen token as 0 would make the baseline worse than it is and every lift better."""
    t = table({"a": (2, 9), "b": (4, 2), "never": (0, 0), "c": (2, 13)})
    assert t.mean_level == 3.0
    assert lookup_levels(t, [Window(("a", "b", "never", "new")), Window(("c",))]) == ((5, 1, 3, 3), (7,))
    assert lookup_levels(t, [Window(("a", "c"), 1)]) == ((7,),)


def test_the_pair_table_draws_rare_pairs_to_the_token() -> None:
    """A pair seen once says little: (9 + 2 * 2) / (1 + 2) is 4 and no 9; one seen often keeps its own mean."""
    t = table({"a": (20, 40)}, {("x", "a"): (1, 9), ("y", "a"): (30, 240), ("z", "a"): (10, 0)})
    windows = [Window(("x", "a")), Window(("y", "a"), 1), Window(("z", "a"), 1), Window(("new", "a"), 1)]
    assert bigram_levels(t, windows) == ((2, 4), (8,), (0,), (2,))


def test_pairs_that_only_scored_windows_brought_into_the_table_are_no_entries() -> None:
    """They stand behind the heaviest 256; taking them would tell the explainer what the score part holds."""
    pairs = {("x", f"t{i}"): (1, 10) for i in range(256)} | {("scored", "late"): (50, 500)}
    entries = choose_entries(table({f"t{i}": (1, 10) for i in range(256)}, pairs))
    assert all(entry.token != "late" for entry in entries)


def test_the_explainer_sees_the_explain_part_alone() -> None:
    """A token that fires only in the score part must not be in the text."""
    explain = [make_example(["a", "b"], [0.0, 2.0], f"e{i}") for i in range(4)]
    score = [make_example(["a", "z"], [0.0, 2.0], f"s{i}") for i in range(4)]
    made = asyncio.run(LookupExplainer().explain(make_record(explain=explain, score=score), 1))
    assert isinstance(made, list)
    assert made[0].text == 'fires on "b" (10); else 0'
    assert not made[0].no_pattern


def test_silence_is_no_pattern_and_never_an_empty_text() -> None:
    """A feature that says nothing has the legal answer 'no clear pattern', recorded as such."""
    silent = [make_example(["a", "b"], [0.0, 0.0], "e")]
    made = asyncio.run(LookupExplainer().explain(make_record(explain=silent), 1))
    assert isinstance(made, list)
    assert made[0].no_pattern
    assert made[0].text
