"""How many requests an endpoint gets at once: what it takes, up to a cap.

Requests flow through to the inner model. The number in flight grows while answers come and shrinks where the endpoint
says that it limits the rate, and only there (additive increase, multiplicative decrease: Chiu and Jain 1989, with the
doubling start of TCP). A pause that one rejection asks for holds for all. Knows no retry and no cache.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from autointerp.llm.base import ChatModel, ChatReply, ChatRequest
from autointerp.llm.errors import RateLimitedError, ServerFailedError
from autointerp.llm.gate import Gate

FIRST_IN_FLIGHT = 16
SHRINK = 0.8
"""What a rejection leaves of the number in flight: near to 1, as pauses keep the peace and slots keep the pace."""
COOL_S = 1.0
"""After a cut, in seconds: the bucket that ran dry is still low, and its next rejections say nothing new."""
NO_GROWTH_S = 1.0
"""After a server's own failure, in seconds."""


@dataclass
class Paced:
    """At most as many requests in flight as the endpoint takes, and never more than `most`."""

    inner: ChatModel
    most: int
    """For servers that queue without a word."""
    gate: Gate = field(default_factory=Gate)
    clock: Callable[[], float] = time.monotonic
    in_flight: int = 0
    limit: float = field(init=False)
    """Requests that may be in flight now."""
    _starting: bool = True
    _paused_until: float = 0.0
    _no_growth_until: float = 0.0
    _last_cut: float = -math.inf
    _queue: "deque[asyncio.Future[None]]" = field(default_factory=deque, repr=False)
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.limit = float(min(self.most, FIRST_IN_FLIGHT))

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self.inner.name

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask when there is a slot, in the order of asking.

        Raises:
            LlmError: what the inner model says; a StoppedError where the gate closed meanwhile.
        """
        await self._slot()
        began = self.clock()
        try:
            reply = await self.inner.complete(request)
        except RateLimitedError as error:
            self._shrink(began, error.retry_after_s or 0.0)
            raise
        except ServerFailedError:
            self._no_growth_until = self.clock() + NO_GROWTH_S
            raise
        finally:
            self.in_flight -= 1
            self._wake()
        self._grow()
        return reply

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._paused_until = max(self._paused_until, self.clock() + seconds)

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
        return self.in_flight < int(self.limit) and self.clock() >= self._paused_until

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

    def _shrink(self, began: float, retry_after_s: float) -> None:
        """Once for all requests that were sent before the last cut has shown its effect."""
        self.pause(retry_after_s)
        if began > self._last_cut + COOL_S:
            self.limit = max(1.0, SHRINK * min(self.limit, self.in_flight))
            self._last_cut, self._starting = self.clock(), False

    def _grow(self) -> None:
        """By one for each answer while starting, then by one for each round of answers; only where somebody waits."""
        if self._queue and self.clock() >= self._no_growth_until:
            self.limit = min(float(self.most), self.limit + (1.0 if self._starting else 1.0 / self.limit))
            self._wake()
