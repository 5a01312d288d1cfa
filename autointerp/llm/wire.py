"""The fields of a server's answer that we read, typed, out of the bytes in which they came.

Bytes flow in; dictionaries of one shape flow out, which hold no other field, no half surrogate pair, and finite numbers
alone. A body as the API describes it is read by a typed parser, which never makes objects of what nobody reads; any
other body is read as plain JSON and mended, or refused. Makes no records.
"""

import json
import math
from collections.abc import Mapping
from typing import (
    Annotated,
    NotRequired,  # pydantic reads typing's own from Python 3.12 on
)

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from autointerp.llm.errors import MalformedReplyError

IMPOSSIBLE_LOGPROB = -9999.0
"""How OpenAI writes the logarithm of zero; other servers send null or -Infinity."""
Logprob = Annotated[float, Field(allow_inf_nan=False)]


class Likely(TypedDict):
    """One of the most likely tokens at a position."""

    token: str
    logprob: Logprob


class Position(TypedDict):
    """One generated token."""

    token: str
    logprob: Logprob
    top_logprobs: NotRequired[list[Likely] | None]


class Positions(TypedDict):
    """All generated tokens."""

    content: NotRequired[list[Position] | None]


class Message(TypedDict):
    """What was said."""

    content: NotRequired[str | None]
    refusal: NotRequired[str | None]


class ChatChoice(TypedDict):
    """One answer of a chat completion."""

    message: Message
    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[Positions | None]


class ChatWire(TypedDict):
    """A chat completion."""

    choices: list[ChatChoice]
    id: NotRequired[str | None]
    model: NotRequired[str | None]
    usage: NotRequired[dict[str, object] | None]


class Columns(TypedDict):
    """Tokens of an echoed prompt, and what was generated behind it, each list of the same length."""

    tokens: list[str]
    token_logprobs: list[Logprob | None]
    top_logprobs: list[dict[str, Logprob] | None]


class EchoChoice(TypedDict):
    """One answer of a completion."""

    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[Columns | None]


class EchoWire(TypedDict):
    """A completion that echoes its prompt."""

    choices: list[EchoChoice]
    id: NotRequired[str | None]
    model: NotRequired[str | None]
    usage: NotRequired[dict[str, object] | None]


_CHAT, _ECHO = TypeAdapter(ChatWire), TypeAdapter(EchoWire)


def read_chat(body: bytes) -> ChatWire:
    """A chat completion with at least one choice.

    Raises:
        MalformedReplyError: no JSON, or none of a chat completion's shape.
    """
    try:
        wire = _CHAT.validate_json(body, strict=True)
    except ValidationError:
        wire = mended_chat(body)
    if not wire["choices"]:
        raise MalformedReplyError("it has no choices")
    return wire


def read_echo(body: bytes) -> EchoWire:
    """A completion with at least one choice.

    Raises:
        MalformedReplyError: no JSON, or none of a completion's shape.
    """
    try:
        wire = _ECHO.validate_json(body, strict=True)
    except ValidationError:
        wire = mended_echo(body)
    if not wire["choices"]:
        raise MalformedReplyError("it has no choices")
    return wire


def mended_chat(body: bytes) -> ChatWire:
    """A chat completion out of any JSON that has a message in it.

    Raises:
        MalformedReplyError: it has none.
    """
    data, choice = _first_choice(body)
    message = _object(choice.get("message"), "the message")
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    if not all(part is None or isinstance(part, (str, dict)) for part in parts):
        raise MalformedReplyError("the message's content is no text")
    text = None if content is None else "".join(_said(part, "text") for part in parts)
    refusal = _text(message.get("refusal")) or "".join(_said(part, "refusal") for part in parts)
    mended: ChatChoice = {
        "message": {"content": text, "refusal": refusal or None},
        "finish_reason": _text(choice.get("finish_reason")),
        "logprobs": _mended_positions(choice.get("logprobs")),
    }
    number, model = _text(data.get("id")), _text(data.get("model"))
    return {"choices": [mended], "id": number, "model": model, "usage": _usage(data.get("usage"))}


def mended_echo(body: bytes) -> EchoWire:
    """A completion out of any JSON that has a choice in it.

    Raises:
        MalformedReplyError: it has none, or log probabilities of another shape.
    """
    data, choice = _first_choice(body)
    mended: EchoChoice = {
        "finish_reason": _text(choice.get("finish_reason")),
        "logprobs": _mended_columns(choice.get("logprobs")),
    }
    number, model = _text(data.get("id")), _text(data.get("model"))
    return {"choices": [mended], "id": number, "model": model, "usage": _usage(data.get("usage"))}


def clean(text: str) -> str:
    """A text with half surrogate pairs, which no file could hold, as replacement characters."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _first_choice(body: bytes) -> tuple[Mapping[str, object], Mapping[str, object]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedReplyError(f"{len(body)} bytes that are no JSON") from None
    data = _object(value, "the body")
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedReplyError("it has no choices")
    return data, _object(choices[0], "the choice")


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise MalformedReplyError(f"{what} is no object")
    return value


def _text(value: object) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _usage(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None


def _said(part: object, kind: str) -> str:
    """The text of one part of a content of several; thoughts are parts of another kind."""
    if isinstance(part, str):
        return clean(part) if kind == "text" else ""
    if not isinstance(part, dict) or part.get("type", "text") not in (kind, f"output_{kind}"):
        return ""
    return _text(part.get(kind)) or ""


def _finite(value: object) -> float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return IMPOSSIBLE_LOGPROB


def _mended_positions(value: object) -> Positions | None:
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return None
    return {"content": [_mended_position(_object(entry, "a log probability")) for entry in content]}


def _mended_position(entry: Mapping[str, object]) -> Position:
    token, top = _text(entry.get("token")), entry.get("top_logprobs")
    if token is None:
        raise MalformedReplyError("a log probability without its token")
    likely: list[Likely] = []
    for other in top if isinstance(top, list) else ():
        name = _text(other.get("token")) if isinstance(other, dict) else None
        if name is not None:
            likely.append({"token": name, "logprob": _finite(other.get("logprob"))})
    return {"token": token, "logprob": _finite(entry.get("logprob")), "top_logprobs": likely}


def _mended_columns(value: object) -> Columns | None:
    columns = value if isinstance(value, dict) else {}
    tokens, logprobs, tops = (columns.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not (isinstance(tokens, list) and isinstance(logprobs, list) and isinstance(tops, list)):
        return None
    if not all(isinstance(token, str) for token in tokens):
        raise MalformedReplyError("a token of its prompt is no text")
    return {
        "tokens": [clean(token) for token in tokens],
        "token_logprobs": [_finite(logprob) for logprob in logprobs],
        "top_logprobs": [
            {clean(name): _finite(each) for name, each in top.items()} if isinstance(top, dict) else None
            for top in tops
        ],
    }
