"""Answers our own prompts without a model: reads a request back and lets functions that know the truth reply.

A chat completion's body flows in, the answer of a model that understands everything flows out. For test servers and
rehearsals; what the functions know is the caller's business.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from autointerp.interpret.ask import AGAIN
from autointerp.interpret.display import mend_marks
from autointerp.interpret.explain_tsv import PROMPT as EXPLAIN_PROMPT
from autointerp.interpret.lookup import choose_entries, count_tokens, format_entries, parse_entries, read_levels
from autointerp.interpret.parse import LETTERS, MOST_LISTED
from autointerp.interpret.prompts import load_prompt
from autointerp.interpret.questions import (
    ECHO_WORDINGS,
    FORMS,
    PLACE,
    TARGET_WORDINGS,
    TOKEN_WORDINGS,
    Passage,
    format_levels,
    parse_passage,
)
from autointerp.interpret.refine import PROMPT as REFINE_PROMPT
from autointerp.interpret.simulate import Tokens
from autointerp.llm.answers import Answer, AnswerFunction, RequestBody, last_message, spelled
from autointerp.llm.base import TokenLogprob
from autointerp.records import ActivationRecord, Example

LevelsOf = Callable[[str, Tokens], Sequence[int] | None]
"""Levels of a window's tokens by an explanation; None where the explanation is not understood."""
TargetLevelOf = Callable[[str, Passage], int | None]
"""Level of a passage's target by an explanation; None where the explanation is not understood."""
ShownWindow = tuple[Tokens, Sequence[int]]
RuleOf = Callable[[Sequence[ShownWindow]], str | None]
"""An explanation of the windows shown; None for no clear pattern."""
SURE = 0.9
"""Probability on the level meant; the rest is on its neighbours."""
STILL_OPEN = 0.5
"""Probability that a place stays open."""
_PIECE = re.compile(r"\\(?:u\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|s\{[^}]*\}|.)| ?[^\W\d_]+| ?\d+| +(?! )|.")
"""A word, a number or a single other character, with the space before it."""


def oracle(
    levels_of: LevelsOf, rule_of: RuleOf | None = None, target_level_of: TargetLevelOf | None = None
) -> AnswerFunction:
    """An answer function for `llm.testserver` that understands our explainer and simulator prompts.

    Explanations that are not understood are answered in words, which no parser takes for levels. The text around a
    target shows no borders of tokens: without a `target_level_of`, `levels_of` gets words with the space before them.
    """
    of_target = target_level_of or _by_words(levels_of)

    def answer(body: RequestBody) -> Answer | None:
        if "prompt" in body:
            return _read(levels_of, of_target, str(body["prompt"]))
        question = _question(body)
        for name, shown in ((EXPLAIN_PROMPT, "windows"), (REFINE_PROMPT, "cases")):
            asked = load_prompt(name).read_back("user", question)
            if asked is not None:
                rule = rule_of(_shown(asked[shown])) if rule_of else None
                return Answer(f"Explanation: {rule or 'no clear pattern'}")
        for wording in (*TOKEN_WORDINGS.values(), *TARGET_WORDINGS.values()):
            prompt = load_prompt(wording.prompt)
            asked = prompt.read_back("user", question)
            if asked is None or not _instructions(body).startswith(prompt.render("system")):
                continue
            levels = _levels(levels_of, of_target, asked)
            if levels is None:
                return Answer("I do not understand this explanation.")
            form = FORMS[wording.form]
            return Answer(format_levels(levels, form)) if form is None else _as_lines(levels, form)
        return None

    return answer


def _read(levels_of: LevelsOf, of_target: TargetLevelOf, text: str) -> Answer | None:
    """What a model expected at the open places of a text; nothing in particular where it did not understand."""
    found = _echoed(text)
    levels = _levels(levels_of, of_target, found[1]) if found else None
    if found is None or levels is None:
        return None
    tokens = [*spelled(found[2])]
    for i, level in enumerate(levels, start=1):
        chances = {word: chance * (1 - STILL_OPEN) for word, chance in _chances(level, LETTERS).items()}
        top = tuple((f" {word}", math.log(chance)) for word, chance in {**chances, PLACE: STILL_OPEN}.items())
        place = TokenLogprob(token=f" {PLACE}", logprob=math.log(STILL_OPEN), top=top)
        tokens += [_sure(str(i)), _sure(":"), place, _sure("\n")]
    return Answer("\n", prompt=tuple(tokens[:-1]))


def _echoed(text: str) -> tuple[str, dict[str, str], str] | None:
    """Prompt name, values and all that stands before the open places; None of any other text."""
    before, colon, _ = text.rpartition(":\n")
    asked = "Explanation: " + before.rpartition("\n\nExplanation: ")[2] + ":"
    for wording in ECHO_WORDINGS.values():
        prompt = load_prompt(wording.prompt)
        values = prompt.read_back("user", asked)
        if values is not None and text.startswith(prompt.render("system")):
            return wording.prompt, values, before + colon
    return None


def stage_of(body: RequestBody) -> str | None:
    """Which of our prompts a request is: `explain`, `refine`, `simulate` or `grade`; None for any other."""
    if "prompt" in body:
        found = _echoed(str(body["prompt"]))
        return found[0].partition("-")[0] if found else None
    names = [EXPLAIN_PROMPT, REFINE_PROMPT]
    names += [wording.prompt for wording in (*TOKEN_WORDINGS.values(), *TARGET_WORDINGS.values())]
    asked = _question(body)
    for name in names:
        if load_prompt(name).read_back("user", asked) is not None:
            return name.partition("-")[0]
    return None


def _question(body: RequestBody) -> str:
    """The last message, or the one before the answer that is asked for again in it."""
    last, messages = last_message(body), body.get("messages")
    again = load_prompt(AGAIN)
    if isinstance(messages, list) and any(again.read_back(form, last) is not None for form in again.sections):
        return last_message({"messages": messages[:-2]})
    return last


def _levels(levels_of: LevelsOf, of_target: TargetLevelOf, asked: Mapping[str, str]) -> Sequence[int] | None:
    """What a question asks for: the levels of its tokens, or of its passages' targets."""
    explanation = mend_marks(asked["explanation"])
    if "tokens" in asked:
        return levels_of(explanation, tuple(map(mend_marks, _numbered(asked["tokens"]))))
    levels: list[int] = []
    for line in _numbered(asked["passages"]):
        passage = parse_passage(line.partition("\t")[0])
        level = of_target(explanation, passage) if passage else None
        if level is None:
            return None
        levels.append(level)
    return levels


def _by_words(levels_of: LevelsOf) -> TargetLevelOf:
    def level(explanation: str, passage: Passage) -> int | None:
        before = _PIECE.findall(passage.before)
        levels = levels_of(explanation, (*before, passage.target, *_PIECE.findall(passage.after)))
        return None if levels is None else levels[len(before)]

    return level


def lookup_oracle() -> AnswerFunction:
    """An oracle that explains by look-up entries and understands such explanations, and no others."""
    return oracle(_lookup_levels, _lookup_rule, _lookup_target_level)


def _lookup_levels(explanation: str, tokens: Tokens) -> list[int] | None:
    entries = parse_entries(explanation)
    if entries is None:
        return None
    return list(read_levels(entries, tokens))


def _lookup_target_level(explanation: str, passage: Passage) -> int | None:
    """The longest entry that the text before the target ends in; an entry of the target alone is the shortest."""
    entries = parse_entries(explanation)
    if entries is None:
        return None
    fitting = [e for e in entries if e.token == passage.target and passage.before.endswith(e.previous or "")]
    return max(fitting, key=lambda e: -1 if e.previous is None else len(e.previous)).level if fitting else 0


def _lookup_rule(windows: Sequence[ShownWindow]) -> str | None:
    examples = [
        Example(
            record=ActivationRecord(tokens=tuple(tokens), activations=tuple(map(float, levels)), document="", start=0),
            levels=tuple(levels),
            stratum="top",
            probability=1.0,
            verified=False,
        )
        for tokens, levels in windows
    ]
    entries = choose_entries(count_tokens(examples))[:MOST_LISTED]
    return format_entries(entries) if entries else None


def _numbered(text: str) -> tuple[str, ...]:
    """What stands behind the numbers of `number<TAB>text` lines."""
    return tuple(line.partition("\t")[2] for line in text.split("\n"))


def _instructions(body: RequestBody) -> str:
    messages = body.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return str(first.get("content")) if isinstance(first, dict) else ""


def _shown(windows: str) -> list[ShownWindow]:
    """Tokens and true levels under each heading; predicted levels, and blocks of something else, are passed over."""
    shown: list[ShownWindow] = []
    for block in windows.split("\n\n"):
        columns = [line.split("\t") for line in block.split("\n")[1:]]
        if all(len(column) > 1 for column in columns):
            shown.append((tuple(mend_marks(column[0]) for column in columns), [int(column[1]) for column in columns]))
    return shown


def _as_lines(levels: Sequence[int], form: Mapping[str, int]) -> Answer:
    written = {level: text for text, level in form.items()}
    tokens: list[TokenLogprob] = []
    for i, level in enumerate(levels, start=1):
        chances = _chances(level, form)
        top = tuple((word, math.log(chance)) for word, chance in chances.items())
        entry = TokenLogprob(token=written[level], logprob=math.log(chances[written[level]]), top=top)
        tokens += [_sure(str(i)), _sure(":"), _sure(" "), entry, _sure("\n")]
    return Answer("".join(entry.token for entry in tokens), tuple(tokens))


def _chances(level: int, form: Mapping[str, int]) -> dict[str, float]:
    """A form's words for a level and its neighbours, with probabilities."""
    chances = {word: (1 - SURE) / 2 for word, near in form.items() if abs(near - level) == 1}
    (meant,) = (word for word, value in form.items() if value == level)
    return {**chances, meant: 1 - sum(chances.values())}


def _sure(token: str) -> TokenLogprob:
    return TokenLogprob(token=token, logprob=0.0, top=((token, 0.0),))
