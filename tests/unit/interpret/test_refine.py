"""Revisions on fakes: which errors are shown, that the score part never is, and failures that stay failures."""

import asyncio
from collections.abc import Sequence

import pytest

from autointerp.errors import StoppedError
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.oracle import ShownWindow, oracle
from autointerp.interpret.refine import MOST_CASES, choose_cases
from autointerp.llm.base import ChatRequest
from autointerp.llm.errors import BadKeyError
from autointerp.llm.fakes import FunctionModel, ScriptedModel
from autointerp.records import Example, Explanation, Failed, Simulation
from tests.unit.interpret.features import example, explained, feature_record
from tests.unit.interpret.test_simulate_llm import answered_by


def marked(true: int, name: str) -> Example:
    """A window whose second token is asked for."""
    return example([f" {name}", " x", " y"], [0, true, 0], target=1)


def refined(
    model: FunctionModel | ScriptedModel, select: Sequence[Example], predicted: Sequence[tuple[int, ...]]
) -> Explanation | Failed:
    """A revision of a text about the test feature."""
    record = feature_record([], select=select, score=[marked(9, "secret")])
    simulated = Simulation(levels=tuple(predicted))
    return asyncio.run(TsvExplainer(model).refine(record, explained("the old text"), simulated))


def test_the_worst_cases_are_shown_in_balance() -> None:
    """Twelve misses and six false alarms of different size: the four worst of each, worst first."""
    select = [marked(level % 11, f"m{level}") for level in range(12)] + [marked(0, f"f{level}") for level in range(6)]
    predicted = [(0,)] * 12 + [(level,) for level in range(6)]
    cases = choose_cases(select, Simulation(levels=tuple(predicted)))
    assert [case.tokens[0] for case in cases] == [" m10", " m9", " m8", " m7", " f5", " f4", " f3", " f2"]
    assert [case.error for case in cases] == [10, 9, 8, 7, -5, -4, -3, -2]


@pytest.mark.parametrize(("misses", "alarms"), [(1, 9), (9, 1), (0, 9), (9, 0), (2, 1)])
def test_what_one_kind_lacks_the_other_fills(misses: int, alarms: int) -> None:
    select = [marked(9, "m")] * misses + [marked(0, "f")] * alarms + [marked(4, "right")]
    predicted = [(0,)] * misses + [(9,)] * alarms + [(4,)]
    cases = choose_cases(select, Simulation(levels=tuple(predicted)))
    assert len(cases) == min(MOST_CASES, misses + alarms)
    assert sum(case.error > 0 for case in cases) == max(min(misses, 4), min(misses, MOST_CASES - alarms))


def test_of_a_whole_window_the_worst_token_counts() -> None:
    """A token past the target is no error of a graded window; of a whole window it is."""
    levels, predicted = [0, 3, 0, 8], (0, 1, 5, 8)
    (case,) = choose_cases([example("abcd", levels)], Simulation(levels=(predicted,)))
    assert (case.error, case.predicted) == (-5, {0: 0, 1: 1, 2: 5, 3: 8})
    (case,) = choose_cases([example("abcd", levels, target=3)], Simulation(levels=((6,),)))
    assert (case.error, case.predicted) == (2, {3: 6})


def test_a_window_whose_answer_failed_is_no_error() -> None:
    assert choose_cases([marked(9, "a")], Simulation(levels=(None,), failures=((0, "refused"),))) == []


def test_a_revision_says_where_it_comes_from() -> None:
    model = FunctionModel(lambda _: "I see.\nExplanation: the new text")
    revision = refined(model, [marked(9, "a"), marked(0, "b")], [(1,), (6,)])
    assert isinstance(revision, Explanation)
    assert (revision.text, revision.author, revision.no_pattern) == ("the new text", "fake:function", False)
    assert revision.prompt_digest == TsvExplainer(model).refine_digest != TsvExplainer(model).prompt_digest
    assert revision.usage.calls == 1
    question = model.asked[0].messages[-1].content
    assert question.startswith("Description: the old text\n\nCases:\n\nCase 1, missed\n a\t0\n x\t9\t1\n y\t0\n\n")
    assert "\n\nCase 2, false alarm\n b\t0\n x\t0\t6\n y\t0\n\n" in question


def test_no_clear_pattern_is_a_legal_revision() -> None:
    revision = refined(FunctionModel(lambda _: "Explanation: no clear pattern"), [marked(9, "a")], [(1,)])
    assert isinstance(revision, Explanation)
    assert revision.no_pattern


def test_the_score_part_is_never_seen() -> None:
    """A revision that has seen the score part is scored on what it was told."""

    def asked(score: list[Example]) -> list[ChatRequest]:
        model = FunctionModel(lambda _: "what?")
        select = [marked(9, "a"), marked(0, "b")]
        record = feature_record([marked(5, "shown")], select=select, score=score)
        asyncio.run(TsvExplainer(model).refine(record, explained("the old text"), Simulation(levels=((1,), (6,)))))
        return model.asked

    assert asked([marked(9, "secret")]) == asked([])
    assert all("secret" not in request.model_dump_json() for request in asked([marked(9, "secret")]))


def test_without_an_error_nothing_is_asked() -> None:
    model = FunctionModel(lambda _: "Explanation: the new text")
    for select, predicted in (([], []), ([marked(9, "a")], [(9,)])):
        failure = refined(model, select, predicted)
        assert isinstance(failure, Failed)
        assert (failure.stage, failure.reason, failure.attempts) == ("refine", "no_error_to_show", 0)
    assert not model.asked


def test_an_unusable_revision_is_asked_again_at_most_twice() -> None:
    model = ScriptedModel(["what?", "eh", "hm", "Explanation: too late"])
    failure = refined(model, [marked(9, "a")], [(1,)])
    assert isinstance(failure, Failed)
    assert (failure.stage, failure.reason, failure.attempts) == ("refine", "no_explanation", 3)
    assert [request.sample for request in model.asked] == [0, 1, 2]
    assert [message.content for message in model.asked[2].messages[-3:-1]] == [
        model.asked[0].messages[-1].content,
        "eh",
    ]
    with pytest.raises(StoppedError):
        refined(ScriptedModel([BadKeyError("no")]), [marked(9, "a")], [(1,)])


def test_a_simulation_of_other_windows_is_a_bug() -> None:
    with pytest.raises(ValueError, match="zip"):
        choose_cases([marked(9, "a")], Simulation(levels=((1,), (1,))))


def test_the_oracle_revises_by_the_true_levels() -> None:
    """Predicted levels in the third column would make it explain the error."""
    seen: list[ShownWindow] = []

    def rule_of(windows: object) -> str:
        assert isinstance(windows, list)
        seen.extend(windows)
        return "the rule"

    revision = refined(answered_by(oracle(lambda *_: None, rule_of)), [marked(9, "a"), marked(0, "b")], [(1,), (6,)])
    assert isinstance(revision, Explanation)
    assert seen == [((" a", " x", " y"), [0, 9, 0]), ((" b", " x", " y"), [0, 0, 0])]
