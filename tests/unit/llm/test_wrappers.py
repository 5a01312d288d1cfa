"""Retries, limit, cache and meter by themselves and together, on fakes."""

import asyncio
from dataclasses import dataclass, field

import pytest

from autointerp.llm.base import ChatReply, ChatRequest, Endpoint, PromptRequest
from autointerp.llm.errors import (
    BadKeyError,
    ConnectionLostError,
    MalformedReplyError,
    RateLimitedError,
    ServerFailedError,
    UnexplainedRequestError,
)
from autointerp.llm.fakes import FunctionModel, ScriptedModel, text_reply
from autointerp.llm.gate import Gate
from autointerp.llm.pace import Paced
from autointerp.llm.wrappers import Cached, Metered, Retrying, request_key
from autointerp.provenance import digest
from tests.unit.llm.servers import question

ENDPOINT = Endpoint(provider="openai", base_url="http://localhost/v1", model="m")


@dataclass
class MemoryCache:
    """A reply cache without a disk."""

    kept: dict[str, ChatReply] = field(default_factory=dict)

    def get(self, key: str) -> ChatReply | None:
        return self.kept.get(key)

    async def put(self, key: str, reply: ChatReply) -> None:
        self.kept[key] = reply


class Sleeps(Gate):
    """Counts the seconds instead of sleeping them."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_transient_errors_are_asked_again() -> None:
    sleeps = Sleeps()
    inner = ScriptedModel([ServerFailedError(500, "x"), ConnectionLostError("u", "c"), "fine"])
    reply = asyncio.run(Retrying(inner, gate=sleeps).complete(question()))
    assert reply.text == "fine"
    assert len(sleeps.slept) == 2


def test_retry_after_is_never_undercut() -> None:
    """The SDK's own retries came back early and lost a third of the requests under a rate limit."""
    sleeps = Sleeps()
    inner = ScriptedModel([RateLimitedError("x", 7.0), "fine"])
    asyncio.run(Retrying(inner, gate=sleeps).complete(question()))
    assert 7.0 <= sleeps.slept[0] < 8.0


def test_a_very_long_retry_after_is_not_waited_for() -> None:
    inner = ScriptedModel([RateLimitedError("x", 3600.0), "fine"])
    with pytest.raises(RateLimitedError):
        asyncio.run(Retrying(inner, gate=Sleeps()).complete(question()))


def test_a_malformed_body_is_asked_for_again_at_most_twice() -> None:
    inner = ScriptedModel([MalformedReplyError("x")] * 8)
    with pytest.raises(MalformedReplyError):
        asyncio.run(Retrying(inner, gate=Sleeps()).complete(question()))
    assert len(inner.asked) == 3


def test_a_malformed_body_after_other_failures_is_asked_for_again() -> None:
    """Counting every attempt against the bound for malformed bodies gave up after the first of them."""
    errors = [ServerFailedError(500, "x"), ConnectionLostError("u", "c"), MalformedReplyError("x")]
    inner = ScriptedModel([*errors, "fine"])
    assert asyncio.run(Retrying(inner, gate=Sleeps()).complete(question())).text == "fine"


def test_attempts_end() -> None:
    inner = ScriptedModel([ServerFailedError(500, "x")] * 20)
    sleeps = Sleeps()
    with pytest.raises(ServerFailedError):
        asyncio.run(Retrying(inner, attempts=5, longest_pause_s=2.0, gate=sleeps).complete(question()))
    assert len(inner.asked) == 5
    assert max(sleeps.slept) <= 2.0


def test_lasting_errors_are_not_asked_again() -> None:
    inner = ScriptedModel([BadKeyError("x"), "fine"])
    with pytest.raises(BadKeyError):
        asyncio.run(Retrying(inner, gate=Sleeps()).complete(question()))
    assert len(inner.asked) == 1


@dataclass
class Slow:
    """Counts how many requests are in flight."""

    pause_s: float = 0.01
    now: int = 0
    most: int = 0
    calls: int = 0
    name: str = "fake:slow"

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.now += 1
        self.calls += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.now -= 1
        return text_reply(request.messages[0].content)


def test_no_more_than_the_slots_are_in_flight() -> None:
    inner = Slow()

    async def run() -> list[ChatReply]:
        model = Paced(inner, 3)
        return await asyncio.gather(*(model.complete(question(str(i))) for i in range(10)))

    assert [reply.text for reply in asyncio.run(run())] == [str(i) for i in range(10)]
    assert inner.most == 3


def test_duplicates_in_flight_share_one_call_and_a_hit_is_free() -> None:
    inner = Slow()
    meter = Metered(inner)
    cached = Cached(meter, MemoryCache(), ENDPOINT)

    async def run() -> None:
        await asyncio.gather(*(cached.complete(question("same")) for _ in range(5)))
        await cached.complete(question("same"))
        await cached.complete(question("same", sample=1))

    asyncio.run(run())
    assert inner.calls == 2
    assert meter.usage.calls == 2
    assert cached.hits == 5


def test_a_cancelled_asker_does_not_take_the_others_down() -> None:
    inner = Slow(pause_s=0.05)
    cached = Cached(inner, MemoryCache(), ENDPOINT)

    async def run() -> str:
        first = asyncio.create_task(cached.complete(question("same")))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(cached.complete(question("same")))
        await asyncio.sleep(0.01)
        first.cancel()
        return (await second).text

    assert asyncio.run(run()) == "same"
    assert inner.calls == 1


def test_a_request_nobody_waits_for_is_cancelled_and_can_be_asked_anew() -> None:
    """Joining the cancelled call would have raised CancelledError in a task that nobody cancelled."""
    inner = Slow(pause_s=0.05)
    cached = Cached(inner, MemoryCache(), ENDPOINT)

    async def run() -> str:
        first = asyncio.create_task(cached.complete(question("same")))
        await asyncio.sleep(0.01)
        first.cancel()
        return (await cached.complete(question("same"))).text

    assert asyncio.run(run()) == "same"
    assert inner.now == 0


def test_errors_are_not_kept_and_refusals_are() -> None:
    refused = ChatReply(text="", finish_reason="stop", refused=True, model="m", usage=text_reply("").usage)
    inner = ScriptedModel([ServerFailedError(500, "x"), refused])
    cached = Cached(inner, MemoryCache(), ENDPOINT)
    with pytest.raises(ServerFailedError):
        asyncio.run(cached.complete(question()))
    assert asyncio.run(cached.complete(question())).refused
    assert asyncio.run(cached.complete(question())).refused
    assert len(inner.asked) == 2


def test_the_key_of_a_request_depends_on_all_of_it() -> None:
    requests = [
        question("a"),
        question("b"),
        question("a", sample=1),
        question("a", temperature=0.0),
        question("a", top_logprobs=5),
        question("a", json_schema={"type": "object"}),
        question("a", max_tokens=21),
    ]
    keys = {request_key(ENDPOINT, request) for request in requests}
    keys.add(request_key(ENDPOINT.model_copy(update={"model": "n"}), requests[0]))
    assert len(keys) == len(requests) + 1
    assert request_key(ENDPOINT, requests[0]) == request_key(ENDPOINT, question("a"))
    assert request_key(ENDPOINT, requests[0]) == request_key(ENDPOINT, question("a", stop=("\n",)))


def test_a_question_without_stops_keeps_the_digest_of_before_there_were_any() -> None:
    """A new field of requests would make every kept reply unfindable, and each would be paid for again."""
    endpoint = Endpoint(provider="openai", base_url="http://127.0.0.1:8000/v1", model="m")
    assert request_key(endpoint, question(temperature=0.0)) == "blake2b:5765b2d66bb52cfd806143005e3522522e9a1d3f"
    read = PromptRequest(prompt="a", read=" b", top_logprobs=5)
    assert request_key(endpoint, read) == "blake2b:c385d23f898704eeae874909a4393cf1a2218f58"


def test_what_is_asked_in_no_special_manner_keeps_its_key() -> None:
    """Replies that were paid for under the first version must be found by every later one."""
    asked = {
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": 20,
        "temperature": None,
        "top_logprobs": None,
        "json_schema": None,
        "sample": 0,
    }
    endpoint = {"provider": "openai", "base_url": "http://localhost/v1", "model": "m"}
    assert request_key(ENDPOINT, question("a")) == digest({"endpoint": endpoint, "request": asked})
    assert request_key(ENDPOINT, question("a", extra_body={"top_k": 1})) != request_key(ENDPOINT, question("a"))


def test_a_script_that_ends_says_so() -> None:
    model = ScriptedModel(["one"])
    asyncio.run(model.complete(question()))
    with pytest.raises(UnexplainedRequestError):
        asyncio.run(model.complete(question()))


def test_a_function_answers() -> None:
    model = FunctionModel(lambda request: request.messages[0].content.upper())
    assert asyncio.run(model.complete(question("abc"))).text == "ABC"
