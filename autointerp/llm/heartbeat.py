"""Words for whoever waits: what has been waited for, where nothing came for a while, and the first trouble at once.

Questions, answers and troubles flow in as they come; lines flow out. Knows no request.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SAY_EVERY_S = 20.0


@dataclass
class Heartbeat:
    """Says within 20 seconds that there is still no answer, and why as far as is known."""

    host: str
    say: Callable[[str], None] = lambda text: None
    every_s: float = SAY_EVERY_S
    _waiting: int = 0
    _since: float = 0.0
    """When something last came, or was said."""
    _began: float = 0.0
    """When something last came, or the waiting began."""
    _answered: bool = False
    _trouble: str = ""
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """One more question waits, until the block ends."""
        if not self._waiting:
            self._since = self._began = time.monotonic()
            self._tick()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and self._timer:
                self._timer.cancel()
                self._timer = None

    def answered(self) -> None:
        """Something came."""
        self._since = self._began = time.monotonic()
        self._answered, self._trouble = True, ""

    def trouble(self, text: str) -> None:
        """Something went wrong and is tried again: said at once where nothing was answered before."""
        if not self._answered and not self._trouble:
            self.tell(f"{text}; trying again")
        self._trouble = text

    def tell(self, text: str, trouble: str = "") -> None:
        """Say this now, and nothing else for a while but the trouble that lasts."""
        self._trouble = trouble
        self._since = time.monotonic()
        self.say(text)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._waiting and now - self._since >= self.every_s * 0.99:
            why = f" (the last trouble: {self._trouble})" if self._trouble else ""
            questions = "1 question waits" if self._waiting == 1 else f"{self._waiting} questions wait"
            said = f"still no answer from {self.host} after {now - self._began:.0f} s; {questions}{why}"
            self.tell(said, self._trouble)
        left = self._since + self.every_s - now
        self._timer = asyncio.get_running_loop().call_later(max(left, 0.01), self._tick)
