"""Escapes, levels and lines, each against its inverse, a hand computation or numpy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import UsageError
from autointerp.format import (
    SpecialToken,
    escape_bytes,
    escape_special,
    escape_text,
    format_lines,
    level_edges,
    parse_lines,
    plain_text,
    to_levels,
    to_levels_by_max,
    unescape,
    weighted_quantiles,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
LOOKALIKES = st.lists(
    st.sampled_from(
        ["\\", "t", "n", "u{41}", "u{22}", "x41", "xFF", "s{", "}", "{", "\t", "\n", "\u2028", "é", "\ud800"]
    )
).map("".join)
BREAKS = "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\x00\u202e\u200b\ufeff"


@given(ANY_TEXT | LOOKALIKES)
def test_any_text_comes_back(text: str) -> None:
    """A token that is garbled on its way to the model or back moves every level behind it."""
    escaped = escape_text(text)
    assert unescape(escaped) == text.encode("utf-8", errors="surrogatepass")
    assert not set(escaped) & set(BREAKS)
    assert len(escaped.splitlines()) <= 1


@given(st.binary())
def test_any_bytes_come_back(piece: bytes) -> None:
    """Byte-level tokens hold parts of characters; a lossy decode would make different tokens equal."""
    assert unescape(escape_bytes(piece)) == piece


def test_every_byte_and_every_pair_of_bytes_has_a_text_of_its_own() -> None:
    """Two token ids with one text would be one token to the look-up and to a language model."""
    pieces = [bytes([b]) for b in range(256)] + [bytes(p) for p in itertools.product(range(0, 256, 5), repeat=2)]
    texts = [escape_bytes(piece) for piece in pieces]
    assert len(set(texts)) == len(pieces)
    assert [unescape(text) for text in texts] == pieces


def test_escapes_are_those_of_the_written_rule() -> None:
    """The format is read by people and other programs; a silent change of spelling breaks them."""
    assert escape_text("a\\b\tc\nd\re") == "a\\\\b\\tc\\nd\\re"
    assert escape_text("\x00\u200b\u2028") == "\\u{0}\\u{200B}\\u{2028}"
    assert escape_bytes(b"\xc3") == "\\xC3"
    assert escape_bytes("é ".encode()) == "é "
    assert escape_special(SpecialToken("<|end|>")) == "\\s{<|end|>}"


@given(ANY_TEXT | LOOKALIKES)
def test_special_tokens_come_back_and_are_never_text(name: str) -> None:
    """A special token whose name holds a brace or an escape must not end early or look like plain text."""
    escaped = escape_special(SpecialToken(name))
    assert unescape(escaped) == SpecialToken(name)
    assert unescape(escape_text(escaped)) == escaped.encode("utf-8", errors="surrogatepass")


BAD_ESCAPES = r"\ a\q \x4 \xZZ \u41 \u{} \u{1234567} \u{110000} \s{a a\s{b} \s{a}b \s{a}\s{b} \N \s{\q} \s{\xFF}"


@pytest.mark.parametrize("bad", BAD_ESCAPES.split(" "))
def test_any_other_backslash_is_refused(bad: str) -> None:
    """Guessing what a wrong escape meant would change a token without a word."""
    with pytest.raises(UsageError):
        unescape(bad)


@given(st.lists(st.tuples(ANY_TEXT | LOOKALIKES, st.integers(0, 10)), min_size=1))
def test_lines_come_back(rows: list[tuple[str, int]]) -> None:
    """A token with a tab or a line end must not become two columns or two lines."""
    tokens = [escape_text(token) for token, _ in rows]
    text = format_lines(tokens, [level for _, level in rows])
    assert parse_lines(text) == (tuple(tokens), tuple(str(level) for _, level in rows))
    assert len(text.split("\n")) == len(rows)


def test_a_line_without_a_tab_is_refused_with_its_number() -> None:
    """A missing value must not take the next line's place."""
    with pytest.raises(UsageError, match="line 2"):
        parse_lines("a\t1\nb")


def test_decile_levels_by_hand() -> None:
    """SCORING A9: 1 + the number of decile edges strictly below the value; an edge's own value stays below it."""
    values = np.arange(1.0, 12.0)
    edges = level_edges(values, np.ones(11, dtype=int))
    assert edges.tolist() == pytest.approx([2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert to_levels(np.array([-1, 0, 0.5, 1, 2, 2.5, 10, 10.5, 11, 99]), edges).tolist() == [
        0, 0, 1, 1, 1, 2, 9, 10, 10, 10,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([5.0], [5]),  # r = 1, n = 1: ceil(10 * 0.5)
        ([1.0, 2.0], [3, 8]),  # ceil(2.5), ceil(7.5)
        ([1.0, 1.0, 1.0, 2.0], [4, 4, 4, 9]),  # r = 2: ceil(3.75); r = 4: ceil(8.75)
        ([1.0] * 4 + [2.0] * 16, [1] * 4 + [6] * 16),  # r = 2.5, exactly 1; r = 12.5: exactly 6
        (list(range(1, 10)), [1, 2, 3, 4, 5, 7, 8, 9, 10]),
    ],
)
def test_rank_levels_by_hand(values: list[float], levels: list[int]) -> None:
    """SCORING A9: under ten distinct values the level is ceil(10 (r - 1/2) / n) of the mid-rank."""
    distinct, counts = np.unique(np.array(values, dtype=float), return_counts=True)
    assert to_levels(np.array(values, dtype=float), level_edges(distinct, counts)).tolist() == levels


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_rank_levels_by_formula(values: list[int]) -> None:
    """The edges stand for the formula whatever the ties; brute force over mid-ranks with exact integers."""
    array = np.array(values, dtype=float)
    distinct, counts = np.unique(array, return_counts=True)
    if len(distinct) < 10:
        expected = []
        for v in values:
            below, equal = sum(w < v for w in values), sum(w == v for w in values)
            twice_rank = 2 * below + equal + 1
            expected.append(-(-10 * (twice_rank - 1) // (2 * len(values))))
        assert to_levels(array, level_edges(distinct, counts)).tolist() == expected


@given(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=1, max_size=80))
def test_edges_are_numpys_quantiles(values: list[float]) -> None:
    """An edge off by its last bit moves a value that lies on it by a level."""
    array = np.array(values + values[: len(values) // 2], dtype=np.float64)
    distinct, counts = np.unique(array, return_counts=True)
    q = np.arange(1, 10) / 10
    assert weighted_quantiles(distinct, counts, q).tolist() == np.quantile(array, q).tolist()
    if len(distinct) >= 10:
        assert level_edges(distinct, counts).tolist() == np.quantile(array, q).tolist()


@given(st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=1, max_size=60))
def test_levels_rise_with_the_value_and_not_with_the_scale(values: list[float]) -> None:
    """A dictionary in other units must get the same levels."""
    array = np.sort(np.array(values, dtype=np.float64))
    distinct, counts = np.unique(array, return_counts=True)
    levels = to_levels(array, level_edges(distinct, counts))
    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 1
    assert levels.max() <= 10
    assert to_levels(array * 1024, level_edges(distinct * 1024, counts)).tolist() == levels.tolist()


def test_a_dead_feature_has_no_level() -> None:
    """Without activations there is nothing to divide by."""
    edges = level_edges(np.zeros(0), np.zeros(0, dtype=int))
    assert to_levels(np.array([0.0, -2.0]), edges).tolist() == [0, 0]
    assert to_levels_by_max(np.array([0.0, 1.0]), 0.0, "floor").tolist() == [0, 0]


def test_levels_by_maximum_are_those_of_the_published_programs() -> None:
    """The parity vectors taken from both programs: floor in OpenAI's, ceil in Delphi's."""
    values = np.array([-1, 0, 0.29, 0.3, 1, 1.5, 2.999, 3, 3.5])
    assert to_levels_by_max(values, 3.0, "floor").tolist() == [0, 0, 0, 1, 3, 5, 9, 10, 10]
    assert to_levels_by_max(values, 3.0, "ceil").tolist() == [0, 0, 1, 1, 4, 5, 10, 10, 10]


def test_a_windows_text_is_the_text_again() -> None:
    """Escaped tokens such as `\\n` and `\\xE2\\x95` were all that a window gave; a character may be cut in two."""
    pieces = [b" caf", "é".encode()[:1], "é".encode()[1:], b"\n", b"a\\b", "│".encode()[:2]]
    tokens = [escape_bytes(piece) for piece in pieces] + [escape_special(SpecialToken("<|end|>"))]
    assert plain_text(tokens) == " café\na\\b\ufffd<|end|>"
