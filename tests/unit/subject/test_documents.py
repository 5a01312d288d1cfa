"""Cutting sources into documents, with encoders simple enough to count by hand."""

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.subject.corpus import documents as tested


def cut_into_documents(text: str, encode: Callable[[str], Sequence[int]], max_tokens: int) -> list[list[int]]:
    """One text, with an encoder of one text."""
    (documents,) = tested.cut_into_documents([text], lambda texts: [encode(text) for text in texts], max_tokens)
    return documents


def characters(text: str) -> list[int]:
    """One token a character."""
    return [ord(character) for character in text]


def runs(text: str) -> list[int]:
    """One token for a word or a run of white space: joining two texts can change their tokens at the seam."""
    return [hash(part) for part in re.findall(r"\s+|\S+", text)]


def cut(text: str, max_tokens: int) -> list[str]:
    return ["".join(map(chr, ids)) for ids in cut_into_documents(text, characters, max_tokens)]


def test_a_text_that_fits_is_one_document() -> None:
    assert cut("one\n\ntwo\n", 9) == ["one\n\ntwo\n"]


def test_cut_at_blank_lines_packing_what_fits() -> None:
    """Three paragraphs of 5, 5 and 3 characters: the first two fill 10, the third starts anew."""
    assert cut("aaa\n\nbbb\n\nccc", 10) == ["aaa\n\nbbb\n\n", "ccc"]


def test_a_line_of_spaces_is_blank_and_runs_of_blank_lines_stay_together() -> None:
    assert cut("aa\n  \n\nbb\n", 7) == ["aa\n  \n\n", "bb\n"]


def test_a_long_paragraph_is_cut_at_line_ends() -> None:
    assert cut("aaaa\nbbbb\ncccc\n\nd", 10) == ["aaaa\nbbbb\n", "cccc\n\nd"]


def test_a_long_line_is_cut_at_tokens_and_stands_alone() -> None:
    assert cut("a\n\n0123456789\nb\n", 4) == ["a\n\n", "0123", "4567", "89\n", "b\n"]


def test_no_text_gives_no_document() -> None:
    assert cut_into_documents("", characters, 4) == []


def test_room_for_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        cut_into_documents("a", characters, 0)


def test_seams_that_add_tokens_never_make_a_document_too_long() -> None:
    """A byte pair encoder splits white space at a seam: two pieces of three tokens can join to seven."""

    def seamy(text: str) -> list[int]:
        return [0] * (len(text.split()) + 2 * text.count("\n\n"))

    documents = cut_into_documents("a b\n\n" * 9, seamy, 8)
    assert [len(ids) for ids in documents] == [8] * 4 + [4]


def test_seams_that_save_tokens_are_used() -> None:
    """Alone the pieces have two tokens each, jointly three in all: both fit into three."""

    def saving(text: str) -> list[int]:
        return [0] * (1 + len(text.split()))

    assert [len(ids) for ids in cut_into_documents("a\n\nb\n\nc\n\n", saving, 3)] == [3, 2]


def test_encoding_work_is_linear_in_the_text() -> None:
    """Re-encoding the rest of the text for each document would be quadratic, and users bring large files."""
    encoded = 0

    def counting(text: str) -> Sequence[int]:
        nonlocal encoded
        encoded += len(text)
        return runs(text)

    text = "some words in a paragraph\nand a second line\n\n" * 5_000
    cut_into_documents(text, counting, 100)
    assert encoded < 5 * len(text)


@given(st.text(alphabet="ab \n\t", max_size=120), st.integers(min_value=1, max_value=20))
def test_nothing_is_lost_and_everything_fits(text: str, max_tokens: int) -> None:
    documents = cut(text, max_tokens)
    assert "".join(documents) == text
    assert all(0 < len(document) <= max_tokens for document in documents)


@given(st.text(alphabet="ab \n", max_size=120), st.integers(min_value=1, max_value=12))
def test_everything_fits_when_seams_matter(text: str, max_tokens: int) -> None:
    documents = cut_into_documents(text, runs, max_tokens)
    assert all(0 < len(ids) <= max_tokens for ids in documents)
    assert bool(documents) == bool(text)


@given(st.lists(st.text(alphabet="ab \n", max_size=60), max_size=6), st.integers(min_value=1, max_value=12))
def test_texts_cut_together_are_cut_as_alone(texts: list[str], max_tokens: int) -> None:
    """They ask for encodings in turns; an answer that goes to another text would mix them."""
    together = tested.cut_into_documents(texts, lambda asked: [runs(text) for text in asked], max_tokens)
    assert together == [cut_into_documents(text, runs, max_tokens) for text in texts]
