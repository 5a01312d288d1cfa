"""How many requests are in flight, what stops them, and what they may cost; on fakes with short real pauses."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import pytest

from autointerp.errors import StoppedError
from autointerp.llm.base import ChatMessage, ChatReply, ChatRequest
from autointerp.llm.budget import Budget, cost_of, most_tokens
from autointerp.llm.errors import (
    BadKeyError,
    BudgetError,
    DrainedError,
    LlmError,
    RateLimitedError,
    ServerFailedError,
    TooManyFailuresError,
)
from autointerp.llm.fakes import text_reply
from autointerp.llm.gate import RECENT_ITEMS, Breaker, Gate
from autointerp.llm.growth import COOL_S, FIRST_IN_FLIGHT
from autointerp.llm.heartbeat import Heartbeat
from autointerp.llm.pace import Paced
from autointerp.llm.wrappers import Metered, Retrying
from autointerp.records import Usage
from tests.unit.llm.servers import question

COST = Usage(calls=1, input_tokens=10, output_tokens=5)


@dataclass
class Server:
    """Answers after a pause; fails where told, and counts."""

    errors: list[LlmError | None] = field(default_factory=list)
    pause_s: float = 0.002
    now: int = 0
    most: int = 0
    times: list[float] = field(default_factory=list)
    cost: Usage = COST
    name: str = "fake:server"

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.times.append(time.monotonic())
        error = self.errors.pop(0) if self.errors else None
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.now -= 1
        if error:
            raise error
        return text_reply(request.messages[0].content).model_copy(update={"usage": self.cost})


async def ask_all(model: Paced, n: int) -> list[ChatReply | BaseException]:
    return await asyncio.gather(*(model.complete(question(str(i))) for i in range(n)), return_exceptions=True)


def test_it_begins_low_and_grows_to_the_cap() -> None:
    """512 requests thrown at a small server at once time out; 16 forever waste a large one."""
    server = Server()
    paced = Paced(server, 100)
    asyncio.run(ask_all(paced, FIRST_IN_FLIGHT + 1))
    assert server.most == FIRST_IN_FLIGHT
    asyncio.run(ask_all(paced, 1000))
    assert server.most == 100
    assert paced.in_flight == 0


def test_a_burst_of_rejections_counts_once_and_growth_is_slow_after() -> None:
    """Shrinking for each of fifty rejections of one burst leaves one request in flight."""
    server = Server(errors=[None] * 50 + [RateLimitedError("x", 0.0) for _ in range(30)])
    paced = Paced(server, 64)
    asyncio.run(ask_all(paced, 90))
    assert 10 <= paced.limit < server.most
    before = paced.limit
    asyncio.run(ask_all(paced, 20))
    assert paced.limit - before <= 1.0


def test_rejections_soon_after_a_cut_say_nothing_new() -> None:
    """The bucket is still low then; cutting again for each of them left a fifth of the rate unused."""
    now = [100.0]
    limited = RateLimitedError("x", 0.0)
    paced = Paced(Server(errors=[limited, limited, limited]), 10, clock=lambda: now[0])
    left = []
    for later in (0.0, COOL_S / 2, COOL_S):
        now[0] += later
        paced.growth.value, paced.in_flight = 10.0, 9
        asyncio.run(ask_all(paced, 1))
        left.append(paced.limit)
    assert left == [8.0, 10.0, 8.0]


def test_a_pause_holds_for_all() -> None:
    """Each request learning of the limit by itself is how a third of them was lost."""
    server = Server(errors=[RateLimitedError("x", 0.2)])
    paced = Paced(server, 1)
    ended = asyncio.run(ask_all(paced, 4))
    assert isinstance(ended[0], RateLimitedError)
    assert server.times[1] - server.times[0] >= 0.2


def test_only_rate_limits_shrink() -> None:
    """A server that fails is not helped by fewer requests, only by no more of them."""
    server = Server(errors=[ServerFailedError(500, "x") for _ in range(16)])
    paced = Paced(server, 64)
    asyncio.run(ask_all(paced, 16))
    assert paced.limit == FIRST_IN_FLIGHT
    asyncio.run(ask_all(paced, 100))
    assert server.most == FIRST_IN_FLIGHT


def test_a_cancelled_request_gives_its_slot_back() -> None:
    """Each slot lost to a cancelled one is lost for the run."""
    paced = Paced(Server(pause_s=0.05), 2)

    async def run() -> None:
        tasks = [asyncio.create_task(paced.complete(question(str(i)))) for i in range(6)]
        await asyncio.sleep(0.01)
        for task in tasks[1:5]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert paced.in_flight == 0
        await paced.complete(question("still"))

    asyncio.run(run())


def test_a_closed_gate_lets_what_is_under_way_end() -> None:
    """An answer thrown away is paid for twice; a pause sat out after Ctrl-C looks like a hang."""
    gate = Gate()
    server = Server(errors=[None, RateLimitedError("x", 60.0)], pause_s=0.05)
    paced = Paced(server, 2, gate)

    async def run() -> list[ChatReply | BaseException]:
        threading.Timer(0.15, gate.close, [DrainedError()]).start()
        return await ask_all(paced, 5)

    began = time.monotonic()
    ended = asyncio.run(run())
    assert time.monotonic() - began < 10
    assert isinstance(ended[0], ChatReply)
    assert [type(e) for e in ended[3:]] == [DrainedError] * 2
    assert len(server.times) <= 3


def test_a_retry_waits_no_longer_than_the_gate_is_open() -> None:
    gate = Gate()
    retrying = Retrying(Server(errors=[ServerFailedError(503, "x", 30.0)]), gate=gate)

    async def run() -> None:
        asyncio.get_running_loop().call_later(0.05, gate.close, DrainedError())
        with pytest.raises(DrainedError):
            await retrying.complete(question("x"))

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10


def test_an_error_that_nothing_mends_stops_all() -> None:
    """Ten thousand requests against a revoked key get one's account closed."""
    gate = Gate()
    server = Server(errors=[BadKeyError("x")])
    metered = Metered(Paced(server, 1, gate), gate)

    async def run() -> None:
        for _ in range(3):
            with pytest.raises(BadKeyError):
                await metered.complete(question("x"))

    asyncio.run(run())
    assert len(server.times) == 1


def test_the_breaker_counts_failures_among_the_last_items() -> None:
    """Neither a bad minute at the start nor refusals stop a run; a fifth of garbage does."""
    gate = Gate()
    breaker = Breaker(gate, 0.1)
    for _ in range(20):
        breaker.ended("malformed_reply")
    for _ in range(500):
        breaker.ended("refused")
        breaker.ended("context_too_long")
    assert gate.error is None
    for _ in range(RECENT_ITEMS):
        breaker.ended(None)
    for _ in range(20):
        breaker.ended("timeout")
    assert gate.error is None
    breaker.ended("not_json")
    assert isinstance(gate.error, TooManyFailuresError)
    assert "21 of the last 200 items failed (timeout 20, not_json 1)" in str(gate.error)


def test_a_breaker_at_one_never_breaks() -> None:
    gate = Gate()
    breaker = Breaker(gate, 1.0)
    for _ in range(3 * RECENT_ITEMS):
        breaker.ended("not_json")
    assert gate.error is None


def request(text: str = "x" * 100) -> ChatRequest:
    return ChatRequest(messages=(ChatMessage(role="user", content=text),), max_tokens=50)


def test_the_most_a_request_can_cost_is_no_guess() -> None:
    """A budget that trusts four characters a token is exceeded by a text in Thai."""
    assert most_tokens(request("ก" * 10)).input_tokens >= 30
    assert most_tokens(request()).output_tokens == 50


@pytest.mark.parametrize("cost", [Usage(calls=1, input_tokens=110, output_tokens=50), Usage(calls=1, input_tokens=20)])
def test_a_budget_is_used_up_and_never_exceeded(cost: Usage) -> None:
    """Requests in flight together each fit by themselves and break the budget as one."""
    gate = Gate()
    budget = Budget(gate, tokens=1000)
    metered = Metered(Paced(Server(cost=cost), 64, gate), gate, budget)

    async def run() -> list[object]:
        asked = (metered.complete(request()) for _ in range(100))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    ended = asyncio.run(run())
    spent = budget.spent.input_tokens + budget.spent.output_tokens
    most = most_tokens(request())
    assert 1000 - most.input_tokens - most.output_tokens < spent <= 1000
    stopped = [e for e in ended if not isinstance(e, ChatReply)]
    assert stopped
    assert {type(e) for e in stopped} == {BudgetError}
    assert "1,000 tokens" in str(gate.error)


@pytest.mark.parametrize("said", [Usage(calls=1), Usage(calls=1, input_tokens=10**8, output_tokens=10**8)])
@pytest.mark.parametrize("bound", ["tokens", "dollars"])
def test_an_endpoint_that_does_not_say_what_it_took_is_held_to_the_most(said: Usage, bound: str) -> None:
    """A budget of 20,000 tokens let 48,575 through, and one of dollars all: nothing was ever settled but zero."""
    gate, told = Gate(), list[str]()
    most = most_tokens(request())
    each = most.input_tokens + most.output_tokens
    budget = Budget(gate, tokens=5 * each)
    if bound == "dollars":
        budget = Budget(gate, usd=5.0, price=lambda usage: (usage.input_tokens + usage.output_tokens) / each)
    server = Server(cost=said)
    metered = Metered(server, gate, budget, heartbeat=Heartbeat("h", told.append))

    async def run() -> list[ChatReply | BaseException]:
        return [await metered.complete(request(f"{i}" * 100)) for i in range(5)]

    replies = asyncio.run(run())
    assert [reply.usage for reply in replies if isinstance(reply, ChatReply)] == [most] * 5
    with pytest.raises(BudgetError):
        asyncio.run(metered.complete(request()))
    assert len(server.times) == 5
    assert len(told) == 1
    assert "counts as the most" in told[0]


def test_a_usage_that_can_be_is_believed() -> None:
    """What a server says is what it bills: a template's tokens and long thoughts are no absurdity."""
    asked = request("x" * 100)
    for said in (
        Usage(calls=1, input_tokens=2, output_tokens=1),
        Usage(calls=1, input_tokens=9_000, output_tokens=9_000),
    ):
        assert cost_of(asked, text_reply("yes").model_copy(update={"usage": said})) == said
    filtered = ChatReply(text="", finish_reason="content_filter", refused=True, model="m", usage=Usage(calls=1))
    assert cost_of(asked, filtered) == Usage(calls=1)


def test_a_budget_in_dollars_counts_what_was_spent_before() -> None:
    """A killed run that starts its budget anew spends it twice."""
    gate = Gate()
    spent = Usage(calls=9, input_tokens=900)
    budget = Budget(gate, usd=1.0, price=lambda usage: usage.input_tokens * 0.001, spent=spent)
    server = Server()

    async def run() -> None:
        with pytest.raises(StoppedError, match=r"stopped at 0\.9000 USD, 900 tokens"):
            await Metered(server, gate, budget).complete(request())

    asyncio.run(run())
    assert not server.times
