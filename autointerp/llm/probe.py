"""Asks an endpoint a few questions to see what it does, instead of believing what it says.

A bare endpoint flows in, a `Capabilities` record flows out. A field that a server takes and ignores shows as absent:
the entries that came back are counted, two prompts must differ, and a schema counts only where nothing else asked for
its shape.
"""

import json

from autointerp.llm.base import Capabilities, ChatMessage, ChatModel, ChatReply, ChatRequest, Endpoint, PromptRequest
from autointerp.llm.errors import (
    BadRequestError,
    MalformedReplyError,
    ServerFailedError,
    UnknownModelError,
    UnsupportedParameterError,
    WrongUrlError,
)
from autointerp.llm.openai_compat import OpenAICompatible

TOP_LOGPROBS = 20
"""The most that hosted endpoints give; an endpoint that refuses it is asked for fewer."""
ANSWER_TOKENS = 200
"""Room for a model that thinks before it answers, in tokens."""
PROMPT_TOP_LOGPROBS = 5
"""What the probe of prompts asks for; endpoints that give any give this many."""
_NO_ECHO = (
    *(BadRequestError, UnsupportedParameterError, UnknownModelError, WrongUrlError),
    *(MalformedReplyError, ServerFailedError),
)
"""How endpoints say that they do not echo prompts."""
_HIDDEN_KEY = "shape_seven"
_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {_HIDDEN_KEY: {"type": "integer"}},
    "required": [_HIDDEN_KEY],
    "additionalProperties": False,
}


async def probe(endpoint: OpenAICompatible, model: ChatModel | None = None) -> Capabilities:
    """What the endpoint does; about three short requests.

    `model` is the same endpoint behind retries and a limit, never behind a cache.

    Raises:
        LlmError: it could not be asked.
    """
    asked = endpoint if model is None else model
    ten = await _repeat(asked, "10")
    word = await _repeat(asked, "blue")
    shaped = await asked.complete(
        ChatRequest(messages=_user("Name a number."), max_tokens=ANSWER_TOKENS, json_schema=_SCHEMA)
    )
    return Capabilities(
        endpoint=endpoint.endpoint,
        answers_differ=ten.text != word.text,
        top_logprobs=min(_fewest_tops(ten), _fewest_tops(word)),
        logprobs_differ=ten.logprobs is not None and ten.logprobs != word.logprobs,
        json_schema=_has_shape(shaped),
        ten_is_one_token=_ten_is_one_token(ten),
        rejected=endpoint.rejected,
    )


async def probe_prompts(endpoint: OpenAICompatible) -> int:
    """Most likely tokens that the endpoint returns at each token of a prompt; 0 where there are none to be had.

    Two short requests to the bare endpoint: one that refuses them is not asked again.

    Raises:
        LlmError: it could not be asked.
    """
    found = []
    for before in ("A colour: blue, blue,", "Some towns: Paris, Rome,"):
        request = PromptRequest(prompt=before, read=" blue", top_logprobs=PROMPT_TOP_LOGPROBS)
        try:
            found.append(await endpoint.complete(request))
        except _NO_ECHO:
            return 0
    values = [tuple(entry.logprob for entry in reply.logprobs or ()) for reply in found]
    return min(map(_fewest_tops, found)) if values[0] != values[1] else 0


def unprobed(endpoint: Endpoint, *, logprobs: bool, prompt_logprobs: bool) -> Capabilities:
    """What is taken for granted of an endpoint that nobody asked yet: that it answers, and honours a schema.

    With log probabilities only where the caller says so; then levels are written as letters, which every tokenizer
    keeps apart.
    """
    return Capabilities(
        endpoint=endpoint,
        answers_differ=True,
        top_logprobs=TOP_LOGPROBS if logprobs else 0,
        logprobs_differ=logprobs,
        json_schema=True,
        ten_is_one_token=None,
        rejected=(),
        prompt_logprobs=PROMPT_TOP_LOGPROBS if prompt_logprobs else None,
    )


def _user(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)


async def _repeat(model: ChatModel, text: str) -> ChatReply:
    request = ChatRequest(
        messages=_user(f"Reply with exactly: {text}"),
        max_tokens=ANSWER_TOKENS,
        temperature=0.0,
        top_logprobs=TOP_LOGPROBS,
    )
    return await model.complete(request)


def _fewest_tops(reply: ChatReply) -> int:
    """Alternatives at the position that has fewest; 0 without any position."""
    return min((len(entry.top) for entry in reply.logprobs or ()), default=0)


def _has_shape(reply: ChatReply) -> bool:
    try:
        value = json.loads(reply.text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(value) == {_HIDDEN_KEY} and isinstance(value[_HIDDEN_KEY], int)


def _ten_is_one_token(reply: ChatReply) -> bool | None:
    """None where there are no log probabilities or the model did not say 10."""
    if reply.logprobs is None or "10" not in reply.text:
        return None
    return any(entry.token.strip() == "10" for entry in reply.logprobs)
