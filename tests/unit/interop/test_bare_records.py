"""Bare records as text: reading is the inverse of writing, and what cannot be read says where."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.bare import BareRecord
from autointerp.errors import UsageError
from autointerp.format import SpecialToken, escape_bytes, escape_special
from autointerp.interop.bare_records import parse_json_lines, read_bare_records, write_json_lines, write_tsv

TOKENS = st.one_of(
    st.binary(max_size=6).map(escape_bytes),
    st.text(max_size=6).map(lambda text: escape_bytes(text.encode())),
    st.sampled_from(["<|bos|>", "a}b", "\\s{x}", "# feature 3", ""]).map(lambda n: escape_special(SpecialToken(n))),
)
VALUES = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def bare_records(draw: st.DrawFn) -> BareRecord:
    pairs = draw(st.lists(st.tuples(TOKENS, VALUES), min_size=1, max_size=5))
    return BareRecord(
        feature=draw(st.integers(0, 10**6)),
        tokens=tuple(token for token, _ in pairs),
        activations=tuple(value for _, value in pairs),
        document=draw(st.none() | st.text(st.characters(codec="utf-8"), max_size=8)),
    )


@given(records=st.lists(bare_records(), min_size=1, max_size=4))
def test_both_forms_come_back_as_they_were(records: list[BareRecord]) -> None:
    """A token, a value or a document that changes on the way changes the score without a word."""
    assert parse_json_lines(write_json_lines(records), "x") == records


@given(records=st.lists(bare_records(), min_size=1, max_size=4))
def test_tab_separated_text_comes_back(tmp_path_factory: pytest.TempPathFactory, records: list[BareRecord]) -> None:
    """A token that looks like a header, a tab or a blank line must not end a record."""
    path = tmp_path_factory.mktemp("tsv") / "r.tsv"
    path.write_bytes(write_tsv(records).encode())
    assert read_bare_records(path) == records


def test_headers_hold_until_the_next(tmp_path: Path) -> None:
    """`# feature` holds for the records after it; a new feature starts without a document."""
    path = tmp_path / "r.tsv"
    path.write_text("# feature 2\n# document p\na\t1\n\nb\t0\n\n# feature 3\nc\t2\n")
    found = [(r.feature, r.document, r.tokens) for r in read_bare_records(path)]
    assert found == [(2, "p", ("a",)), (2, "p", ("b",)), (3, None, ("c",))]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.tsv", "a 0\n", "line 1"),
        ("r.tsv", "a\t0\nb 1\n", "line 2 has no tab"),
        ("r.tsv", "a\\q\t0\n", "line 1"),
        ("r.tsv", "a\tnan\n", "finite"),
        ("r.tsv", "a\tx\n", "finite"),
        ("r.tsv", "# feature two\na\t1\n", "whole number"),
        ("r.tsv", "\n\n", "no record"),
        ("r.jsonl", "{", "not JSON"),
        ("r.jsonl", "[1]\n", "lacks"),
        ("r.jsonl", '{"tokens": ["a"], "activations": [1, 2]}\n', "1 tokens but 2"),
        ("r.jsonl", '{"tokens": ["a"], "activations": [true]}\n', "finite"),
        ("r.jsonl", '{"tokens": [1], "activations": [1]}\n', "a token is"),
        ("r.jsonl", '{"feature": -1, "tokens": ["a"], "activations": [1]}\n', "whole number"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path: Path, name: str, text: str, said: str) -> None:
    """Guessing at a broken line would invent an activation."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_bare_records(path)


def test_bytes_and_special_tokens_in_json() -> None:
    """A byte that is no whole UTF-8 travels as a lone surrogate, a special token as an object."""
    record = BareRecord(feature=1, tokens=("\\xE2", "\\s{bos}", "é"), activations=(0.0, 1.5, 2.0))
    row = json.loads(write_json_lines([record]))
    assert row["tokens"] == ["\udce2", {"special": "bos"}, "é"]


ROWS = {
    ".tsv": "# feature 3\n# document d\nthe\t0\n cat\t4.5\n",
    ".jsonl": '{"feature": 3, "document": "d", "tokens": ["the", " cat"], "activations": [0, 4.5]}\n',
}


@pytest.mark.parametrize("suffix", ROWS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_marks_and_line_ends_of_windows(tmp_path: Path, suffix: str, end: str, mark: str) -> None:
    """A byte order mark became part of the first token, or an error that showed nothing odd; also in joined files."""
    path = tmp_path / f"r{suffix}"
    whole = mark + ROWS[suffix] + ("\n" if suffix == ".tsv" else "")
    path.write_bytes((whole * 2).replace("\n", end).encode())
    expected = BareRecord(feature=3, tokens=("the", " cat"), activations=(0.0, 4.5), document="d")
    assert read_bare_records(path) == [expected, expected]


def test_a_mark_in_front_of_the_first_token_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text("\ufeffthe\t1\n\\u{FEFF}the\t2\n", encoding="utf-8")
    assert read_bare_records(path)[0].tokens == ("the", "\\u{FEFF}the")
