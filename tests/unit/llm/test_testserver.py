"""The rehearsal server: what it answers, where it fails, and that asking again always ends well."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from autointerp.errors import UsageError
from autointerp.llm.answers import Answer, imported_answers, obedient_answer, scripted_answers, spelled, split_digits
from autointerp.llm.base import Capabilities, ChatReply
from autointerp.llm.errors import RateLimitedError, TransientError
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.probe import probe
from autointerp.llm.registry import connect_model
from autointerp.llm.testserver import MODEL, PROFILES, TestServer, running
from tests.unit.llm.servers import question

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def against(server: TestServer, use: Callable[[OpenAICompatible], Awaitable[T]]) -> T:
    """Run `use` on a bare client of that server."""

    async def run() -> T:
        async with running(server) as url:
            client = OpenAICompatible("any", url, timeout_s=5)
            try:
                return await use(client)
            finally:
                await client.aclose()

    return asyncio.run(run())


def test_obedient_answers_and_models() -> None:
    async def use(client: OpenAICompatible) -> tuple[str, tuple[str, ...]]:
        reply = await client.complete(question("Reply with exactly: ten 10"))
        return reply.text, await client.models()

    assert against(TestServer(obedient_answer), use) == ("ten 10", (MODEL,))


def test_logprobs_spell_the_text_and_have_the_length_asked_for() -> None:
    reply = against(TestServer(lambda _: "ab 10\nc"), lambda client: client.complete(question(top_logprobs=7)))
    assert reply.logprobs is not None
    assert "".join(entry.token for entry in reply.logprobs) == "ab 10\nc"
    assert {len(entry.top) for entry in reply.logprobs} == {7}


def test_no_logprobs_unless_asked_for() -> None:
    assert against(TestServer(lambda _: "x"), lambda client: client.complete(question())).logprobs is None


def test_refusals_and_ends_are_the_answers() -> None:
    server = TestServer(lambda _: Answer("", refusal="no", finish_reason="stop"))
    assert against(server, lambda client: client.complete(question())).refused


def probed(profile: str) -> Capabilities:
    """What the probe finds at a server with that profile."""
    return against(TestServer(obedient_answer, PROFILES[profile]), probe)


def test_the_probe_sees_what_a_server_does() -> None:
    full = probed("full")
    assert (full.answers_differ, full.top_logprobs, full.logprobs_differ) == (True, 20, True)
    assert (full.json_schema, full.ten_is_one_token, full.rejected) == (True, True, ())
    assert Capabilities.model_validate_json(full.model_dump_json()) == full


def test_the_probe_sees_silence() -> None:
    """A server that takes `logprobs` and leaves them out gave others scores at exact chance."""
    silent = probed("no-logprobs")
    assert (silent.top_logprobs, silent.logprobs_differ, silent.ten_is_one_token) == (0, False, None)
    assert not probed("no-schema").json_schema
    assert probed("split-digits").ten_is_one_token is False
    assert probed("strict").rejected == ("max_tokens", "temperature", "logprobs")


def test_the_probe_sees_a_server_that_does_not_read() -> None:
    capabilities = against(TestServer(lambda _: "10"), probe)
    assert not capabilities.answers_differ
    assert not capabilities.logprobs_differ


def test_the_probe_asks_at_most_four_requests() -> None:
    server = TestServer(obedient_answer)
    against(server, probe)
    assert server.asked.total() <= 4


def test_what_an_endpoint_refused_before_is_not_sent_again() -> None:
    """Remembered from one run to the next through the stored capabilities."""
    server = TestServer(obedient_answer, PROFILES["strict"])

    async def use(client: OpenAICompatible) -> int:
        found = await probe(client)
        before = server.asked.total()
        again = OpenAICompatible("any", client.endpoint.base_url)
        again.assume(found.rejected)
        await again.complete(question(temperature=0.0, top_logprobs=5))
        await again.aclose()
        return server.asked.total() - before

    assert against(server, use) == 1


def test_faults_are_seeded_and_end_by_the_third_asking() -> None:
    """At full share the first two askings of every request fail and the third one succeeds."""

    async def outcomes(client: OpenAICompatible) -> list[list[str]]:
        found = []
        for i in range(12):
            kinds = []
            for _ in range(3):
                try:
                    kinds.append((await client.complete(question(f"Reply with exactly: {i}"))).text)
                except TransientError as error:
                    kinds.append(error.reason)
            found.append(kinds)
        return found

    first = against(TestServer(obedient_answer, faults=1.0, seed=3), outcomes)
    assert first == against(TestServer(obedient_answer, faults=1.0, seed=3), outcomes)
    assert [kinds[2] for kinds in first] == [str(i) for i in range(12)]
    reasons = {reason for kinds in first for reason in kinds[:2]}
    assert reasons == {"rate_limited", "server_error", "connection_lost", "malformed_reply"}


def test_a_share_of_faults_is_that_share() -> None:
    async def failed(client: OpenAICompatible) -> int:
        n = 0
        for i in range(200):
            try:
                await client.complete(question(str(i)))
            except TransientError:
                n += 1
        return n

    assert 40 <= against(TestServer(obedient_answer, faults=0.3, seed=1), failed) <= 80


def test_the_rate_limit_says_how_long_to_wait() -> None:
    async def use(client: OpenAICompatible) -> float | None:
        for i in range(20):
            try:
                await client.complete(question(str(i)))
            except RateLimitedError as error:
                return error.retry_after_s
        return None

    assert against(TestServer(obedient_answer, rate_limit=10), use) == pytest.approx(0.05)


def test_a_patient_model_gets_everything_through_faults_and_limits() -> None:
    server = TestServer(obedient_answer, faults=0.4, seed=5, rate_limit=200)

    async def run() -> list[ChatReply]:
        async with running(server) as url:
            connected = connect_model("any", base_url=url, in_flight=16, first_pause_s=0.02)
            try:
                asked = [question(f"Reply with exactly: {i}") for i in range(60)]
                return await asyncio.gather(*(connected.model.complete(request) for request in asked))
            finally:
                await connected.aclose()

    assert [reply.text for reply in asyncio.run(run())] == [str(i) for i in range(60)]


def test_a_script_answers_by_what_the_question_holds(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"contains": "blue", "text": "sky"}\n\n{"contains": "stop", "refusal": "no"}\n')
    answer = scripted_answers(path)
    asked = [{"messages": [{"role": "user", "content": text}]} for text in ("is blue", "stop", "other")]
    assert [answer(dict(body)) for body in asked] == [Answer("sky"), Answer("", refusal="no"), None]


def test_a_wrong_script_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"text": "a"}\n{"txt": "b"}\n')
    with pytest.raises(UsageError, match="line 2"):
        scripted_answers(path)
    with pytest.raises(UsageError):
        scripted_answers(tmp_path / "none.jsonl")


def test_an_answer_function_is_found_by_name() -> None:
    assert imported_answers("autointerp.llm.answers:obedient_answer") is obedient_answer
    for wrong in ("no.such.module:f", "autointerp.llm.answers:nothing"):
        with pytest.raises(UsageError):
            imported_answers(wrong)


def test_an_obedient_model_fits_any_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [3, 4]}, "b": {"type": "array"}, "c": {"type": "string"}}}
    body: dict[str, object] = {"messages": [], "response_format": {"json_schema": {"schema": schema}}}
    assert json.loads(obedient_answer(body).text) == {"a": 3, "b": [], "c": ""}


def test_split_digits_keep_the_text() -> None:
    tokens = spelled("1: 10\n2: 7")
    split = split_digits(tokens)
    assert "".join(entry.token for entry in split) == "1: 10\n2: 7"
    assert not any(len(entry.token.strip()) > 1 and entry.token.strip().isdigit() for entry in split)
