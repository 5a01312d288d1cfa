"""The probe asks what a run asks, with room, and concludes nothing from an answer that was cut off or empty."""

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from autointerp.llm.answers import obedient_answer
from autointerp.llm.base import Capabilities
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.probe import probe
from autointerp.llm.testserver.profiles import PROFILES
from autointerp.llm.testserver.server import TestServer, running
from tests.unit.llm.servers import answering

Body = dict[str, object]
Said = dict[str, object]


def said(text: str | None, finish: str = "stop", prompt_tokens: int = 20, **choice: object) -> Said:
    """A chat completion."""
    first = {"message": {"content": text}, "finish_reason": finish, **choice}
    return {"model": "served", "choices": [first], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 5}}


def asked(body: Body) -> str:
    """The text of the last message."""
    messages = body["messages"]
    assert isinstance(messages, list)
    return str(messages[-1]["content"])


def repeated(body: Body) -> str:
    """What an obedient model answers."""
    if body.get("response_format"):
        return '{"1": 0, "2": 10}'
    return asked(body).partition("exactly: ")[2].split("\n")[0]


def found(answer: Callable[[Body], Said]) -> tuple[Capabilities, list[Body]]:
    """What the probe finds, and what it asked."""
    seen: list[Body] = []

    async def handler(body: Body) -> web.Response:
        seen.append(body)
        return web.json_response(answer(body))

    async def run() -> Capabilities:
        async with answering(handler) as url:
            client = OpenAICompatible("m", url)
            try:
                return await probe(client)
            finally:
                await client.aclose()

    return asyncio.run(run()), seen


def spelled(pieces: list[str], top: int = 2) -> dict[str, object]:
    """Log probabilities of tokens."""
    others = [{"token": f"<{i}>", "logprob": -12.0} for i in range(top - 1)]
    return {
        "content": [
            {"token": p, "logprob": -0.01, "top_logprobs": [{"token": p, "logprob": -0.01}, *others]} for p in pieces
        ]
    }


def test_a_model_that_thinks_longer_is_asked_again_with_more_room() -> None:
    """Two empty texts are alike: a model that thinks was refused as one that does not read."""

    def answer(body: Body) -> Said:
        room = body["max_tokens"]
        assert isinstance(room, int)
        return said(repeated(body)) if room > 700 else said(None, "length")

    seen, bodies = found(answer)
    assert seen.answers_differ
    assert seen.json_schema
    assert [body["max_tokens"] for body in bodies[:2]] == [200, 2000]


def test_no_conclusion_from_answers_that_never_ended() -> None:
    seen, _ = found(lambda _: said("The", "length"))
    assert seen.answers_differ


def test_equal_texts_with_other_log_probabilities_are_different_answers() -> None:
    def answer(body: Body) -> Said:
        logprobs = spelled(["OK"])
        logprobs["content"][0]["logprob"] = -0.5 if "10" in asked(body) else -0.6  # type: ignore[index]
        return said("OK", logprobs=logprobs)

    seen, _ = found(answer)
    assert seen.answers_differ
    assert seen.logprobs_differ


def test_equal_answers_that_ended_are_alike() -> None:
    assert not found(lambda _: said("OK"))[0].answers_differ


@pytest.mark.parametrize(("space", "expected"), [(" ", 2), ("", 0)])
def test_log_probabilities_count_where_they_spell_the_answer(space: str, expected: int) -> None:
    """Each token decoded alone loses its space: the probe saw log probabilities, and every question was lost."""

    def answer(body: Body) -> Said:
        text = repeated(body)
        pieces = text.replace(" ", "| |").split("|")
        return said(text, logprobs=spelled([space if piece == " " else piece for piece in pieces]))

    assert found(answer)[0].top_logprobs == expected


def test_the_schema_of_the_run_is_asked_for() -> None:
    _, bodies = found(lambda body: said(repeated(body)))
    schemas = [json.dumps(body["response_format"]) for body in bodies if "response_format" in body]
    assert len(schemas) == 1
    assert '"enum": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]' in schemas[0]


def test_a_window_that_cuts_in_silence_is_seen() -> None:
    """4,096 of 4,500 words: the beginning is dropped, and the answer comes with status 200."""

    def answer(body: Body) -> Said:
        n = len(asked(body)) // 4
        return said(repeated(body) if n < 4096 else "the sun", prompt_tokens=min(n, 4096))

    seen, bodies = found(answer)
    assert seen.window == 4096
    assert len(bodies) == 4
    whole, _ = found(lambda body: said(repeated(body), prompt_tokens=len(asked(body)) // 4))
    assert whole.window is None
    assert whole.longest_read > 4400


def test_what_an_older_version_kept_is_still_read() -> None:
    old = (
        '{"endpoint": {"provider": "openai", "base_url": "http://h/v1", "model": "m"}, "answers_differ": true, '
        '"top_logprobs": 20, "logprobs_differ": true, "json_schema": true, "ten_is_one_token": true, '
        '"prompt_logprobs": null, "rejected": ["top_logprobs>5"]}'
    )
    seen = Capabilities.model_validate_json(old)
    assert (seen.window, seen.longest_read) == (None, 0)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_kind_of_server_can_be_probed(name: str) -> None:
    """Each refuses, hides, cuts or rewrites something; none of that may end a run before it began."""

    async def run() -> Capabilities:
        async with running(TestServer(obedient_answer, PROFILES[name])) as url:
            client = OpenAICompatible("test-model", f"{url}?api-version=1" if PROFILES[name].needs_query else url)
            try:
                return await probe(client)
            finally:
                await client.aclose()

    seen = asyncio.run(run())
    assert seen.answers_differ
    assert seen.window == (4096 if name == "ollama" else None)
    assert seen.json_schema is not (
        PROFILES[name].ignores_schema or any(r.field == "response_format" for r in PROFILES[name].refusals)
    )
