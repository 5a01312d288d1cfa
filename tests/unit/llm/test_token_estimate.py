"""Token counts without a tokenizer: near enough to what endpoints count that a price shown before a run is one."""

import asyncio
from pathlib import Path

import pytest

from autointerp.llm.base import ChatMessage, ChatRequest, Endpoint
from autointerp.llm.fakes import text_reply
from autointerp.llm.foreseen import LEAST_TOLD, Foreseen
from autointerp.llm.token_estimate import TOKENS_A_MESSAGE, estimate_input, estimate_tokens
from autointerp.records import Usage

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize(
    ("name", "cl100k", "deepseek", "claude"),
    [
        ("explain-tsv.v1", 2127, 2141, 2200),
        ("simulate-structured.v1", 1249, 1275, 1218),
        ("grade-structured.v1", 1519, 1548, 1567),
        ("grade-letters.v1", 1371, 1400, 1458),
        ("refine-tsv.v1", 1433, 1441, 1482),
    ],
)
def test_our_prompts_are_counted_within_fifteen_per_cent(name: str, cl100k: int, deepseek: int, claude: int) -> None:
    """Characters over four said 1,415 tokens of the first, and half of a real explanation's.

    The true counts are those of the tokenizers' own vocabularies on these files.
    """
    estimated = estimate_tokens((GOLDEN / f"{name}.txt").read_text(encoding="utf-8"))
    for true in (cl100k, deepseek, claude):
        assert 0.85 < estimated / true < 1.15


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("", 0),
        ("the cat", 2),
        (" token\t0\n", 4),
        ("1234", 2),
        ("a_b", 3),
        ("x\n\n\ny", 3),
        ("internationalisation", 2),
        ("今天", 2),
        ('{"1": 0, "2": 10}', 13),
    ],
)
def test_pieces_by_hand(text: str, n: int) -> None:
    """Words, runs of three digits, marks, blanks; two Chinese characters are six bytes."""
    assert estimate_tokens(text) == n


def test_a_request_is_its_messages() -> None:
    """A schema is held to and not read: with it, a graded question was an eighth too long."""
    messages = (ChatMessage(role="system", content="the cat"), ChatMessage(role="user", content="sat"))
    request = ChatRequest(messages=messages, max_tokens=9, json_schema={"type": "object"})
    assert estimate_input(request) == 3 + 2 * TOKENS_A_MESSAGE


def counted(told: int, n: int) -> float | None:
    """The correction after n kept replies to a question of 104 estimated tokens that say `told`."""
    request = ChatRequest(messages=(ChatMessage(role="user", content=" word" * 100),), max_tokens=9)
    reply = text_reply("yes").model_copy(update={"usage": Usage(calls=1, input_tokens=told)})
    endpoint = Endpoint(provider="openai", base_url="http://127.0.0.1/v1", model="m")
    model = Foreseen(endpoint, lambda key: reply, lambda body: None, ())
    for _ in range(n):
        asyncio.run(model.complete(request))
    return model.correction


def test_an_endpoints_own_counts_correct_the_estimate() -> None:
    """What it counted of questions that the cache answers; a cut prompt, or no count, says nothing."""
    assert counted(130, LEAST_TOLD) == pytest.approx(1.25)
    assert counted(130, LEAST_TOLD - 1) is None
    assert counted(0, LEAST_TOLD) is None
    assert counted(20, LEAST_TOLD) is None
