"""The simulators on fakes: alignment by our own numbers, failures as None with a reason, the form by the endpoint."""

import asyncio
import json
import re

import pytest

from autointerp.errors import StoppedError, UsageError
from autointerp.format import levels_schema
from autointerp.interpret.oracle import lookup_oracle, oracle
from autointerp.interpret.parse import LETTERS, NUMBERS, Unparsed, parse_structured
from autointerp.interpret.simulate import Tokens
from autointerp.interpret.simulate_llm import (
    StructuredSimulator,
    TopLogprobsSimulator,
    make_llm_simulator,
)
from autointerp.llm.answers import Answer, AnswerFunction
from autointerp.llm.base import Capabilities, ChatReply, ChatRequest, Endpoint
from autointerp.llm.errors import ContextTooLongError, QuotaExhaustedError
from autointerp.llm.fakes import FunctionModel, ScriptedModel, text_reply
from autointerp.llm.negotiate import Negotiation
from autointerp.records import Usage, Window
from tests.unit.interpret.features import explained

WINDOWS = [Window(("a", "b", "\\n")), Window(("b", "b"))]


def answered_by(function: AnswerFunction) -> FunctionModel:
    """A model that answers as a test server with that function would, without the server."""

    def complete(request: ChatRequest) -> ChatReply:
        said = function(Negotiation().body(request, "m"))
        answer = said if isinstance(said, Answer) else Answer(said or "")
        return text_reply(answer.text).model_copy(update={"logprobs": answer.tokens})

    return FunctionModel(complete)


def b_is_seven(explanation: str, tokens: object) -> list[int]:
    """Levels by an explanation that names one token."""
    assert isinstance(tokens, tuple)
    return [7 if token == explanation else 0 for token in tokens]


def word_is_seven(explanation: str, tokens: Tokens) -> list[int]:
    """Levels by an explanation that names one word."""
    return [7 if token == f" {explanation}" else 0 for token in tokens]


def test_structured_levels_come_back_in_place() -> None:
    simulator = StructuredSimulator(answered_by(oracle(b_is_seven)))
    simulation = asyncio.run(simulator.simulate(explained("b"), WINDOWS))
    assert simulation.levels == ((0, 7, 0), (7, 7))
    assert simulation.failures == ()
    assert simulation.usage.calls == 2


@pytest.mark.parametrize("form", ["numbers", "letters"])
def test_top_logprobs_keep_the_expectation(form: str) -> None:
    simulator = TopLogprobsSimulator(answered_by(oracle(b_is_seven)), form)  # type: ignore[arg-type]
    simulation = asyncio.run(simulator.simulate(explained("b"), WINDOWS))
    assert simulation.levels == ((0, 7, 0), (7, 7))
    assert simulation.expected is not None
    assert simulation.expected[1] == pytest.approx((7.0, 7.0))
    assert simulation.expected[0] is not None
    assert simulation.expected[0][0] == pytest.approx(0.05)
    assert simulation.legal_mass == pytest.approx(1.0)
    assert simulator.name.startswith(f"top-logprobs/{form} ")


MARKED = [Window((" b", f" {'abc'[i % 3]}", " b"), 1 + i % 2) for i in range(23)]
MARKED_LEVELS = tuple((7,) if window.tokens[window.target or 0] == " b" else (0,) for window in MARKED)


def test_structured_targets_come_back_in_place() -> None:
    model = answered_by(oracle(word_is_seven))
    simulation = asyncio.run(StructuredSimulator(model).simulate(explained("b"), MARKED))
    assert simulation.levels == MARKED_LEVELS
    assert {(0,), (7,)} == set(MARKED_LEVELS)
    assert simulation.usage.calls == len(model.asked) == 3
    assert simulation.expected is None


@pytest.mark.parametrize("form", ["numbers", "letters"])
def test_top_logprobs_keep_the_expectation_of_every_target(form: str) -> None:
    simulator = TopLogprobsSimulator(answered_by(oracle(word_is_seven)), form)  # type: ignore[arg-type]
    simulation = asyncio.run(simulator.simulate(explained("b"), MARKED))
    assert simulation.levels == MARKED_LEVELS
    assert simulation.expected is not None
    assert [round(window[0], 6) for window in simulation.expected if window] == [
        7.0 if level == 7 else 0.05 for (level,) in MARKED_LEVELS
    ]
    assert simulation.legal_mass == pytest.approx(1.0)


def test_a_failed_request_fails_its_ten_windows_and_no_other() -> None:
    """Numbered by the feature's windows, not by the request's; never a zero."""

    def answer(request: ChatRequest) -> str:
        content = request.messages[-1].content
        n = content.count("\t")
        return "no" if " 13" in content else json.dumps({str(i): 1 for i in range(1, n + 1)})

    windows = [Window((f" {i}", " b"), 1) for i in range(23)]
    simulation = asyncio.run(StructuredSimulator(FunctionModel(answer)).simulate(explained("b"), windows))
    assert simulation.levels == ((1,),) * 10 + (None,) * 10 + ((1,),) * 3
    assert simulation.failures == tuple((i, "malformed") for i in range(10, 20))
    assert simulation.usage.calls == 1 + 3 + 1


def test_no_window_asks_nothing() -> None:
    model = FunctionModel(lambda _: "no")
    for simulator in (StructuredSimulator(model), TopLogprobsSimulator(model, "numbers")):
        assert asyncio.run(simulator.simulate(explained("b"), [])).levels == ()
    assert not model.asked


def test_what_marks_the_text_itself_is_not_asked_for() -> None:
    """A passage that says «b» in its own text has the level of the token that we marked."""
    model = answered_by(oracle(b_is_seven))
    windows = [Window((" «", "b", "»", " a"), 3), Window((" «", "b", "»", " a"), 1)]
    simulation = asyncio.run(StructuredSimulator(model).simulate(explained("b"), windows))
    assert simulation.levels == ((0,), (7,))


def test_a_failed_window_leaves_the_others_alone() -> None:
    def answer(request: ChatRequest) -> str:
        n = request.messages[-1].content.count("\t")
        return json.dumps({str(i): 1 for i in range(1, 4)}) if n == 3 else "no"

    simulation = asyncio.run(StructuredSimulator(FunctionModel(answer)).simulate(explained("b"), WINDOWS))
    assert simulation.levels == ((1, 1, 1), None)
    assert simulation.failures == ((1, "malformed"),)
    assert simulation.usage.calls == 4


def test_a_misaligned_answer_is_asked_again_behind_itself() -> None:
    model = ScriptedModel(['{"1": 0}', '{"1": 0, "2": 3}'])
    simulation = asyncio.run(StructuredSimulator(model).simulate(explained("b"), [Window(("a", "b"))]))
    assert simulation.levels == ((0, 3),)
    assert model.asked[1].messages[:-2] == model.asked[0].messages
    assert model.asked[1].messages[-2].content == '{"1": 0}'
    assert '"1" to "2"' in model.asked[1].messages[-1].content


def test_missing_logprobs_fail_at_once() -> None:
    model = FunctionModel(lambda _: "1: 0\n2: 3")
    simulation = asyncio.run(TopLogprobsSimulator(model, "numbers").simulate(explained("b"), [Window(("a", "b"))]))
    assert simulation.levels == (None,)
    assert simulation.failures == ((0, "no_logprobs"),)
    assert simulation.legal_mass is None
    assert len(model.asked) == 1


def test_a_stopped_run_stops_as_itself() -> None:
    """A task group would have wrapped the error, and the exit code with it."""
    model = FunctionModel(raise_quota)
    with pytest.raises(StoppedError):
        asyncio.run(StructuredSimulator(model).simulate(explained("b"), WINDOWS))


def raise_quota(_: ChatRequest) -> str:
    """An account that is empty."""
    raise QuotaExhaustedError("empty")


def test_the_schema_asks_for_every_number_once_and_in_order() -> None:
    schema = levels_schema(3)
    assert schema["required"] == ["1", "2", "3"]
    assert json.dumps(schema["properties"]).count('"enum"') == 3


def test_the_simulator_sees_the_explanation_and_the_tokens_only() -> None:
    model = FunctionModel(lambda _: "{}")
    asyncio.run(StructuredSimulator(model).simulate(explained("b"), [Window(("a", "b"))]))
    assert model.asked[0].messages[-1].content == "Explanation: b\n\nTokens:\n1\ta\n2\tb\n\nLevels of tokens 1 to 2:"
    asyncio.run(StructuredSimulator(model).simulate(explained("b"), [Window(("a", "b"), 1), Window(("c", " d"), 0)]))
    assert (
        model.asked[3]
        .messages[-1]
        .content.startswith(
            "Explanation: b\n\nPassages:\n1\ta«b»\n2\t«c» d\n\nLevels of the marked tokens in passages 1 to 2:"
        )
    )


def capabilities(**more: object) -> Capabilities:
    """What a good endpoint does, but for what is said."""
    endpoint = Endpoint(provider="openai", base_url="http://localhost/v1", model="m")
    good = {
        "endpoint": endpoint,
        "answers_differ": True,
        "top_logprobs": 20,
        "logprobs_differ": True,
        "json_schema": True,
        "ten_is_one_token": True,
        "rejected": (),
    }
    return Capabilities.model_validate({**good, **more})


def test_the_form_follows_what_the_endpoint_was_seen_to_do() -> None:
    model = FunctionModel(lambda _: "")
    assert make_llm_simulator("top-logprobs", model, capabilities()).name == "top-logprobs/numbers fake:function"
    for unsure in (False, None):
        simulator = make_llm_simulator("top-logprobs", model, capabilities(ten_is_one_token=unsure))
        assert simulator.name == "top-logprobs/letters fake:function"
    assert make_llm_simulator("structured", model, capabilities(top_logprobs=0)).name == "structured fake:function"


def test_an_endpoint_that_cannot_is_refused_with_the_way_out() -> None:
    model = FunctionModel(lambda _: "")
    for lack in ({"top_logprobs": 0}, {"logprobs_differ": False}):
        with pytest.raises(UsageError, match="structured"):
            make_llm_simulator("top-logprobs", model, capabilities(**lack))
    with pytest.raises(UsageError, match="alike"):
        make_llm_simulator("structured", model, capabilities(answers_differ=False))


def test_the_lookup_oracle_reads_look_up_explanations_and_no_others() -> None:
    model = answered_by(lookup_oracle())
    text = 'fires on "b" (8); on "b" after "b" (3); else 0'
    simulation = asyncio.run(StructuredSimulator(model).simulate(explained(text), WINDOWS))
    assert simulation.levels == ((0, 8, 0), (8, 3))
    other = asyncio.run(StructuredSimulator(model).simulate(explained("the letter b"), WINDOWS))
    assert other.levels == (None, None)
    assert {reason for _, reason in other.failures} == {"malformed"}


def test_the_lookup_oracle_reads_targets_by_the_text_before_them() -> None:
    """A passage shows no borders of tokens: "ab" may be one token before "c", or two."""
    model = answered_by(lookup_oracle())
    text = 'fires on "c" (8); on "c" after "b" (3); on "c" after "ab" (5); else 0'
    windows = [
        Window(("c", "x"), 0),
        Window(("b", "c"), 1),
        Window(("a", "b", "c"), 2),
        Window((" x", "c"), 1),
        Window(("c", "b"), 1),
    ]
    simulation = asyncio.run(StructuredSimulator(model).simulate(explained(text), windows))
    assert simulation.levels == ((8,), (3,), (5,), (8,), (0,))


def test_forms_cover_all_levels() -> None:
    assert sorted(NUMBERS.values()) == sorted(LETTERS.values()) == list(range(11))


def test_a_request_too_long_for_the_context_is_asked_in_halves() -> None:
    """Ten windows were lost because the last of them was long."""
    truthful = answered_by(oracle(word_is_seven))
    sizes: list[int] = []

    def small_context(request: ChatRequest) -> str | ChatReply:
        sizes.append(request.messages[-1].content.count("«"))
        if sizes[-1] > 3:
            raise ContextTooLongError("4,096 tokens at most")
        return truthful.function(request)

    simulation = asyncio.run(StructuredSimulator(FunctionModel(small_context)).simulate(explained("b"), MARKED))
    assert simulation.levels == MARKED_LEVELS
    assert sorted(sizes, reverse=True)[:2] == [10, 10]
    assert sum(size for size in sizes if size <= 3) == len(MARKED)


def test_a_window_too_long_by_itself_fails_alone() -> None:
    """The other windows of its request have answers."""
    truthful = answered_by(oracle(word_is_seven))

    def one_is_long(request: ChatRequest) -> str | ChatReply:
        if "endless" in request.messages[-1].content:
            raise ContextTooLongError("4,096 tokens at most")
        return truthful.function(request)

    windows = [*MARKED[:7], Window((" b", " endless", " b"), 1)]
    simulation = asyncio.run(StructuredSimulator(FunctionModel(one_is_long)).simulate(explained("b"), windows))
    assert simulation.failures == ((7, "context_too_long"),)
    assert simulation.levels == (*MARKED_LEVELS[:7], None)


def test_an_answer_that_filled_the_context_is_asked_in_halves() -> None:
    """Halves of a question fitted and their answers did not: all were lost as answers that do not end."""

    def complete(request: ChatRequest) -> ChatReply:
        listed = re.findall(r"^\d+\t", request.messages[-1].content, re.MULTILINE)
        n = len(listed)
        full = n > 2
        text = json.dumps({str(i): 3 for i in range(1, n + 1)})
        return ChatReply(
            text=text[:5] if full else text,
            finish_reason="length" if full else "stop",
            context_full=full,
            model="m",
            usage=Usage(calls=1),
        )

    windows = [Window((" a", " b"), 1) for _ in range(8)]
    simulation = asyncio.run(StructuredSimulator(FunctionModel(complete)).simulate(explained("b"), windows))
    assert simulation.levels == ((3,),) * 8
    assert simulation.failures == ()


def test_an_answer_to_a_cut_prompt_is_none() -> None:
    """It looks like an answer in every way."""
    reply = text_reply('{"1": 3}').model_copy(update={"tokens_sent": 2950, "usage": Usage(input_tokens=1024)})
    value = parse_structured(reply, 1)
    assert isinstance(value, Unparsed)
    assert value.reason == "context_too_long"
    assert "read 1,024 of about 2,950" in value.message
