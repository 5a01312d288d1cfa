"""Refusals as endpoints write them: the field that is named counts, whatever the status; so do words for too long."""

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from autointerp.format import levels_schema
from autointerp.llm.base import ChatMessage, ChatReply, ChatRequest
from autointerp.llm.decode import ErrorFacts, classify, embedded_error
from autointerp.llm.errors import (
    BadKeyError,
    BadRequestError,
    ContextTooLongError,
    LlmError,
    QuotaExhaustedError,
    RateLimitedError,
    ServerFailedError,
    UnknownModelError,
)
from autointerp.llm.openai_compat import OpenAICompatible
from tests.unit.llm.servers import answering, completion

Body = dict[str, object]
FULL = ChatRequest(
    messages=(ChatMessage(role="system", content="be brief"), ChatMessage(role="user", content="hello")),
    max_tokens=6000,
    temperature=0.0,
    top_logprobs=20,
    json_schema=levels_schema(2),
    stop=("\n3:",),
)


def openai(message: str, **more: object) -> Body:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def has(name: str) -> Callable[[Body], bool]:
    """Whether a request has a field."""
    return lambda body: name in body


def with_system(body: Body) -> bool:
    """Whether a request has a system message."""
    return '"system"' in json.dumps(body["messages"])


def with_enum(body: Body) -> bool:
    """Whether a request has a schema that lists values."""
    return '"enum"' in json.dumps(body.get("response_format"))


def with_bounds(body: Body) -> bool:
    """Whether a request has a schema that lists values or bounds them."""
    return with_enum(body) or '"minimum"' in json.dumps(body.get("response_format"))


def above(name: str, most: int) -> Callable[[Body], bool]:
    """Whether a request asks for more of something than that."""

    def asks(body: Body) -> bool:
        asked = body.get(name)
        return isinstance(asked, int) and asked > most

    return asks


REFUSALS: list[tuple[str, int, object, Callable[[Body], bool], tuple[str, ...]]] = [
    (
        "OpenAI's gpt-5 on log probabilities",
        403,
        openai("You are not allowed to request logprobs from this model"),
        has("logprobs"),
        ("logprobs",),
    ),
    (
        "DeepSeek on schemas",
        400,
        openai("This response_format type is unavailable now"),
        has("response_format"),
        ("response_format",),
    ),
    (
        "Gemini's enums of strings",
        400,
        [openai("Invalid value at 'generation_config.response_schema.properties[0].value.enum[0]' (TYPE_STRING), 0")],
        with_enum,
        ("enum",),
    ),
    (
        "Gemini's enums, in other words",
        400,
        [openai("generation_config.response_schema.properties[1].value.enum: only allowed for STRING type")],
        with_enum,
        ("enum",),
    ),
    (
        "a grammar without bounds",
        400,
        openai("Invalid schema for response_format 'answer': 'minimum' or enum of integers is not permitted."),
        with_bounds,
        ("enum", "minimum"),
    ),
    (
        "Mistral's validator, which repeats what it was sent",
        422,
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "logprobs"],
                    "msg": "Extra inputs are not permitted",
                    "input": {"stop": [], "temperature": 0},
                }
            ]
        },
        has("logprobs"),
        ("logprobs",),
    ),
    (
        "Azure names the field apart",
        400,
        openai("Unsupported value", param="temperature", code="unsupported_value"),
        has("temperature"),
        ("temperature",),
    ),
    (
        "Together",
        400,
        openai("logprobs must be less than or equal to 1 for this model"),
        above("top_logprobs", 1),
        ("top_logprobs>1",),
    ),
    (
        "Gemini, at most as many",
        400,
        [openai("The value of top_logprobs must be between 0 and 8.")],
        above("top_logprobs", 8),
        ("top_logprobs>8",),
    ),
    (
        "vLLM",
        400,
        {"object": "error", "message": "Requested sample logprobs of 20, which is greater than max allowed: 5"},
        above("top_logprobs", 5),
        ("top_logprobs>5",),
    ),
    (
        "reasoning models on lengths",
        400,
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with "
            "o4-mini-2025-04-16. Use 'max_completion_tokens' instead.",
            param="max_tokens",
        ),
        has("max_tokens"),
        ("max_tokens",),
    ),
    (
        "OpenAI's longest answers",
        400,
        openai(
            "max_tokens is too large: 6000. This model supports at most 4096 "
            "completion tokens, whereas you provided 6000."
        ),
        above("max_tokens", 4096),
        ("max_tokens>4096",),
    ),
    (
        "Anthropic's longest answers",
        400,
        {
            "type": "error",
            "error": {
                "message": "max_tokens: 6000 > 4096, which is the maximum allowed number of "
                "output tokens for claude-3-opus-20240229"
            },
        },
        above("max_tokens", 4096),
        ("max_tokens>4096",),
    ),
    (
        "Groq's longest answers",
        400,
        openai(
            "`max_tokens` must be less than or equal to `1024`, the maximum value "
            "for `max_tokens` is less than the context_window for this model"
        ),
        above("max_tokens", 1024),
        ("max_tokens>1024",),
    ),
    (
        "reasoning models on stops",
        400,
        openai("Unsupported parameter: 'stop' is not supported with this model.", param="stop"),
        has("stop"),
        ("stop",),
    ),
    (
        "xAI on stops",
        400,
        {"code": "Client specified an invalid argument", "error": "Model grok-4 does not support parameter stop."},
        has("stop"),
        ("stop",),
    ),
    (
        "Anthropic on blank stops",
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "stop_sequences: each stop sequence must contain non-whitespace",
            },
        },
        has("stop"),
        ("stop",),
    ),
    (
        "litellm, with a server's status",
        500,
        openai("litellm.UnsupportedParamsError: x does not support parameters: ['logprobs', 'top_logprobs']"),
        has("logprobs"),
        ("logprobs",),
    ),
    (
        "a gateway that finds no such thing",
        404,
        openai("response_format json_schema is not supported by any endpoint"),
        has("response_format"),
        ("response_format",),
    ),
    (
        "a router, inside a 200",
        200,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"message": "property \'logprobs\' is unsupported"}'},
            }
        },
        has("logprobs"),
        ("logprobs",),
    ),
    (
        "a server of one's own, inside a 200",
        200,
        {"error": "'response_format.type' must be 'json_schema' or 'text'"},
        has("response_format"),
        ("response_format",),
    ),
    ("Gemma's template", 400, {"object": "error", "message": "System role not supported"}, with_system, ("system",)),
    (
        "Gemma at Google",
        400,
        [openai("Developer instruction is not enabled for models/gemma-3-27b-it")],
        with_system,
        ("system",),
    ),
    (
        "Mistral's template",
        400,
        openai(
            "After the optional system message, conversation roles must alternate user/assistant/user/assistant/..."
        ),
        with_system,
        ("system",),
    ),
    (
        "nothing but a no, on a schema",
        400,
        openai("Bad Request"),
        has("response_format"),
        ("logprobs", "response_format", "stop"),
    ),
    (
        "nothing but a no, on log probabilities",
        422,
        {"detail": "Unprocessable Entity"},
        has("logprobs"),
        ("logprobs", "response_format", "stop"),
    ),
]


@pytest.mark.parametrize(
    ("status", "said", "held", "rejected"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_a_refused_field_is_left_out_or_written_otherwise(
    status: int, said: object, held: Callable[[Body], bool], rejected: tuple[str, ...]
) -> None:
    """An endpoint whose words or status were unforeseen could not be used at all."""
    seen: list[Body] = []

    async def handler(body: Body) -> web.Response:
        seen.append(body)
        return web.json_response(said, status=status) if held(body) else completion("fine")

    async def run() -> tuple[str, ...]:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            try:
                assert (await client.complete(FULL)).text == "fine"
                n = len(seen)
                assert (await client.complete(FULL)).text == "fine"
                assert len(seen) == n + 1, "what was refused once is not sent again"
            finally:
                await client.aclose()
            return client.rejected

    assert asyncio.run(run()) == rejected


def test_a_no_that_stays_without_the_optional_fields_blames_none_of_them() -> None:
    seen: list[Body] = []

    async def handler(body: Body) -> web.Response:
        seen.append(body)
        return web.json_response(openai("messages: at least one is required"), status=400)

    async def run() -> tuple[str, ...]:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            with pytest.raises(BadRequestError, match="at least one"):
                await client.complete(FULL)
            await client.aclose()
            return client.rejected

    assert asyncio.run(run()) == ()
    assert len(seen) == 2


def test_what_was_answered_before_is_not_blamed() -> None:
    """One question's own bad request must not switch log probabilities off for all that follow."""
    bad = True

    async def handler(body: Body) -> web.Response:
        return (
            web.json_response(openai("Bad Request"), status=400) if bad and "logprobs" in body else completion("fine")
        )

    async def run() -> tuple[str, ...]:
        nonlocal bad
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            bad = False
            await client.complete(FULL)
            bad = True
            with pytest.raises(BadRequestError):
                await client.complete(FULL)
            await client.aclose()
            return client.rejected

    assert asyncio.run(run()) == ()


TOO_LONG = [
    (
        400,
        openai(
            "Your messages resulted in 9000 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
    ),
    (
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9000 tokens > 8000 maximum"},
        },
    ),
    (400, openai("The input token count (9000) exceeds the maximum number of tokens allowed (8000).")),
    (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= "
            "8000. Given: 9000 `inputs` tokens and 500 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    (422, {"error": "Input validation error: `inputs` must have less than 8000 tokens. Given: 9000"}),
    (
        413,
        openai(
            "Request too large for model `x` on tokens per minute (TPM): Limit "
            "6000, Requested 9000, please reduce your message size and try again.",
            code="rate_limit_exceeded",
        ),
    ),
    (
        429,
        openai(
            "Request too large for gpt-4 on tokens per min (TPM): Limit 6000, "
            "Requested 9000. The input or output tokens must be reduced in order to run successfully.",
            code="rate_limit_exceeded",
        ),
    ),
    (400, {"object": "error", "message": "max_tokens must be at least 1, got -186."}),
    (
        400,
        {
            "object": "error",
            "message": "'max_tokens' or 'max_completion_tokens' is too large: 2000. This "
            "model's maximum context length is 2048 tokens and your request has 1500 input tokens",
        },
    ),
    (
        400,
        openai("the request exceeds the available context size, try increasing it", type="exceed_context_size_error"),
    ),
    (400, openai("input length exceeds maximum context length")),
    (
        400,
        openai("litellm.ContextWindowExceededError: litellm.BadRequestError: Context Window exceeded for given call."),
    ),
    (
        400,
        {
            "object": "error",
            "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        },
    ),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 9000."}),
    (400, {"code": "x", "error": "This model's maximum prompt length is 8000 but the request contains 9000 tokens."}),
    (400, {"message": "Input is too long for requested model."}),
    (400, openai("Unable to submit request because the input token count is 9000 but model only supports up to 8000.")),
    (400, {"message": "Prompt contains 9000 tokens, too large for model with 8192 maximum context length"}),
    (
        400,
        openai(
            "Trying to keep the first 9000 tokens when context the overflows. "
            "However, the model is loaded with context length of only 4096 tokens"
        ),
    ),
]


@pytest.mark.parametrize(("status", "said"), TOO_LONG)
def test_too_long_is_said_in_many_ways(status: int, said: object) -> None:
    """What is not understood as too long is not asked in halves, and every long question is lost."""
    facts = ErrorFacts(status, {}, said)
    assert isinstance(classify(facts), ContextTooLongError)


@pytest.mark.parametrize(
    ("status", "headers", "said", "expected"),
    [
        (
            429,
            {},
            openai("Rate limit reached on tokens per min (TPM): Limit 10000, Used 9000, Requested 2000."),
            RateLimitedError,
        ),
        (402, {"retry-after": "3"}, openai("In-flight spending exceeds your balance"), RateLimitedError),
        (402, {}, openai("Insufficient credits"), QuotaExhaustedError),
        (403, {}, openai("Your key is not allowed to use this project"), BadKeyError),
        (401, {}, openai("logprobs: invalid api key"), BadKeyError),
        (500, {}, openai("Internal error in temperature sampling kernel"), ServerFailedError),
        (400, {}, openai("top_k must be at most 5"), BadRequestError),
    ],
)
def test_what_only_sounds_alike_keeps_its_class(
    status: int, headers: dict[str, str], said: object, expected: type[LlmError]
) -> None:
    assert type(classify(ErrorFacts(status, headers, said))) is expected


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"detail": "Server is pinned to other-model"}),
        (400, openai("Invalid model name passed in model=m. Call `/v1/models`")),
        (404, openai('model "m" not found, try pulling it first')),
        (404, openai("The API deployment for this resource does not exist.", code="DeploymentNotFound")),
        (404, openai("The model `m` does not exist or you do not have access to it.", code="model_not_found")),
        (400, openai("m is not a valid model ID")),
        (400, openai("No models loaded. Please load a model")),
        (422, {"message": "invalid model: m"}),
    ],
)
def test_an_unknown_model_is_said_in_many_ways(status: int, said: object) -> None:
    async def handler(_: Body) -> web.Response:
        return web.json_response(said, status=status)

    async def run() -> None:
        async with answering(handler, ("mm",)) as url:
            client = OpenAICompatible("m", url)
            with pytest.raises(UnknownModelError, match="mm"):
                await client.complete(FULL)
            await client.aclose()

    asyncio.run(run())


def test_a_provider_that_broke_off_is_quoted() -> None:
    """A router answers 200 with a choice that holds the error; its words and its kind were lost."""
    choice = {
        "finish_reason": "error",
        "message": {"content": ""},
        "error": {"code": 429, "message": "upstream is busy"},
    }
    body = json.dumps({"choices": [choice]}).encode()
    found = embedded_error(body)
    assert found is not None
    error = classify(ErrorFacts(found[0], {}, found[1]))
    assert isinstance(error, RateLimitedError)
    assert "upstream is busy" in str(error)


def test_a_broken_choice_reaches_the_caller_as_its_kind() -> None:
    async def handler(_: Body) -> web.Response:
        return completion("", finish_reason="error", error={"code": 502, "message": "the provider fell over"})

    async def run() -> ChatReply:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            try:
                return await client.complete(FULL)
            finally:
                await client.aclose()

    with pytest.raises(ServerFailedError, match="fell over"):
        asyncio.run(run())
