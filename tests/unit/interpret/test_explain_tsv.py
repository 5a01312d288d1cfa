"""The TSV explainer on fakes: candidates, the legal "no clear pattern", and failures that stay failures."""

import asyncio
from collections.abc import Sequence

import pytest

from autointerp.errors import StoppedError
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.llm.base import ChatReply, ChatRequest
from autointerp.llm.errors import BadKeyError, ConnectionLostError, ContextTooLongError
from autointerp.llm.fakes import FunctionModel, ScriptedModel, text_reply
from autointerp.records import Explanation, Failed
from tests.unit.interpret.features import FEATURE, three_tokens


def explain(replies: Sequence[str | ChatReply | Exception], n: int = 1) -> list[Explanation] | Failed:
    """Explanations of the three-token feature from scripted replies."""
    return asyncio.run(TsvExplainer(ScriptedModel(replies)).explain(three_tokens(), n))


def only(result: list[Explanation] | Failed) -> Explanation:
    """The single explanation of a result."""
    assert isinstance(result, list)
    (explanation,) = result
    return explanation


def failed(result: list[Explanation] | Failed) -> Failed:
    """A result that is a failure."""
    assert isinstance(result, Failed)
    return result


def test_an_explanation_says_where_it_comes_from() -> None:
    explanation = only(explain(["Explanation: dollar signs"]))
    assert (explanation.feature, explanation.text, explanation.no_pattern) == (FEATURE, "dollar signs", False)
    assert (explanation.author, explanation.method) == ("fake:scripted", "tsv")
    assert explanation.prompt_digest is not None
    assert explanation.usage.calls == 1


def test_no_clear_pattern_is_an_answer() -> None:
    explanation = only(explain(["Explanation: no clear pattern."]))
    assert explanation.no_pattern


def test_an_unusable_answer_is_asked_again_at_most_twice_and_paid_for() -> None:
    assert only(explain(["what?", "Explanation: dollar signs"])).usage.calls == 2
    failure = failed(explain(["what?", "eh", "hm", "Explanation: too late"]))
    assert (failure.stage, failure.reason, failure.attempts) == ("explain", "no_explanation", 3)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (text_reply("Explanation: I").model_copy(update={"refused": True}), "refused"),
        (text_reply("Explanation: I").model_copy(update={"finish_reason": "length"}), "cut_off"),
        (ConnectionLostError("http://h/v1", "reset"), "connection_lost"),
    ],
)
def test_what_asking_again_cannot_help_is_asked_once(reply: ChatReply | Exception, reason: str) -> None:
    failure = failed(explain([reply, "Explanation: dollar signs"]))
    assert (failure.reason, failure.attempts) == (reason, 1)


def test_candidates_are_distinct_samples_and_distinct_texts() -> None:
    texts = ["Explanation: one thing", "Explanation: One thing", "Explanation: another thing"]

    def answer(request: ChatRequest) -> str:
        return texts[request.sample]

    model = FunctionModel(answer)
    result = asyncio.run(TsvExplainer(model).explain(three_tokens(), 3))
    assert isinstance(result, list)
    assert [explanation.text for explanation in result] == ["one thing", "another thing"]
    assert sum(explanation.usage.calls for explanation in result) == 3
    assert [request.sample for request in model.asked] == [0, 1, 2]


def test_the_sample_of_a_candidate_does_not_depend_on_how_many_there_are() -> None:
    """Otherwise asking for five candidates after three pays for all five."""

    def requests(n: int) -> list[ChatRequest]:
        model = FunctionModel(lambda _: "no good")
        asyncio.run(TsvExplainer(model).explain(three_tokens(), n))
        return model.asked

    assert {r.model_dump_json() for r in requests(1)} < {r.model_dump_json() for r in requests(3)}
    assert len({(r.sample) for r in requests(3)}) == 9


def test_a_failed_candidate_does_not_take_the_others_down() -> None:
    def answer(request: ChatRequest) -> str:
        return "what?" if request.sample % 1000 == 0 else "Explanation: dollar signs"

    explanation = only(asyncio.run(TsvExplainer(FunctionModel(answer)).explain(three_tokens(), 2)))
    assert explanation.usage.calls == 4


def test_a_stopped_run_stops() -> None:
    with pytest.raises(StoppedError):
        explain([BadKeyError("no")])


def test_the_explainer_sees_the_explain_part_only() -> None:
    model = FunctionModel(lambda _: "Explanation: dollar signs")
    record = three_tokens()
    moved = record.splits.model_copy(update={"score": record.splits.explain, "explain": ()})
    asyncio.run(TsvExplainer(model).explain(record.model_copy(update={"splits": moved}), 1))
    assert "$x" not in model.asked[0].messages[-1].content


def test_examples_too_long_for_the_context_are_halved() -> None:
    """A model of 4k tokens could explain no feature at all."""
    record = three_tokens()
    many = record.splits.model_copy(update={"explain": record.splits.explain * 8})
    n_shown: list[int] = []

    def small_context(request: ChatRequest) -> ChatReply:
        n_shown.append(request.messages[-1].content.count("Window "))
        if n_shown[-1] > 3:
            raise ContextTooLongError("4,096 tokens at most")
        return text_reply("Explanation: dollar signs")

    record = record.model_copy(update={"splits": many})
    kept = only(asyncio.run(TsvExplainer(FunctionModel(small_context)).explain(record, 1)))
    assert kept.text == "dollar signs"
    assert n_shown[0] == len(many.explain)
    assert n_shown == sorted(n_shown, reverse=True)
    assert 1 <= n_shown[-1] <= 3
