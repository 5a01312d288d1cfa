"""What an answer took, as servers say it or do not, against a budget over real HTTP."""

import asyncio

import pytest
from aiohttp import web

from autointerp.errors import StoppedError
from autointerp.llm.budget import Budget, most_tokens
from autointerp.llm.gate import Gate
from autointerp.llm.registry import connect_model
from tests.unit.llm.servers import answering, question

USAGES = [
    None,
    {},
    {"prompt_tokens": -5, "completion_tokens": -7},
    {"prompt_tokens": 10**30, "completion_tokens": 1},
    {"prompt_tokens": 10**12, "completion_tokens": 10**12},
    {"prompt_tokens": "many", "completion_tokens": 2.5},
    {"prompt_tokens": 7, "completion_tokens": None},
]


@pytest.mark.parametrize("usage", USAGES)
def test_a_budget_binds_whatever_the_server_says(usage: object) -> None:
    """Ten thousand requests went through a budget of sixty thousand tokens; one absurd count ended it at the first."""
    gate, received = Gate(), list[dict[str, object]]()
    most = most_tokens(question("q0"))
    each = most.input_tokens + most.output_tokens
    budget = Budget(gate, tokens=10 * each)

    async def handler(body: dict[str, object]) -> web.Response:
        received.append(body)
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": usage})

    async def run() -> None:
        async with answering(handler) as base_url:
            connected = connect_model("m", base_url=base_url, gate=gate, budget=budget)
            try:
                for i in range(100):
                    await connected.model.complete(question(f"q{i}"))
            finally:
                await connected.aclose()

    with pytest.raises(StoppedError):
        asyncio.run(run())
    if usage in (USAGES[3], USAGES[-1]):  # one of the two counts is believed
        assert 10 < len(received) < 100
    else:
        assert len(received) == 10
