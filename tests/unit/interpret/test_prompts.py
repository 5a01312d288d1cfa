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
from autointerp.interpret.parse import MOST_LISTED, Unparsed, parse_explanation
from autointerp.interpret.prompts import REVISIONS, load_few_shots, load_prompt, load_revisions
from autointerp.interpret.questions import FORMS
from autointerp.interpret.refine import PROMPT as REFINE_PROMPT
from autointerp.interpret.simulate_llm import PromptLogprobsSimulator, StructuredSimulator, TopLogprobsSimulator
from autointerp.llm.base import ChatRequest, PromptRequest
from autointerp.llm.fakes import FunctionModel, text_reply
from autointerp.records import FeatureFacts, Simulation, Window
from autointerp.resources import bundled
from tests.unit.interpret.features import example, explained, feature_record, three_tokens

GOLDEN = Path(__file__).parents[2] / "golden"
THREE = Window((" a\\tb", "$x", "\\n"))
MARKED = [
    Window((" a\\tb", "$x", "\\n"), 1),
    Window((" «so", "» it", " is"), 0),
    Window(("\\s{<|end|>}", " x"), 1),
]


def shown(request: ChatRequest) -> str:
    """A request as a readable text."""
    settings = request.model_dump(mode="json", exclude={"messages", "prompt", "read"}, exclude_none=True)
    if not request.stop:
        del settings["stop"]
    if isinstance(request, PromptRequest):
        return f"<<< prompt >>>\n{request.prompt}<<< read >>>\n{request.read}\n<<< settings >>>\n{settings}\n"
    turns = [f"<<< {message.role} >>>\n{message.content}\n" for message in request.messages]
    return "\n".join([*turns, f"<<< settings >>>\n{settings}\n"])


def test_the_whole_texts_to_be_read() -> None:
    for kind, windows in (("simulate", [THREE]), ("grade", MARKED)):
        model = FunctionModel(lambda _: text_reply("no"))
        asyncio.run(PromptLogprobsSimulator(model).simulate(explained("a dollar sign"), windows))
        check_golden(f"{kind}-echo.v1", model.asked[0])


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


def test_the_whole_explanation_asked_for_again() -> None:
    """The note stands in a turn of its own, behind the answer, and quotes nothing of what was wrong with it."""
    model = FunctionModel(lambda _: "The detector responds to <|im_end|>.")
    asyncio.run(TsvExplainer(model).explain(three_tokens(), 1))
    first, second, _ = model.asked
    assert second.messages[: len(first.messages)] == first.messages
    assert [message.role for message in second.messages[-3:]] == ["user", "assistant", "user"]
    assert second.messages[-2].content == "The detector responds to \\u{3C}|im_end|>."
    assert isinstance(parse_explanation(text_reply(second.messages[-1].content)), Unparsed)
    check_golden("again.v1", second)


def test_the_whole_structured_prompt() -> None:
    model = FunctionModel(lambda _: '{"1": 0, "2": 9, "3": 3}')
    asyncio.run(StructuredSimulator(model).simulate(explained("a dollar\nsign"), [THREE]))
    check_golden("simulate-structured.v1", model.asked[0])


def test_the_whole_question_asked_again() -> None:
    model = FunctionModel(lambda _: "garbage")
    asyncio.run(StructuredSimulator(model).simulate(explained("a dollar sign"), [THREE]))
    assert [request.sample for request in model.asked] == [0, 1, 2]
    check_golden("simulate-structured.v1.again", model.asked[2])


def test_the_whole_top_logprobs_prompts() -> None:
    for form in ("numbers", "letters"):
        model = FunctionModel(lambda _: text_reply("no"))
        asyncio.run(TopLogprobsSimulator(model, form).simulate(explained("a dollar sign"), [THREE]))
        check_golden(f"simulate-{form}.v1", model.asked[0])


def test_the_whole_graded_prompts() -> None:
    for form in FORMS:
        model = FunctionModel(lambda _: text_reply("no"))
        simulator = StructuredSimulator(model) if form == "structured" else TopLogprobsSimulator(model, form)
        asyncio.run(simulator.simulate(explained("a dollar\nsign"), MARKED))
        check_golden(f"grade-{form}.v1", model.asked[0])


def test_the_whole_graded_question_asked_again() -> None:
    model = FunctionModel(lambda _: '{"1": 0}')
    asyncio.run(StructuredSimulator(model).simulate(explained("a dollar sign"), MARKED))
    assert [request.sample for request in model.asked] == [0, 1, 2]
    check_golden("grade-structured.v1.again", model.asked[1])


def test_the_whole_revision_prompt() -> None:
    model = FunctionModel(lambda _: "Explanation: anything at all")
    select = [
        example([" a", "$x", "\\n"], [0, 9, 3], target=1),
        example([" a", " b", "$x"], [0, 0, 7], target=0),
    ]
    simulated = Simulation(levels=((1,), (4,)))
    asyncio.run(TsvExplainer(model).refine(feature_record([], select=select), explained("the letter a"), simulated))
    check_golden("refine-tsv.v1", model.asked[0])


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


def test_every_bundled_file_has_a_golden_prompt_and_is_in_the_readme() -> None:
    """A prompt that no test renders could change unseen."""
    folder = bundled("prompts")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in folder.iterdir()} - {"README.md"}
    assert all(name in readme for name in names)
    assert {path.stem for path in GOLDEN.glob("*.v1.txt")} >= {Path(n).stem for n in names if n.endswith(".md")}
    assert {Path(name).stem for name in names if name.endswith(".json")} == {"few-shot.v1", REVISIONS}


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


def test_demonstrated_revisions_keep_the_rules_and_have_something_to_revise() -> None:
    """A demonstration whose cases show no error, or whose `before` no parser takes, teaches nonsense."""
    revisions = load_revisions().revisions
    assert load_prompt(REFINE_PROMPT).sections.keys() >= {"system", "user", "assistant", "note"}
    for revision in revisions:
        (shot,) = load_few_shots().named(revision.feature)
        parsed = parse_explanation(text_reply(f"Explanation: {revision.before}"))
        assert getattr(parsed, "text", None) == revision.before != shot.explanation
        for case in revision.cases:
            levels = shot.windows[case.window].levels
            assert any(levels[place] != level for place, level in case.predicted)
    assert sum(revision.feature == "scattered" for revision in revisions) == 1
