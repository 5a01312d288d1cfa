"""How many requests an endpoint gets at once, and what is done where nobody is there.

Requests flow through to the inner model, as many at a time as `growth` finds that the endpoint takes. A pause that one
rejection asks for holds for all. A server that is away is a condition of all as well: one request after the other is
tried until it is back, and none of them counts that as an attempt. Knows no retry and no cache.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from autointerp.llm.base import ChatModel, ChatReply, ChatRequest
from autointerp.llm.errors import (
    AwayError,
    ContextTooLongError,
    EndpointAwayError,
    EndpointTimeoutError,
    NoRoomError,
    RateLimitedError,
    ServerFailedError,
    SilentError,
)
from autointerp.llm.gate import Gate
from autointerp.llm.growth import Limit
from autointerp.llm.heartbeat import Heartbeat

LONGEST_LOOK_S = 10.0
"""Between two looks at whether a server is back."""
SILENT_ROUNDS = 3
"""Rounds of requests that are not answered in time, and nothing else is: then nothing will be."""


class Patience(NamedTuple):
    """How long a server may be away, in seconds."""

    first_s: float = 60.0
    """Before it ever answered."""
    later_s: float = 600.0


PATIENCE = Patience()


async def _unsaid() -> int | None:
    return None


@dataclass
class Paced:
    """At most as many requests in flight as the endpoint takes, and never more than `most`."""

    inner: ChatModel
    most: int
    """For servers that queue without a word."""
    gate: Gate = field(default_factory=Gate)
    clock: Callable[[], float] = time.monotonic
    near: bool = False
    """Whether the endpoint is a server of one's own."""
    timeout_s: float = float("inf")
    """What one answer may take."""
    slots: Callable[[], Awaitable[int | None]] = _unsaid
    """How many requests the server says that it works on at once; asked before the first one is sent."""
    heartbeat: Heartbeat = field(default_factory=lambda: Heartbeat("the endpoint"))
    patience: Patience = PATIENCE
    in_flight: int = 0
    growth: Limit = field(init=False)
    _begun: int = 0
    _asked_slots: "asyncio.Task[None] | None" = None
    _paused_until: float = 0.0
    _away_since: float | None = None
    _looks: int = 0
    _answered: bool = False
    _silent: list[ChatRequest] = field(default_factory=list, repr=False)
    """Requests that were not answered in time since one last was."""
    _silent_rounds: int = 0
    _last_silent: float = float("-inf")
    _queue: "deque[asyncio.Future[None]]" = field(default_factory=deque, repr=False)
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.growth = Limit(self.most, self.timeout_s, self.near)

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    @property
    def limit(self) -> float:
        """Requests that may be in flight now."""
        return self.growth.value

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask when there is a slot, in the order of asking; again, at no cost, where the server was away.

        Raises:
            LlmError: what the inner model says; a StoppedError where the gate closed meanwhile, or the server is away
                or silent for too long.
        """
        await self._know_slots()
        while True:
            await self._slot()
            try:
                return await self._ask(request)
            except AwayError as error:
                self._away(error)

    async def _ask(self, request: ChatRequest) -> ChatReply:
        began, alone = self.clock(), self.in_flight == 1
        self._begun += 1
        begun = self._begun
        try:
            reply = await self.inner.complete(request)
        except AwayError:
            raise
        except RateLimitedError as error:
            self._reached()
            self.pause(error.retry_after_s or 0.0)
            self.growth.limited(began, self.clock(), self.in_flight)
            raise
        except NoRoomError as error:
            self._reached()
            if alone and begun == self._begun:
                raise ContextTooLongError(str(error)) from None
            self.growth.full(began, self.clock(), self.in_flight)
            raise
        except EndpointTimeoutError:
            self._late(request, began)
            raise
        except ServerFailedError:
            self._reached()
            self.growth.failed(self.clock())
            raise
        finally:
            self.in_flight -= 1
            self._wake()
        self._reached()
        self._answered = True
        self.growth.answered(began, self.clock(), wanted=bool(self._queue))
        self._wake()
        return reply

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._paused_until = max(self._paused_until, self.clock() + seconds)

    async def _know_slots(self) -> None:
        if self._asked_slots is None:
            self._asked_slots = asyncio.create_task(self._ask_slots())
        if not self._asked_slots.done():
            await asyncio.shield(self._asked_slots)

    async def _ask_slots(self) -> None:
        slots = await self.slots()
        if slots is not None:
            self.growth.cap(slots)

    def _reached(self) -> None:
        """The server is there, whatever it said."""
        if self._away_since is not None:
            self._away_since, self._looks = None, 0
            self.heartbeat.tell(f"{self.heartbeat.host} is there again")
        self._silent.clear()
        self._silent_rounds = 0

    def _away(self, error: AwayError) -> None:
        """Look again after a while, alone, for as long as there is patience.

        Raises:
            EndpointAwayError: there is none left.
        """
        now, host = self.clock(), self.heartbeat.host
        patience = self.patience.later_s if self._answered else self.patience.first_s
        if self._away_since is None:
            self._away_since = now
            said = f"no answer from {host} ({error.cause}); trying again for up to {patience:.0f} s"
            self.heartbeat.tell(said, error.cause)
        away_s = now - self._away_since
        if away_s >= patience:
            self.gate.close(EndpointAwayError(host, error.cause, away_s))
            self.gate.check()
        if now >= self._paused_until:
            self._looks += 1
            self.pause(min(LONGEST_LOOK_S, 0.25 * 2.0**self._looks, max(0.1, patience - away_s)))

    def _late(self, request: ChatRequest, began: float) -> None:
        """Let the server work through what nobody waits for any more; stop where it answers nothing at all.

        Raises:
            SilentError: it has answered none of several requests.
        """
        now = self.clock()
        each_s = self.growth.timed_out(began, now)
        if each_s is not None:
            until = max(self._paused_until, now) + each_s
            self._paused_until = min(until, now + self.timeout_s)
            return
        if request not in self._silent:
            self._silent.append(request)
        if began >= self._last_silent:
            self._silent_rounds += 1
            self._last_silent = now
        if self._silent_rounds >= SILENT_ROUNDS and len(self._silent) > 1:
            error = SilentError(self.heartbeat.host, len(self._silent), self.timeout_s)
            self.gate.close(error)
            raise error

    async def _slot(self) -> None:
        """Wait for a slot and take it."""
        self.gate.check()
        if not self._queue and self._free():
            self.in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        self._wake()
        try:
            with self.gate.watched(self._wake):
                await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:  # the slot was given in between
                self.in_flight -= 1
                self._wake()
            raise

    def _free(self) -> bool:
        most = 1 if self._away_since is not None else int(self.limit)
        return self.in_flight < most and self.clock() >= self._paused_until

    def _wake(self) -> None:
        """Give free slots to those who wait, and come back when a pause ends."""
        while self._queue and (self._free() or self.gate.error):
            place = self._queue.popleft()
            if place.done():
                continue
            if self.gate.error:
                place.set_exception(self.gate.error)
                continue
            self.in_flight += 1
            place.set_result(None)
        left = self._paused_until - self.clock()
        if self._queue and left > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._wake()
