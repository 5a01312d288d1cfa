"""The transport against real servers on loopback: fields read, errors classed, parameters renegotiated, keys kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from aiohttp import web

from autointerp.errors import StoppedError, UsageError
from autointerp.llm.base import ChatReply
from autointerp.llm.errors import (
    BadKeyError,
    BadRequestError,
    ConnectionLostError,
    ContextTooLongError,
    EndpointTimeoutError,
    LlmError,
    MalformedReplyError,
    QuotaExhaustedError,
    RateLimitedError,
    ServerFailedError,
    TransientError,
    UnknownModelError,
    UnsupportedParameterError,
    WrongUrlError,
)
from autointerp.llm.openai_compat import OpenAICompatible, bare_url
from tests.unit.llm.servers import KEY, Handler, answering, completion, question, refusal

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def against(
    handler: Handler,
    use: Callable[[OpenAICompatible], Awaitable[T]],
    *,
    timeout_s: float = 5.0,
    models: tuple[str, ...] = (),
) -> T:
    """Run `use` on a client of a server with that handler."""

    async def run() -> T:
        async with answering(handler, models) as url:
            client = OpenAICompatible("m", url, timeout_s=timeout_s)
            try:
                return await use(client)
            finally:
                await client.aclose()

    return asyncio.run(run())


def ask(client: OpenAICompatible) -> Awaitable[ChatReply]:
    """One plain question."""
    return client.complete(question())


def test_reads_text_end_usage_and_logprobs() -> None:
    top = [{"token": "7", "logprob": -0.1}, {"token": "8", "logprob": None}]
    logprobs = {"content": [{"token": "7", "logprob": -0.1, "top_logprobs": top}]}

    async def handler(body: dict[str, object]) -> web.Response:
        assert body["top_logprobs"] == 2
        return completion("7", logprobs=logprobs, finish_reason="length")

    reply = against(handler, lambda client: client.complete(question(top_logprobs=2)))
    assert (reply.text, reply.finish_reason, reply.refused) == ("7", "length", False)
    assert (reply.usage.calls, reply.usage.input_tokens, reply.usage.cached_input_tokens) == (1, 7, 3)
    assert reply.logprobs is not None
    assert reply.logprobs[0].top == (("7", -0.1), ("8", -9999.0))


@pytest.mark.parametrize(
    ("status", "message", "fields", "expected"),
    [
        (429, "slow down", {}, RateLimitedError),
        (429, "You exceeded your current quota", {"code": "insufficient_quota"}, QuotaExhaustedError),
        (402, "Payment Required", {}, QuotaExhaustedError),
        (401, "Incorrect API key provided", {}, BadKeyError),
        (403, "not for you", {}, BadKeyError),
        (404, "The model `m` does not exist", {"code": "model_not_found"}, UnknownModelError),
        (404, "page not found", {}, WrongUrlError),
        (400, "This model's maximum context length is 100 tokens; max_tokens must be less", {}, ContextTooLongError),
        (400, "no roles here", {"code": "unsupported_value", "param": "messages"}, UnsupportedParameterError),
        (400, "messages: at least one is required", {}, BadRequestError),
        (500, "oops", {}, ServerFailedError),
        (503, "busy", {}, ServerFailedError),
    ],
)
def test_errors_are_classed(status: int, message: str, fields: dict[str, object], expected: type[LlmError]) -> None:
    """A quota that is used up comes as 429 like a rate limit, and is retried for ever when taken for one."""

    async def handler(_: dict[str, object]) -> web.Response:
        return refusal(status, message, **fields)

    with pytest.raises(expected) as caught:
        against(handler, ask, models=("mm", "other"))
    transient = expected in (RateLimitedError, ServerFailedError)
    assert isinstance(caught.value, TransientError) == transient
    stopping = expected in (QuotaExhaustedError, BadKeyError, UnknownModelError, WrongUrlError)
    assert isinstance(caught.value, StoppedError) == stopping


def test_an_unknown_model_names_near_ones() -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        return refusal(404, "model 'm' not found, try pulling it first")

    with pytest.raises(UnknownModelError, match="mm"):
        against(handler, ask, models=("mm", "other"))


def test_retry_after_is_read_in_seconds_and_milliseconds() -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        response = refusal(429, "slow down")
        response.headers.update({"Retry-After": "9", "retry-after-ms": "250"})
        return response

    with pytest.raises(RateLimitedError) as caught:
        against(handler, ask)
    assert caught.value.retry_after_s == pytest.approx(0.25)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"choices": []}', b'{"choices": [{"message": {"cont', b"[1]"])
def test_a_body_that_is_no_completion_is_malformed(body: bytes) -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    with pytest.raises(MalformedReplyError):
        against(handler, ask)


def test_silence_is_a_timeout() -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        await asyncio.sleep(5)
        return completion()

    with pytest.raises(EndpointTimeoutError):
        against(handler, ask, timeout_s=0.2)


def test_a_trickling_answer_is_a_timeout() -> None:
    """The transport's own read timeout starts anew with every byte, so a dripping server held a slot for ever."""

    async def drip(_: dict[str, object]) -> web.Response:
        return web.Response(body=slow_bytes(), content_type="application/json")

    with pytest.raises(EndpointTimeoutError):
        against(drip, ask, timeout_s=0.3)


async def slow_bytes() -> AsyncIterator[bytes]:
    """A byte now and then."""
    for _ in range(50):
        yield b" "
        await asyncio.sleep(0.1)


def test_a_cut_connection_is_no_timeout() -> None:
    """The transport maps a cut connection to a time-out; the two call for different advice."""

    async def run() -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = OpenAICompatible("m", f"http://127.0.0.1:{port}/v1", timeout_s=5)
        with pytest.raises(ConnectionLostError):
            await client.complete(question())
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionLostError):
            await client.complete(question())
        await client.aclose()

    asyncio.run(run())


def test_a_content_filter_is_a_refusal_not_an_error() -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        return refusal(400, "The response was filtered by our content management policy", code="content_filter")

    reply = against(handler, ask)
    assert reply.refused
    assert reply.finish_reason == "content_filter"


def test_an_error_behind_status_200_is_an_error() -> None:
    """Routers answer 200 before they know; the reply then holds an error and no choices."""

    async def handler(_: dict[str, object]) -> web.Response:
        return web.json_response({"error": {"code": 429, "message": "upstream is busy"}})

    with pytest.raises(RateLimitedError):
        against(handler, ask)


def test_a_refusal_field_is_a_refusal() -> None:
    async def handler(_: dict[str, object]) -> web.Response:
        return completion(message={"content": None, "refusal": "I will not."})

    assert against(handler, ask).refused


def test_refused_parameters_are_dropped_once_and_remembered() -> None:
    """Every parameter in turn is refused; afterwards a request goes through at the first attempt."""
    seen: list[dict[str, object]] = []

    async def handler(body: dict[str, object]) -> web.Response:
        seen.append(body)
        for name in ("max_tokens", "temperature", "stop", "logprobs", "response_format"):
            if name in body:
                return refusal(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
        return completion()

    async def use(client: OpenAICompatible) -> tuple[str, ...]:
        full = question(temperature=0.0, top_logprobs=20, json_schema={"type": "object"}, stop=("\n11:",))
        await client.complete(full)
        assert seen[0]["stop"] == ["\n11:"]
        assert len(seen) == 6
        await client.complete(full)
        return client.rejected

    assert against(handler, use) == ("max_tokens", "temperature", "stop", "logprobs", "response_format")
    assert len(seen) == 7
    assert set(seen[-1]) == {"model", "messages", "max_completion_tokens"}


def test_too_many_top_logprobs_are_asked_for_again_as_five() -> None:
    async def handler(body: dict[str, object]) -> web.Response:
        top = body.get("top_logprobs")
        if isinstance(top, int) and top > 5:
            return refusal(400, "top_logprobs must be less than or equal to 5")
        return completion(str(top))

    assert against(handler, lambda client: client.complete(question(top_logprobs=20))).text == "5"


def test_a_refused_system_role_moves_into_the_first_question() -> None:
    async def handler(body: dict[str, object]) -> web.Response:
        messages = body["messages"]
        assert isinstance(messages, list)
        if messages[0]["role"] == "system":
            return refusal(400, "System role not supported")
        return completion(messages[0]["content"])

    asked = question("hello")
    system = asked.messages[0].model_copy(update={"role": "system", "content": "be brief"})
    request = asked.model_copy(update={"messages": (system, *asked.messages)})
    assert against(handler, lambda client: client.complete(request)).text == "be brief\n\nhello"


def test_the_key_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes the key in its complaint must not get it into our error, log or repr."""
    caplog.set_level("DEBUG")

    async def handler(_: dict[str, object]) -> web.Response:
        return refusal(401, f"Incorrect API key provided: {KEY}", code=KEY, param=KEY)

    async def use(client: OpenAICompatible) -> str:
        with pytest.raises(BadKeyError) as caught:
            await client.complete(question())
        with pytest.raises(LlmError) as also:
            await client.complete(question("again"))
        return repr(client) + str(caught.value) + repr(caught.value) + repr(also.value) + str(vars(caught.value))

    assert KEY not in against(handler, use) + caplog.text


def test_a_key_is_needed_for_openai_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        OpenAICompatible("m")
    assert OpenAICompatible("m", "http://127.0.0.1:1/v1").name == "openai:m"


def test_the_url_comes_from_the_environment_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1/")
    assert OpenAICompatible("m").endpoint.base_url == "http://localhost:8000/v1"


def test_a_url_is_kept_without_credentials() -> None:
    assert bare_url("https://me:secret@host:8/v1/?key=secret") == "https://host:8/v1"
    assert bare_url("http://[::1]:8/v1") == "http://[::1]:8/v1"
    for wrong in ("localhost:8000", "ftp://x/", "http://"):
        with pytest.raises(UsageError):
            bare_url(wrong)


def test_a_query_of_the_base_url_goes_with_every_request() -> None:
    """Azure's older URLs name a version there; it stood in the middle of the path, and nothing answered."""
    seen: list[str] = []

    async def run() -> None:
        async def chat(request: web.Request) -> web.Response:
            seen.append(request.path_qs)
            return completion()

        app = web.Application()
        app.router.add_post("/openai/deployments/x/chat/completions", chat)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/openai/deployments/x/?api-version=2024-10-21"
        client = OpenAICompatible("m", url)
        assert (await client.complete(question())).text == "hi"
        assert client.endpoint.base_url.endswith("/openai/deployments/x")
        await client.aclose()
        await runner.cleanup()

    asyncio.run(run())
    assert seen == ["/openai/deployments/x/chat/completions?api-version=2024-10-21"]


def test_a_version_is_no_part_of_who_answers_and_any_other_field_is() -> None:
    """Two deployments behind one gateway must not share a cache; a new version of the interface asks nothing anew."""
    of = OpenAICompatible.url_of
    assert of("https://h/v1?api-version=1") == of("https://h/v1?api-version=2") == "https://h/v1"
    assert of("https://h/v1?deployment=a") != of("https://h/v1?deployment=b")
    assert "deployment" not in of("https://h/v1?deployment=a")


def test_azure_gets_its_key_where_it_looks_for_it() -> None:
    client = OpenAICompatible("m", "https://mine.openai.azure.com/openai/deployments/x?api-version=2024-10-21")
    headers = client._connected().default_headers
    assert headers["api-key"] == KEY
    assert not isinstance(headers["Authorization"], str)
    assert "api-key" not in OpenAICompatible("m", "https://openai.azure.com.example/v1")._connected().default_headers
