"""A `ChatModel` that stands for an endpoint which is not asked: what would be asked is counted, and answers made up.

Requests flow in; replies from the cache flow out where it has them, else placeholders of the right form, as a server
would send them. Counts flow out by what the questions are for. Opens no connection and keeps nothing.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from autointerp.llm.answers import AnswerFunction
from autointerp.llm.base import ChatReply, ChatRequest, Endpoint, PromptRequest, Purpose
from autointerp.llm.batch_lines import URL_PREFIX
from autointerp.llm.decode import decode_reply
from autointerp.llm.negotiate import Negotiation, route
from autointerp.llm.purpose import purpose
from autointerp.llm.testserver.bodies import Speaker
from autointerp.llm.testserver.profiles import Profile
from autointerp.llm.token_estimate import estimate_input, estimate_tokens
from autointerp.llm.wrappers import request_key

LEAST_TOLD = 5
"""Kept replies whose own counts of input tokens correct the estimate."""
MOST_CORRECTION = 2.0
"""A count further off than this, to either side, is of a prompt that was cut, or of a server that does not count."""


@dataclass
class Asked:
    """What questions come to."""

    calls: int = 0
    free: int = 0
    """Those that the cache answers, not among the calls."""
    input_tokens: int = 0
    """By the pieces of the texts, as the output's."""
    output_tokens: int = 0
    most_output_tokens: int = 0
    """What the requests allow to be generated."""


@dataclass
class Foreseen:
    """Counts what an endpoint would be asked."""

    endpoint: Endpoint
    kept: Callable[[str], ChatReply | None]
    """The reply that is in the cache under a digest."""
    answer: AnswerFunction
    """What is made up; it need not make sense, but must be readable."""
    rejected: tuple[str, ...]
    """Forms of the request that the endpoint refuses."""
    stages: dict[str, Asked] = field(default_factory=dict)
    by_purpose: Counter[Purpose] = field(default_factory=Counter)
    """Calls, free ones left out."""

    def __post_init__(self) -> None:
        self._speaker = Speaker(self.answer, Profile())
        self._negotiation = Negotiation(self.rejected)
        self._told: list[tuple[int, int]] = []

    @property
    def name(self) -> str:
        """`provider:name`, as connected."""
        return f"{self.endpoint.provider}:{self.endpoint.model}"

    async def complete(self, request: ChatRequest) -> ChatReply:
        """A kept reply, or a made-up one."""
        stage = self.stages.setdefault(purpose().stage, Asked())
        reply = self.kept(request_key(self.endpoint, request))
        if reply is not None:
            stage.free += 1
            self._note(request, reply)
            return reply
        body = self._negotiation.body(request, self.endpoint.model)
        said = self._speaker.say(URL_PREFIX + route(request), body, None)
        reply = decode_reply(request, json.dumps(said.body).encode())
        if request.sample:  # askings of one question again differ in nothing else, and neither must their answers
            reply = reply.model_copy(update={"text": f"{reply.text} [{request.sample}]"})
        stage.calls += 1
        stage.input_tokens += estimate_input(request)
        stage.output_tokens += 0 if isinstance(request, PromptRequest) else estimate_tokens(reply.text)
        stage.most_output_tokens += request.max_tokens
        self.by_purpose[purpose()] += 1
        return reply

    def _note(self, request: ChatRequest, reply: ChatReply) -> None:
        """What the endpoint counted of a question, where it did."""
        told, estimated = reply.usage.input_tokens, estimate_input(request)
        if estimated / MOST_CORRECTION <= told <= estimated * MOST_CORRECTION:
            self._told.append((told, estimated))

    @property
    def correction(self) -> float | None:
        """Input tokens by the endpoint's own counts over those estimated; None where it counted too few."""
        if len(self._told) < LEAST_TOLD:
            return None
        return sum(told for told, _ in self._told) / sum(estimated for _, estimated in self._told)
