"""Completions with echo, embeddings, files and batch jobs of the rehearsal server, over real HTTP."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
import numpy as np
import pytest

from autointerp.llm.answers import obedient_answer
from autointerp.llm.testserver.bodies import START, embedding
from autointerp.llm.testserver.profiles import PROFILES
from autointerp.llm.testserver.server import TestServer, running

T = TypeVar("T")
Json = Any
Session = aiohttp.ClientSession


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def against(server: TestServer, use: Callable[[Session, str], Awaitable[T]]) -> T:
    """Run `use` on a session and the base URL of that server."""

    async def run() -> T:
        async with running(server) as url, Session() as session:
            return await use(session, url)

    return asyncio.run(run())


def asked(server: TestServer, path: str, body: dict[str, object]) -> tuple[int, Json]:
    """Status and body of one question."""

    async def use(session: Session, url: str) -> tuple[int, Json]:
        async with session.post(url + path, json=body) as response:
            return response.status, await response.json()

    return against(server, use)


def continued(profile: str = "full", **fields: object) -> Json:
    """The first choice of a completion."""
    body: dict[str, object] = {"model": "m", "prompt": "Reply with exactly: blue", "max_tokens": 5, **fields}
    return asked(TestServer(obedient_answer, PROFILES[profile]), "/completions", body)[1]["choices"][0]


def test_a_completion_continues_its_prompt() -> None:
    choice = continued()
    assert (choice["text"], choice["logprobs"], choice["prompt_logprobs"]) == ("blue", None, None)


def test_an_echo_spells_the_prompt_with_log_probabilities() -> None:
    """As vLLM writes it: the first token has none, offsets count over the tokens' own texts, n and the token itself."""
    choice = continued(echo=True, logprobs=3, max_tokens=1)
    columns = choice["logprobs"]
    assert choice["text"] == "Reply with exactly: blueblue"
    assert columns["tokens"] == [START, "Reply", " with", " exactly", ":", " blue", "blue"]
    assert columns["token_logprobs"][0] is None
    assert columns["top_logprobs"][0] is None
    assert columns["text_offset"] == [0, 3, 8, 13, 21, 22, 27]
    assert all(len(top) == 3 for top in columns["top_logprobs"][1:])
    assert [top[token] for top, token in zip(columns["top_logprobs"], columns["tokens"], strict=True) if top] == (
        columns["token_logprobs"][1:]
    )
    assert [None if at is None else len(at) for at in choice["prompt_logprobs"]] == [None] + [3] * 5
    (first, *_) = choice["prompt_logprobs"][1].values()
    assert (first["decoded_token"], first["rank"]) == ("Reply", 1)


def test_the_prompt_alone_is_echoed_where_nothing_is_to_be_generated() -> None:
    choice = continued(echo=True, logprobs=0, max_tokens=0)
    assert choice["text"] == "Reply with exactly: blue"
    assert choice["logprobs"]["tokens"][-1] == " blue"
    assert choice["finish_reason"] == "length"


def test_lesser_servers_answer_echoes_in_their_ways() -> None:
    """Without a word of it: only what was generated has log probabilities, or nothing has."""
    alone = continued("no-echo", echo=True, logprobs=2, max_tokens=1)
    assert (alone["text"], alone["logprobs"]["tokens"], alone["prompt_logprobs"]) == ("blue", ["blue"], None)
    silent = continued("no-logprobs", echo=True, logprobs=2)
    assert (silent["logprobs"], silent["prompt_logprobs"]) == (None, None)


def test_several_prompts_are_several_choices() -> None:
    body: dict[str, object] = {"prompt": ["Reply with exactly: a", "Reply with exactly: b"], "max_tokens": 5}
    status, reply = asked(TestServer(obedient_answer), "/completions", body)
    assert status == 200
    assert [(choice["index"], choice["text"]) for choice in reply["choices"]] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("fields", [{"prompt": 7}, {"logprobs": 21, "echo": True}, {"prompt_logprobs": 21}])
def test_completions_that_cannot_be_are_refused(fields: dict[str, object]) -> None:
    status, reply = asked(TestServer(obedient_answer), "/completions", {"prompt": "a", **fields})
    assert status == 400
    assert reply["error"]["message"]


def test_embeddings_of_texts_that_share_words_are_near() -> None:
    body: dict[str, object] = {"input": ["the red house", "a red house", "seventeen ships sailed"]}
    rows = asked(TestServer(obedient_answer), "/embeddings", body)[1]["data"]
    vectors = np.array([row["embedding"] for row in rows])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.6 > abs(far)
    coded = asked(TestServer(obedient_answer), "/embeddings", {**body, "encoding_format": "base64"})[1]["data"][0]
    assert np.frombuffer(base64.b64decode(coded["embedding"]), "<f4") == pytest.approx(embedding("the red house", 64))


def line(custom_id: str, text: str, **more: object) -> str:
    """One line of an input file."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"Reply with exactly: {text}"}]}
    row = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **more}
    return json.dumps(row) + "\n"


async def uploaded(session: Session, url: str, content: str) -> str:
    """The id of a new input file."""
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", content.encode(), filename="in.jsonl")
    async with session.post(f"{url}/files", data=form) as response:
        listing = await response.json()
    assert (listing["bytes"], listing["purpose"]) == (len(content.encode()), "batch")
    return str(listing["id"])


async def ended(session: Session, url: str, content: str) -> tuple[Json, list[str]]:
    """A job over that file once it has ended, and the states it was seen in."""
    source = await uploaded(session, url, content)
    asked_for = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with session.post(f"{url}/batches", json=asked_for) as response:
        job = await response.json()
    states = [job["status"]]
    while states[-1] in ("validating", "in_progress", "finalizing"):
        await asyncio.sleep(0.01)
        async with session.get(f"{url}/batches/{job['id']}") as response:
            job = await response.json()
        states += [job["status"]] if job["status"] != states[-1] else []
    return job, states


async def rows(session: Session, url: str, file_id: str | None) -> list[Json]:
    """The lines of a file."""
    if file_id is None:
        return []
    async with session.get(f"{url}/files/{file_id}/content") as response:
        return [json.loads(text) for text in (await response.text()).splitlines()]


def test_a_batch_goes_through_its_states_and_answers_every_line() -> None:
    async def use(session: Session, url: str) -> tuple[Json, list[str], list[Json]]:
        job, states = await ended(session, url, "".join(line(f"id{i}", f"word {i}") for i in range(30)))
        return job, states, await rows(session, url, job["output_file_id"])

    job, states, out = against(TestServer(obedient_answer, batch_delay_s=0.05), use)
    assert states == ["validating", "in_progress", "finalizing", "completed"]
    assert job["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert job["error_file_id"] is None
    said = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in out}
    assert said == {f"id{i}": f"word {i}" for i in range(30)}
    assert [row["custom_id"] for row in out] != [f"id{i}" for i in range(30)]


def test_an_error_of_a_line_stands_in_its_response() -> None:
    """All lines failed: no output file at all, and the error object is in the response's body."""

    async def use(session: Session, url: str) -> tuple[Json, list[Json]]:
        job, _ = await ended(session, url, line("a", "x") + line("b", "y"))
        return job, await rows(session, url, job["error_file_id"])

    job, errors = against(TestServer(obedient_answer, faults={"context-too-long": 1.0}), use)
    assert (job["status"], job["output_file_id"]) == ("completed", None)
    assert job["request_counts"]["failed"] == 2
    assert {row["response"]["status_code"] for row in errors} == {400}
    assert {row["response"]["body"]["error"]["code"] for row in errors} == {"context_length_exceeded"}
    assert [row["error"] for row in errors] == [None, None]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (line("a", "x") + line("a", "y"), "duplicate_custom_id"),
        (line("a", "x", url="/v1/completions"), "mismatched_endpoint"),
        ("{no json\n", "invalid_json_line"),
        (line("a", "x") + line("b", "y", body={"model": "other", "messages": []}), "mismatched_model"),
        ("\n", "empty_file"),
    ],
)
def test_a_file_that_cannot_be_asked_fails_as_a_whole(content: str, code: str) -> None:
    async def use(session: Session, url: str) -> Json:
        return (await ended(session, url, content))[0]

    job = against(TestServer(obedient_answer), use)
    assert (job["status"], job["errors"]["data"][0]["code"]) == ("failed", code)


def test_lines_meet_their_faults_in_the_first_job_only() -> None:
    content = "".join(line(f"id{i}", str(i)) for i in range(100))
    faults = {"missing": 0.2, "duplicate": 0.2, "error": 0.2, "foreign": 0.2, "expired": 0.1}

    async def use(session: Session, url: str) -> list[tuple[Json, list[Json], list[Json]]]:
        jobs = [(await ended(session, url, content))[0] for _ in range(2)]
        return [
            (job, await rows(session, url, job["output_file_id"]), await rows(session, url, job["error_file_id"]))
            for job in jobs
        ]

    (first, out, errors), (second, again, none) = against(TestServer(obedient_answer, batch_faults=faults), use)
    assert (first["status"], second["status"]) == ("expired", "completed")
    ids = [row["custom_id"] for row in out]
    known = {f"id{i}" for i in range(100)}
    foreign, twice = set(ids) - known, {name for name in ids if ids.count(name) == 2}
    expired = {row["custom_id"] for row in errors if (row["error"] or {}).get("code") == "batch_expired"}
    failed = {row["custom_id"] for row in errors} - expired
    missing = known - set(ids) - expired - failed
    assert all(8 <= len(kind) <= 34 for kind in (foreign, twice, failed, missing)), (foreign, twice, failed, missing)
    assert 2 <= len(expired) <= 20
    assert sorted(row["custom_id"] for row in again) == sorted(known)
    assert none == []


def test_a_job_can_be_cancelled_listed_and_its_files_deleted() -> None:
    async def use(session: Session, url: str) -> tuple[Json, Json, Json, int]:
        source = await uploaded(session, url, line("a", "x"))
        asked_for = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        for _ in range(3):
            async with session.post(f"{url}/batches", json=asked_for) as response:
                job = await response.json()
        async with session.post(f"{url}/batches/{job['id']}/cancel") as response:
            cancelled = await response.json()
        async with session.get(f"{url}/batches", params={"limit": "2"}) as response:
            page = await response.json()
        async with session.delete(f"{url}/files/{source}") as response:
            deleted = await response.json()
        async with session.get(f"{url}/files/{source}") as response:
            return cancelled, page, deleted, response.status

    cancelled, page, deleted, status = against(TestServer(obedient_answer, batch_delay_s=60), use)
    assert cancelled["status"] == "cancelled"
    assert cancelled["cancelled_at"] is not None
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (["batch_000003", "batch_000002"], True)
    assert deleted["deleted"]
    assert status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"input_file_id": "none"}, 404), ({"endpoint": "/v1/nothing"}, 400), ({"completion_window": "1h"}, 400)],
)
def test_a_job_that_cannot_be_is_refused(fields: dict[str, object], status: int) -> None:
    async def use(session: Session, url: str) -> int:
        source = await uploaded(session, url, line("a", "x"))
        body = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
        async with session.post(f"{url}/batches", json=body) as response:
            return response.status

    assert against(TestServer(obedient_answer), use) == status


def test_a_job_fails_after_it_was_taken_where_the_server_is_told_to() -> None:
    async def use(session: Session, url: str) -> Json:
        return (await ended(session, url, line("a", "x")))[0]

    job = against(TestServer(obedient_answer, batches_fail=True), use)
    assert (job["status"], job["output_file_id"]) == ("failed", None)
