"""Answers to values or reasons: nothing garbled becomes a level, nothing is invented."""

import json
import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.interpret.parse import (
    LETTERS,
    NUMBERS,
    Distributions,
    ParsedExplanation,
    Unparsed,
    parse_distributions,
    parse_explanation,
    parse_listed,
    parse_structured,
)
from autointerp.interpret.wrapping import spoken
from autointerp.llm.base import ChatReply, TokenLogprob
from autointerp.records import Usage


def reply(text: str, *, finish_reason: str = "stop", refused: bool = False) -> ChatReply:
    """A reply without log probabilities."""
    return ChatReply(text=text, finish_reason=finish_reason, refused=refused, model="m", usage=Usage(calls=1))


def reason(value: object) -> str:
    """Why an answer was not read."""
    assert isinstance(value, Unparsed), value
    return value.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Explanation: names of rivers", ParsedExplanation("names of rivers", False)),
        (
            "Let me see.\nIt fires on x.\n\n**Explanation:** names of rivers\n",
            ParsedExplanation("names of rivers", False),
        ),
        ("explanation: a\nExplanation: names of\trivers", ParsedExplanation("names of rivers", False)),
        ("Explanation: No clear pattern.", ParsedExplanation("no clear pattern", True)),
        ("- Explanation: it's the dog's bark", ParsedExplanation("it's the dog's bark", False)),
        ("Explanation: names of rivers\nExplanation:", ParsedExplanation("names of rivers", False)),
    ],
)
def test_an_explanation_is_the_last_line_that_says_so(text: str, expected: ParsedExplanation) -> None:
    assert parse_explanation(reply(text)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply("names of rivers"), "no_explanation"),
        (reply("Explanation:"), "no_explanation"),
        (reply("Explanation: ?!…"), "no_explanation"),
        (reply(" \n"), "empty"),
        (reply("Explanation: names of", finish_reason="length"), "cut_off"),
        (reply("Explanation: x y", refused=True), "refused"),
        (reply("Explanation: " + "word " * 81), "too_long"),
        (reply('Explanation: on "a", "b", "c", "d", "e", "f"'), "list_too_long"),
    ],
)
def test_what_is_no_explanation_has_a_reason(answer: ChatReply, expected: str) -> None:
    assert reason(parse_explanation(answer)) == expected


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ('on "a", "b", "c", "d", or "e"', False),
        ('on "a", "b", "c", "d", "e" and "f"', True),
        ("on 'a' or 'b' or 'c' or 'd' or 'e' or 'f'", True),
        ("on `a`/`b`/`c`/`d`/`e`/`f`", True),
        ('fires on "a" after "b" (8); on "c" after "d" (7); on "e" after "f" (3); else 0', False),
        ("it's the dog's, the cat's, the cow's, the hen's, the pig's, the ram's and the fox's food", False),
    ],
)
def test_a_list_of_more_than_five_tokens_is_no_explanation(text: str, listed: bool) -> None:
    value = parse_explanation(reply(f"Explanation: {text}"))
    assert isinstance(value, Unparsed) == listed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("garbage", "malformed"),
        ("[0, 1, 2]", "malformed"),
        ('{"1": 0, "2": 1', "malformed"),
        ('{"1": 0, "2": 1}', "too_few_levels"),
        ('{"1": 0, "2": 1, "3": 2, "4": 3}', "too_many_levels"),
        ('{"1": 0, "2": 1, "2": 2}', "misaligned"),
        ('{"1": 0, "3": 1, "4": 2}', "misaligned"),
        ('{"0": 0, "1": 1, "2": 2}', "misaligned"),
        ('{"1": 0, "2": 1, "3": 11}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": -1}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": 2.5}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": "2.5"}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": "three"}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": "2/10"}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": ""}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": [2]}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": NaN}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": 1e400}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": 2}\n{"1": 0, "2": 1, "3": 3}', "ambiguous"),
        ('{"1": 0, "2": 1}\n{"3": 3}', "ambiguous"),
        ('{"1": 9, "2": 9, so no:\n{"1": 0, "2": 1, "3": 3}', "ambiguous"),
        ('{"first": {"1": 0, "2": 1, "3": 3}, "second": {"1": 1, "2": 1, "3": 1}}', "too_few_levels"),
        ('{"1": 0, "2": 1, "levels": {"1": 0, "2": 1, "3": 3}}', "misaligned"),
        ('{"a1": 0, "b2": 1, "3": 3}', "misaligned"),
        ('[0, 1, {"1": 0}]', "too_few_levels"),
        ('{"levels": [0, 1, 2]}', "too_few_levels"),
        ('{"1": 0, "2": 1, "3": null}', "out_of_range"),
        ('{"1": 0, "2": 1, "3": true}', "out_of_range"),
        ("[" * 100_000, "malformed"),
    ],
)
def test_a_garbled_object_is_never_a_level(text: str, expected: str) -> None:
    """Others turned each of these into zeros, and a failure into a low score."""
    assert reason(parse_structured(reply(text), 3)) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"1": 0, "2": 10, "3": 4}',
        '```json\n{"1": 0, "2": 10, "3": 4}\n```',
        'Here are the levels.\n```JSON\n{"1": 0, "2": 10, "3": 4}\n```\nPassage 2 fits best {by far}.',
        '{"3": 4, "1": 0, "2": 10}',
        '{"1": 0.0, "2": 10.0, "3": 4.00}',
        '{"1": "0", "2": "10", "3": " 4.0 "}',
        '{"levels": {"1": 0, "2": 10, "3": 4}}',
        '{"answer": {"note": "one fits", "levels": {"1": 0, "2": 10, "3": 4}}}',
        '[{"1": 0, "2": 10, "3": 4}]',
        '{"passage 1": 0, "passage 2": 10, "passage 3": 4}',
        '{"1": 0, "2": 10, "3": 4}<|im_end|>',
        '{"1": 0, "2": 10, "3": 4}</s></s>',
        '{"1": 0, "2": 10, "3": 4}<|im_end|>\n<|im_start|>user\n{"1": 1, "2": 1, "3": 1}',
        '{"1": 0, "2": 10, "3": 4}</s>[INST] more [/INST] {"1": 1, "2": 1, "3": 1}',
        '<|im_start|>assistant\n{"1": 0, "2": 10, "3": 4}',
        '{"1": 0, "2": 10, "3": 4}\n\n{"1": 0, "2": 10, "3": 4}',
        'Perhaps {"1": 1, "2": 1, "3": 1}?</think>{"1": 0, "2": 10, "3": 4}',
        '<thinking>{"1": 1, "2": 1, "3": 1}</thinking>\n{"1": 0, "2": 10, "3": 4}',
        '[THINK]{"1": 1, "2": 1, "3": 1}[/THINK]{"1": 0, "2": 10, "3": 4}',
        '<|channel|>analysis<|message|>{"1": 1}<|end|><|start|>assistant<|channel|>final<|message|>'
        '{"1": 0, "2": 10, "3": 4}<|return|>',
        '<|start|>assistant<|channel|>final <|constrain|>json<|message|>{"1": 0, "2": 10, "3": 4}',
        'analysisWe need {"1": 1}.assistantfinal{"1": 0, "2": 10, "3": 4}',
    ],
)
def test_what_stands_around_an_object_changes_nothing(text: str) -> None:
    """Each is a habit of some server or small model; refused three times over, it lost the whole run."""
    assert parse_structured(reply(text), 3) == (0, 10, 4)


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"1": 0, "2": 10, "3": 4}',
        '<|channel|>analysis<|message|>{"1": 0, "2": 10, "3": 4}<|end|>',
        'analysisPerhaps {"1": 0, "2": 10, "3": 4}',
    ],
)
def test_what_is_only_thought_is_no_answer(text: str) -> None:
    """A draft among thoughts that never end is not what the model would have said."""
    assert reason(parse_structured(reply(text), 3)) == "empty"


def test_a_whole_object_is_read_whatever_is_generated_after_it() -> None:
    """A small model goes on until it is cut off; one that begins again has not made up its mind."""
    whole = '{"1": 0, "2": 10}\n\nThe next passages'
    assert parse_structured(reply(whole, finish_reason="length"), 2) == (0, 10)
    assert reason(parse_structured(reply(whole + ' are {"1": 3, "2"', finish_reason="length"), 2)) == "cut_off"
    assert reason(parse_structured(reply('{"1": 0, "2": 1', finish_reason="length"), 2)) == "cut_off"


LEVELS = st.lists(st.integers(0, 10), min_size=1, max_size=20)
PROSE = st.text(alphabet=st.characters(blacklist_characters="{}<>|[◁"), max_size=30).filter(
    lambda text: not text.lstrip().startswith(("analysis", "commentary"))
)
WRITTEN = st.sampled_from([int, float, str, lambda level: f"{level}.0"])


@given(LEVELS, PROSE, PROSE, st.sampled_from(["", "```", "```json", "```JSON"]), WRITTEN, st.booleans(), st.randoms())
def test_no_wrapping_changes_levels(
    levels: list[int],
    before: str,
    after: str,
    fence: str,
    written: Callable[[int], object],
    nested: bool,
    random: Random,
) -> None:
    pairs = [(str(i), written(level)) for i, level in enumerate(levels, start=1)]
    random.shuffle(pairs)
    body = json.dumps({"levels": dict(pairs)} if nested else dict(pairs))
    text = f"{before}\n{fence}\n{body}\n{fence[:3]}\n{after}"
    assert parse_structured(reply(text), len(levels)) == tuple(levels)


@given(LEVELS, PROSE, st.data())
def test_no_fault_of_alignment_becomes_a_number(levels: list[int], prose: str, data: st.DataObject) -> None:
    """One passage left out, twice or too many, or a second list beside the first: whose level is whose is unknown."""
    n = len(levels)
    pairs = [f'"{i}": {level}' for i, level in enumerate(levels, start=1)]
    place = data.draw(st.integers(0, n - 1))
    fault = data.draw(st.sampled_from(["missing", "double", "extra", "renamed", "second"]))
    second = ""
    if fault == "missing":
        del pairs[place]
    elif fault == "double":
        pairs.insert(data.draw(st.integers(0, n)), f'"{place + 1}": {data.draw(st.integers(0, 10))}')
    elif fault == "extra":
        pairs.append(f'"{data.draw(st.sampled_from([0, n + 1, n + 5]))}": 3')
    elif fault == "renamed":
        pairs[place] = f'"{n + 1 + place}": 3'
    else:
        other = [*levels[:place], (levels[place] + 1) % 11, *levels[place + 1 :]]
        second = json.dumps({str(i): level for i, level in enumerate(other, start=1)})
    text = f"{prose}\n{{{', '.join(pairs)}}}\n{second}"
    assert isinstance(parse_structured(reply(text), n), Unparsed)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=40))
def test_any_levels_come_back(levels: list[int]) -> None:
    text = json.dumps({str(i): level for i, level in enumerate(levels, start=1)})
    assert parse_structured(reply(text), len(levels)) == tuple(levels)


@given(st.text(max_size=60), st.integers(1, 4))
def test_no_text_makes_a_parser_fall_over(text: str, n: int) -> None:
    for value in (parse_structured(reply(text), n), parse_distributions(reply(text), n, NUMBERS)):
        assert isinstance(value, Unparsed) or len(value) == n


def with_logprobs(*entries: tuple[str, dict[str, float]], text: str | None = None) -> ChatReply:
    """A reply from tokens with the probabilities of their alternatives."""
    tokens = tuple(
        TokenLogprob(
            token=token,
            logprob=math.log(chances.get(token, 1.0)),
            top=tuple((other, math.log(chance)) for other, chance in chances.items()),
        )
        for token, chances in entries
    )
    spelled = "".join(token for token, _ in entries)
    return reply(spelled if text is None else text).model_copy(update={"logprobs": tokens})


def sure(*tokens: str) -> list[tuple[str, dict[str, float]]]:
    """Tokens without alternatives."""
    return [(token, {token: 1.0}) for token in tokens]


def test_the_expectation_by_hand() -> None:
    """.6 on 2, .2 on 4, .2 on a word: legal mass .8, expectation (1.2 + .8) / .8 = 2.5, rounded up to 3."""
    value = parse_distributions(with_logprobs(*sure("1", ": "), ("2", {"2": 0.6, "4": 0.2, "x": 0.2})), 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((2.5,))
    assert value.levels == (3,)
    assert value.legal_mass == pytest.approx(0.8)


def at_level(token: str, chance: float, *listed: tuple[str, float]) -> ChatReply:
    """`1: ` and a level, with its probability and those of what is listed beside it."""
    top = tuple((text, math.log(p)) for text, p in listed)
    tokens = tuple(TokenLogprob(t, 0.0, ((t, 0.0),)) for t in ("1", ":"))
    spelled = (*tokens, TokenLogprob(token, math.log(chance), top))
    return reply("".join(entry.token for entry in spelled)).model_copy(update={"logprobs": spelled})


def test_tokens_of_one_text_are_added_up() -> None:
    """A judge that was right 97 times in 100 scored -.8: the last of two entries of one text replaced the first."""
    value = parse_distributions(at_level(" j", 0.97, (" j", 0.97), (" a", 0.02), ("j", 1e-5)), 1, LETTERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((9 * 0.97001 / 0.99001,))
    assert value.legal_mass == pytest.approx(0.99001)


def test_a_level_without_its_space_is_the_same_token() -> None:
    """Counted twice, a right judge's .983 became .932."""
    value = parse_distributions(at_level(" j", 0.5, ("j", 0.5), ("a", 0.45)), 1, LETTERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((9 * 0.5 / 0.95,))
    assert value.legal_mass == pytest.approx(0.95)


def test_probabilities_that_cannot_be_are_a_failure() -> None:
    """More than 1 in all was cut down to 1; 2 % on the levels, where a level was written, went unnoticed."""
    assert reason(parse_distributions(at_level(" j", 0.9, (" j", 0.9), (" a", 0.4)), 1, LETTERS)) == "no_logprobs"
    odd = at_level(" j", 1e-5, (" The", 0.97), (" a", 0.02), (" j", 1e-5))
    assert reason(parse_distributions(odd, 1, LETTERS)) == "no_logprobs"


def test_levels_are_found_inside_tokens_with_spaces() -> None:
    """Tokenizers glue the space or the colon to the level; its alternatives are glued alike."""
    glued = with_logprobs(*sure("1", ":"), (" k", {" k": 0.5, " a": 0.5}), *sure("\n", "2"), (": c", {": c": 1.0}))
    value = parse_distributions(glued, 2, LETTERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((5.0, 2.0))


def test_ten_in_two_tokens_is_a_failure_not_a_one() -> None:
    """Reading the first digit's distribution as a value took 10 for 1."""
    split = with_logprobs(*sure("1", ": "), ("1", {"1": 0.9, "2": 0.1}), *sure("0"))
    assert reason(parse_distributions(split, 1, NUMBERS)) == "split_level"


def test_missing_logprobs_are_a_failure() -> None:
    """A server that silently leaves them out gave others scores at exact chance."""
    assert reason(parse_distributions(reply("1: 2"), 1, NUMBERS)) == "no_logprobs"
    bare = reply("1: 2").model_copy(
        update={"logprobs": tuple(TokenLogprob(token=t, logprob=0.0) for t in ("1: ", "2"))}
    )
    assert reason(parse_distributions(bare, 1, NUMBERS)) == "no_logprobs"
    half = with_logprobs(*sure("1", ": "), ("2", {}))
    assert reason(parse_distributions(half, 1, NUMBERS)) == "no_logprobs"
    other = with_logprobs(*sure("1", ": ", "2"), text="1: 3")
    assert reason(parse_distributions(other, 1, NUMBERS)) == "no_logprobs"


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("1: 2", 2, "too_few_levels"),
        ("1: 2\n2: 3\n2: 4", 2, "too_many_levels"),
        ("1: 2\n2: 3\n1: 4\n2: 4", 2, "too_many_levels"),
        ("1: 2\n2: 3\n4: 4", 2, "too_many_levels"),
        ("1: 2\n1: 2\n2: 3\n3: 3", 2, "too_many_levels"),
        ("1: 2\n3: 3", 2, "misaligned"),
        ("1: 2\n2: eleven", 2, "out_of_range"),
        ("1: 2\n2: 11", 2, "out_of_range"),
        ("1: 2\n2: k", 2, "out_of_range"),
        ("levels", 2, "malformed"),
        ("1: 2\n2: as above", 2, "malformed"),
        ("1: 2\nand then\n2: 2", 2, "malformed"),
    ],
)
def test_misaligned_lines_have_a_reason(text: str, n: int, expected: str) -> None:
    assert reason(parse_distributions(with_logprobs(*sure(*text)), n, NUMBERS)) == expected


def test_an_end_mark_after_the_answer_does_no_harm() -> None:
    value = parse_distributions(with_logprobs(*sure("\n", "1", ": ", "2", "<|end|>"), text="1: 2"), 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.levels == (2,)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=30), st.sampled_from([NUMBERS, LETTERS]))
def test_sure_levels_come_back_in_both_forms(levels: list[int], form: dict[str, int]) -> None:
    written = {level: text for text, level in form.items()}
    pieces = [piece for i, level in enumerate(levels, start=1) for piece in (str(i), ": ", written[level], "\n")]
    value = parse_distributions(with_logprobs(*sure(*pieces)), len(levels), form)
    assert isinstance(value, Distributions)
    assert value.levels == tuple(levels)
    assert value.legal_mass == pytest.approx(1.0)


def test_thoughts_before_the_answer_are_passed_over() -> None:
    """Local servers leave a reasoning model's thoughts in the text, and a draft of the answer in them."""
    thought = '<think>\nmaybe {"1": 9}\n1: 9\nExplanation: a draft\n</think>\n\n'
    assert parse_structured(reply(thought + '{"1": 4}'), 1) == (4,)
    assert parse_explanation(reply(thought + "Explanation: the answer")) == ParsedExplanation("the answer", False)
    assert reason(parse_explanation(reply(thought))) == "empty"
    value = parse_distributions(with_logprobs(*sure(thought, "1", ": ", "9")), 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.levels == (9,)


@pytest.mark.parametrize(
    "text",
    [
        "1: 2\n2: 10\n3: 4\n4: 4\n1: 0\nand so on",
        "Levels:\n\n1: 2\n2: 10\n\nPassage 2 fits best.",
        "```text\n1: 2\n2: 10\n```",
        "- 1: 2\n- 2: 10",
        "**1:** 2\n**2:** 10",
        "1: `2`\n2: `10`",
        "1: 2\n2: 10<|im_end|>",
        "perhaps\n1: 9\n2: 9\n</think>\n1: 2\n2: 10",
    ],
)
def test_lines_are_read_whatever_stands_around_them(text: str) -> None:
    """Prose, fences and a list that runs on past what was asked for lost questions whose levels were all there."""
    spans = parse_listed(spoken(text), 2, NUMBERS)
    assert not isinstance(spans, Unparsed)
    assert [spoken(text)[low:high] for low, high in spans] == ["2", "10"]


def test_log_probabilities_are_those_of_the_answer_and_not_of_what_follows_it() -> None:
    """A model that runs on into a turn of its own may write the same answer there, of another question."""
    first = [*sure("1", ": "), ("2", {"2": 0.5, "4": 0.5}), *sure("<|im_end|>", "\n", "1", ": ")]
    value = parse_distributions(with_logprobs(*first, ("2", {"2": 0.5, "10": 0.5})), 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((3.0,))
    draft = [*sure("<think>", "1", ": "), ("2", {"2": 0.5, "10": 0.5}), *sure("</think>", "1", ": ")]
    value = parse_distributions(with_logprobs(*draft, ("2", {"2": 0.5, "4": 0.5})), 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((3.0,))


def test_a_level_that_shares_its_token_is_a_failure() -> None:
    """Where "3**" is one token, the bare "4" among its alternatives would be all that is left of the distribution."""
    glued = with_logprobs(*sure("**", "1", ":** ", "**"), ("3**", {"3**": 0.9, "4": 0.1}))
    assert reason(parse_distributions(glued, 1, NUMBERS)) == "split_level"
    apart = with_logprobs(*sure("1", ": ", "**"), ("3", {"3": 0.9, "4": 0.1}), *sure("**"))
    value = parse_distributions(apart, 1, NUMBERS)
    assert isinstance(value, Distributions)
    assert value.expected == pytest.approx((3.1,))


def test_a_list_that_ran_on_until_it_was_cut_off_is_read() -> None:
    """SmolLM2 wrote ten perfect lines and went on to 1,500 tokens: each question was lost after nine minutes."""
    text = "1: a\n2: k\n3: a\n4: a\n5"
    ran_on = with_logprobs(*sure(*text)).model_copy(update={"finish_reason": "length"})
    value = parse_distributions(ran_on, 2, LETTERS)
    assert isinstance(value, Distributions)
    assert value.levels == (0, 10)
    assert reason(parse_distributions(ran_on, 6, LETTERS)) == "cut_off"
    last = with_logprobs(*sure(*"1: a\n2: a")).model_copy(update={"finish_reason": "length"})
    assert reason(parse_distributions(last, 2, LETTERS)) == "cut_off"
