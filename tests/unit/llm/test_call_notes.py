"""Every reply that is used is told, once as paid and then as free, and before it can be lost."""

import asyncio

from autointerp.llm.base import ChatReply, ChatRequest, Endpoint
from autointerp.llm.fakes import FunctionModel
from autointerp.llm.purpose import asking_for, purpose
from autointerp.llm.wrappers import Cached, request_key
from autointerp.records import FeatureId
from tests.unit.llm.servers import question

ENDPOINT = Endpoint(provider="openai", base_url="http://h/v1", model="m")
FEATURE = FeatureId(dictionary="d", index=4)


class Told:
    """A cache and a log that write into one list, so that their order shows."""

    def __init__(self) -> None:
        self.kept: dict[str, ChatReply] = {}
        self.events: list[tuple[object, ...]] = []

    def get(self, key: str) -> ChatReply | None:
        return self.kept.get(key)

    async def put(self, key: str, reply: ChatReply) -> None:
        await asyncio.sleep(0)
        self.events.append(("put", key))
        self.kept[key] = reply

    def used(self, key: str, endpoint: Endpoint, reply: ChatReply, *, paid: bool) -> None:
        self.events.append(("used", key, *purpose(), paid))


def test_a_payment_is_told_before_the_reply_is_kept_and_a_hit_is_free() -> None:
    """The other way round a kill in between would leave a reply that nobody seems to have paid for."""
    told = Told()
    model = Cached(FunctionModel(lambda request: "hi"), told, ENDPOINT, told)
    key = request_key(ENDPOINT, question())

    async def run() -> None:
        with asking_for("explain", FEATURE):
            await model.complete(question())
        with asking_for("simulate", FEATURE):
            await model.complete(question())

    asyncio.run(run())
    assert told.events == [
        ("used", key, "explain", "d/4", True),
        ("put", key),
        ("used", key, "simulate", "d/4", False),
    ]


def test_of_those_who_share_a_request_in_flight_one_pays() -> None:
    """Counting the reply once for each of them would spend a budget several times over."""
    told = Told()

    async def slow(request: ChatRequest) -> ChatReply:
        await asyncio.sleep(0.01)
        return await FunctionModel(lambda _: "hi").complete(request)

    class Slow:
        name = "slow"
        complete = staticmethod(slow)

    model = Cached(Slow(), told, ENDPOINT, told)

    async def run() -> None:
        await asyncio.gather(*(model.complete(question()) for _ in range(3)))

    asyncio.run(run())
    assert [event[-1] for event in told.events if event[0] == "used"] == [True, False, False]
    assert model.hits == 2
