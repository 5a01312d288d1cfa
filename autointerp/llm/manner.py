"""What a run's questions have in common beyond what they ask: how much is thought, and further fields of the body.

Requests flow in as they are made and out as they are sent, so that the cache, batches and estimates see them whole.
Knows no endpoint.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.endpoint_config import EndpointConfig
from autointerp.llm.base import ChatModel, ChatReply, ChatRequest, PromptRequest, Settling
from autointerp.provenance import digest

LONGEST_NAMED = 80
"""Further fields are written out in a judge's name up to so many characters."""


@dataclass(frozen=True)
class Mannered:
    """A model that is asked every question in the same manner; who answers so is another judge."""

    inner: ChatModel
    manner: EndpointConfig

    @property
    def name(self) -> str:
        """The inner model's, with what is special about how it is asked."""
        return self.inner.name + label(self.manner)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask in that manner."""
        return await self.inner.complete(self._asked(request))

    def settle(self, reason: str | None, asked: Sequence[ChatRequest]) -> None:
        """As `Settling.settle`."""
        if isinstance(self.inner, Settling):
            self.inner.settle(reason, [self._asked(request) for request in asked])

    def _asked(self, request: ChatRequest) -> ChatRequest:
        extra, room = dict(self.manner.extra_body), request.max_tokens
        if not isinstance(request, PromptRequest):  # which is read and not answered
            if self.manner.reasoning_effort is not None:
                extra["reasoning_effort"] = self.manner.reasoning_effort
            room = max(room, self.manner.answer_tokens or 0)
        return request.model_copy(update={"extra_body": extra or None, "max_tokens": room})


def label(manner: EndpointConfig) -> str:
    """What is special about how a model is asked, as part of its name; empty where nothing is."""
    said = []
    if manner.reasoning_effort is not None:
        said.append(f"reasoning_effort={manner.reasoning_effort}")
    if manner.answer_tokens is not None:
        said.append(f"answer_tokens={manner.answer_tokens}")
    if manner.extra_body:
        text = json.dumps(manner.extra_body, sort_keys=True, separators=(",", ":"))
        short = text if len(text) <= LONGEST_NAMED else digest(manner.extra_body).rpartition(":")[2][:12]
        said.append(f"extra_body={short}")
    return f" [{', '.join(said)}]" if said else ""


def in_manner(model: ChatModel, manner: EndpointConfig) -> ChatModel:
    """The model, asked in that manner; itself where nothing is special about it."""
    return Mannered(model, manner) if label(manner) else model
