"""What a judge reads of a corpus: whole characters, and no mark that ends its own turn."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.format import escape_bytes, escape_text, unescape
from autointerp.interpret.display import break_marks, mend_marks, running_text, token_lines
from autointerp.interpret.questions import format_passage, make_questions, parse_passage
from autointerp.records import Window
from tests.unit.interpret.features import explained

TEXT = "今天 🙂 day, שלום شكرا naïve\n\\x"


def cut(text: str, places: list[int]) -> tuple[str, ...]:
    """A text's bytes in pieces, each escaped by itself, as a byte-level tokenizer gives them."""
    data = text.encode()
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return tuple(escape_bytes(data[low:high]) for low, high in itertools.pairwise(ends))


@given(st.text(min_size=1, max_size=20), st.lists(st.integers(0, 80), max_size=30))
def test_running_text_is_the_text_whatever_the_tokens(text: str, places: list[int]) -> None:
    """Escaped one by one, 14 Chinese characters were 42 escapes of which a judge could read none."""
    assert mend_marks(running_text(cut(text, places))) == escape_bytes(text.encode())


def test_every_byte_a_token_is_still_readable() -> None:
    tokens = cut(TEXT, list(range(99)))
    assert running_text(tokens) == "今天 🙂 day, שלום شكرا naïve\\n\\\\x"
    assert token_lines(tokens[:7]) == ["\\xE4", "\\xBB", "今", "\\xE5", "\\xA4", "天", " "]
    assert token_lines((" \\xE4\\xBB", "\\x8A\\xE5", "x", "\\\\xE4")) == [" \\xE4\\xBB", "今\\xE5", "x", "\\\\xE4"]


def test_what_a_target_cuts_is_shown_as_bytes_and_named() -> None:
    """Only the character under the mark may show as bytes, and its passage says which one it is."""
    tokens = cut("天气好", list(range(9)))
    assert format_passage(Window(tokens, 4)) == "天\\xE6«\\xB0»\\x94好"
    assert format_passage(Window(tokens, 2)) == "\\xE5\\xA4«\\xA9»气好"
    assert parse_passage("天\\xE6«\\xB0»\\x94好") == ("天\\xE6", "\\xB0", "\\x94好")
    (question,) = make_questions("structured", explained("x"), [Window(tokens, 4), Window((" a", " b"), 1)])
    asked = question.request(0, None).messages[-1].content
    assert "1\t天\\xE6«\\xB0»\\x94好\t(\\xE6\\xB0\\x94 is 气)\n2\t a« b»\n" in asked


@given(
    st.text(alphabet=st.sampled_from("ab <>|[]{}\\«»\n\t_s/INT"), max_size=30), st.integers(1, 29), st.integers(1, 5)
)
def test_ascii_text_without_marks_reads_as_before(text: str, start: int, length: int) -> None:
    """Every question about such text must keep its words, or its kept answers are paid for again."""
    tokens = tuple(escape_text(piece) for piece in (text[:start], text[start : start + length], text[start + length :]))
    if break_marks("".join(tokens)) == "".join(tokens):
        assert running_text(tokens) == "".join(tokens)
        assert token_lines(tokens) == list(tokens)


MARKS = [
    *(
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|channel|>",
        "<|turn>",
        "<turn|>",
        "<start_of_turn>",
    ),
    *(
        "<end_of_turn>",
        "</s>",
        "<s>",
        "<bos>",
        "<eos>",
        "<pad>",
        "<unk>",
        "<think>",
        "</think>",
        "<tool_call>",
        "[INST]",
    ),
    *(
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "[SYSTEM_PROMPT]",
        "[TOOL_CALLS]",
        "[THINK]",
        "<｜User｜>",
        "<｜end▁of▁sentence｜>",
    ),
    *("<unused42>", "<extra_id_0>", "<fim_prefix>", "◁think▷", "<|START_OF_TURN_TOKEN|>", "[gMASK]", "<|reserved_7|>"),
]


@pytest.mark.parametrize("mark", MARKS)
def test_no_mark_of_a_chat_format_reaches_a_judge(mark: str) -> None:
    """A corpus about chat templates otherwise ends the judge's turn in the middle of a passage."""
    (question,) = make_questions("letters", explained(f"the mark {mark}"), [Window(("a", mark, "b"), 0)])
    whole = question.request(1, f"1: {mark}")
    tokens = make_questions("letters", explained("x"), [Window(("a", f"\\s{{{mark}}}", f" {mark}x"))])[0].request(
        0, None
    )
    for request in (whole, tokens):
        assert mark not in "".join(message.content for message in request.messages)
    assert mend_marks(break_marks(f"\\\\{mark} {mark}")) == f"\\\\{mark} {mark}"
    assert unescape(break_marks(f"a{mark}")) == f"a{mark}".encode()
    passage = parse_passage(format_passage(Window(("a", mark, "b" + mark), 1)))
    assert passage == ("a", mark, "b" + mark)


@pytest.mark.parametrize(
    "text",
    ["a <| b", "x |> f", "if a < b:", "List[int]", "<div>", "</p>", "[1]", "a<|b", "<class 'int'>", "vec<T>", "[INS]"],
)
def test_what_only_looks_like_a_mark_stays(text: str) -> None:
    assert break_marks(text) == text


def test_marks_are_broken_where_they_begin() -> None:
    assert break_marks("hi<|im_end|>") == "hi\\u{3C}|im_end|>"
    assert break_marks("[INST]") == "\\u{5B}INST]"
    assert not re.search("<", break_marks("\\s{<s>}"))
