"""Models without a model: answers from a list or from a function, for tests, demos and rehearsals.

Requests flow in and are kept; the given answers flow out. Opens no connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autointerp.llm.base import ChatReply, ChatRequest
from autointerp.llm.errors import UnexplainedRequestError
from autointerp.records import Usage


def text_reply(text: str, model: str = "scripted") -> ChatReply:
    """A plain finished reply; usage counts characters over four, as a rough token."""
    return ChatReply(text=text, finish_reason="stop", model=model, usage=Usage(calls=1, output_tokens=len(text) // 4))


@dataclass
class ScriptedModel:
    """Answers from a list, in order, and keeps what it was asked."""

    replies: Sequence[str | ChatReply | Exception]
    name: str = "fake:scripted"
    asked: list[ChatRequest] = field(default_factory=list)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The next reply of the list; an exception in it is raised."""
        self.asked.append(request)
        if len(self.asked) > len(self.replies):
            raise UnexplainedRequestError(f"{self.name} has {len(self.replies)} replies and was asked once more")
        reply = self.replies[len(self.asked) - 1]
        if isinstance(reply, Exception):
            raise reply
        return text_reply(reply) if isinstance(reply, str) else reply


@dataclass
class FunctionModel:
    """Answers by a function of the request, and keeps what it was asked."""

    function: Callable[[ChatRequest], str | ChatReply]
    name: str = "fake:function"
    asked: list[ChatRequest] = field(default_factory=list)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """What the function says."""
        self.asked.append(request)
        reply = self.function(request)
        return text_reply(reply) if isinstance(reply, str) else reply
