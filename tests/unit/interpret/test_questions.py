"""Simulators' questions: marks that no text can forge, a shared beginning, demonstrations that give nothing away."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.format import escape_bytes, escape_text
from autointerp.interpret.parse import Unparsed, parse_listed, parse_structured
from autointerp.interpret.prompts import load_few_shots
from autointerp.interpret.questions import (
    FORMS,
    OF_TARGETS,
    Form,
    format_passage,
    make_questions,
    parse_passage,
    prompt_digest,
)
from autointerp.interpret.simulate import WINDOWS_A_REQUEST
from autointerp.interpret.simulate_llm import StructuredSimulator, TopLogprobsSimulator
from autointerp.llm.base import ChatRequest
from autointerp.llm.fakes import FunctionModel, text_reply
from autointerp.records import Window
from tests.unit.interpret.features import explained

HOSTILE = st.text(alphabet=st.sampled_from("«» \\ABu{}«x»\n\t"), max_size=6)
TOKENS = st.lists(st.one_of(HOSTILE.map(escape_text), st.text(max_size=4).map(escape_text)), min_size=1, max_size=6)


@given(TOKENS, st.data())
def test_a_passage_has_one_mark_whatever_its_text_holds(tokens: list[str], data: st.DataObject) -> None:
    """Text with marks of its own would otherwise choose which token is asked for."""
    target = data.draw(st.integers(0, len(tokens) - 1))
    shown = format_passage(Window(tuple(tokens), target))
    assert (shown.count("«"), shown.count("»")) == (1, 1)
    assert "\n" not in shown
    passage = parse_passage(shown)
    assert passage == ("".join(tokens[:target]), tokens[target], "".join(tokens[target + 1 :]))


def test_a_passage_by_hand() -> None:
    """Spaces stay on their side of the mark; a backslash before a mark's escape is not taken for its start."""
    assert format_passage(Window((" a", " b", " c"), 1)) == " a« b» c"
    assert format_passage(Window(("«a", "»", "x"), 1)) == "\\u{AB}a«\\u{BB}»x"
    assert parse_passage("\\\\u{AB}« b»") == ("\\\\u{AB}", " b", "")
    assert escape_bytes(b"\\u{AB}") == "\\\\u{AB}"
    assert parse_passage("no mark") is None
    assert parse_passage("« two» and « two»") is None


def asked(form: Form, windows: list[Window], answer: str = "no") -> list[ChatRequest]:
    """All requests of one simulation, those asked again included."""
    model = FunctionModel(lambda _: text_reply(answer))
    simulator = StructuredSimulator(model) if form == "structured" else TopLogprobsSimulator(model, form)
    asyncio.run(simulator.simulate(explained("the word x"), windows))
    return model.asked


@pytest.mark.parametrize("form", list(FORMS))
def test_requests_of_a_feature_differ_from_the_first_passage_on(form: Form) -> None:
    """A prefix cache reads instructions, demonstrations and explanation once for all requests of a feature."""
    windows = [Window((f"{chr(97 + i)}1", " x", " z"), i % 3) for i in range(23)]
    texts = ["".join(message.content for message in request.messages) for request in asked(form, windows)]
    assert len(texts) == (3 * 3 if form == "structured" else 3)
    same = [len(set(characters)) == 1 for characters in zip(*texts, strict=False)]
    shared = texts[0][: same.index(False)]
    assert shared.endswith("Explanation: the word x\n\nPassages:\n1\t")
    first = texts[0].removeprefix(shared)
    assert "the word x" not in first
    assert all(len(text) < 500 for text in (text.removeprefix(shared) for text in texts))


@pytest.mark.parametrize("n", [0, 1, 10, 11, 60])
def test_targets_are_asked_ten_at_a_time_in_order(n: int) -> None:
    windows = [Window((f"t{i}", " x"), 0) for i in range(n)]
    questions = make_questions("structured", explained("x"), windows)
    assert len(questions) == -(-n // WINDOWS_A_REQUEST)
    assert [window for question in questions for window in question.windows] == windows
    assert sum(question.n_levels for question in questions) == n
    whole = make_questions("structured", explained("x"), [Window(window.tokens) for window in windows])
    assert [question.n_levels for question in whole] == [2] * n


def test_windows_with_and_without_a_target_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="target"):
        make_questions("structured", explained("x"), [Window(("a",)), Window(("a",), 0)])


def test_the_demonstrations_of_targets_give_no_share_away() -> None:
    """A model that always sees a third of the passages fit answers a third (SCORING's count leakage)."""
    shares, places, levels = [], [], []
    for name, shown in OF_TARGETS:
        (shot,) = load_few_shots().named(name)
        of_shot = [shot.windows[i].levels[target] for i, target in shown if target is not None]
        assert len(of_shot) == len(shown)
        shares.append(sum(level > 0 for level in of_shot) / len(of_shot))
        places += [i for i, level in enumerate(of_shot) if level]
        levels += of_shot
    assert len(set(shares)) == len(shares)
    assert {0.0, 1.0} < set(shares)
    assert abs(sum(level > 0 for level in levels) / len(levels) - 1 / 3) > 0.1
    assert len(set(places)) > 3
    assert len({level for level in levels if 2 < level < 8}) >= 4


def test_a_demonstrated_zero_looks_right_or_stands_beside_what_fits() -> None:
    """Easy zeros would teach that a passage about the subject, or the word itself, is enough."""
    look_alikes = beside = 0
    for name, shown in OF_TARGETS:
        (shot,) = load_few_shots().named(name)
        active = {t for window in shot.windows for t, level in zip(window.tokens, window.levels, strict=True) if level}
        for i, target in shown:
            assert target is not None
            window = shot.windows[i]
            if window.levels[target] == 0:
                look_alikes += window.tokens[target] in active
                beside += any(window.levels)
    assert look_alikes >= 4
    assert beside >= 4


@pytest.mark.parametrize("form", list(FORMS))
def test_demonstrated_answers_are_ones_that_our_parser_takes(form: Form) -> None:
    """A model follows the demonstrations where they and the instructions differ, and the parser refuses the answer."""
    _, *turns, _ = asked(form, [Window((" x",), 0)])[0].messages
    assert len(turns) == 2 * len(OF_TARGETS)
    for question, answer, (name, shown) in zip(turns[::2], turns[1::2], OF_TARGETS, strict=True):
        (shot,) = load_few_shots().named(name)
        true = tuple(shot.windows[i].levels[target] for i, target in shown if target is not None)
        assert f"passages 1 to {len(true)}:" in question.content
        code = FORMS[form]
        if code is None:
            assert parse_structured(text_reply(answer.content), len(true)) == true
        else:
            spans = parse_listed(answer.content, len(true), code)
            assert not isinstance(spans, Unparsed)
            assert tuple(code[answer.content[low:high]] for low, high in spans) == true


def test_both_kinds_of_prompt_have_digests_of_their_own() -> None:
    digests = [prompt_digest(form, targets=targets) for form in FORMS for targets in (False, True)]
    assert len(set(digests)) == len(digests)
