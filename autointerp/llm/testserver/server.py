"""An OpenAI-compatible HTTP server on loopback over an answer function, with latency, limits and seeded faults.

Chat completions, completions with echo, embeddings, files, batches and the models list. HTTP flows in and out, and a
line of the journal for every request. What is said is `bodies`', what goes wrong `faults`', when `limits`'; here they
meet HTTP. Knows no prompt of ours.
"""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from autointerp.llm.answers import AnswerFunction, RequestBody
from autointerp.llm.testserver.batches import MOST_BYTES, Batches
from autointerp.llm.testserver.bodies import MODEL, SPOKEN, Said, Speaker
from autointerp.llm.testserver.faults import Faults, Problem
from autointerp.llm.testserver.habits import error_of, no_room_beside_others, prompt_tokens
from autointerp.llm.testserver.journal import Entry, Journal
from autointerp.llm.testserver.limits import Limits, retry_headers
from autointerp.llm.testserver.profiles import Profile
from autointerp.provenance import digest

HOST = "127.0.0.1"
DEPLOYMENT = "/openai/deployments/{deployment}/chat/completions"
"""Where Azure's older URLs lead."""
FAULT_RETRY_S = 0.05
"""What a rate limit that is a fault says to wait."""
STALL_S = 3600.0
"""How long a request waits that is to meet a time-out."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
StageOf = Callable[[RequestBody], str | None]
"""What a body asks for, in one word; None where it does not show."""


@dataclass
class TestServer:
    """The server's settings and its memory of what it was asked."""

    __test__ = False

    answer: AnswerFunction
    profile: Profile = field(default_factory=Profile)
    latency_s: float = 0.0
    rate_limit: float | None = None
    """Requests per second; a fifth of a second's worth may come at once."""
    tokens_per_minute: float | None = None
    """Of prompts, at four characters a token, and of the most that may be answered."""
    parallel: int | None = None
    """So many requests are worked on at once; the others wait, and nobody is told."""
    faults: Mapping[str, float] = field(default_factory=dict)
    """Shares of requests by `faults.FAULTS`."""
    seed: int = 0
    journal: Journal | None = None
    stage_of: StageOf = lambda body: None
    batch_delay_s: float = 0.0
    """Seconds in each state of a batch job."""
    batch_faults: Mapping[str, float] = field(default_factory=dict)
    """Shares of the lines of batch jobs by `batches.LINE_FAULTS`."""
    batches_fail: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    """How often each body was received, by digest."""
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self._speaker = Speaker(self.answer, self.profile)
        self._faults = Faults(self.faults, self.seed)
        self._limits = Limits(self.rate_limit, self.tokens_per_minute, time.monotonic())
        parallel = self.parallel or self.profile.slots
        self._slots = asyncio.Semaphore(parallel) if parallel else contextlib.nullcontext()
        self._tokens_read = 0
        self.batches = Batches(
            self._batch_line, self.batch_delay_s, Faults(self.batch_faults, self.seed), self.batches_fail
        )

    def app(self) -> web.Application:
        """The server as an aiohttp application."""
        app = web.Application(client_max_size=MOST_BYTES + (1 << 20), middlewares=[self._others])
        for path in SPOKEN:
            app.router.add_post(path, self._ask)
        app.router.add_post(DEPLOYMENT, self._ask)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/props", self._props)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files", self._list_files)
        app.router.add_get("/v1/files/{id}", self._file)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_delete("/v1/files/{id}", self._delete)
        app.router.add_post("/v1/batches", self._create_batch)
        app.router.add_get("/v1/batches", self._list_batches)
        app.router.add_get("/v1/batches/{id}", self._batch)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel_batch)
        app.on_cleanup.append(lambda _: self.batches.close())
        return app

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        """A question on one of the routes that are answered."""
        received = time.time()
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _problem(Problem(400, "the body must be a JSON object", "invalid_request"))
        key = digest(body)
        self.asked[key] += 1
        entry = Entry(received, request.path, key, self.stage_of(body), self.asked[key], None, None)
        try:
            wait_s = self._limits.take(_size(body), time.monotonic())
            if wait_s:
                entry = entry._replace(status=429)
                limited = Problem(429, "Rate limit reached for requests", "rate_limit_exceeded")
                return _problem(limited, {**self._limits.headers(), **retry_headers(wait_s)})
            headers = self._limits.headers()
            entry = entry._replace(fault=self._faults.drawn(key, entry.asking))
            async with self._slots:
                crowded = await self._worked_on(prompt_tokens(body))
                broken = await self._broken(entry.fault, request)
            if broken is not None:
                entry = entry._replace(status=200 if entry.fault == "malformed" else None)
                return broken
            said = crowded or self._speaker.say(_route(request.path), body, entry.fault)
            entry = entry._replace(status=said.status)
            if entry.fault == "rate-limit":
                headers |= retry_headers(FAULT_RETRY_S)
            return web.json_response(said.body, status=said.status, headers=headers)
        finally:
            self._note(entry._replace(seconds=time.time() - received))

    async def _worked_on(self, n_tokens: int) -> Said | None:
        """Let the latency pass; an error where the requests under way share a window that has no room for this one."""
        window = self.profile.window
        if window is None or not window.shared or n_tokens > window.tokens:
            await asyncio.sleep(self.latency_s)
            return None
        if self._tokens_read + n_tokens > window.tokens:
            return Said(*error_of(self.profile, no_room_beside_others(n_tokens, window)))
        self._tokens_read += n_tokens
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self._tokens_read -= n_tokens
        return None

    async def _broken(self, fault: str | None, request: web.Request) -> web.StreamResponse | None:
        """What comes instead of an answer, where a fault keeps it from being one."""
        if fault == "timeout":
            await asyncio.sleep(STALL_S)
        if fault == "malformed":
            return web.Response(text='{"choices": [{"message": {"content": "', content_type="application/json")
        if fault != "cut":
            return None
        cut = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await cut.prepare(request)
        await cut.write(b'{"choices": [')
        if request.transport is not None:
            request.transport.abort()
        return cut

    def _batch_line(self, path: str, body: RequestBody, batch: str) -> Said:
        key = digest(body)
        self.asked[key] += 1
        fault = self._faults.drawn(key, self.asked[key])
        said = self._speaker.say(path, body, fault)
        entry = Entry(time.time(), path, key, self.stage_of(body), self.asked[key], said.status, fault, batch=batch)
        self._note(entry)
        return said

    @web.middleware
    async def _others(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Notes what is no question, and answers bodies that are no JSON."""
        needed = self.profile.needs_query
        if needed and needed not in request.query:
            return _problem(Problem(404, "Resource not found", "404"))
        if _route(request.path) in SPOKEN:
            return await handler(request)
        received = time.time()
        try:
            response = await handler(request)
        except ValueError:
            response = _problem(Problem(400, "the body or the query cannot be read", "invalid_request"))
        self._note(Entry(received, f"{request.method} {request.path}", None, None, 1, response.status, None))
        return response

    def _note(self, entry: Entry) -> None:
        if self.journal is not None:
            self.journal.note(entry)

    async def _models(self, _: web.Request) -> web.Response:
        names = (self.profile.model,) if self.profile.model else self.profile.serves or (MODEL,)
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def _props(self, _: web.Request) -> web.Response:
        if self.profile.slots is None:
            return _problem(Problem(404, "Not Found", "404"))
        return web.json_response({"total_slots": self.profile.slots})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file, purpose = form.get("file"), form.get("purpose")
        content = file.file.read() if isinstance(file, web.FileField) else b""
        if not content or not isinstance(file, web.FileField) or not isinstance(purpose, str):
            return _problem(Problem(400, "a file and its purpose are needed", "invalid_request"))
        if len(content) > MOST_BYTES:
            return _problem(Problem(413, f"at most {MOST_BYTES} bytes a file", "file_too_large"))
        return web.json_response(self.batches.store(content, file.filename, purpose))

    async def _list_files(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [file.listing for file in self.batches.files.values()]})

    async def _file(self, request: web.Request) -> web.Response:
        file = self.batches.files.get(request.match_info["id"])
        if file is None:
            return _problem(Problem(404, "No such File object", "file_not_found"))
        return web.json_response(file.listing)

    async def _content(self, request: web.Request) -> web.Response:
        file = self.batches.files.get(request.match_info["id"])
        if file is None:
            return _problem(Problem(404, "No such File object", "file_not_found"))
        return web.Response(body=file.content, content_type="application/octet-stream")

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if self.batches.files.pop(name, None) is None:
            return _problem(Problem(404, "No such File object", "file_not_found"))
        return web.json_response({"id": name, "object": "file", "deleted": True})

    async def _create_batch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        made = self.batches.create(asked, SPOKEN)
        if isinstance(made, Problem):
            return _problem(made)
        return web.json_response(made)

    async def _list_batches(self, request: web.Request) -> web.Response:
        jobs = list(self.batches.jobs.values())[::-1]
        after, limit = request.query.get("after"), int(request.query.get("limit", "20"))
        start = next((i + 1 for i, job in enumerate(jobs) if job["id"] == after), 0)
        page = jobs[start : start + limit]
        ids = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return web.json_response({"object": "list", "data": page, "has_more": start + limit < len(jobs), **ids})

    async def _batch(self, request: web.Request) -> web.Response:
        job = self.batches.jobs.get(request.match_info["id"])
        if job is None:
            return _problem(Problem(404, "No such Batch object", "batch_not_found"))
        return web.json_response(job)

    async def _cancel_batch(self, request: web.Request) -> web.Response:
        job = self.batches.jobs.get(request.match_info["id"])
        if job is None:
            return _problem(Problem(404, "No such Batch object", "batch_not_found"))
        await self.batches.cancel(job)
        return web.json_response(job)


def _route(path: str) -> str:
    """The path that a deployment's stands for."""
    return "/v1/chat/completions" if path.startswith("/openai/deployments/") else path


def _size(body: RequestBody) -> float:
    """Tokens that a request counts for: its text and the most that may be answered."""
    text = json.dumps(body.get("messages") or body.get("prompt") or body.get("input") or "")
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    return len(text) / 4 + (most if isinstance(most, int) else 0)


def _problem(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(problem.body, status=problem.status, headers=headers)


@asynccontextmanager
async def running(server: TestServer, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback for the length of a `with` block; gives the base URL. Port 0 takes a free one."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port, backlog=1024)
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
