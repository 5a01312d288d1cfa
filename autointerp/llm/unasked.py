"""A `ChatModel` that is never asked: every question that the cache cannot answer is written down and left pending.

Requests flow in; who listens gets each under its digest with what it is for; only errors flow out. It stands under the
cache in the place of an endpoint, for runs without a connection and for collecting the requests of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from autointerp.llm.base import ChatReply, ChatRequest, Endpoint, Purpose
from autointerp.llm.errors import LlmError
from autointerp.llm.purpose import purpose
from autointerp.llm.wrappers import request_key


class PendingReplyError(LlmError):
    """The answer is not here and nobody was asked for it; what needs it stays undone."""

    reason = "pending"

    def __init__(self, key: str) -> None:
        super().__init__(f"the reply {key} is not in the cache, and nothing is asked")


class GivenUpError(LlmError):
    """A batch ended without an answer to this request, for a reason that stays."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


Missing = Callable[[str, ChatRequest, Purpose], None]
"""Told a request's digest, the request and what it is for; raises where the request is past hope."""


@dataclass(frozen=True)
class Unasked:
    """An endpoint that is known and not connected."""

    endpoint: Endpoint
    missing: Missing

    @property
    def name(self) -> str:
        """`provider:name`, as connected."""
        return f"{self.endpoint.provider}:{self.endpoint.model}"

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Write the request down.

        Raises:
            PendingReplyError: always, but for what `missing` raises.
        """
        key = request_key(self.endpoint, request)
        self.missing(key, request, purpose())
        raise PendingReplyError(key)
