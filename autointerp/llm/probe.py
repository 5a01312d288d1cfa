"""Asks an endpoint a few questions to see what it does, instead of believing what it says.

A bare endpoint flows in, a `Capabilities` record flows out. A field that a server takes and ignores shows as absent:
the entries that came back are counted, two prompts must differ, and a schema counts only where nothing else asked for
its shape.
"""

import asyncio
import json
from collections.abc import Callable
from itertools import cycle, islice
from uuid import uuid4

from autointerp.format import levels_schema
from autointerp.llm.base import Capabilities, ChatMessage, ChatModel, ChatReply, ChatRequest, Endpoint, PromptRequest
from autointerp.llm.budget import most_tokens
from autointerp.llm.cut_prompts import LEAST_WINDOW
from autointerp.llm.decode import CUT_ENDS
from autointerp.llm.errors import (
    BadRequestError,
    EndpointStoppedError,
    LlmError,
    MalformedReplyError,
    ServerFailedError,
    UnknownModelError,
    UnsupportedParameterError,
    WrongUrlError,
)
from autointerp.llm.logprobs import are_real
from autointerp.llm.manner import Mannered
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.wrappers import Metered
from autointerp.records import Usage

TOP_LOGPROBS = 20
"""The most that hosted endpoints give; an endpoint that refuses it is asked for fewer."""
ANSWER_TOKENS = 200
"""Room for a model that thinks before it answers, in tokens."""
MORE_ANSWER_TOKENS = 2000
"""As above, for one that thought longer than that."""
PROMPT_TOP_LOGPROBS = 5
"""What the probe of prompts asks for; endpoints that give any give this many."""
LONG_WORDS = 4500
"""Words of the long prompt: more than the commonest window of local servers holds."""
LONG_PATIENCE_S = 180.0
"""How long the long prompt is waited for."""
ALL_READ = 0.95
"""A prompt that was read whole has so many tokens a word, at least."""
_WORDS = (
    *("the", "cat", "sat", "under", "one", "red", "tree", "and"),
    *("the", "dog", "ran", "over", "the", "sea", "with", "the", "sun"),
)
"""Each is a token, or more, to any tokenizer."""
_NO_ECHO = (
    *(BadRequestError, UnsupportedParameterError, UnknownModelError, WrongUrlError),
    *(MalformedReplyError, ServerFailedError),
)
"""How endpoints say that they do not echo prompts."""
_STOP = ("\n3:",)
"""As questions have one."""
_TEN, _SPACED = "10", "blue 1: j"
"""The second has spaces, which servers lose that decode each token alone."""
_LISTED = "Two words.\n1\tred\n2\tblue"


async def probe(endpoint: OpenAICompatible, model: ChatModel | None = None) -> Capabilities:
    """What the endpoint does, asked as a run asks: three short requests, and a long one to a server of one's own.

    `model` is the same endpoint behind retries and a limit, never behind a cache.

    Raises:
        LlmError: it could not be asked.
    """
    asked = endpoint if model is None else model
    ten = await _answer(asked, lambda room: _repeat(_TEN, room))
    word = await _answer(asked, lambda room: _repeat(_SPACED, room))
    shaped = await _answer(asked, _shaped)
    window, longest = await _reads_long_prompts(endpoint, asked) if endpoint.near else (None, 0)
    endpoint.prompts.window = window
    return Capabilities(
        endpoint=endpoint.endpoint,
        answers_differ=not _are_alike(ten, word),
        top_logprobs=min(_fewest_tops(ten), _fewest_tops(word)),
        logprobs_differ=_logprobs_differ(ten, word),
        json_schema=_has_shape(shaped),
        ten_is_one_token=_ten_is_one_token(ten),
        rejected=endpoint.rejected,
        window=window,
        longest_read=longest,
    )


async def _answer(model: ChatModel, request: Callable[[int], ChatRequest]) -> ChatReply:
    """The answer to a short question; asked for again with more room where it found none."""
    reply = await model.complete(request(ANSWER_TOKENS))
    return reply if _is_whole(reply) else await model.complete(request(MORE_ANSWER_TOKENS))


def _is_whole(reply: ChatReply) -> bool:
    """Whether an answer ended by itself, and says something."""
    return reply.finish_reason not in CUT_ENDS and bool(reply.text.strip())


def _are_alike(ten: ChatReply, word: ChatReply) -> bool:
    """Whether two answers to different questions are the same: no answer, or a part of one, is none of them."""
    if ten.text != word.text or _logprobs_differ(ten, word):
        return False
    return ten.logprobs is not None or (_is_whole(ten) and _is_whole(word))


def _logprobs_differ(ten: ChatReply, word: ChatReply) -> bool:
    return ten.logprobs is not None and ten.logprobs != word.logprobs


async def _reads_long_prompts(endpoint: OpenAICompatible, model: ChatModel) -> tuple[int | None, int]:
    """The window of a server that drops the beginning of what is longer, and how many tokens it read at most.

    The prompt begins with what no cache can hold, so that a server which leaves cached tokens out counts it whole.
    Nothing is known of a server that refuses it, does not count, or needs too long.
    """
    words = " ".join(islice(cycle(_WORDS), LONG_WORDS))
    text = f"Reply with exactly: {uuid4().hex[:8]}\nAll that follows is of no importance.\n{words}"
    request = ChatRequest(messages=_user(text), max_tokens=ANSWER_TOKENS)
    if not _is_affordable(model, request):
        return None, endpoint.prompts.longest_read
    try:
        async with asyncio.timeout(LONG_PATIENCE_S):
            reply = await model.complete(request)
    except EndpointStoppedError:
        raise
    except (LlmError, TimeoutError):
        return None, endpoint.prompts.longest_read
    read = reply.usage.input_tokens + reply.usage.cached_input_tokens
    if LEAST_WINDOW <= read < ALL_READ * LONG_WORDS:
        return read, read
    return None, endpoint.prompts.longest_read


def _is_affordable(model: ChatModel, request: ChatRequest) -> bool:
    """Whether a request takes no more than a tenth of what may be spent."""
    inner = model.inner if isinstance(model, Mannered) else model
    budget = inner.budget if isinstance(inner, Metered) else None
    most = most_tokens(request)
    tenfold = Usage(calls=10, input_tokens=10 * most.input_tokens, output_tokens=10 * most.output_tokens)
    return budget is None or budget.fits(tenfold)


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
    fewest = min(len(entry.top) for reply in found for entry in reply.logprobs or ()) if all(values) else 0
    return fewest if values[0] != values[1] else 0


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


def _repeat(text: str, room: int) -> ChatRequest:
    return ChatRequest(
        messages=_user(f"Reply with exactly: {text}"),
        max_tokens=room,
        temperature=0.0,
        top_logprobs=TOP_LOGPROBS,
        stop=_STOP,
    )


def _shaped(room: int) -> ChatRequest:
    return ChatRequest(messages=_user(_LISTED), max_tokens=room, json_schema=levels_schema(2))


def _fewest_tops(reply: ChatReply) -> int:
    """Alternatives at the position that has fewest; 0 without any, or where they cannot be those of the text."""
    entries = reply.logprobs or ()
    return min((len(entry.top) for entry in entries), default=0) if are_real(entries, reply.text) else 0


def _has_shape(reply: ChatReply) -> bool:
    start, end = reply.text.find("{"), reply.text.rfind("}")
    try:
        value = json.loads(reply.text[start : end + 1])
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(value) == {"1", "2"} and all(isinstance(v, int) for v in value.values())


def _ten_is_one_token(reply: ChatReply) -> bool | None:
    """None where there are no log probabilities or the model did not say 10."""
    if reply.logprobs is None or "10" not in reply.text:
        return None
    return any(entry.token.strip() == "10" for entry in reply.logprobs)
