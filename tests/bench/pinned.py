"""For `bench_llm.py`: a server that costs next to nothing, in a process of its own on a core of its own.

Every request gets the same bytes after the same time: an answer of 64 tokens with the 11 likeliest ones at each, made
once. Speaks just enough HTTP/1.1 for a client that keeps its connections.
"""

import asyncio
import json
import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

N_LEVELS = 13
"""Lines `1: 4`, five tokens each but the last one's line break: 64 tokens."""
TOP = 11
_END = b"\r\n\r\n"


def reply_bytes() -> bytes:
    """The body of a chat completion with `N_LEVELS` levels and log probabilities."""
    pieces = [piece for i in range(1, N_LEVELS + 1) for piece in (str(i), ":", " ", str(i % 10), "\n")][:-1]
    draw = random.Random(0)

    def entry(token: str) -> dict[str, object]:
        return {"token": token, "logprob": -draw.expovariate(0.3), "bytes": list(token.encode())}

    content = []
    for piece in pieces:
        others = [str(level) for level in range(TOP) if str(level) != piece][: TOP - 1]
        content.append({**entry(piece), "top_logprobs": [entry(token) for token in (piece, *others)]})
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(pieces), "refusal": None},
        "logprobs": {"content": content, "refusal": None},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1500, "completion_tokens": len(pieces), "total_tokens": 1500 + len(pieces)}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


class _Http(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, answer: bytes, latency_s: float) -> None:
        self._answer, self._latency_s, self._received = answer, latency_s, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END)) >= 0:
            head = bytes(self._received[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            del self._received[: end + 4 + length]
            asyncio.get_running_loop().call_later(self._latency_s, self._reply)

    def _reply(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)


async def _serve(pipe: Connection, latency_s: float) -> None:
    body = reply_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Http(head + body, latency_s), "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _process(pipe: Connection, latency_s: float, core: int) -> None:
    pin(core)
    asyncio.run(_serve(pipe, latency_s))


@contextmanager
def cheap_server(latency_s: float, core: int) -> Iterator[str]:
    """The base URL of the server in a process pinned to that core."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_process, args=(theirs, latency_s, core), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def pin(core: int) -> None:
    """Keep this process on one core, where the system has such a thing."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
