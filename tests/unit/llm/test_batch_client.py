"""Batches on an endpoint: nothing is sent twice, whatever gets lost on the way."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from autointerp.llm.batch_client import BatchClient, Job
from autointerp.llm.batch_lines import Answered, RequestFiles, read_answers
from autointerp.llm.errors import BadKeyError, LlmError
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.testserver.server import TestServer, running

URL = "/v1/chat/completions"
TOLD = {"model": "m", "messages": [{"role": "user", "content": "Reply with exactly: blue"}], "max_tokens": 9}


async def at_once(seconds: float) -> None:
    """No waiting in tests."""


def written(folder: Path) -> Path:
    with RequestFiles(folder / "autointerp-1.jsonl") as files:
        files.write("q1", TOLD, "/chat/completions")
        files.write("q2", TOLD, "/chat/completions")
    return files.names[0]


def inputs(server: TestServer) -> list[object]:
    """Files that were uploaded, not those that jobs wrote."""
    return [file for file in server.batches.files.values() if file.listing["purpose"] == "batch"]


async def ended(client: BatchClient, job: Job) -> Job:
    while not job.ended:
        await asyncio.sleep(0.01)
        job = await client.job(job.id)
    return job


def using(server: TestServer, use: Callable[[BatchClient, TestServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running(server) as base_url:
            provider = OpenAICompatible("test-model", base_url)
            try:
                await use(BatchClient(provider, at_once), server)
            finally:
                await provider.aclose()

    asyncio.run(run())


def test_a_batch_goes_up_and_its_answers_come_down(tmp_path: Path) -> None:
    async def use(client: BatchClient, server: TestServer) -> None:
        job = await client.create(await client.upload(written(tmp_path)), "autointerp-1.jsonl", URL)
        job = await ended(client, job)
        assert (job.status, job.error_file, job.n_done) == ("completed", None, 2)
        assert job.output_file is not None
        await client.download(job.output_file, tmp_path / "out.jsonl")
        answers = list(read_answers(tmp_path / "out.jsonl"))
        assert sorted((a.key, b"blue" in a.body) for a in answers if isinstance(a, Answered)) == [
            ("q1", True),
            ("q2", True),
        ]

    using(TestServer(lambda body: None), use)


def test_what_was_sent_before_is_found_again(tmp_path: Path) -> None:
    """After a kill nobody knows the endpoint's names of the file and the job; a second job would be paid for again."""

    async def use(client: BatchClient, server: TestServer) -> None:
        path = written(tmp_path)
        first, again = await client.upload(path), await client.upload(path)
        jobs = [await client.create(first, path.name, URL) for _ in range(3)]
        assert first == again
        assert len({job.id for job in jobs}) == 1
        assert (len(inputs(server)), len(server.batches.jobs)) == (1, 1)

    using(TestServer(lambda body: None), use)


@pytest.mark.parametrize("lost", ["/v1/files", "/v1/batches"])
def test_a_lost_answer_is_no_reason_to_send_again(tmp_path: Path, lost: str) -> None:
    """The server did it and the connection broke: asking again must find what was done."""

    class Losing(TestServer):
        n_lost = 0

        def app(self) -> web.Application:
            app = super().app()

            @web.middleware
            async def lose(
                request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
            ) -> web.StreamResponse:
                response = await handler(request)
                if request.method == "POST" and request.path == lost and not self.n_lost:
                    self.n_lost += 1
                    assert request.transport is not None
                    request.transport.abort()
                return response

            app.middlewares.append(lose)
            return app

    async def use(client: BatchClient, server: TestServer) -> None:
        path = written(tmp_path)
        await ended(client, await client.create(await client.upload(path), path.name, URL))
        assert (len(inputs(server)), len(server.batches.jobs)) == (1, 1)

    server = Losing(lambda body: None)
    using(server, use)
    assert server.n_lost == 1


def test_a_job_that_fails_as_a_whole_says_why(tmp_path: Path) -> None:
    async def use(client: BatchClient, server: TestServer) -> None:
        path = written(tmp_path)
        path.write_bytes(path.read_bytes() * 2)
        job = await ended(client, await client.create(await client.upload(path), path.name, URL))
        assert job.status == "failed"
        assert "duplicate_custom_id" in job.message
        assert "line 3" in job.message

    using(TestServer(lambda body: None), use)


def test_errors_are_the_live_ones(tmp_path: Path) -> None:
    """A transient failure is asked again, a wrong key is not."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) < 3:
            return web.Response(status=503, text="busy")
        if len(asked) == 3:
            return web.json_response({"id": "b", "status": "in_progress", "request_counts": {"total": 3}})
        body = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
        return web.Response(status=401, text=json.dumps(body), content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/v1/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider = OpenAICompatible("m", f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        try:
            client = BatchClient(provider, at_once)
            assert (await client.job("b")).status == "in_progress"
            with pytest.raises(BadKeyError):
                await client.upload(written(tmp_path))
            assert len(asked) == 4
            with pytest.raises(LlmError):
                await client.download("f", tmp_path / "x")
        finally:
            await provider.aclose()
            await runner.cleanup()

    asyncio.run(run())
