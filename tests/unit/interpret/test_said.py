"""Explanations out of answers: what stands around them is left, what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.interpret.parse import ParsedExplanation, Unparsed, parse_explanation
from autointerp.llm.fakes import text_reply

TRUE = "dates in June."


@pytest.mark.parametrize(
    "text",
    [
        "Explanation:\ndates in June.",
        "Explanation:\n\n   dates in June.\n\nIs there anything else?",
        "### Explanation\ndates in June.",
        "**Explanation**\n\ndates in June.",
        "### Explanation: dates in June.",
        "1. Explanation: dates in June.",
        "> **Explanation:** dates in June.",
        "Final explanation: dates in June.",
        "Explanation：dates in June.",
        "Explanation: Explanation: dates in June.",
        "“Explanation: dates in June.”",
        '"Explanation: dates in June."',
        'Explanation: "dates in June."',
        "Explanation: “dates in June.”",
        "Explanation: **dates in June.**",
        "Explanation: dates in June.<|im_end|>",
        "Explanation: dates in June.</s>",
        "Explanation: dates in June.<|im_end|>\n<|im_start|>user\nExplanation: months",
        '{"explanation": "dates in June."}',
        '{"explanation: dates in June."}',
        'Sure!\n```json\n{"explanation": "dates in June.", "sure": true}\n```\nThat is all.',
        '{"Explanation": "Explanation: dates\\nin June."}',
        '{"explanation": "dates\nin June."}',
        '{"explanation": "dates in June."}\n{"explanation": "dates in June."}',
        "Explanation: months, perhaps?\n</think>\n\nExplanation: dates in June.",
        "analysisWe need Explanation: months.assistantfinalExplanation: dates in June.",
        "<|channel|>analysis<|message|>Explanation: months<|end|><|start|>assistant<|channel|>final<|message|>"
        "Explanation: dates in June.<|return|>",
    ],
)
def test_what_stands_around_an_explanation_is_left(text: str) -> None:
    """Marks of turns and quotes otherwise stand in the judge's prompt; headings and objects were lost answers."""
    assert parse_explanation(text_reply(text)) == ParsedExplanation(TRUE, False)


@pytest.mark.parametrize(
    "text",
    [
        'the words "June" and "July"',
        '"June" before a number',
        'a number after "June"',
        "the mark <|im_end|> at the end of a turn",
        'the mark "</think>" after thoughts',
        "a closing brace } after an open one",
        "calls such as f(x)",
        "code in braces, such as {x}",
        "it's the dogs' food",
        "<br> and other tags in HTML",
        "texts with no clear pattern of rhyme",
        "there is no clear pattern, but most are dates",
        "I am sorry and other apologies in dialogue",
        'phrases of refusal such as "I cannot help"',
        "rules of games",
    ],
)
def test_an_explanation_keeps_all_of_its_own_words(text: str) -> None:
    assert parse_explanation(text_reply(f"Explanation: {text}")) == ParsedExplanation(text, False)


@pytest.mark.parametrize(
    "text",
    [
        "No clear pattern found.",
        "There is no clear pattern in the tokens.",
        "there is no single clear pattern",
        "The tokens show no clear pattern.",
        "I can find no clear pattern.",
        "I could not find any clear pattern in these windows.",
        "The active tokens do not follow a clear pattern. They seem random.",
        "No rule fits.",
    ],
)
def test_a_sentence_that_finds_no_pattern_finds_none(text: str) -> None:
    """Scored as an explanation, it would be one that says nothing about any text."""
    assert parse_explanation(text_reply(f"Explanation: {text}")) == ParsedExplanation("no clear pattern", True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Explanation: no line that starts with "Explanation:".', "no_explanation"),
        ("Explanation: Answer with the one line only.", "no_explanation"),
        ("Explanation: Write it again as one line.", "no_explanation"),
        ("Explanation: <rule>", "no_explanation"),
        ("Explanation: [your explanation here]", "no_explanation"),
        ("Explanation: one or two plain sentences.", "no_explanation"),
        ("Explanation: N/A", "no_explanation"),
        ("Explanation: None.", "no_explanation"),
        ("Explanation: ** ** …", "no_explanation"),
        ('{"explanation": ""}', "no_explanation"),
        ('{"rule": "dates in June"}', "no_explanation"),
        ("The detector responds to dates in June.", "no_explanation"),
        ("Explanation: I am sorry, I cannot help with that.", "declined"),
        ("Explanation: I'm sorry, but I can't assist with that request.", "declined"),
        ("Explanation: Sorry, I do not know.", "declined"),
        ("Explanation: As an AI language model, I have no access to detectors.", "declined"),
        ("Explanation: I cannot determine what the detector responds to.", "declined"),
        ("Explanation: I'm unable to help with this.", "declined"),
        ('{"explanation": "dates in June"}\n{"explanation": "months"}', "ambiguous"),
    ],
)
def test_what_explains_nothing_is_refused(text: str, reason: str) -> None:
    """An echo of our own note passed for an explanation, and so did an apology; each then had a score."""
    value = parse_explanation(text_reply(text))
    assert isinstance(value, Unparsed)
    assert value.reason == reason


WORDS = st.lists(st.sampled_from(["dates", "months", "in", "June", "of", "after", "numbers"]), min_size=2, max_size=9)


@given(WORDS, st.sampled_from(["{}", '"{}"', "“{}”", "**{}**", "{}<|im_end|>", "{}</s>", "\n{}", '{}"}}', "`{}`"]))
def test_no_wrapping_changes_an_explanation(words: list[str], around: str) -> None:
    text = " ".join(words)
    assert parse_explanation(text_reply(f"Explanation: {around.format(text)}")) == ParsedExplanation(text, False)
