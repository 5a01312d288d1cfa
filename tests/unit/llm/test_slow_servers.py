"""Servers that queue without a word, have room for few, or are away: over real HTTP, each question asked once.

What is asserted is what the servers received and answered, never how long it took.
"""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from autointerp.errors import StoppedError
from autointerp.llm.base import ChatReply
from autointerp.llm.errors import ContextTooLongError, EndpointAwayError, SilentError
from autointerp.llm.growth import FIRST_NEAR
from autointerp.llm.heartbeat import Heartbeat
from autointerp.llm.pace import Patience
from autointerp.llm.registry import ConnectedModel, connect_model
from tests.unit.llm.servers import completion, question, refusal


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@dataclass
class Workers:
    """Works on a few requests at once, in their order, whoever has gone meanwhile, as threaded servers do."""

    n: int
    seconds: float
    slots: int | None = None
    """Said at /props, as llama.cpp's server says it."""
    fits: int = 1_000_000
    """More at once do not fit and are refused, as by llama.cpp's shared context."""
    received: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    now: int = 0
    most: int = 0
    """Requests that were here at the same time."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        text = json.loads(await request.read())["messages"][0]["content"]
        self.received[text] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.now > self.fits:
                return refusal(500, "Context size has been exceeded.")
            await asyncio.shield(asyncio.ensure_future(self._work()))
            return completion(text.upper())
        finally:
            self.now -= 1

    async def _work(self) -> None:
        async with self._free:
            await asyncio.sleep(self.seconds)
            self.answered += 1

    async def props(self, _: web.Request) -> web.Response:
        if self.slots is None:
            raise web.HTTPNotFound
        return web.json_response({"total_slots": self.slots})

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """The base URL while it serves."""
        self._free = asyncio.Semaphore(self.n)
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/props", self.props)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


async def ask_all(connected: ConnectedModel, n: int) -> list[ChatReply | BaseException]:
    """All answers, or why there is none."""
    asked = (connected.model.complete(question(f"q{i}")) for i in range(n))
    try:
        return await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await connected.aclose()


def texts(ended: list[ChatReply | BaseException]) -> list[str]:
    return [one.text if isinstance(one, ChatReply) else repr(one) for one in ended]


@pytest.mark.parametrize(("workers", "seconds"), [(2, 0.3), (2, 0.1), (1, 0.3), (4, 0.4)])
def test_a_server_that_queues_is_asked_every_question_once(workers: int, seconds: float) -> None:
    """Timeouts left sixteen in flight: six answers, then none, while the server worked for nobody."""
    server = Workers(workers, seconds)

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            return await ask_all(connect_model("m", base_url=url, timeout_s=1.0), 20)

    assert texts(asyncio.run(run())) == [f"Q{i}" for i in range(20)]
    assert set(server.received.values()) == {1}
    assert server.answered == 20


def test_no_growth_where_the_answers_do_not_come_faster() -> None:
    """A queue of 64 before two workers: every answer takes thirty times as long, Ctrl-C too, and none comes sooner."""
    server = Workers(2, 0.05)

    async def run() -> None:
        async with server.serving() as url:
            await ask_all(connect_model("m", base_url=url), 120)

    asyncio.run(run())
    assert server.most <= 2 * FIRST_NEAR
    assert server.received.total() == 120


def test_growth_where_they_do() -> None:
    """A server with many workers left at four requests takes ten times as long."""
    server = Workers(40, 0.2)

    async def run() -> None:
        async with server.serving() as url:
            await ask_all(connect_model("m", base_url=url, in_flight=32), 300)

    asyncio.run(run())
    assert server.most > 16, "as many as answers come for; on a busy machine that may be less than the cap"


def test_a_server_that_became_slow_is_given_less_and_the_run_ends() -> None:
    """Questions of another kind take longer than those from which the pace was learnt."""
    server = Workers(2, 0.02)

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            connected = connect_model("m", base_url=url, timeout_s=1.0, first_pause_s=0.05)
            connected.pace.growth.value = 12.0
            server.seconds = 0.3
            return await ask_all(connected, 24)

    assert texts(asyncio.run(run())) == [f"Q{i}" for i in range(24)]
    assert server.received.total() <= 24 + 12, "no more than what was in flight before the first timeout is lost"


def test_the_slots_that_a_server_names_are_what_it_gets() -> None:
    server = Workers(3, 0.05, slots=3)

    async def run() -> None:
        async with server.serving() as url:
            await ask_all(connect_model("m", base_url=url), 20)

    asyncio.run(run())
    assert server.most == 3


def test_what_does_not_fit_beside_others_is_asked_with_fewer() -> None:
    """Status 500 for a shared context that is full was asked again and again beside as many others."""
    server = Workers(8, 0.05, slots=8, fits=2)

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            return await ask_all(connect_model("m", base_url=url, first_pause_s=0.02), 20)

    assert texts(asyncio.run(run())) == [f"Q{i}" for i in range(20)]
    assert server.answered == 20
    assert server.received.total() <= 20 + 8 + 4


def test_what_does_not_even_fit_alone_is_too_long() -> None:
    """Halved by who asked, as any other request that is longer than the context."""
    server = Workers(1, 0.01, slots=1, fits=0)

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            return await ask_all(connect_model("m", base_url=url), 3)

    assert {type(one) for one in asyncio.run(run())} == {ContextTooLongError}
    assert server.received.total() == 3


def test_a_server_that_answers_nothing_in_time_stops_the_run() -> None:
    """Eight attempts for each of 21 items, one after the other, are hours; the way out is named instead."""
    server = Workers(1, 60.0)

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            return await ask_all(connect_model("m", base_url=url, timeout_s=0.2, first_pause_s=0.02), 12)

    ended = asyncio.run(run())
    assert all(isinstance(one, SilentError) for one in ended)
    assert "--timeout" in str(ended[0])
    assert "--in-flight" in str(ended[0])
    assert server.received.total() < 12


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_server_that_comes_later_is_waited_for_with_words() -> None:
    """Eight attempts of every item were used up in a minute, in silence."""
    told: list[str] = []
    server, port = Workers(4, 0.01), free_port()

    async def run() -> list[ChatReply | BaseException]:
        connected = connect_model("m", base_url=f"http://127.0.0.1:{port}/v1", attempts=1, say=told.append)
        asked = asyncio.create_task(ask_all(connected, 30))
        while not told:
            await asyncio.sleep(0.01)
        async with server.serving(port):
            return await asked

    assert texts(asyncio.run(run())) == [f"Q{i}" for i in range(30)]
    assert set(server.received.values()) == {1}
    assert told[0].startswith(f"no answer from 127.0.0.1:{port} (")
    assert "trying again for up to 60 s" in told[0]
    assert told[-1] == f"127.0.0.1:{port} is there again"


def test_a_server_that_goes_away_and_comes_back_costs_no_item_an_attempt() -> None:
    """A large model that is loaded again takes minutes."""
    told: list[str] = []
    server, port = Workers(2, 0.05), free_port()

    async def run() -> list[ChatReply | BaseException]:
        connected = connect_model("m", base_url=f"http://127.0.0.1:{port}/v1", attempts=2, say=told.append)
        async with server.serving(port):
            asked = asyncio.create_task(ask_all(connected, 30))
            while server.answered < 6:
                await asyncio.sleep(0.01)
        while not told:
            await asyncio.sleep(0.01)
        async with server.serving(port):
            return await asked

    assert texts(asyncio.run(run())) == [f"Q{i}" for i in range(30)]
    assert max(server.received.values()) <= 2
    assert any("trying again for up to 600 s" in line for line in told)


def test_patience_ends_and_the_run_can_go_on() -> None:
    told: list[str] = []
    url = f"http://127.0.0.1:{free_port()}/v1"

    async def run() -> list[ChatReply | BaseException]:
        return await ask_all(connect_model("m", base_url=url, patience=Patience(0.5, 0.5), say=told.append), 5)

    ended = asyncio.run(run())
    assert all(isinstance(one, EndpointAwayError | StoppedError) for one in ended)
    assert "run the same command again" in str(ended[0])
    assert len(told) == 1


def test_a_model_that_is_being_loaded_is_waited_for() -> None:
    """llama.cpp's server says 503 meanwhile, which is no failure of the question."""
    left = [refusal(503, "Loading model", type="unavailable_error") for _ in range(3)]
    server = Workers(4, 0.01)
    chat = server.chat

    async def loading(request: web.Request) -> web.StreamResponse:
        return left.pop() if left else await chat(request)

    server.chat = loading  # type: ignore[method-assign]

    async def run() -> list[ChatReply | BaseException]:
        async with server.serving() as url:
            return await ask_all(connect_model("m", base_url=url, attempts=1), 3)

    assert texts(asyncio.run(run())) == ["Q0", "Q1", "Q2"]


def test_nobody_waits_long_without_a_line() -> None:
    """A minute of silence looks like a hang; so does a slow server's first answer."""
    told: list[str] = []

    async def run() -> None:
        heartbeat = Heartbeat("h", told.append, every_s=0.05)
        with heartbeat.waiting():
            await asyncio.sleep(0.12)
            heartbeat.trouble("the endpoint failed with status 502: oops")
            await asyncio.sleep(0.12)

    asyncio.run(run())
    assert told[0] == "still no answer from h after 0 s; 1 question waits"
    assert "the endpoint failed with status 502: oops; trying again" in told
    assert told[-1].endswith("1 question waits (the last trouble: the endpoint failed with status 502: oops)")
