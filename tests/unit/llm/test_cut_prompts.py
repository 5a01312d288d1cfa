"""Prompts of which a server read less than it was sent are never answered; other ways of counting are no alarm."""

import asyncio

import pytest
from aiohttp import web

from autointerp.llm.base import ChatReply
from autointerp.llm.cut_prompts import PromptCheck, fewest_tokens
from autointerp.llm.openai_compat import OpenAICompatible
from tests.unit.llm.servers import answering, question

WORDS = "the river ran to the sea and "


def prose(n: int) -> str:
    """A text of so many tokens, roughly, at four characters each."""
    return (WORDS * n)[: 4 * n]


def test_far_fewer_tokens_than_were_sent_are_a_cut_prompt() -> None:
    """All demonstrations and most windows of a question were dropped, and its answer was scored."""
    check = PromptCheck()
    assert check.sent(question(prose(2950)), 1024) == 2950
    assert check.sent(question(prose(1620)), 1024) == 1620
    assert PromptCheck().sent(question(prose(2950)), 2950) is None


def test_one_count_for_prompts_of_different_length_is_a_window() -> None:
    """Two thousand of three thousand tokens is not far below, but another prompt came to the same number."""
    check = PromptCheck()
    assert check.sent(question(prose(2100)), 2050) is None
    assert check.sent(question(prose(2900)), 2050) == 2900


def test_a_window_that_was_seen_is_remembered() -> None:
    """A server that drops whole turns reads a little less than its window, a different number each time."""
    check = PromptCheck(window=2048)
    assert check.sent(question(prose(2950)), 2017) == 2950
    assert check.sent(question(prose(1500)), 1500) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (prose(3000), 0),
        (prose(3000), 7),
        (prose(3000), 10**12),
        ("今天天气很好我们去公园散步" * 300, 2600),
        ("ประเทศไทยมีอากาศร้อน" * 200, 1100),
        ("def f():\n" + (" " * 40 + "return x\n") * 200, 900),
        ("=" * 4000 + "\n" + "-" * 4000, 300),
        ("internationalization representativeness " * 200, 1000),
    ],
    ids=["no count", "nonsense", "absurd", "Chinese", "Thai", "indented code", "rulers", "long words"],
)
def test_other_scripts_code_and_servers_that_do_not_count_are_no_alarm(text: str, count: int) -> None:
    assert PromptCheck().sent(question(text), count) is None


def test_a_server_that_leaves_cached_tokens_out_is_believed() -> None:
    """The first prompt is counted whole, the others without what they share with it."""
    check = PromptCheck()
    assert check.sent(question(prose(3000)), 3000) is None
    assert [check.sent(question(prose(n)), 380) for n in (2990, 2000, 3000)] == [None] * 3


def test_fewest_tokens_is_below_what_tokenizers_make() -> None:
    """Of 29 characters and 7 words."""
    assert fewest_tokens(WORDS) <= 7


@pytest.mark.parametrize(
    "cached",
    [
        {"prompt_tokens_details": {"cached_tokens": 2600}},
        {"cache_read_input_tokens": 2600},
        {"prompt_cache_hit_tokens": 2600},
        {"total_tokens": 3002},
    ],
)
def test_cached_tokens_are_read_tokens_under_every_name(cached: dict[str, object]) -> None:
    assert answered({"prompt_tokens": 400, "completion_tokens": 2, **cached}).tokens_sent is None


def test_a_cut_prompt_marks_its_reply() -> None:
    assert answered({"prompt_tokens": 400, "completion_tokens": 2}).tokens_sent == 3000


def answered(usage: dict[str, object]) -> ChatReply:
    """The reply to a prompt of about 3,000 tokens with that usage."""

    async def handler(_: dict[str, object]) -> web.Response:
        choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
        return web.json_response({"model": "m", "choices": [choice], "usage": usage})

    async def run() -> ChatReply:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            try:
                return await client.complete(question(prose(3000)))
            finally:
                await client.aclose()

    return asyncio.run(run())
