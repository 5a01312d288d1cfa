"""Answers are read by a typed parser, and by a tolerant one where that gives up: both must say the same."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm import wire
from autointerp.llm.base import ChatReply, TokenLogprob
from autointerp.llm.decode import decode_chat, decode_echo
from autointerp.llm.wire import IMPOSSIBLE_LOGPROB, mended_chat, mended_echo
from autointerp.records import Usage
from tests.bench.pinned import N_LEVELS, TOP, reply_bytes

TEXT = st.text(max_size=4)
NUMBER = st.floats(-30, 0)
LIKELY = st.fixed_dictionaries({"token": TEXT, "logprob": NUMBER}, optional={"bytes": st.lists(st.integers(0, 255))})
POSITION = st.fixed_dictionaries(
    {"token": TEXT, "logprob": NUMBER}, optional={"top_logprobs": st.none() | st.lists(LIKELY, max_size=3)}
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": st.none() | TEXT, "refusal": st.none() | TEXT})
POSITIONS = st.fixed_dictionaries({"content": st.none() | st.lists(POSITION, max_size=3)})
FINISH = st.sampled_from(["stop", "length", "content_filter", None])
CHOICE = st.fixed_dictionaries(
    {"message": MESSAGE}, optional={"finish_reason": FINISH, "logprobs": st.none() | POSITIONS}
)
CHAT = st.fixed_dictionaries(
    {"choices": st.tuples(CHOICE)},
    optional={"model": TEXT, "usage": st.none() | st.dictionaries(TEXT, st.integers(0, 9)), "id": TEXT},
)


def loosely(read: Callable[[], ChatReply], monkeypatch: pytest.MonkeyPatch) -> ChatReply:
    """A reply as the tolerant parser has it read."""
    with monkeypatch.context() as patched:
        patched.setattr("autointerp.llm.decode.read_chat", mended_chat)
        patched.setattr("autointerp.llm.decode.read_echo", mended_echo)
        return read()


@given(body=CHAT)
def test_both_parsers_read_a_chat_completion_alike(body: object) -> None:
    raw = json.dumps(body).encode()
    with pytest.MonkeyPatch.context() as patch:
        assert decode_chat(raw) == loosely(lambda: decode_chat(raw), patch)


@given(tokens=st.lists(st.tuples(TEXT, st.none() | NUMBER, st.none() | st.dictionaries(TEXT, NUMBER)), min_size=1))
def test_both_parsers_read_an_echo_alike(tokens: list[tuple[str, float | None, dict[str, float] | None]]) -> None:
    columns = [list(column) for column in zip(*tokens, strict=True)]
    logprobs = dict(zip(("tokens", "token_logprobs", "top_logprobs"), columns, strict=True))
    raw = json.dumps({"choices": [{"text": "", "logprobs": logprobs, "prompt_logprobs": [None]}]}).encode()
    read = "".join(token for token, _, _ in tokens)[-3:]
    with pytest.MonkeyPatch.context() as patch:
        assert decode_echo(raw, read) == loosely(lambda: decode_echo(raw, read), patch)


def test_an_answer_by_hand() -> None:
    reply = decode_chat(
        b'{"choices":[{"message":{"content":"7"},"finish_reason":"stop","logprobs":{"content":[{"token":"7",'
        b'"logprob":-0.5,"bytes":[55],"top_logprobs":[{"token":"7","logprob":-0.5},{"token":"8","logprob":-1}]}]}}],'
        b'"model":"m","usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}}}'
    )
    assert reply == ChatReply(
        text="7",
        finish_reason="stop",
        logprobs=(TokenLogprob("7", -0.5, (("7", -0.5), ("8", -1.0))),),
        model="m",
        usage=Usage(calls=1, input_tokens=9, cached_input_tokens=4, output_tokens=1),
    )


@pytest.mark.parametrize("written", ["null", "-Infinity", "NaN", '"x"'])
def test_what_is_no_number_is_impossible(written: str) -> None:
    raw = '{"choices":[{"message":{"content":"7"},"logprobs":{"content":[{"token":"7","logprob":@}]}}]}'
    reply = decode_chat(raw.replace("@", written).encode())
    assert reply.logprobs == (TokenLogprob("7", IMPOSSIBLE_LOGPROB),)


def test_the_benchmark_s_reply_takes_the_typed_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the benchmark would measure the way that bodies out of the ordinary go."""

    def never(_: bytes) -> wire.ChatWire:
        raise AssertionError("mended")

    monkeypatch.setattr(wire, "mended_chat", never)
    reply = decode_chat(reply_bytes())
    assert reply.logprobs is not None
    assert [len(entry.top) for entry in reply.logprobs] == [TOP] * 64
    assert reply.text.count("\n") == N_LEVELS - 1


def test_replies_kept_by_earlier_versions_are_still_read() -> None:
    """They held positions as objects; a cache that could not be read would be paid for again."""
    kept = (
        '{"text":"7","finish_reason":"stop","refused":false,"logprobs":[{"token":"7","logprob":-0.5,'
        '"top":[["7",-0.5]]}],"model":"m","usage":{"calls":1}}'
    )
    reply = ChatReply.model_validate_json(kept)
    assert reply.logprobs == (TokenLogprob("7", -0.5, (("7", -0.5),)),)
    assert ChatReply.model_validate_json(reply.model_dump_json()) == reply
