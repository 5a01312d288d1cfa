"""LLM answers to explanations and levels, or a typed reason why not. Never invents.

Replies flow in; texts, levels and distributions flow out, aligned by our own indices. Asks nothing again itself.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from autointerp.format import MAX_LEVEL
from autointerp.interpret.said import NO_PATTERN, find_explanation, finds_nothing, is_echo, listed_tokens, says_no
from autointerp.interpret.wrapping import Pairs, objects, outside, spoken, spoken_from
from autointerp.llm.base import ChatReply, TokenLogprob
from autointerp.llm.decode import CUT_ENDS
from autointerp.llm.logprobs import MOST_MASS, bare, begins_at, chances, fully_listed, lost_some

MOST_WORDS = 80
"""One or two sentences; a longer answer has not understood the question."""
MOST_LISTED = 5
"""A longer list of quoted tokens is a look-up table and explains nothing."""
NUMBERS: Mapping[str, int] = {str(level): level for level in range(MAX_LEVEL + 1)}
LETTERS: Mapping[str, int] = {letter: level for level, letter in enumerate("abcdefghijk")}
LEAST_MASS = 0.1
"""A level that a model wrote had more of the probability, with the other levels, than this."""
LASTING = frozenset({"refused", "cut_off", "context_too_long", "no_logprobs", "split_level"})
"""Reasons that asking again would only meet again."""
_LISTED = re.compile(r"^[ \t]*(?:[-*•>][ \t]+)?[*_`]*(\d{1,6})[*_`]*[ \t]*[:：][ \t*_`]*(\S+?)[*_`]*[,;.]?[ \t]*$")
_NUMBERED = re.compile(r"^[ \t]*(?:[-*•>][ \t]+)?[*_`]*\d+[*_`]*[ \t]*[:：]")
"""Begins a line that is a level or means to be one."""
_KEY = re.compile(r"([^\d-]*)(\d{1,9})([^\d]*)")
_BEGUN = re.compile(r"\{\s*[\"']?[^\d\"'{}]{0,20}1[\"']?\s*:")
"""A list of levels begins."""


class Unparsed(NamedTuple):
    """Why an answer holds nothing usable."""

    reason: str
    """One word, as stored with a failure."""
    message: str
    """A sentence in our words, for people; a model that is asked again is not shown it."""


class Distributions(NamedTuple):
    """What an endpoint said of every level asked for."""

    expected: tuple[float, ...]
    """Expectation over the legal answers, 0..10."""
    levels: tuple[int, ...]
    """The expectations rounded, halves up."""
    legal_mass: float
    """Mean probability on legal answers, before renormalising."""


class ParsedExplanation(NamedTuple):
    """An explanation's text, or the finding that there is none."""

    text: str
    no_pattern: bool


def ended_badly(reply: ChatReply) -> Unparsed | None:
    """A refusal, a cut answer or an empty one."""
    if reply.refused:
        return Unparsed("refused", "The answer was refused.")
    cut = prompt_cut(reply)
    if cut:
        return cut
    if reply.finish_reason in CUT_ENDS:
        return Unparsed("cut_off", "The answer was cut off before its end.")
    if not spoken(reply.text):
        return Unparsed("empty", "The answer was empty.")
    return None


def prompt_cut(reply: ChatReply) -> Unparsed | None:
    """Where the endpoint read less than it was sent: what it answered is an answer to something else."""
    if reply.tokens_sent is None:
        return None
    read = reply.usage.input_tokens + reply.usage.cached_input_tokens
    said = f"The endpoint read {read:,} of about {reply.tokens_sent:,} tokens; give it a larger context"
    return Unparsed("context_too_long", f"{said} (Ollama: OLLAMA_CONTEXT_LENGTH).")


def _may_be_whole(reply: ChatReply) -> bool:
    """Whether an answer that was cut off answers all that was asked; not where the question itself was cut."""
    return not reply.refused and reply.tokens_sent is None and reply.finish_reason in CUT_ENDS


def parse_explanation(reply: ChatReply) -> ParsedExplanation | Unparsed:
    """What stands behind the last `Explanation:`, on its line or the one below, or in an object under that name.

    A model may think aloud before it. What only repeats our instructions, and what refuses in words, is none.
    """
    bad = ended_badly(reply)
    if bad:
        return bad
    text = find_explanation(spoken(reply.text))
    if text is None:
        return Unparsed("ambiguous", "It had more than one explanation.")
    if not re.search(r"\w\w", text) or is_echo(text):
        return Unparsed("no_explanation", 'It had no line that starts with "Explanation:".')
    if finds_nothing(text):
        return ParsedExplanation(NO_PATTERN, True)
    if says_no(text):
        return Unparsed("declined", "It declined to answer.")
    if len(text.split()) > MOST_WORDS:
        return Unparsed("too_long", f"It was longer than {MOST_WORDS} words.")
    if listed_tokens(text) > MOST_LISTED:
        return Unparsed("list_too_long", f"It had a list of more than {MOST_LISTED} quoted tokens.")
    return ParsedExplanation(text, False)


def parse_structured(reply: ChatReply, n: int) -> tuple[int, ...] | Unparsed:
    """Levels from the one JSON object whose keys are our numbers 1..n, of tokens or of passages, each once.

    What stands around it, its order and how a whole number is written do not matter: the keys say what is meant.
    """
    bad = ended_badly(reply)
    if bad and not _may_be_whole(reply):
        return bad
    levels = _read_object(spoken(reply.text), n)
    return bad if bad and isinstance(levels, Unparsed) else levels


def _read_object(answer: str, n: int) -> tuple[int, ...] | Unparsed:
    found: list[Pairs] = []
    for pairs in map(_unwrapped, objects(answer)):
        if pairs not in found:
            found.append(pairs)
    if not found:
        return Unparsed("malformed", "It was no JSON.")
    if len(found) > 1 or _BEGUN.search(outside(answer)):
        return Unparsed("ambiguous", "It had more than one JSON object.")
    (pairs,) = found
    numbers = _numbers([key for key, _ in pairs])
    by_number = dict(zip(numbers, (value for _, value in pairs), strict=True)) if numbers else {}
    if len(pairs) != n or sorted(by_number) != list(range(1, n + 1)):
        return _misaligned(len(pairs), n)
    levels = [_level(by_number[i]) for i in range(1, n + 1)]
    whole = [level for level in levels if level is not None]
    if len(whole) < n:
        return Unparsed("out_of_range", f"A level was no whole number from 0 to {MAX_LEVEL}.")
    return tuple(whole)


def _unwrapped(pairs: Pairs) -> Pairs:
    """The one object inside an object that numbers nothing itself."""
    inner = [value for _, value in pairs if isinstance(value, Pairs)]
    if len(inner) != 1 or any(re.search(r"\d", key) for key, _ in pairs):
        return pairs
    return _unwrapped(inner[0])


def _numbers(keys: Sequence[str]) -> list[int] | None:
    """The numbers in keys that differ in nothing else."""
    matches = [_KEY.fullmatch(key) for key in keys]
    found = [match for match in matches if match]
    if len(found) < len(keys) or len({(match[1], match[3]) for match in found}) != 1:
        return None
    return [int(match[2]) for match in found]


def _level(value: object) -> int | None:
    """A whole number from 0 to 10, as a number or in words of digits."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,2}(?:\.0+)?\s*", value, re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_LEVEL:
        return None
    return int(value) if value == int(value) else None


def _misaligned(found: int, n: int) -> Unparsed:
    """Why levels cannot be told apart; `found` is how many there are."""
    if found < n:
        return Unparsed("too_few_levels", f"It had {found} levels; {n} are asked for.")
    if found > n:
        return Unparsed("too_many_levels", f"It had {found} levels; {n} are asked for.")
    return Unparsed("misaligned", f"The numbers were not 1 to {n}, each once.")


def parse_listed(text: str, n: int, form: Mapping[str, int]) -> tuple[tuple[int, int], ...] | Unparsed:
    """Character spans of the levels in `number: level` lines for the numbers 1..n in order.

    Words may stand before and after the list, and a list that goes on with n + 1 is read up to n.
    """
    indices: list[int] = []
    spans: list[tuple[int, int]] = []
    start, between = 0, False
    for line in text.splitlines(keepends=True):
        match = _LISTED.match(line.rstrip("\r\n"))
        if match:
            if between:
                return Unparsed("malformed", "Something stood between the lines with levels.")
            indices.append(int(match[1]))
            spans.append((start + match.start(2), start + match.end(2)))
            if indices == list(range(1, n + 2)):
                break
        elif _NUMBERED.match(line):
            return Unparsed("malformed", "A line was not a number, a colon and a level.")
        elif indices and line.strip() and not line.strip().startswith("```"):
            between = True
        start += len(line)
    if indices[:n] != list(range(1, n + 1)) or indices[n:] not in ([], [n + 1]):
        return _misaligned(len(indices), n) if indices else Unparsed("malformed", "It had no lines with levels.")
    if any(text[low:high] not in form for low, high in spans[:n]):
        return Unparsed("out_of_range", "A level was none of those allowed.")
    return tuple(spans[:n])


def parse_distributions(reply: ChatReply, n: int, form: Mapping[str, int]) -> Distributions | Unparsed:
    """Expected levels from the log probabilities at the positions where a level was generated."""
    bad = ended_badly(reply)
    answer = spoken(reply.text)
    if bad and not (_may_be_whole(reply) and _runs_on(answer, n, form)):
        return bad
    if not reply.logprobs or not any(entry.top for entry in reply.logprobs):
        return Unparsed("no_logprobs", "The endpoint returned no log probabilities.")
    begin = begins_at(reply.logprobs, reply.text)
    offset = None if begin is None else begin + spoken_from(reply.text)
    return _read_distributions(reply.logprobs, answer, offset, n, form, form)


def _runs_on(answer: str, n: int, form: Mapping[str, int]) -> bool:
    """Whether all that was asked for stands before the end of an answer that was cut off."""
    spans = parse_listed(answer, n, form)
    return not isinstance(spans, Unparsed) and "\n" in answer[spans[-1][1] :]


def parse_echoed(reply: ChatReply, n: int, form: Mapping[str, int], place: str) -> Distributions | Unparsed:
    """Expected levels from the log probabilities at the places held open for them in a prompt that was read.

    Source: the all-at-once simulator of Bills et al. 2023, with numbered lines and a word of one letter for `unknown`.
    """
    if reply.refused:
        return Unparsed("refused", "The answer was refused.")
    cut = prompt_cut(reply)
    if cut:
        return cut
    if not reply.logprobs:
        return Unparsed("no_logprobs", "The endpoint returned no log probabilities of its prompt.")
    listed = fully_listed(reply.logprobs)
    if any(lost_some(entry, listed) for entry in reply.logprobs if bare(entry.token) == place):
        return Unparsed(
            "no_logprobs", "A list of the likeliest tokens was shorter than others: texts stood for each other."
        )
    offset = begins_at(reply.logprobs, reply.text)
    return _read_distributions(reply.logprobs, reply.text, offset, n, form, {**form, place: 0})


def _read_distributions(
    entries: Sequence[TokenLogprob],
    text: str,
    offset: int | None,
    n: int,
    form: Mapping[str, int],
    written: Mapping[str, int],
) -> Distributions | Unparsed:
    """Expectations over a form's levels where a text has `written` words and begins at `offset` in what is spelled."""
    if offset is None:
        return Unparsed("no_logprobs", "The log probabilities belong to another text than the answer.")
    spans = parse_listed(text, n, written)
    if isinstance(spans, Unparsed):
        return spans
    expected: list[float] = []
    masses: list[float] = []
    for entry, prefix in _entries_at(entries, [(s + offset, e + offset) for s, e in spans]):
        if entry is None:
            return Unparsed("split_level", "A level was written in more than one token.")
        if _level_in(entry.token, prefix) not in written:
            return Unparsed("split_level", "A level shared its token with something else.")
        found = _expectation(entry, prefix, form)
        if isinstance(found, Unparsed):
            return found
        expected.append(found[0])
        masses.append(found[1])
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


def _expectation(entry: TokenLogprob, prefix: str, form: Mapping[str, int]) -> tuple[float, float] | Unparsed:
    """Expected level over the legal alternatives and their summed probability, or why they are no such thing."""
    if not entry.top:
        return Unparsed("no_logprobs", "The endpoint returned no alternatives at a level.")
    by_level = [(form.get(_level_in(text, prefix)), chance) for text, chance in chances(entry).items()]
    legal = [(level, chance) for level, chance in by_level if level is not None]
    mass = sum(chance for _, chance in legal)
    if mass <= 0.0:
        return Unparsed("no_logprobs", "No legal level had any probability.")
    if mass > MOST_MASS:
        return Unparsed("no_logprobs", "The probabilities of the levels add up to more than 1.")
    if _level_in(entry.token, prefix) in form and mass < LEAST_MASS:
        return Unparsed("no_logprobs", "A level was written that its log probabilities make most unlikely.")
    return sum(level * chance for level, chance in legal) / mass, mass


def _level_in(text: str, prefix: str) -> str:
    return bare(bare(text).removeprefix(bare(prefix)))
