"""The test server in a thread of this process, for tests that look at what it received."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from autointerp.llm.testserver.server import TestServer, running


@contextmanager
def in_thread(server: TestServer) -> Iterator[str]:
    """The base URL of a server that answers until the block ends."""
    ready, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with running(server) as base_url:
            found.append(base_url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join(20)
