"""Whether further questions may be sent: one gate per run, closed once, for a reason.

A reason to stop flows in, from a signal, a budget, an endpoint or too many failures; whoever wants to send asks here
first. What is in flight when the gate closes is waited for and kept. Knows no request.
"""

import asyncio
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from autointerp.errors import StoppedError
from autointerp.llm.errors import TooManyFailuresError

RECENT_ITEMS = 200
"""Items among which failures are counted."""
NOT_COUNTED = frozenset({"refused", "context_too_long", "pending"})
"""Reasons that lie in the item and not in the endpoint (`pending` was never asked)."""


class Gate:
    """Open until something stops the run; safe to close from any thread."""

    def __init__(self) -> None:
        self._error: StoppedError | None = None
        self._lock = threading.Lock()
        self._watching: dict[int, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
        self._number = itertools.count()

    @property
    def error(self) -> StoppedError | None:
        """Why no further question may be sent; None while the gate is open."""
        return self._error

    def close(self, error: StoppedError) -> None:
        """Send nothing more; the first reason stands."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            watching = list(self._watching.values())
        for loop, told in watching:
            loop.call_soon_threadsafe(told)

    def check(self) -> None:
        """Pass, or raise the reason.

        Raises:
            StoppedError: the gate is closed.
        """
        if self._error is not None:
            raise self._error

    @contextmanager
    def watched(self, told: Callable[[], None]) -> Iterator[None]:
        """Call `told` in the running loop if the gate closes inside the block."""
        number = next(self._number)
        with self._lock:
            self._watching[number] = (asyncio.get_running_loop(), told)
        try:
            yield
        finally:
            with self._lock:
                del self._watching[number]

    async def sleep(self, seconds: float) -> None:
        """Pause; ends early where the gate closes.

        Raises:
            StoppedError: the gate is closed.
        """
        closed = asyncio.Event()
        with self.watched(closed.set):
            self.check()
            with suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), seconds)
        self.check()


@dataclass
class Breaker:
    """Closes the gate where too many of the last items ended Failed, before more money is burnt."""

    gate: Gate
    most_failed: float
    """Share of the last `RECENT_ITEMS` items, 0 to 1; 1 lets everything pass."""
    recent: deque[str | None] = field(default_factory=lambda: deque(maxlen=RECENT_ITEMS))

    def ended(self, reason: str | None) -> None:
        """An item was answered (None), or ended Failed for a reason."""
        if reason in NOT_COUNTED:
            return
        self.recent.append(reason)
        failed = Counter(reason for reason in self.recent if reason is not None)
        if reason is not None and failed.total() > self.most_failed * RECENT_ITEMS:
            self.gate.close(TooManyFailuresError(dict(failed.most_common()), len(self.recent), self.most_failed))
