"""What a server may do to the one who asks it: send on, send without end, sit behind a proxy, give back the key."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from aiohttp import web

from autointerp.llm.base import ChatReply
from autointerp.llm.errors import AnswerTooLargeError, ConnectionLostError, SentElsewhereError
from autointerp.llm.openai_compat import OpenAICompatible
from tests.unit.llm.servers import KEY, Handler, answering, completion, question

T = TypeVar("T")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def against(handler: Handler, use: Callable[[OpenAICompatible], Awaitable[T]], **options: bool) -> T:
    async def run() -> T:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url, timeout_s=20.0, **options)
            try:
                return await use(client)
            finally:
                await client.aclose()

    return asyncio.run(run())


def ask(client: OpenAICompatible) -> Awaitable[ChatReply]:
    return client.complete(question())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_is_told(status: int) -> None:
    """307 and 308 sent the text to a host that nobody named; 301 to 303 made a GET of the question."""
    elsewhere: list[str] = []

    async def other(body: dict[str, object]) -> web.Response:
        elsewhere.append("asked")
        return completion()

    async def run() -> None:
        async with answering(other) as target:

            async def handler(body: dict[str, object]) -> web.Response:
                return web.Response(status=status, headers={"Location": f"{target}/chat/completions?token=secret"})

            async with answering(handler) as url:
                client = OpenAICompatible("m", url)
                with pytest.raises(SentElsewhereError, match=rf"sends on to {target[7:-3]} .*--base-url") as caught:
                    await client.complete(question())
                assert "secret" not in str(caught.value)
                await client.aclose()

    asyncio.run(run())
    assert not elsewhere


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate"])
def test_a_body_without_end_is_left_at_the_limit(coding: str) -> None:
    """A body of 2 MB unpacked to 2 GB in memory, and one without end filled it in seconds."""
    piece = b" " * 2**20
    packed = {"gzip": gzip.compress(piece * 400), "deflate": zlib.compress(piece * 400)}
    sent: list[int] = []

    async def run() -> None:
        async def chat(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Encoding": coding} if coding != "identity" else {})
            await response.prepare(request)
            if coding != "identity":
                await response.write(packed[coding])
            while coding == "identity" and len(sent) < 1000:
                sent.append(1)
                await response.write(piece)
            return response

        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = OpenAICompatible("m", f"http://127.0.0.1:{runner.addresses[0][1]}/v1", timeout_s=60.0)
        with pytest.raises(AnswerTooLargeError, match="more than 64 MB"):
            await client.complete(question())
        await client.aclose()
        await runner.cleanup()

    asyncio.run(run())
    assert len(sent) < 300


def test_a_packed_answer_of_ordinary_size_is_read() -> None:
    """The body that was read is no longer packed, whatever its headers said."""

    async def handler(body: dict[str, object]) -> web.Response:
        response = completion("hello " * 1000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    assert against(handler, ask).text == "hello " * 1000


def test_a_server_on_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY` got the key of a local server; a dead one was told as the server's fault."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def handler(body: dict[str, object]) -> web.Response:
        return completion("direct")

    assert against(handler, ask).text == "direct"


def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's proxy there is no other way out."""
    seen: list[str] = []

    async def run() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((await reader.readline()).decode())
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        client = OpenAICompatible("m", "http://llm.invalid/v1", timeout_s=5.0)
        with pytest.raises(ConnectionLostError):
            await client.complete(question())
        await client.aclose()
        server.close()

    asyncio.run(run())
    assert seen[0].startswith("POST http://llm.invalid/v1/chat/completions")


def test_a_dead_proxy_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message had the user look at a server that was never reached."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def run() -> None:
        client = OpenAICompatible("m", "http://llm.invalid/v1", timeout_s=5.0)
        with pytest.raises(ConnectionLostError, match=r"the proxy that HTTP_PROXY .* does not answer"):
            await client.complete(question())
        await client.aclose()

    asyncio.run(run())


def test_without_the_key_nothing_of_it_is_sent() -> None:
    """A folder from somebody else names its own server."""
    seen: list[str] = []

    async def run() -> None:
        async def chat(request: web.Request) -> web.Response:
            seen.append(str(dict(request.headers)))
            return completion()

        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        for with_key in (True, False):
            client = OpenAICompatible("m", url, with_key=with_key)
            await client.complete(question())
            await client.aclose()
        await runner.cleanup()

    asyncio.run(run())
    assert [KEY in headers for headers in seen] == [True, False]


def test_a_key_in_an_answer_is_blotted() -> None:
    """An echoing server had the key written into explanation, cache and report."""
    logprobs = {"content": [{"token": KEY, "logprob": -0.1, "top_logprobs": []}]}

    async def plain(body: dict[str, object]) -> web.Response:
        return completion(f"you sent {KEY}")

    async def in_tokens(body: dict[str, object]) -> web.Response:
        return completion("7", logprobs=logprobs)

    async def innocent(body: dict[str, object]) -> web.Response:
        return completion("7", logprobs={"content": [{"token": "7", "logprob": -0.1, "top_logprobs": []}]})

    assert against(plain, ask).text == "you sent [key]"
    assert KEY not in against(in_tokens, ask).model_dump_json()
    assert against(innocent, ask).logprobs is not None
