"""A `ChatModel` around a `ChatModel`: retries, a cap on what is in flight, a cache, a meter.

`Cached(Metered(Retrying(Limited(provider))))` reads as what it does: a hit is free, a retry is metered once, and a
request that waits for its retry holds no slot. Requests and replies pass through unchanged. Knows no provider.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import tenacity

from autointerp.llm.base import ChatModel, ChatReply, ChatRequest, Endpoint, ReplyCache
from autointerp.llm.errors import MalformedReplyError, TransientError
from autointerp.provenance import digest
from autointerp.records import Usage

_log = logging.getLogger(__name__)
MALFORMED_ATTEMPTS = 3
"""A body that is no chat completion is asked for again at most twice."""


@dataclass
class Limited:
    """At most `slots` requests in flight."""

    inner: ChatModel
    slots: int
    _free: asyncio.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.slots)

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask when a slot is free."""
        async with self._free:
            return await self.inner.complete(request)


@dataclass
class Retrying:
    """Asks again after a transient error: never before Retry-After, else after a growing, jittered pause.

    A server that wants a longer pause than `patience_s` gets none: the error is the answer.
    """

    inner: ChatModel
    attempts: int = 8
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    patience_s: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask until an answer, a lasting error, or the last attempt.

        Raises:
            LlmError: the last one met.
        """
        malformed = 0

        def is_enough(state: tenacity.RetryCallState) -> bool:
            nonlocal malformed
            malformed += isinstance(_error_of(state), MalformedReplyError)
            return malformed >= MALFORMED_ATTEMPTS or state.attempt_number >= self.attempts

        patient = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._may_help),
            wait=self._pause_s,
            stop=is_enough,
            sleep=self.sleep,
            before_sleep=self._note,
            reraise=True,
        )
        return await patient(self.inner.complete, request)

    def _may_help(self, error: BaseException) -> bool:
        return isinstance(error, TransientError) and (error.retry_after_s or 0.0) <= self.patience_s

    def _pause_s(self, state: tenacity.RetryCallState) -> float:
        growing = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (state.attempt_number - 1))
        jittered = growing * random.uniform(0.5, 1.0)
        told = _error_of(state).retry_after_s
        return jittered if told is None else told + jittered * 0.25

    def _note(self, state: tenacity.RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0.0
        _log.info("%s: %s; asking again in %.1f s", self.name, _error_of(state).reason, pause)


def _error_of(state: tenacity.RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransientError)
    return error


@dataclass
class Metered:
    """Adds up what the replies cost."""

    inner: ChatModel
    usage: Usage = field(default_factory=Usage)

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask and count."""
        reply = await self.inner.complete(request)
        self.usage += reply.usage
        return reply


@dataclass
class Cached:
    """Answers from the cache; what is not there is asked once, however many want it at the same time.

    Refusals are kept like any answer; errors are not. A reply's usage is what it cost when it was asked.
    """

    inner: ChatModel
    cache: ReplyCache
    endpoint: Endpoint
    hits: int = 0
    """Requests answered without asking, those that joined one in flight included."""
    _flights: dict[str, "_Flight"] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The kept reply, or a new one that is safe on disk when this returns."""
        key = request_key(self.endpoint, request)
        flight = self._flights.get(key)
        if flight is None:
            kept = self.cache.get(key)
            if kept is not None:
                self.hits += 1
                return kept
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fetch(key, request)))
        else:
            self.hits += 1
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(key, flight)

    async def _fetch(self, key: str, request: ChatRequest) -> ChatReply:
        reply = await self.inner.complete(request)
        await self.cache.put(key, reply)
        return reply

    def _land(self, key: str, flight: "_Flight") -> None:
        """Nobody waits any more: a request that is still under way is not wanted, and nobody may join it."""
        flight.task.cancel()
        if self._flights.get(key) is flight:
            del self._flights[key]


@dataclass
class _Flight:
    """One request under way and how many wait for it."""

    task: "asyncio.Task[ChatReply]"
    waiting: int = 0


def request_key(endpoint: Endpoint, request: ChatRequest) -> str:
    """The digest under which a reply is kept: who is asked and the whole request, no transport field and no key."""
    return digest({"endpoint": endpoint.model_dump(mode="json"), "request": request.model_dump(mode="json")})
