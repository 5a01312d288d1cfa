"""The rehearsal server: what it answers, where it fails, and that asking again always ends well."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from autointerp.errors import UsageError
from autointerp.llm.answers import Answer, imported_answers, obedient_answer, scripted_answers, spelled, split_digits
from autointerp.llm.base import Capabilities, ChatReply
from autointerp.llm.errors import LlmError, RateLimitedError
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.probe import probe
from autointerp.llm.registry import connect_model
from autointerp.llm.testserver.bodies import MODEL
from autointerp.llm.testserver.faults import FAULTS, SPREAD, Faults, parse_shares
from autointerp.llm.testserver.journal import Entry, Journal, read_journal
from autointerp.llm.testserver.limits import Limits, retry_headers, spoken_s
from autointerp.llm.testserver.profiles import PROFILES
from autointerp.llm.testserver.server import TestServer, running
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


def test_faults_are_seeded_and_over_by_the_second_asking() -> None:
    """At full share the first asking of every request fails and the second one succeeds."""

    async def outcomes(client: OpenAICompatible) -> list[list[str]]:
        return [[await outcome(client, f"Reply with exactly: {i}") for _ in range(2)] for i in range(24)]

    faults = parse_shares("1", FAULTS, SPREAD)
    first = against(TestServer(obedient_answer, faults=faults, seed=3), outcomes)
    assert first == against(TestServer(obedient_answer, faults=faults, seed=3), outcomes)
    assert first != against(TestServer(obedient_answer, faults=faults, seed=4), outcomes)
    assert [kinds[1] for kinds in first] == [str(i) for i in range(24)]
    assert {kinds[0] for kinds in first} == {"rate_limited", "server_error", "connection_lost", "malformed_reply"}


async def outcome(client: OpenAICompatible, text: str) -> str:
    """The reply's text or end, or the reason why there is none."""
    try:
        reply = await client.complete(question(text))
    except LlmError as error:
        return error.reason
    return "refused" if reply.refused else reply.text


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("rate-limit", ["rate_limited", "a\nb"]),
        ("server-error", ["server_error", "a\nb"]),
        ("cut", ["connection_lost", "a\nb"]),
        ("malformed", ["malformed_reply", "a\nb"]),
        ("timeout", ["timeout", "a\nb"]),
        ("misaligned", ["a", "a\nb"]),
        ("quota", ["quota_exhausted"] * 2),
        ("bad-key", ["bad_key"] * 2),
        ("unknown-model", ["unknown_model"] * 2),
        ("unsupported-parameter", ["unsupported_parameter"] * 2),
        ("context-too-long", ["context_too_long"] * 2),
        ("content-filter", ["refused"] * 2),
        ("refusal", ["refused"] * 2),
    ],
)
def test_every_class_of_failure_is_told_apart_by_its_client(fault: str, reasons: list[str]) -> None:
    """A class that the client takes for another one would be asked again for ever, or not at all."""

    async def twice() -> list[str]:
        async with running(TestServer(lambda _: "a\nb", faults={fault: 1.0})) as url:
            client = OpenAICompatible("any", url, timeout_s=0.3)
            try:
                return [await outcome(client, "q") for _ in range(2)]
            finally:
                await client.aclose()

    assert asyncio.run(twice()) == reasons


def test_a_permanent_fault_hangs_on_the_request_and_keeps_its_share() -> None:
    faults = Faults({"refusal": 0.2, "cut": 0.3}, seed=1)
    drawn = [faults.drawn(str(i), 1) for i in range(4000)]
    assert 700 < drawn.count("refusal") < 900
    assert 1100 < drawn.count("cut") < 1300
    again = [faults.drawn(str(i), 2) for i in range(4000)]
    assert again == [fault if fault == "refusal" else None for fault in drawn]


@pytest.mark.parametrize("wrong", ["cutt=0.1", "cut=0.8,refusal=0.8", "-0.1", "much", "cut="])
def test_shares_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        parse_shares(wrong, FAULTS, SPREAD)


def test_a_share_without_a_kind_needs_something_to_be_spread_over() -> None:
    with pytest.raises(UsageError, match="write NAME"):
        parse_shares("0.2", ("missing",), ())


def test_the_rate_limit_says_how_long_to_wait() -> None:
    """Five a second and one at once: the second one is a fifth of a second early."""

    async def use(client: OpenAICompatible) -> float | None:
        await client.complete(question("1"))
        with pytest.raises(RateLimitedError) as caught:
            await client.complete(question("2"))
        return caught.value.retry_after_s

    assert against(TestServer(obedient_answer, rate_limit=5), use) == pytest.approx(0.2, abs=0.05)


def test_buckets_by_hand() -> None:
    """Five requests a second, 600 tokens a minute: 60 tokens at once, then ten a second."""
    limits = Limits(5.0, 600.0, 0.0)
    assert limits.take(60, 0.0) == 0
    assert limits.take(5, 0.0) == pytest.approx(0.5)
    assert limits.take(5, 0.4) == pytest.approx(0.1)
    assert limits.headers() == {
        "x-ratelimit-limit-requests": "300",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "0ms",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "4",
        "x-ratelimit-reset-tokens": "5.6s",
    }
    assert limits.take(5, 0.5) == 0
    assert limits.take(1, 0.5) == pytest.approx(0.2)
    assert [spoken_s(seconds) for seconds in (0.012, 1.5, 360)] == ["12ms", "1.5s", "6m0s"]
    assert retry_headers(1.2) == {"Retry-After": "2", "retry-after-ms": "1200"}


def test_a_request_above_the_brim_is_served_from_a_full_bucket() -> None:
    """A prompt of more tokens than may come at once must not wait for ever."""
    limits = Limits(None, 600.0, 0.0)
    assert limits.take(1000, 0.0) == 0
    assert limits.take(1000, 0.0) == pytest.approx(6.0)
    assert limits.take(1000, 6.0) == 0


def test_silent_queueing_works_on_few_at_a_time() -> None:
    """Six requests of 0.1 s, two at a time, take 0.3 s and no error."""
    server = TestServer(obedient_answer, latency_s=0.1, parallel=2)

    async def use(client: OpenAICompatible) -> float:
        start = time.monotonic()
        await asyncio.gather(*(client.complete(question(str(i))) for i in range(6)))
        return time.monotonic() - start

    assert against(server, use) >= 0.3


def test_a_patient_model_gets_everything_through_faults_and_limits() -> None:
    faults = parse_shares("0.4", FAULTS, SPREAD)
    server = TestServer(obedient_answer, faults=faults, seed=5, rate_limit=200)

    async def run() -> list[ChatReply]:
        async with running(server) as url:
            connected = connect_model("any", base_url=url, in_flight=16, first_pause_s=0.02)
            try:
                asked = [question(f"Reply with exactly: {i}") for i in range(60)]
                return await asyncio.gather(*(connected.model.complete(request) for request in asked))
            finally:
                await connected.aclose()

    assert [reply.text for reply in asyncio.run(run())] == [str(i) for i in range(60)]


def test_the_journal_tells_what_came_and_how_it_ended(tmp_path: Path) -> None:
    """Read while the server runs; the one that the client gave up on is there without a status, and no key or text."""
    path = tmp_path / "log.jsonl"
    faults = {"cut": 0.25, "timeout": 0.25, "rate-limit": 0.25, "refusal": 0.25}

    async def run() -> tuple[list[str], list[Entry]]:
        with Journal(path) as journal:
            server = TestServer(obedient_answer, faults=faults, journal=journal, stage_of=lambda body: "test")
            async with running(server) as url:
                client = OpenAICompatible("any", url, timeout_s=0.3)
                ended = [await outcome(client, f"secret {i}") for i in range(12)]
                await client.models()
                await client.aclose()
                await asyncio.sleep(0.05)
                return ended, read_journal(path)

    ended, entries = asyncio.run(run())
    status = {"connection_lost": None, "timeout": None, "rate_limited": 429, "refused": 200}
    asked = [entry for entry in entries if entry.digest]
    assert [entry.status for entry in asked] == [status[reason] for reason in ended]
    assert set(ended) == set(status)
    assert {(entry.path, entry.stage, entry.asking) for entry in asked} == {("/v1/chat/completions", "test", 1)}
    assert len({entry.digest for entry in asked}) == 12
    assert entries[-1].path == "GET /v1/models"
    assert "secret" not in path.read_text()
    assert '"x"' not in path.read_text()


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
