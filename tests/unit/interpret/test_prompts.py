"""Prompt files: variables are checked, rendering has an inverse, and every whole prompt is a golden file."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import UsageError
from autointerp.format import unescape
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.parse import MOST_LISTED, parse_explanation
from autointerp.interpret.prompts import load_few_shots, load_prompt, prompt_digests
from autointerp.interpret.simulate_llm import StructuredSimulator, TopLogprobsSimulator
from autointerp.llm.base import ChatRequest
from autointerp.llm.fakes import FunctionModel, text_reply
from autointerp.records import FeatureFacts
from autointerp.resources import bundled
from tests.unit.interpret.features import explained, three_tokens

GOLDEN = Path(__file__).parents[2] / "golden"
PROMPTS = ("explain-tsv.v1", "simulate-structured.v1", "simulate-numbers.v1", "simulate-letters.v1")


def shown(request: ChatRequest) -> str:
    """A request as a readable text."""
    settings = request.model_dump(mode="json", exclude={"messages"}, exclude_none=True)
    turns = [f"<<< {message.role} >>>\n{message.content}\n" for message in request.messages]
    return "\n".join([*turns, f"<<< settings >>>\n{settings}\n"])


def check_golden(name: str, request: ChatRequest) -> None:
    """Compare with the golden file; `UPDATE_GOLDEN=1` writes it instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown(request), encoding="utf-8")
    assert shown(request) == path.read_text(encoding="utf-8")


def test_the_whole_explainer_prompt() -> None:
    model = FunctionModel(lambda _: "Explanation: anything at all")
    facts = FeatureFacts(top_outputs=((" up", 1.5), ("\\n", 1.0)), bottom_outputs=((" down", -1.0),))
    record = three_tokens().model_copy(update={"facts": facts})
    asyncio.run(TsvExplainer(model).explain(record, 1))
    check_golden("explain-tsv.v1", model.asked[0])


def test_the_whole_structured_prompt() -> None:
    model = FunctionModel(lambda _: '{"1": 0, "2": 9, "3": 3}')
    asyncio.run(StructuredSimulator(model).simulate(explained("a dollar\nsign"), [(" a\\tb", "$x", "\\n")]))
    check_golden("simulate-structured.v1", model.asked[0])


def test_the_whole_question_asked_again() -> None:
    model = FunctionModel(lambda _: "garbage")
    asyncio.run(StructuredSimulator(model).simulate(explained("a dollar sign"), [(" a\\tb", "$x", "\\n")]))
    assert [request.sample for request in model.asked] == [0, 1, 2]
    check_golden("simulate-structured.v1.again", model.asked[2])


def test_the_whole_top_logprobs_prompts() -> None:
    for form in ("numbers", "letters"):
        model = FunctionModel(lambda _: text_reply("no"))
        asyncio.run(TopLogprobsSimulator(model, form).simulate(explained("a dollar sign"), [(" a\\tb", "$x", "\\n")]))
        check_golden(f"simulate-{form}.v1", model.asked[0])


def test_requests_share_all_but_the_last_message() -> None:
    """A prefix cache reads instructions and demonstrations once, so nothing of the feature may stand before them."""
    model = FunctionModel(lambda _: "Explanation: anything at all")
    other = three_tokens().model_copy(update={"facts": FeatureFacts()})
    asyncio.run(TsvExplainer(model).explain(three_tokens(), 1))
    asyncio.run(TsvExplainer(model).explain(other, 2))
    assert len({request.messages[:-1] for request in model.asked}) == 1


def test_a_missing_or_unused_variable_is_an_error() -> None:
    prompt = load_prompt("simulate-structured.v1")
    with pytest.raises(UsageError, match="note"):
        prompt.render("user", explanation="x", tokens="y", n="1")
    with pytest.raises(UsageError, match="more"):
        prompt.render("system", more="x")
    with pytest.raises(UsageError, match="no section"):
        prompt.render("nothing")


def test_an_unknown_file_names_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"explain-tsv\.v1"):
        load_prompt("explain-tsv.v9")
    (tmp_path / "a.v1.md").write_text("no sections\n")
    with pytest.raises(UsageError, match="=== system ==="):
        load_prompt("a.v1", tmp_path)
    (tmp_path / "few.v1.json").write_text('{"features": [{"name": "x"}]}')
    with pytest.raises(UsageError):
        load_few_shots("few.v1", tmp_path)


def test_a_changed_file_is_read_anew_and_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.v1.md"
    path.write_text("=== system ===\nhello $name\n")
    first = load_prompt("a.v1", tmp_path)
    assert first.render("system", name="$you") == "hello $you"
    path.write_text("=== system ===\nbye $name\n")
    os.utime(path, ns=(1, 1))
    assert load_prompt("a.v1", tmp_path).digest != first.digest


@given(st.text(alphabet=st.characters(exclude_characters="\n")), st.text(max_size=30))
def test_what_was_rendered_can_be_read_back(explanation: str, tokens: str) -> None:
    values = {"explanation": explanation, "tokens": tokens, "n": "3", "note": ""}
    prompt = load_prompt("simulate-letters.v1")
    assert prompt.read_back("user", prompt.render("user", **values)) == values
    assert prompt.read_back("user", "something else") is None


def test_every_bundled_file_is_digested_and_in_the_readme() -> None:
    digests = prompt_digests()
    assert set(digests) == {*PROMPTS, "few-shot.v1"}
    readme = (bundled("prompts") / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in digests)


def test_demonstrations_are_varied_and_keep_their_own_rules() -> None:
    shots = load_few_shots().features
    assert {shot.kind for shot in shots} >= {"token", "context", "abstract", "position", "code", "other language"}
    assert sum(shot.explanation == "no clear pattern" for shot in shots) == 1
    levels = {level for shot in shots for window in shot.windows for level in window.levels}
    assert levels >= {0, 2, 4, 5, 6, 7, 8, 9, 10}
    for shot in shots:
        parsed = parse_explanation(text_reply(f"Explanation: {shot.explanation}"))
        assert getattr(parsed, "text", None) == shot.explanation
        assert shot.explanation.count('"') <= 2 * MOST_LISTED
        for window in shot.windows:
            for token in window.tokens:
                unescape(token)
        if shot.kind != "no pattern":
            assert any(not any(window.levels) for window in shot.windows) or shot.kind in ("abstract", "context")
