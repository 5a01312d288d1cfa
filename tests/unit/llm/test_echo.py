"""Prompts that are read and not answered: alignment from the end, silence noticed, no old request's key changed."""

import asyncio
import json

import pytest
from aiohttp import web

from autointerp.llm.answers import obedient_answer
from autointerp.llm.base import ChatMessage, ChatReply, ChatRequest, Endpoint, PromptRequest
from autointerp.llm.decode import decode_echo
from autointerp.llm.errors import ContextTooLongError, MalformedReplyError, RateLimitedError
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.probe import PROMPT_TOP_LOGPROBS, probe_prompts
from autointerp.llm.testserver.profiles import PROFILES
from autointerp.llm.testserver.server import TestServer, running
from autointerp.llm.wire import IMPOSSIBLE_LOGPROB
from autointerp.llm.wrappers import request_key
from tests.unit.llm.servers import Handler, answering

READ = "1: x\n2: x"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def echo(tokens: list[str], /, **more: object) -> bytes:
    """A completion that echoes these tokens, each one's place told by its log probability."""
    logprobs = {
        "tokens": tokens,
        "token_logprobs": [None, *(-float(i) for i in range(1, len(tokens)))],
        "top_logprobs": [None, *({token: -float(i), " a": -0.5} for i, token in enumerate(tokens) if i)],
        "text_offset": [0] * len(tokens),
        **more,
    }
    choice = {"text": "", "finish_reason": "length", "logprobs": logprobs}
    return json.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9}}).encode()


def spelled(reply: ChatReply) -> list[str] | None:
    """The tokens that were kept."""
    return None if reply.logprobs is None else [entry.token for entry in reply.logprobs]


TAIL = ["1", ":", " x", "\n", "2", ":", " x"]


@pytest.mark.parametrize(
    "before",
    [
        ["<s>", "Levels", ":\n"],
        ["<|begin_of_text|>", "�", "�", " caf", "\n"],
        ["a\n"],
        [" x", "1", ":", " x", "\n", "2", ":", " x", "\n"],
    ],
    ids=["start token", "split characters", "one token", "the same text before"],
)
@pytest.mark.parametrize("generated", [[], ["\n"], [""], [" x"]], ids=["none", "line", "end", "another"])
def test_the_end_of_the_prompt_is_found_whatever_stands_around_it(before: list[str], generated: list[str]) -> None:
    """Counted from the start, a start token or a character of two tokens would shift every level's place."""
    reply = decode_echo(echo([*before, *TAIL, *generated]), READ)
    assert spelled(reply) == TAIL
    assert reply.logprobs is not None
    assert [entry.logprob for entry in reply.logprobs] == [-float(i) for i in range(len(before), len(before) + 7)]
    assert reply.text == READ


def test_a_token_that_begins_before_the_end_is_kept_whole() -> None:
    assert spelled(decode_echo(echo(["<s>", "a:", "\n1", ":", " x\n", "2: x", "b"]), READ)) == [
        "\n1",
        ":",
        " x\n",
        "2: x",
    ]


@pytest.mark.parametrize(
    "tokens", [["blue"], ["<s>", "a"], ["<s>", *TAIL[:-1], " y", "\n"], ["<s>", *TAIL, "\n", "\n"]]
)
def test_an_echo_that_ends_otherwise_has_no_log_probabilities(tokens: list[str]) -> None:
    """A server that returns what it generated alone, or token ids for texts, must not be read as an answer."""
    assert decode_echo(echo(tokens), READ).logprobs is None


def test_log_probabilities_may_be_left_out() -> None:
    body = {"choices": [{"text": READ, "finish_reason": "length", "logprobs": None}]}
    assert decode_echo(json.dumps(body).encode(), READ).logprobs is None


def test_an_impossible_token_has_a_number() -> None:
    tops = [None, *({token: None} for token in TAIL)]
    body = echo(["<s>", *TAIL], token_logprobs=[None] * 8, top_logprobs=tops)
    reply = decode_echo(body, READ)
    assert reply.logprobs is not None
    assert {entry.logprob for entry in reply.logprobs} == {IMPOSSIBLE_LOGPROB}
    assert reply.logprobs[2].top == ((" x", IMPOSSIBLE_LOGPROB),)


@pytest.mark.parametrize("body", [b"{}", b"[]", echo(["<s>", *TAIL], tokens=["a"]), echo(["<s>", "a"], tokens=[1, 2])])
def test_a_body_of_another_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReplyError):
        decode_echo(body, READ)


def test_keys_of_chat_requests_are_as_they_were() -> None:
    """A field more in every request would have every user pay for everything again."""
    request = ChatRequest(
        messages=(ChatMessage(role="system", content="s"), ChatMessage(role="user", content="u")),
        max_tokens=20,
        temperature=0.0,
        top_logprobs=11,
        json_schema={"type": "object"},
        sample=2,
    )
    endpoint = Endpoint(provider="openai", base_url="http://127.0.0.1:1/v1", model="m")
    assert request_key(endpoint, request) == "blake2b:5835a418871540b6738e6ac9bb3b644b9938e3ee"


def test_prompts_have_keys_of_their_own() -> None:
    endpoint = Endpoint(provider="openai", base_url="http://127.0.0.1:1/v1", model="m")
    requests = [
        PromptRequest(prompt="a", read="b"),
        PromptRequest(prompt="", read="ab"),
        PromptRequest(prompt="a", read="b", sample=1),
        ChatRequest(messages=(), max_tokens=1),
    ]
    assert len({request_key(endpoint, request) for request in requests}) == 4


def asked_of(profile: str, request: PromptRequest) -> tuple[ChatReply, int]:
    """One reply, and what the probe finds there."""

    async def run() -> tuple[ChatReply, int]:
        async with running(TestServer(obedient_answer, PROFILES[profile])) as url:
            client = OpenAICompatible("any", url)
            try:
                return await client.complete(request), await probe_prompts(client)
            finally:
                await client.aclose()

    return asyncio.run(run())


def test_a_prompt_is_read_over_http() -> None:
    """The fake reader expects what it has read before."""
    reply, found = asked_of("full", PromptRequest(prompt="one two", read=" one three", top_logprobs=4))
    assert spelled(reply) == [" one", " three"]
    assert reply.logprobs is not None
    assert [len(entry.top) for entry in reply.logprobs] == [4, 4]
    assert reply.usage.input_tokens == 5
    assert found == PROMPT_TOP_LOGPROBS


@pytest.mark.parametrize("profile", ["no-echo", "no-logprobs"])
def test_silence_is_noticed_by_the_probe(profile: str) -> None:
    reply, found = asked_of(profile, PromptRequest(prompt="one two", read=" one", top_logprobs=4))
    assert reply.logprobs is None
    assert found == 0


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
def test_a_refused_echo_is_not_asked_for_again(status: int) -> None:
    """llama.cpp answers with an error of its own, and some with one that asking again would meet for a minute."""
    asked: list[dict[str, object]] = []

    async def refuse(body: dict[str, object]) -> web.Response:
        asked.append(body)
        return web.json_response({"error": {"message": "Only no echo is supported"}}, status=status)

    assert probed(refuse) == 0
    assert len(asked) == 1


def test_a_rate_limit_is_no_finding() -> None:
    async def limit(_: dict[str, object]) -> web.Response:
        return web.json_response({"error": {"message": "slow down"}}, status=429)

    with pytest.raises(RateLimitedError):
        probed(limit)


def test_numbers_that_do_not_depend_on_the_prompt_are_none() -> None:
    async def constant(_: dict[str, object]) -> web.Response:
        return web.Response(body=echo(["<s>", " blue", "x"]), content_type="application/json")

    assert probed(constant) == 0


def probed(handler: Handler) -> int:
    """What the probe of prompts finds at a server whose completions are the handler's."""

    async def run() -> int:
        async with answering(handler, path="/v1/completions") as url:
            client = OpenAICompatible("any", url)
            try:
                return await probe_prompts(client)
            finally:
                await client.aclose()

    return asyncio.run(run())


def test_an_error_of_a_prompt_is_classified_and_never_negotiated() -> None:
    """None of its fields can be left out: settled as a chat completion's, it would be sent for ever."""
    said = ["max_tokens is not supported", "maximum context length is 10 tokens"]

    async def refuse(_: dict[str, object]) -> web.Response:
        return web.json_response({"error": {"message": said.pop(0)}}, status=400)

    async def run() -> None:
        async with answering(refuse, path="/v1/completions") as url:
            client = OpenAICompatible("any", url)
            for error in (Exception, ContextTooLongError):
                with pytest.raises(error):
                    await client.complete(PromptRequest(prompt="a", read="b", top_logprobs=3))
            await client.aclose()

    asyncio.run(run())
    assert said == []
