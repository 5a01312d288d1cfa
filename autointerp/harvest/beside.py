"""Work of the host in a thread of its own, beside the forward pass; or at once, where no processor core is left for it.

Calls flow in, in order; what they raise flows out at a later one. Knows no model, no shard and no torch.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


def has_spare_core(threads: int, device: str) -> bool:
    """Whether this process may use more cores than torch's threads on a CPU, or than the one that drives a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores > (threads if device == "cpu" else 1)


class Beside:
    """Does calls one after the other while the caller goes on. Leaving it waits for them, whatever happened inside."""

    def __init__(self, room: int, *, threaded: bool) -> None:
        """At most `room` calls are under way; the next one then waits. Without a thread each is done at once."""
        self._room = room
        self._pool = ThreadPoolExecutor(1) if threaded else None
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> "Beside":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def do(self, work: Callable[[], None]) -> None:
        """Begin a call after those before it; raises what one of them raised."""
        if self._pool is None:
            work()
            return
        self._wait(self._room - 1)
        self._under_way.append(self._pool.submit(work))

    def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            self._under_way.popleft().result()
