"""A `ChatModel` around a `ChatModel`: retries, a meter with a budget, a cache.

`Cached(Metered(Retrying(Paced(provider))))` reads as what it does: a hit is free, a retry is metered once, and a
request that waits for its retry holds no slot. Requests and replies pass through unchanged. Knows no provider.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import tenacity

from autointerp.errors import StoppedError
from autointerp.llm.base import CallNotes, ChatModel, ChatReply, ChatRequest, Endpoint, ReplyCache
from autointerp.llm.budget import Budget, cost_of
from autointerp.llm.errors import MalformedReplyError, RateLimitedError, TransientError
from autointerp.llm.gate import Breaker, Gate
from autointerp.llm.heartbeat import Heartbeat
from autointerp.llm.witness import Witness
from autointerp.provenance import digest
from autointerp.records import Usage

_log = logging.getLogger(__name__)
MALFORMED_ATTEMPTS = 3
"""A body that is no chat completion is asked for again at most twice."""
RATE_LIMITED_ATTEMPTS = 60
MOST_JITTER_S = 1.0
"""Beyond Retry-After, in seconds; the shared pace spreads the requests anyway."""


@dataclass
class Retrying:
    """Asks again after a transient error: never before Retry-After, else after a growing, jittered pause.

    A server that wants a longer pause than `patience_s` gets none: the error is the answer. A rate limit says nothing
    against the request, so its rejections have a larger allowance of their own.
    """

    inner: ChatModel
    attempts: int = 8
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    patience_s: float = 120.0
    gate: Gate = field(default_factory=Gate)
    heartbeat: Heartbeat = field(default_factory=lambda: Heartbeat("the endpoint"))

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask until an answer, a lasting error, or the last attempt.

        Raises:
            LlmError: the last one met; a StoppedError where the gate closes meanwhile.
        """
        try:
            return await self.inner.complete(request)
        except TransientError as error:
            return await self._again(request, error)

    async def _again(self, request: ChatRequest, first: TransientError) -> ChatReply:
        """As `complete` after a first error: most requests meet none, and are spared the machinery."""
        met: Counter[type[BaseException]] = Counter()
        errors = [first]

        async def ask() -> ChatReply:
            if errors:
                raise errors.pop()
            return await self.inner.complete(request)

        def is_enough(state: tenacity.RetryCallState) -> bool:
            met[type(_error_of(state))] += 1
            limited = met[RateLimitedError]
            too_many = met[MalformedReplyError] >= MALFORMED_ATTEMPTS or limited >= RATE_LIMITED_ATTEMPTS
            return too_many or met.total() - limited >= self.attempts

        patient = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._may_help),
            wait=self._pause_s,
            stop=is_enough,
            sleep=self.gate.sleep,
            before_sleep=self._note,
            reraise=True,
        )
        return await patient(ask)

    def _may_help(self, error: BaseException) -> bool:
        return isinstance(error, TransientError) and (error.retry_after_s or 0.0) <= self.patience_s

    def _pause_s(self, state: tenacity.RetryCallState) -> float:
        growing = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (state.attempt_number - 1))
        jittered = growing * random.uniform(0.5, 1.0)
        told = _error_of(state).retry_after_s
        return jittered if told is None else told + min(jittered, MOST_JITTER_S)

    def _note(self, state: tenacity.RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0.0
        self.heartbeat.trouble(str(_error_of(state)))
        _log.info("%s: %s; asking again in %.1f s", self.name, _error_of(state).reason, pause)


def _error_of(state: tenacity.RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransientError)
    return error


@dataclass
class Metered:
    """Lets a request through while the gate is open and the budget allows it, and adds up what the replies cost.

    An error that no further request can mend closes the gate for all.
    """

    inner: ChatModel
    gate: Gate = field(default_factory=Gate)
    budget: Budget | None = None
    usage: Usage = field(default_factory=Usage)
    heartbeat: Heartbeat = field(default_factory=lambda: Heartbeat("the endpoint"))
    """Also told once that the endpoint does not say what its answers take."""
    _said: bool = False

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask and count; a reply whose usage is missing or cannot be has the most that it can have taken as its usage.

        Raises:
            LlmError: what the inner model says; a StoppedError where nothing more may be sent.
        """
        self.gate.check()
        held = await self.budget.hold(request) if self.budget else None
        cost = Usage()
        try:
            with self.heartbeat.waiting():
                reply = await self.inner.complete(request)
            self.heartbeat.answered()
            cost = cost_of(request, reply)
        except StoppedError as error:
            self.gate.close(error)
            raise
        finally:
            if self.budget and held:
                self.budget.settle(held, cost)
        self.usage += cost
        if cost == reply.usage:
            return reply
        if not self._said:
            self._said = True
            self.heartbeat.say(
                f"{self.name} does not say, or says wrongly, how many tokens an answer took; such an answer counts as "
                f"the most that it can have taken"
            )
        return reply.model_copy(update={"usage": cost})


@dataclass
class Cached:
    """Answers from the cache; what is not there is asked once, however many want it at the same time.

    Refusals are kept like any answer; errors are not. A reply's usage is what it cost when it was asked.
    """

    inner: ChatModel
    cache: ReplyCache
    endpoint: Endpoint
    notes: CallNotes | None = None
    """Told of every reply that is used."""
    gate: Gate = field(default_factory=Gate)
    """Closed where a reply cannot be kept: that one is used, and no further one is paid for."""
    witness: Witness | None = None
    """Who knows which model answers now: what another one answered is not used. None where nobody is asked."""
    also: Sequence[str] = ()
    """Where nobody is asked: names of models whose answers are looked for first."""
    moved: dict[str, str] = field(default_factory=dict)
    """The digests of questions whose replies stand under further ones, as the first is another model's."""
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
        joins = flight is not None
        if flight is None:
            key, kept = self._find(key)
            if kept is not None:
                return self._free(key, kept)
            flight = self._flights.get(key)
            joins = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fetch(key, request)))
        flight.waiting += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(key, flight)
        return self._free(key, reply) if joins else reply

    def _free(self, key: str, reply: ChatReply) -> ChatReply:
        self.hits += 1
        self._note(key, reply, paid=False)
        return reply

    async def _fetch(self, key: str, request: ChatRequest) -> ChatReply:
        reply = await self.inner.complete(request)
        with self._stopping():
            self._note(key, reply, paid=True)
        with self._stopping():
            await self.cache.put(key, reply)
        return reply

    def _find(self, key: str) -> tuple[str, ChatReply | None]:
        """Where the reply stands, or will stand, and what is there."""
        if self.witness is None:
            for name in self.also:
                kept = self._kept(key_under(key, name))
                if kept is not None:
                    return key_under(key, name), kept
            return key, self._kept(key)
        kept = self._kept(key)
        if kept is None or self.witness.believes(kept.model):
            return key, kept
        self.witness.disbelieve(kept.model)
        own = self.moved[key] = key_under(key, self.witness.latest)
        return own, self._kept(own)

    def _kept(self, key: str) -> ChatReply | None:
        try:
            return self.cache.get(key)
        except StoppedError as error:
            self.gate.close(error)
            raise

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """What stops the run here costs the reply at hand nothing: it is paid for."""
        try:
            yield
        except StoppedError as error:
            self.gate.close(error)

    def _note(self, key: str, reply: ChatReply, *, paid: bool) -> None:
        if self.notes:
            self.notes.used(key, self.endpoint, reply, paid=paid)

    def _land(self, key: str, flight: "_Flight") -> None:
        """Nobody waits any more: a request that is still under way is not wanted, and nobody may join it."""
        flight.task.cancel()
        if self._flights.get(key) is flight:
            del self._flights[key]


@dataclass
class Watched:
    """Hears what became of every item: counts failures, and notes the kept replies that could not be used."""

    inner: ChatModel
    endpoint: Endpoint
    breaker: Breaker
    note_unusable: Callable[[str, Sequence[str]], None]
    """Told the reason and the digests under which the replies are kept."""

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask."""
        return await self.inner.complete(request)

    def settle(self, reason: str | None, asked: Sequence[ChatRequest]) -> None:
        """An item was answered (None), or ended Failed for a reason after these requests."""
        self.breaker.ended(reason)
        if reason is not None:
            self.note_unusable(reason, [request_key(self.endpoint, request) for request in asked])


@dataclass
class _Flight:
    """One request under way and how many wait for it."""

    task: "asyncio.Task[ChatReply]"
    waiting: int = 0


def key_under(key: str, name: str) -> str:
    """The digest for a model's reply where another one's stands under the question's own."""
    return digest([key, name])


def request_key(endpoint: Endpoint, request: ChatRequest) -> str:
    """The digest under which a reply is kept: who is asked and what, no transport field and no key.

    Where an answer may end is left out: an answer that went on holds what was asked for as well, and is not asked anew.
    """
    # Requests had no further fields once, and the replies to those without any are still to be found.
    unset = set() if request.extra_body else {"extra_body"}
    asked = request.model_dump(mode="json", exclude={"stop", *unset})
    return digest({"endpoint": endpoint.model_dump(mode="json"), "request": asked})
