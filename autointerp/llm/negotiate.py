"""Which request fields an endpoint takes: each refusal changes the form of the request once and is remembered.

A request and what the endpoint refused so far flow in; the body to send flows out. Sends nothing itself.
"""

import re
from collections.abc import Sequence

from autointerp.llm.base import ChatMessage, ChatRequest, PromptRequest
from autointerp.llm.decode import ErrorFacts

FEW_TOP_LOGPROBS = 5
"""What endpoints that refuse twenty still give, where they do not say how many."""
LEAST_ROOM = 16
"""No bound on the length of answers, in tokens, is lower: such a number says something else."""
_REFUSED = re.compile(
    r"unsupported|not support|unrecognized|unknown|not allowed|not permitted|forbidden|only allowed|unavailable"
    r"|extra (inputs|fields)|unexpected|must be|at most|less than|too (large|big|many)|maximum value|invalid|default"
    r"|greater than|can(not|'t| not)|not available|deprecated|not enabled|disabled|not (implemented|accept)|does not",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"at most|less than|greater than|maximum|too (large|big|high)|between|range|max allowed|<=|exceed| > ", re.I
)
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("max_tokens", re.compile(r"\bmax_tokens\b", re.I)),
    ("max_completion_tokens", re.compile(r"\bmax_(completion_)?tokens\b", re.I)),
    ("temperature", re.compile(r"\btemperature\b", re.I)),
    (
        "stop",
        re.compile(
            r"['\"`]stop['\"`]|\bstop\b.{0,30}not (supported|allowed|permitted)|\bstop[ _]?sequence|^\W*stop\b"
            r"|(support|parameters?:?|field:?|argument:?) stop\b",
            re.I,
        ),
    ),
    ("logprobs", re.compile(r"logprobs\b|log[ _]prob", re.I)),
    ("enum", re.compile(r"\benum\b", re.I)),
    ("minimum", re.compile(r"\b(min|max)imum\b", re.I)),
    (
        "response_format",
        re.compile(
            r"response[_ ]?(format|schema|mime)|json[_ ]?(schema|mode|object)|structured[_ ]output|guided|grammar"
            r"|\bschema\b|additionalProperties",
            re.I,
        ),
    ),
    (
        "system",
        re.compile(
            r"\bsystem\b.{0,30}\b(role|message|prompt|instruction)|\brole\b.{0,30}\bsystem\b|developer instruction"
            r"|roles must alternate",
            re.I,
        ),
    ),
)
_RENAMED = re.compile(r"max_completion_tokens|unsupported|not supported", re.I)
OPTIONAL = ("logprobs", "response_format", "stop")
"""Fields that a request is tried without where the endpoint refuses it and names nothing."""
_OF_OTHERS = (401, 402, 408, 409, 429)
"""Statuses that say nothing of a field."""


class Negotiation:
    """What one endpoint refused so far; every refusal is settled once."""

    def __init__(self, rejected: Sequence[str] = ()) -> None:
        self.rejected = list(rejected)
        """Names of refused forms, in the order in which they were met."""
        self._taken: set[str] = set()

    def settle(self, facts: ErrorFacts, sent: dict[str, object]) -> bool:
        """True where the error names a field of `sent` that can be written in another way; it then is from now on.

        What counts is the field that is named and not the status: log probabilities are refused with 400, 403 and 500.
        """
        if facts.status in _OF_OTHERS or facts.is_too_long or facts.is_filter:
            return False
        refuses = facts.says(_REFUSED)
        for form, pattern in _FORMS:
            named = facts.param == form or facts.says(pattern)
            if not named or not self._was_sent(form, sent):
                continue
            if not refuses and (form in ("system", "minimum") or facts.status not in (400, 403, 422)):
                continue
            refused = _bounded(form, facts, sent)
            if refused is not None:
                self._reject(refused)
                return True
        return False

    def plainer(self, facts: ErrorFacts, sent: dict[str, object]) -> dict[str, object] | None:
        """`sent` without what may be refused, for an error that names nothing; None where nothing is left to blame."""
        blamed = self._blamed(sent)
        says_else = facts.is_too_long or facts.is_filter or facts.is_unknown_model
        if facts.status not in (400, 404, 422) or says_else or not blamed:
            return None
        return {name: value for name, value in sent.items() if name not in blamed and name != "top_logprobs"}

    def took(self, sent: dict[str, object]) -> None:
        """These fields were answered: an error that names nothing does not mean them."""
        self._taken.update(form for form in OPTIONAL if form in sent)

    def blame(self, sent: dict[str, object]) -> None:
        """A request was answered without its optional fields, and refused with them."""
        for form in self._blamed(sent):
            self._reject(form)

    def _blamed(self, sent: dict[str, object]) -> list[str]:
        return [form for form in OPTIONAL if form in sent and form not in self._taken]

    def _reject(self, form: str) -> None:
        if form not in self.rejected:
            self.rejected.append(form)

    @staticmethod
    def _was_sent(form: str, sent: dict[str, object]) -> bool:
        if form == "system":
            messages = sent.get("messages")
            return isinstance(messages, list) and any(message.get("role") == "system" for message in messages)
        if form in ("enum", "minimum"):
            return _holds(sent.get("response_format"), form)
        return form in sent

    def body(self, request: ChatRequest, model: str) -> dict[str, object]:
        """The JSON body of a request, a chat completion's without what the endpoint refused."""
        if isinstance(request, PromptRequest):
            return _echo_body(request, model)
        messages = request.messages
        if "system" in self.rejected:
            messages = _without_system(messages)
        room = self._at_most("max_tokens", request.max_tokens)
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_completion_tokens" if "max_tokens" in self.rejected else "max_tokens": room,
        }
        if request.temperature is not None and "temperature" not in self.rejected:
            body["temperature"] = request.temperature
        if request.stop and "stop" not in self.rejected:
            body["stop"] = list(request.stop)
        if request.top_logprobs is not None and "logprobs" not in self.rejected:
            body["logprobs"] = True
            body["top_logprobs"] = self._at_most("top_logprobs", request.top_logprobs)
        if request.json_schema is not None and "response_format" not in self.rejected:
            schema = self._plain(request.json_schema)
            asked = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": asked}
        return body | (request.extra_body or {})

    def _at_most(self, name: str, wanted: int) -> int:
        """What is asked for within the bounds that the endpoint named, each kept as `NAME>BOUND`."""
        bounds = [int(form.partition(">")[2]) for form in self.rejected if form.startswith(f"{name}>")]
        return min([wanted, *bounds])

    def _plain(self, schema: object) -> object:
        """A schema without the lists of integers that were refused, or without their bounds."""
        if isinstance(schema, list):
            return [self._plain(inner) for inner in schema]
        if not isinstance(schema, dict):
            return schema
        listed = schema.get("enum")
        if "enum" in self.rejected and schema.get("type") == "integer" and isinstance(listed, list):
            bounds = {} if "minimum" in self.rejected else {"minimum": min(listed), "maximum": max(listed)}
            return {"type": "integer", **bounds}
        return {name: self._plain(inner) for name, inner in schema.items()}


def _bounded(form: str, facts: ErrorFacts, sent: dict[str, object]) -> str | None:
    """The form, or the bound of its number where that is what is refused; None where nothing else can be sent."""
    bounds = facts.says(_BOUND) and not (form == "max_tokens" and facts.says(_RENAMED))
    name = {"logprobs": "top_logprobs", "max_completion_tokens": "max_tokens"}.get(form, form)
    asked = sent.get("max_completion_tokens" if form == "max_completion_tokens" else name)
    if bounds and isinstance(asked, int) and form in ("logprobs", "max_tokens", "max_completion_tokens"):
        least = 1 if form == "logprobs" else LEAST_ROOM
        smaller = [n for n in facts.numbers() if least <= n < asked]
        if smaller or (form == "logprobs" and asked > FEW_TOP_LOGPROBS):
            return f"{name}>{max(smaller, default=FEW_TOP_LOGPROBS)}"
    return None if form == "max_completion_tokens" else form


def _holds(value: object, name: str) -> bool:
    """Whether a schema has a key of that name somewhere."""
    if isinstance(value, list):
        return any(_holds(inner, name) for inner in value)
    return isinstance(value, dict) and (name in value or any(_holds(inner, name) for inner in value.values()))


def route(request: ChatRequest) -> str:
    """The path under the base URL that answers a request."""
    return "/completions" if isinstance(request, PromptRequest) else "/chat/completions"


def _echo_body(request: PromptRequest, model: str) -> dict[str, object]:
    """The JSON body of a completion that repeats its prompt; none of its fields can be left out.

    One token is generated and thrown away: not every server that echoes takes a request for none.
    """
    return {
        "model": model,
        "prompt": request.prompt + request.read,
        "max_tokens": request.max_tokens,
        "echo": True,
        "logprobs": request.top_logprobs,
    } | (request.extra_body or {})


def _without_system(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The same words with the system message at the head of the first user message."""
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if not system or not others:
        return messages
    first = others[0].model_copy(update={"content": "\n\n".join([*system, others[0].content])})
    return (first, *others[1:])
