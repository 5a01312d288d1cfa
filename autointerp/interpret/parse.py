"""LLM answers to explanations and levels, or a typed reason why not. Never invents.

Replies flow in; texts, levels and distributions flow out, aligned by our own indices. Asks nothing again itself.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from autointerp.format import MAX_LEVEL
from autointerp.llm.base import ChatReply, TokenLogprob

NO_PATTERN = "no clear pattern"
MOST_WORDS = 80
"""One or two sentences; a longer answer has not understood the question."""
MOST_LISTED = 5
"""A longer list of quoted tokens is a look-up table and explains nothing."""
NUMBERS: Mapping[str, int] = {str(level): level for level in range(MAX_LEVEL + 1)}
LETTERS: Mapping[str, int] = {letter: level for level, letter in enumerate("abcdefghijk")}
LASTING = frozenset({"refused", "cut_off", "no_logprobs", "split_level"})
"""Reasons that asking again would only meet again."""
_ANSWER = re.compile(r"^\W*explanation\W*?:[ \t*_]*(.*)$", re.IGNORECASE | re.MULTILINE)
_QUOTED = r"[\"“'‘`][^\"“”'‘’`\n]{1,40}[\"”'’`]"
_LIST = re.compile(rf"{_QUOTED}(?:\s*(?:[,;/&]|\bor\b|\band\b)+\s*(?:(?:or|and)\s+)?{_QUOTED})+")
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_LISTED = re.compile(r"^\s*(\d+)[ \t]*:[ \t]*(\S+)[ \t]*$")
_FENCE = re.compile(r"^\s*```(?:json|text)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)


class Unparsed(NamedTuple):
    """Why an answer holds nothing usable."""

    reason: str
    """One word, as stored with a failure."""
    message: str
    """A sentence in our words, which a model that is asked again is shown."""


class ParsedExplanation(NamedTuple):
    """An explanation's text, or the finding that there is none."""

    text: str
    no_pattern: bool


class Distributions(NamedTuple):
    """What an endpoint said of every level asked for."""

    expected: tuple[float, ...]
    """Expectation over the legal answers, 0..10."""
    levels: tuple[int, ...]
    """The expectations rounded, halves up."""
    legal_mass: float
    """Mean probability on legal answers, before renormalising."""


def ended_badly(reply: ChatReply) -> Unparsed | None:
    """A refusal, a cut answer or an empty one."""
    if reply.refused:
        return Unparsed("refused", "The answer was refused.")
    if reply.finish_reason in ("length", "max_tokens", "model_length"):
        return Unparsed("cut_off", "The answer was cut off before its end.")
    if not spoken(reply):
        return Unparsed("empty", "The answer was empty.")
    return None


def spoken(reply: ChatReply) -> str:
    """The answer without the thoughts that some servers leave before it."""
    return _THOUGHTS.sub("", reply.text, count=1).strip()


def parse_explanation(reply: ChatReply) -> ParsedExplanation | Unparsed:
    """The last line that starts with `Explanation:`; a model may think aloud before it."""
    bad = ended_badly(reply)
    if bad:
        return bad
    found = _ANSWER.findall(spoken(reply))
    text = " ".join(found[-1].split()).strip("*_ ") if found else ""
    if not re.search(r"\w\w", text):
        return Unparsed("no_explanation", 'It had no line that starts with "Explanation:".')
    if text.casefold().strip(" .!\"'") == NO_PATTERN:
        return ParsedExplanation(NO_PATTERN, True)
    if len(text.split()) > MOST_WORDS:
        return Unparsed("too_long", f"It was longer than {MOST_WORDS} words.")
    if any(len(re.findall(_QUOTED, listed)) > MOST_LISTED for listed in _LIST.findall(text)):
        return Unparsed("list_too_long", f"It had a list of more than {MOST_LISTED} quoted tokens.")
    return ParsedExplanation(text, False)


def parse_structured(reply: ChatReply, n: int) -> tuple[int, ...] | Unparsed:
    """Levels from a JSON object whose keys are our numbers 1..n, of tokens or of passages, in order."""
    bad = ended_badly(reply)
    if bad:
        return bad
    answer = spoken(reply)
    fence = _FENCE.match(answer)
    try:
        pairs = json.loads(fence[1] if fence else answer, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return Unparsed("malformed", "It was no JSON.")
    if not isinstance(pairs, _Pairs):
        return Unparsed("malformed", "It was no JSON object.")
    misaligned = _misaligned([key for key, _ in pairs], n)
    if misaligned:
        return misaligned
    levels = [value for _, value in pairs if isinstance(value, int) and not isinstance(value, bool)]
    if len(levels) != n or not all(0 <= level <= MAX_LEVEL for level in levels):
        return Unparsed("out_of_range", f"A level was no whole number from 0 to {MAX_LEVEL}.")
    return tuple(levels)


class _Pairs(list[tuple[str, object]]):
    """A JSON object with its keys in order, repeated ones included."""


def _misaligned(indices: Sequence[str], n: int) -> Unparsed | None:
    """None where the indices are 1..n in order."""
    if list(indices) == [str(i) for i in range(1, n + 1)]:
        return None
    if len(indices) < n:
        return Unparsed("too_few_levels", f"It had {len(indices)} levels; {n} are asked for.")
    if len(indices) > n:
        return Unparsed("too_many_levels", f"It had {len(indices)} levels; {n} are asked for.")
    return Unparsed("misaligned", f"The numbers were not 1 to {n} in order.")


def parse_listed(text: str, n: int, form: Mapping[str, int]) -> tuple[tuple[int, int], ...] | Unparsed:
    """Character spans of the levels in `number: level` lines for the numbers 1..n in order."""
    indices: list[str] = []
    spans: list[tuple[int, int]] = []
    legal = True
    start = 0
    for line in text.splitlines(keepends=True):
        match = _LISTED.match(line.rstrip("\r\n"))
        if match:
            indices.append(match[1])
            spans.append((start + match.start(2), start + match.end(2)))
            legal = legal and match[2] in form
        elif line.strip() not in ("", "```"):
            return Unparsed("malformed", "A line was not a number, a colon and a level.")
        start += len(line)
    misaligned = _misaligned(indices, n)
    if misaligned:
        return misaligned
    return tuple(spans) if legal else Unparsed("out_of_range", "A level was none of those allowed.")


def parse_distributions(reply: ChatReply, n: int, form: Mapping[str, int]) -> Distributions | Unparsed:
    """Expected levels from the log probabilities at the positions where a level was generated."""
    bad = ended_badly(reply)
    if bad:
        return bad
    if not reply.logprobs or not any(entry.top for entry in reply.logprobs):
        return Unparsed("no_logprobs", "The endpoint returned no log probabilities.")
    return _read_distributions(reply.logprobs, spoken(reply), n, form, form)


def parse_echoed(reply: ChatReply, n: int, form: Mapping[str, int], place: str) -> Distributions | Unparsed:
    """Expected levels from the log probabilities at the places held open for them in a prompt that was read.

    Source: the all-at-once simulator of Bills et al. 2023, with numbered lines and a word of one letter for `unknown`.
    """
    if reply.refused:
        return Unparsed("refused", "The answer was refused.")
    if not reply.logprobs:
        return Unparsed("no_logprobs", "The endpoint returned no log probabilities of its prompt.")
    return _read_distributions(reply.logprobs, reply.text, n, form, {**form, place: 0})


def _read_distributions(
    entries: Sequence[TokenLogprob], text: str, n: int, form: Mapping[str, int], written: Mapping[str, int]
) -> Distributions | Unparsed:
    """Expectations over a form's levels where a text has `written` words; the entries spell the text at their end."""
    offset = "".join(entry.token for entry in entries).rfind(text)
    if offset < 0:
        return Unparsed("no_logprobs", "The log probabilities belong to another text than the answer.")
    spans = parse_listed(text, n, written)
    if isinstance(spans, Unparsed):
        return spans
    expected: list[float] = []
    masses: list[float] = []
    for entry, prefix in _entries_at(entries, [(s + offset, e + offset) for s, e in spans]):
        if entry is None:
            return Unparsed("split_level", "A level was written in more than one token.")
        if not entry.top:
            return Unparsed("no_logprobs", "The endpoint returned no alternatives at a level.")
        expectation, mass = _expectation(entry, prefix, form)
        if expectation is None:
            return Unparsed("no_logprobs", "No legal level had any probability.")
        expected.append(expectation)
        masses.append(mass)
    levels = tuple(math.floor(value + 0.5) for value in expected)
    return Distributions(tuple(expected), levels, min(1.0, sum(masses) / len(masses)))


def _entries_at(
    entries: Sequence[TokenLogprob], spans: Sequence[tuple[int, int]]
) -> list[tuple[TokenLogprob | None, str]]:
    """Per span the token that holds all of it (None where none does) and what precedes the span in that token."""
    found: list[tuple[TokenLogprob | None, str]] = []
    i, start = 0, 0
    for span_start, span_end in spans:
        while start + len(entries[i].token) <= span_start:
            start += len(entries[i].token)
            i += 1
        token = entries[i].token
        whole = span_end <= start + len(token)
        found.append((entries[i] if whole else None, token[: span_start - start]))
    return found


def _expectation(entry: TokenLogprob, prefix: str, form: Mapping[str, int]) -> tuple[float | None, float]:
    """Expected level over the legal alternatives and their summed probability."""
    alternatives = dict(entry.top)
    alternatives.setdefault(entry.token, entry.logprob)
    mass, total = 0.0, 0.0
    for token, logprob in alternatives.items():
        level = form.get(token.strip().removeprefix(prefix.strip()).strip())
        if level is not None:
            probability = math.exp(min(0.0, logprob))
            mass += probability
            total += probability * level
    return (total / mass, mass) if mass > 0 else (None, 0.0)
