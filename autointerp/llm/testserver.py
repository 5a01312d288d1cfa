"""An OpenAI-compatible HTTP server on loopback over an answer function, with latency, throttling and seeded faults.

Chat completions (plain, with log probabilities, with a JSON schema) and the models list. HTTP flows in and out. Faults
are transient: a request that is sent again is answered at the latest the third time. Knows no prompt of ours.
"""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from autointerp.llm.answers import (
    FILLER_LOGPROB,
    Answer,
    AnswerFunction,
    RequestBody,
    obedient_answer,
    spelled,
    split_digits,
)
from autointerp.llm.base import TokenLogprob
from autointerp.provenance import digest, generator

MODEL = "test-model"
HOST = "127.0.0.1"
MOST_TOP_LOGPROBS = 20
FAULTY_ATTEMPTS = 2
"""A request meets a fault at most so often."""
FAULTS = ("rate-limit", "server-error", "cut", "malformed")
RETRY_AFTER_MS = 50


@dataclass(frozen=True)
class Profile:
    """What a kind of server does with fields that it does not honour."""

    omits_logprobs: bool = False
    """Leaves log probabilities out without a word."""
    ignores_schema: bool = False
    """Answers as if no schema had been asked for."""
    splits_digits: bool = False
    """Its tokenizer has no token of two digits."""
    rejects: tuple[str, ...] = ()
    """Request fields answered with status 400."""


PROFILES: dict[str, Profile] = {
    "full": Profile(),
    "no-logprobs": Profile(omits_logprobs=True),
    "no-schema": Profile(ignores_schema=True),
    "split-digits": Profile(splits_digits=True),
    "strict": Profile(rejects=("max_tokens", "temperature", "logprobs")),
}


@dataclass
class TestServer:
    """The server's settings and its memory of what it was asked."""

    __test__ = False

    answer: AnswerFunction
    profile: Profile = field(default_factory=Profile)
    latency_s: float = 0.0
    rate_limit: float | None = None
    """Requests per second; a tenth of a second's worth may come at once."""
    faults: float = 0.0
    """Share of first and second askings that meet a fault."""
    seed: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    """How often each request was received, by digest."""
    _tokens: float = 1.0
    _refilled: float = field(default_factory=time.monotonic)

    def app(self) -> web.Application:
        """The server as an aiohttp application."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            return _error(400, "the body must be an object with messages", "invalid_request_error")
        key = digest(body)
        self.asked[key] += 1
        if self._is_limited():
            return self._slow_down()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        fault = self._fault(key)
        if fault is not None:
            return await self._fail(fault, request)
        for name in self.profile.rejects:
            if name in body:
                return _error(400, f"Unsupported parameter: '{name}' is not supported with this model.", name)
        return web.json_response(self._completion(body))

    def _is_limited(self) -> bool:
        """Token bucket: True where this request comes too early."""
        if self.rate_limit is None:
            return False
        now = time.monotonic()
        burst = max(1.0, self.rate_limit / 10)
        self._tokens = min(burst, self._tokens + (now - self._refilled) * self.rate_limit)
        self._refilled = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    def _slow_down(self) -> web.Response:
        response = _error(429, "Rate limit reached for requests", "rate_limit_exceeded")
        response.headers["Retry-After"] = "1"
        response.headers["retry-after-ms"] = str(RETRY_AFTER_MS)
        return response

    def _fault(self, key: str) -> str | None:
        """Which fault this asking of a request meets: by seed, request and how often it was asked, not by time."""
        attempt = self.asked[key]
        if attempt > FAULTY_ATTEMPTS:
            return None
        draw = generator(self.seed, "fault", key, attempt)
        return FAULTS[int(draw.integers(len(FAULTS)))] if draw.random() < self.faults else None

    async def _fail(self, fault: str, request: web.Request) -> web.StreamResponse:
        if fault == "rate-limit":
            return self._slow_down()
        if fault == "server-error":
            return _error(500, "The server had an error while processing your request", "server_error")
        if fault == "malformed":
            return web.Response(text='{"choices": [{"message": {"content": "', content_type="application/json")
        cut = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await cut.prepare(request)
        await cut.write(b'{"choices": [')
        if request.transport is not None:
            request.transport.abort()
        return cut

    def _completion(self, body: RequestBody) -> dict[str, object]:
        if self.profile.ignores_schema:
            body = {name: value for name, value in body.items() if name != "response_format"}
        said = self.answer(body)
        answer = obedient_answer(body) if said is None else Answer(said) if isinstance(said, str) else said
        choice: dict[str, object] = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": answer.refusal},
            "finish_reason": answer.finish_reason,
        }
        if body.get("logprobs") and not self.profile.omits_logprobs:
            choice["logprobs"] = {"content": self._logprobs(answer, body.get("top_logprobs"))}
        prompt, completion = len(json.dumps(body.get("messages"))) // 4, len(answer.text) // 4
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return {
            "id": "chatcmpl-test",
            "object": "chat.completion",
            "model": body.get("model", MODEL),
            "choices": [choice],
            "usage": usage,
        }

    def _logprobs(self, answer: Answer, asked: object) -> list[dict[str, object]]:
        tokens = spelled(answer.text) if answer.tokens is None else answer.tokens
        if self.profile.splits_digits:
            tokens = split_digits(tokens)
        n = min(asked, MOST_TOP_LOGPROBS) if isinstance(asked, int) else 0
        return [_position(entry, n) for entry in tokens]


def _position(entry: TokenLogprob, n: int) -> dict[str, object]:
    """One position as the API writes it, its list padded to length as a real vocabulary would."""
    ranked = sorted(entry.top, key=lambda pair: -pair[1])
    padding = [(f"filler{i}", FILLER_LOGPROB - i) for i in range(n - len(ranked))]
    top = [{"token": token, "logprob": logprob} for token, logprob in [*ranked, *padding][:n]]
    return {"token": entry.token, "logprob": entry.logprob, "top_logprobs": top}


def _error(status: int, message: str, code: str) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": "error", "param": None, "code": code}}, status=status
    )


@asynccontextmanager
async def running(server: TestServer, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback for the length of a `with` block; gives the base URL. Port 0 takes a free one."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{HOST}:{bound}/v1"
    finally:
        await runner.cleanup()


async def serve(server: TestServer, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `announce` is given the base URL once requests are answered.

    Raises:
        OSError: the port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(server, port) as base_url:
        announce(base_url)
        await stop.wait()
