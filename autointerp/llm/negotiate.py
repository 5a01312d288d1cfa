"""Which request fields an endpoint takes: each refusal changes the form of the request once and is remembered.

A request and what the endpoint refused so far flow in; the body to send flows out. Sends nothing itself.
"""

import re
from collections.abc import Sequence

from autointerp.llm.base import ChatMessage, ChatRequest, PromptRequest
from autointerp.llm.decode import ErrorFacts

FEW_TOP_LOGPROBS = 5
"""What endpoints that refuse twenty still give."""
_REFUSED = re.compile(
    r"unsupported|not supported|does not support|unrecognized|unknown (parameter|field|name)|not allowed|not permitted"
    r"|extra (inputs|fields)|unexpected|must be|at most|less than|maximum value|invalid value|only the default"
    r"|greater than|invalid schema|cannot (be )?(use|set)|not available|deprecated|not enabled",
    re.IGNORECASE,
)
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("max_tokens", re.compile(r"\bmax_tokens\b", re.I)),
    ("temperature", re.compile(r"\btemperature\b", re.I)),
    ("stop", re.compile(r"['\"`]stop['\"`]|\bstop\b.{0,20}not (supported|allowed)|\bstop sequence", re.I)),
    (
        "top_logprobs>5",
        re.compile(r"\btop_logprobs\b|logprobs of \d|logprobs.{0,40}(greater|maximum|at most|between|less than)", re.I),
    ),
    ("logprobs", re.compile(r"\blogprobs\b|\btop_logprobs\b|log probabilit", re.I)),
    (
        "response_format",
        re.compile(r"\bresponse_format\b|json_schema|json schema|structured output|guided|grammar", re.I),
    ),
    ("system", re.compile(r"\bsystem\b.{0,30}\b(role|message|prompt)|\brole\b.{0,30}\bsystem\b", re.I)),
)


class Negotiation:
    """What one endpoint refused so far; every refusal is settled once."""

    def __init__(self, rejected: Sequence[str] = ()) -> None:
        self.rejected = list(rejected)
        """Names of refused forms, in the order in which they were met."""

    def settle(self, facts: ErrorFacts, sent: dict[str, object]) -> bool:
        """True where the error names a field of `sent` that can be written in another way; it then is from now on."""
        if facts.status not in (400, 422) or facts.is_too_long or not facts.says(_REFUSED):
            return False
        for form, pattern in _FORMS:
            if facts.says(pattern) and self._was_sent(form, sent):
                if form not in self.rejected:
                    self.rejected.append(form)
                return True
        return False

    @staticmethod
    def _was_sent(form: str, sent: dict[str, object]) -> bool:
        if form == "top_logprobs>5":
            asked = sent.get("top_logprobs")
            return isinstance(asked, int) and asked > FEW_TOP_LOGPROBS
        if form == "system":
            messages = sent.get("messages")
            return isinstance(messages, list) and any(message.get("role") == "system" for message in messages)
        return form in sent

    def body(self, request: ChatRequest, model: str) -> dict[str, object]:
        """The JSON body of a request, a chat completion's without what the endpoint refused."""
        if isinstance(request, PromptRequest):
            return _echo_body(request, model)
        messages = request.messages
        if "system" in self.rejected:
            messages = _without_system(messages)
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_completion_tokens" if "max_tokens" in self.rejected else "max_tokens": request.max_tokens,
        }
        if request.temperature is not None and "temperature" not in self.rejected:
            body["temperature"] = request.temperature
        if request.stop and "stop" not in self.rejected:
            body["stop"] = list(request.stop)
        if request.top_logprobs is not None and "logprobs" not in self.rejected:
            few = "top_logprobs>5" in self.rejected
            body["logprobs"] = True
            body["top_logprobs"] = min(request.top_logprobs, FEW_TOP_LOGPROBS) if few else request.top_logprobs
        if request.json_schema is not None and "response_format" not in self.rejected:
            schema = {"name": "answer", "strict": True, "schema": request.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


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
    }


def _without_system(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The same words with the system message at the head of the first user message."""
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if not system or not others:
        return messages
    first = others[0].model_copy(update={"content": "\n\n".join([*system, others[0].content])})
    return (first, *others[1:])
