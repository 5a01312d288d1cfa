"""From the bytes of an OpenAI-compatible answer to the few fields that we read, and from an error to its class.

Bytes, status codes and headers flow in; `ChatReply` records and typed errors flow out. Opens no connection.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping

from autointerp.llm.base import ChatReply, ChatRequest, PromptRequest, TokenLogprob
from autointerp.llm.errors import (
    AwayError,
    BadKeyError,
    BadRequestError,
    ContextTooLongError,
    LlmError,
    MalformedReplyError,
    NoRoomError,
    QuotaExhaustedError,
    RateLimitedError,
    ServerFailedError,
    UnsupportedParameterError,
    WrongUrlError,
)
from autointerp.llm.wire import IMPOSSIBLE_LOGPROB, Columns, Positions, read_chat, read_echo
from autointerp.records import Usage

MESSAGE_LENGTH = 400
"""At most so many characters of a server's own words go into an error."""
SHORTEST_SECRET = 8
MOST_TOKENS = 10**9
"""A larger count of tokens is none, and would not fit where counts are added up."""
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|credit balance|billing|payment required", re.I)
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context|context[ _-]?(length|size|window)|maximum context|too many (input )?tokens"
    r"|\b(prompt|input|request|messages?)\b.{0,20} too long|input token count.{0,60}exceed|input tokens exceed"
    r"|\b(prompt|input|request|messages?)\b.{0,60}(longer than|exceed).{0,60}\b(tokens|context|maximum|limit)"
    r"|\b(inputs?|tokens)\b.{0,80}must (be|have|not) (<=?|less than|at most|no more|exceed)|input token count is"
    r"|max_(completion_|new_)?tokens.{0,20}at least 1, got -|token limit|maximum (prompt|input|sequence) length"
    r"|reduce (the (length|size|number of tokens) of )?(your |the )?(message|prompt|input)"
    r"|(messages|prompt|input).{0,40}must be (shortened|reduced)",
    re.IGNORECASE,
)
_ROOM = re.compile(
    r"^(?!.*maximum context).*max_(completion_)?tokens\W* must be (less than or equal to|at most|<=)\W*\d", re.I
)
"""Speaks of the longest answer, which may be asked to be shorter, and not of the prompt."""
_TOO_LARGE = re.compile(r"request too large|must be reduced in order", re.I)
"""What no rate limit says of a request that will fit later."""
_FILTER = re.compile(r"content_filter|content management policy|content_policy|responsibleai|moderation|flagged", re.I)
_MODEL = re.compile(
    r"model_not_found|\bmodels?\b.{0,120}(not exist|not found|not available|not (loaded|deployed|served))"
    r"|(unknown|no such|invalid|unrecognized) model|not a valid model|access (to )?model"
    r"|not_found_error.{0,40}\bmodel\b|server is pinned to|try pulling it|no models? (is |are )?loaded"
    r"|DeploymentNotFound",
    re.IGNORECASE,
)
_KEY = re.compile(r"(invalid|incorrect|missing).{0,20}\bapi.?key|\bapi.?key.{0,20}(not valid|invalid|missing)", re.I)
_SOON = re.compile(r"retry.?delay|retry in|per.?minute|per.?second", re.I)
"""Some servers speak of a quota where they mean a rate."""
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,]{0,9}(?![\w.-]*\w)")
"""One that is no part of a name."""
_CLIENT = re.compile(r"invalid_request|invalid_argument|unsupported|not supported|extra_forbidden|unprocessable", re.I)
"""Says that the request is at fault, where no status does."""
_UNSUPPORTED = re.compile(r"unsupported_(parameter|value)|unknown_parameter|extra_forbidden", re.I)
CUT_ENDS = ("length", "max_tokens", "model_length", "MAX_TOKENS")
"""Ends of answers that had no room left."""
SPARE_TOKENS = 4
"""Servers count an answer's own marks, or leave them out."""
_BROKEN = ("error", "abort", "cancelled", "insufficient_system_resource")
"""Ends of answers that the server itself gave up."""
_NOT_YET = re.compile(r"\bloading\b|no healthy upstream|upstream connect error|model is starting", re.I)
_RETRIED_STATUSES = (408, 409)


def decode_reply(request: ChatRequest, body: bytes) -> ChatReply:
    """What a body answers to a request.

    Raises:
        MalformedReplyError: no JSON, or none of the shape that answers such a request.
    """
    if isinstance(request, PromptRequest):
        return decode_echo(body, request.read)
    return decode_chat(body, request.max_tokens)


def decode_chat(body: bytes, max_tokens: int = 0) -> ChatReply:
    """The text, end, log probabilities and usage of a chat completion, which was asked for no more tokens than that.

    Raises:
        MalformedReplyError: no JSON, or none of a chat completion's shape.
    """
    wire = read_chat(body)
    choice = wire["choices"][0]
    text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    finish_reason = choice.get("finish_reason")
    if finish_reason in _BROKEN:
        raise ServerFailedError(200, f"the answer ended with {finish_reason!r}")
    return ChatReply.model_construct(  # `wire` has checked every field
        text=text or refusal or "",
        finish_reason=finish_reason or "unknown",
        refused=bool(refusal) or finish_reason == "content_filter",
        logprobs=_generated(choice.get("logprobs")),
        model=wire.get("model") or "",
        id=wire.get("id") or "",
        usage=_usage(wire.get("usage")),
        context_full=finish_reason in CUT_ENDS and 0 < _written(wire.get("usage")) < max_tokens - SPARE_TOKENS,
    )


def decode_echo(body: bytes, read: str) -> ChatReply:
    """The log probabilities at the end of an echoed prompt, which reads `read`, and usage.

    Aligned from the end: servers put a token before a prompt, and write characters of several tokens in their own ways.
    Without log probabilities where the echo does not end so, as that of a server that returns what it generated alone.

    Raises:
        MalformedReplyError: no JSON, or none of a completion's shape.
    """
    wire = read_echo(body)
    choice = wire["choices"][0]
    finish_reason = choice.get("finish_reason")
    return ChatReply.model_construct(  # as above
        text=read,
        finish_reason=finish_reason or "unknown",
        refused=finish_reason == "content_filter",
        logprobs=_echoed(choice.get("logprobs"), read),
        model=wire.get("model") or "",
        id=wire.get("id") or "",
        usage=_usage(wire.get("usage")),
    )


def _written(usage: Mapping[str, object] | None) -> int:
    """Tokens of an answer, hidden thoughts included, which some servers count in the total alone; 0 where not said."""
    if usage is None:
        return 0
    written = _count(usage.get("completion_tokens"))
    return max(written, _count(usage.get("total_tokens")) - _count(usage.get("prompt_tokens"))) if written else 0


def _generated(positions: Positions | None) -> tuple[TokenLogprob, ...] | None:
    """None where the endpoint sent none or an empty list, however it spells that."""
    content = positions.get("content") if positions else None
    if not content:
        return None
    return tuple(
        TokenLogprob(
            entry["token"],
            entry["logprob"],
            tuple([(other["token"], other["logprob"]) for other in entry.get("top_logprobs") or ()]),
        )
        for entry in content
    )


def _echoed(columns: Columns | None, read: str) -> tuple[TokenLogprob, ...] | None:
    """The tokens that spell the end of the prompt; one may have been generated behind it."""
    if columns is None:
        return None
    tokens, logprobs, tops = columns["tokens"], columns["token_logprobs"], columns["top_logprobs"]
    if not len(tokens) == len(logprobs) == len(tops):
        raise MalformedReplyError("its log probabilities are not aligned")
    for generated in (1, 0):
        end = start = len(tokens) - generated
        spelled = ""
        while start > 0 and len(spelled) < len(read):
            start -= 1
            spelled = tokens[start] + spelled
        if spelled.endswith(read):
            break
    else:
        return None
    return tuple(
        TokenLogprob(tokens[i], IMPOSSIBLE_LOGPROB if logprob is None else logprob, tuple((tops[i] or {}).items()))
        for i, logprob in enumerate(logprobs[start:end], start=start)
    )


def filtered_reply(model: str) -> ChatReply:
    """What stands for an answer where the endpoint's filter stopped the prompt before the model saw it."""
    return ChatReply(text="", finish_reason="content_filter", refused=True, model=model, usage=Usage(calls=1))


def decode_models(body: bytes) -> tuple[str, ...]:
    """The names in a models listing; empty where it has another shape."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    rows = data.get("data") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        return ()
    return tuple(row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str))


def embedded_error(body: bytes) -> tuple[int, dict[str, object]] | None:
    """Status and body of an error that came with status 200, as routers send them; None where there is none."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = data.get("error") if isinstance(data, dict) else None
    error = error or _choice_error(data)
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code, {"error": error}
    facts = ErrorFacts(400, {}, {"error": error})
    return (400 if facts.is_too_long or facts.is_unknown_model or facts.says(_CLIENT) else 502), {"error": error}


def _choice_error(data: object) -> object:
    """What went wrong with the first choice, as routers say it whose provider broke off."""
    choices = data.get("choices") if isinstance(data, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _usage(value: object) -> Usage:
    fields = value if isinstance(value, dict) else {}
    details = fields.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(
        calls=1,
        input_tokens=_count(fields.get("prompt_tokens")),
        cached_input_tokens=_count(cached),
        output_tokens=_count(fields.get("completion_tokens")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= MOST_TOKENS else 0


class ErrorFacts:
    """What an error answer says, in whichever of the common shapes it says it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: object, blot: str = "") -> None:
        """`blot` is a secret that no text may repeat."""
        if isinstance(body, list) and body:
            body = body[0]
        error = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(error, dict) and isinstance(error.get("detail"), list):
            error = {**error, "detail": [_without_input(entry) for entry in error["detail"]]}
        fields: dict[str, object] = error if isinstance(error, dict) else {}
        message = fields.get("message", error)
        text = message if isinstance(message, str) else json.dumps(message, default=str)
        told = fields.get("metadata")
        raw = told.get("raw") if isinstance(told, dict) else None
        if isinstance(raw, str):  # a router repeats what the provider behind it said
            text = f"{text}: {raw}"
        self.status = status
        self.retry_after_s = retry_after_s(headers)
        self.message = blot_out(" ".join(text.split()), blot)[:MESSAGE_LENGTH] or "no reason given"
        """In the server's words, without the secret."""
        self.param = param if isinstance(param := fields.get("param"), str) else ""
        """The field that is at fault, where the server names it apart."""
        self._text = text
        self._all = " ".join([*(str(fields.get(name) or "") for name in ("code", "type", "param")), text])

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Whether a pattern is found in anything that the server said."""
        return bool(pattern.search(self._all))

    def numbers(self) -> list[int]:
        """Whole numbers in the server's words."""
        return [
            int(digits.replace(",", "")) for digits in re.findall(r"(?<![\w.-])\d[\d,]{0,9}(?![\w.-]*\w)", self._all)
        ]

    @property
    def is_filter(self) -> bool:
        """The endpoint's content filter refused the prompt: an answer, to be kept as one."""
        return self.status in (400, 403, 422) and self.says(_FILTER)

    @property
    def is_too_long(self) -> bool:
        """The request does not fit the model's context."""
        if self.status == 429:
            return self.says(_TOO_LARGE)
        client = 400 <= self.status < 500 and self.status not in (401, 402)
        return client and self.says(_CONTEXT) and not self.says(_ROOM)

    @property
    def is_unknown_model(self) -> bool:
        """The endpoint says that it has no such model."""
        return self.status in (400, 404, 422) and self.says(_MODEL)


def _without_input(entry: object) -> object:
    """A complaint of a validator without the value it complains of, which may be our whole request."""
    return {name: value for name, value in entry.items() if name != "input"} if isinstance(entry, dict) else entry


def blot_out(text: str, secret: str) -> str:
    """The text without the secret; a word as short as the keys of local servers (`none`, `x`) is no secret."""
    return text.replace(secret, "[key]") if len(secret) >= SHORTEST_SECRET else text


def without_secret(reply: ChatReply, secret: str) -> ChatReply:
    """A reply without the secret, which a server or a proxy may write into an answer like any other text.

    Log probabilities that spell it go as a whole: their tokens hold it in pieces.
    """
    if len(secret) < SHORTEST_SECRET:
        return reply
    tokens = [token for entry in reply.logprobs or () for token in (entry.token, *(name for name, _ in entry.top))]
    said = "\n".join([reply.text, reply.model, reply.id, reply.finish_reason, *tokens])
    if secret not in said:
        return reply
    blotted = {key: blot_out(getattr(reply, key), secret) for key in ("text", "model", "id", "finish_reason")}
    return reply.model_copy(update={**blotted, "logprobs": None})


def classify(facts: ErrorFacts) -> LlmError:
    """The error class of an HTTP error that no negotiation has settled."""
    status, message = facts.status, facts.message
    if facts.is_too_long:
        return ContextTooLongError(message)
    if status == 402 and facts.retry_after_s is not None:  # a budget for what is under way, not an empty account
        return RateLimitedError(message, facts.retry_after_s)
    if status == 402 or (status in (400, 403, 429) and facts.says(_QUOTA) and not facts.says(_SOON)):
        return QuotaExhaustedError(message)
    if status == 429:
        return RateLimitedError(message, facts.retry_after_s)
    if status in (401, 403) or (status == 400 and facts.says(_KEY)):
        return BadKeyError(message)
    if status == 503 and facts.says(_NOT_YET):
        return AwayError("", message)
    if status >= 500 and facts.says(_CONTEXT):
        return NoRoomError(status, message)
    if status >= 500 or status in _RETRIED_STATUSES:
        return ServerFailedError(status, message, facts.retry_after_s)
    if status in (400, 422) and facts.says(_UNSUPPORTED):
        return UnsupportedParameterError(message)
    if status in (404, 405):
        return WrongUrlError(message)
    return BadRequestError(status, message)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After` (a number or a date); None where neither says."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
