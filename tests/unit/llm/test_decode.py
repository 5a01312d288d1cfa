"""Bodies and errors of many servers: whatever comes, it is a reply or a typed error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.base import ChatReply
from autointerp.llm.decode import (
    ErrorFacts,
    classify,
    decode_chat,
    decode_models,
    decode_reply,
    embedded_error,
    retry_after_s,
)
from autointerp.llm.errors import (
    BadKeyError,
    LlmError,
    MalformedReplyError,
    QuotaExhaustedError,
    RateLimitedError,
    ServerFailedError,
    TransientError,
)
from autointerp.llm.negotiate import Negotiation
from tests.unit.llm.servers import question

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON, JSON, JSON)
def test_any_json_is_a_reply_or_a_typed_error(content: object, logprobs: object, usage: object, finish: object) -> None:
    choice = {"message": {"content": content}, "logprobs": {"content": logprobs}, "finish_reason": finish}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    try:
        reply = decode_chat(body)
    except (MalformedReplyError, ServerFailedError):
        return
    assert ChatReply.model_validate_json(reply.model_dump_json()) == reply


@given(st.binary(max_size=40))
def test_any_bytes_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReplyError):
        decode_chat(body)
    assert decode_models(body) == ()


def test_half_a_surrogate_pair_can_be_stored() -> None:
    """A byte-level tokenizer's half character, escaped in JSON, made a record that no file could hold."""
    reply = decode_chat(b'{"choices": [{"message": {"content": "a\\ud83d"}, "finish_reason": "stop"}]}')
    assert reply.text == "a�"
    assert ChatReply.model_validate_json(reply.model_dump_json()) == reply


def test_an_answer_that_the_server_gave_up_is_asked_for_again() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Explanation: half"}, "finish_reason": "error"}]}).encode()
    with pytest.raises(TransientError):
        decode_chat(body)


def facts(status: int, body: object) -> ErrorFacts:
    """What an error answer says."""
    return ErrorFacts(status, {}, body)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}], BadKeyError),
        (400, {"error": {"message": "Your credit balance is too low"}}, QuotaExhaustedError),
        (429, [{"error": {"message": "You exceeded your current quota. Please retry in 31 s."}}], RateLimitedError),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, ServerFailedError),
        (502, "<html>Bad Gateway</html>", ServerFailedError),
        (503, None, ServerFailedError),
    ],
)
def test_errors_of_many_shapes(status: int, body: object, expected: type[LlmError]) -> None:
    assert isinstance(classify(facts(status, body)), expected)


@pytest.mark.parametrize(
    "message",
    [
        "The model `x` does not exist.",
        'model "x" not found, try pulling it first',
        "models/x is not found for API version v1beta",
        "x is not a valid model ID",
        "Unable to access model x. Please visit the page of models",
    ],
)
def test_unknown_models_in_many_words(message: str) -> None:
    assert facts(404, {"error": {"message": message}}).is_unknown_model


@pytest.mark.parametrize(
    ("message", "form"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            "max_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0 with this model. Only the default (1).", "temperature"),
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", "top_logprobs>5"),
        ("You are not allowed to request logprobs from this model", "logprobs"),
        ("Logprobs is not enabled for models/x", "logprobs"),
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", "response_format"),
        ("Invalid schema for response_format 'answer': too many properties", "response_format"),
        ("System role not supported", "system"),
    ],
)
def test_refused_fields_in_many_words(message: str, form: str) -> None:
    negotiation = Negotiation()
    request = question(temperature=0.0, top_logprobs=20, json_schema={"type": "object"})
    system = request.messages[0].model_copy(update={"role": "system"})
    request = request.model_copy(update={"messages": (system, *request.messages)})
    body = negotiation.body(request, "m")
    assert negotiation.settle(facts(400, {"error": {"message": message}}), body)
    assert negotiation.rejected == [form]
    assert negotiation.body(request, "m") != body


def test_a_context_that_is_too_long_is_no_refused_field() -> None:
    """Its text names max_tokens; dropping that field would have helped nobody."""
    message = "maximum context length is 4096 tokens; max_tokens must be at most 96"
    negotiation = Negotiation()
    assert not negotiation.settle(facts(400, {"error": {"message": message}}), negotiation.body(question(), "m"))


def test_an_error_in_a_body_of_status_200() -> None:
    assert embedded_error(b'{"error": {"code": 429, "message": "slow"}}') == (
        429,
        {"error": {"code": 429, "message": "slow"}},
    )
    assert embedded_error(b'{"error": "overloaded"}') == (502, {"error": "overloaded"})
    assert embedded_error(b"{}") is None
    assert embedded_error(b"nonsense") is None


def test_retry_after_as_a_date_and_as_nonsense() -> None:
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after-ms": "nan", "retry-after": "2"}) == 2.0
    assert retry_after_s({}) is None


@pytest.mark.parametrize(
    ("finish", "usage", "expected"),
    [
        ("length", {"prompt_tokens": 1721, "completion_tokens": 71}, True),
        ("length", {"prompt_tokens": 1721, "completion_tokens": 1000}, False),
        ("length", {"prompt_tokens": 1721, "completion_tokens": 999}, False),
        ("length", {}, False),
        ("length", {"prompt_tokens": 100, "completion_tokens": 71, "total_tokens": 1100}, False),
        ("stop", {"prompt_tokens": 1721, "completion_tokens": 71}, False),
    ],
    ids=["full", "all room used", "but one", "not counted", "thoughts in the total alone", "ended by itself"],
)
def test_an_answer_cut_off_before_its_room_was_used_met_a_full_context(
    finish: str, usage: dict[str, int], expected: bool
) -> None:
    """Such a question fits as two halves; it was lost as one whose answer does not end."""
    body = {"choices": [{"message": {"content": "1: a"}, "finish_reason": finish}], "usage": usage}
    reply = decode_reply(question(max_tokens=1000), json.dumps(body).encode())
    assert reply.context_full is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "1: a"}], "1: a"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "1: a"}],
            "1: a",
        ),
        ([{"type": "reasoning", "text": "hm"}, "1: ", {"type": "output_text", "text": "a"}], "1: a"),
        ([{"text": "1: a"}], "1: a"),
        ([], ""),
    ],
)
def test_content_in_parts_is_the_text_of_its_text_parts(content: object, expected: str) -> None:
    """Mistral's thinking models write a list; the probe ended the run."""
    body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    assert decode_chat(json.dumps(body).encode()).text == expected
