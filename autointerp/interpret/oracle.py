"""Answers our own prompts without a model: reads a request back and lets functions that know the truth reply.

A chat completion's body flows in, the answer of a model that understands everything flows out. For test servers and
rehearsals; what the functions know is the caller's business.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence

from autointerp.errors import UsageError
from autointerp.format import MAX_LEVEL, parse_lines
from autointerp.interpret.explain_tsv import PROMPT as EXPLAIN_PROMPT
from autointerp.interpret.lookup import choose_entries, count_tokens, format_entries, parse_entries, read_levels
from autointerp.interpret.parse import MOST_LISTED
from autointerp.interpret.prompts import load_prompt
from autointerp.interpret.simulate import Tokens
from autointerp.interpret.simulate_llm import PROMPTS
from autointerp.llm.answers import Answer, AnswerFunction, RequestBody, last_message
from autointerp.llm.base import TokenLogprob
from autointerp.records import ActivationRecord, Example

LevelsOf = Callable[[str, Tokens], Sequence[int] | None]
"""Levels of a window's tokens by an explanation; None where the explanation is not understood."""
ShownWindow = tuple[Tokens, Sequence[int]]
RuleOf = Callable[[Sequence[ShownWindow]], str | None]
"""An explanation of the windows shown; None for no clear pattern."""
SURE = 0.9
"""Probability on the level meant; the rest is on its neighbours."""


def oracle(levels_of: LevelsOf, rule_of: RuleOf | None = None) -> AnswerFunction:
    """An answer function for `llm.testserver` that understands our explainer and simulator prompts.

    Explanations that `levels_of` does not understand are answered in words, which no parser takes for levels.
    """

    def answer(body: RequestBody) -> Answer | None:
        asked = load_prompt(EXPLAIN_PROMPT).read_back("user", last_message(body))
        if asked is not None:
            rule = rule_of(_shown(asked["windows"])) if rule_of else None
            return Answer(f"Explanation: {rule or 'no clear pattern'}")
        for name, form in PROMPTS.items():
            prompt = load_prompt(name)
            asked = prompt.read_back("user", last_message(body))
            if asked is None or not _instructions(body).startswith(prompt.render("system")):
                continue
            _, tokens = _numbered(asked["tokens"])
            levels = levels_of(asked["explanation"], tokens)
            if levels is None:
                return Answer("I do not understand this explanation.")
            return _as_json(levels) if form is None else _as_lines(levels, form)
        return None

    return answer


def lookup_oracle() -> AnswerFunction:
    """An oracle that explains by look-up entries and understands such explanations, and no others."""
    return oracle(_lookup_levels, _lookup_rule)


def _lookup_levels(explanation: str, tokens: Tokens) -> list[int] | None:
    entries = parse_entries(explanation)
    if entries is None:
        return None
    return list(read_levels(entries, tokens))


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


def _numbered(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numbers and tokens of `number<TAB>token` lines."""
    pairs = [line.partition("\t") for line in text.split("\n")]
    return tuple(number for number, _, _ in pairs), tuple(token for _, _, token in pairs)


def _instructions(body: RequestBody) -> str:
    messages = body.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return str(first.get("content")) if isinstance(first, dict) else ""


def _shown(windows: str) -> list[ShownWindow]:
    shown: list[ShownWindow] = []
    for block in windows.split("\n\n"):
        try:
            tokens, values = parse_lines(block.partition("\n")[2])
        except UsageError:
            continue
        shown.append((tokens, [int(value) for value in values]))
    return shown


def _as_json(levels: Sequence[int]) -> Answer:
    return Answer(json.dumps({str(i): level for i, level in enumerate(levels, start=1)}))


def _as_lines(levels: Sequence[int], form: Mapping[str, int]) -> Answer:
    written = {level: text for text, level in form.items()}
    tokens: list[TokenLogprob] = []
    for i, level in enumerate(levels, start=1):
        chances = {near: (1 - SURE) / 2 for near in (level - 1, level + 1) if 0 <= near <= MAX_LEVEL}
        chances[level] = 1 - sum(chances.values())
        top = tuple((written[value], math.log(chance)) for value, chance in chances.items())
        entry = TokenLogprob(token=written[level], logprob=math.log(chances[level]), top=top)
        tokens += [_sure(str(i)), _sure(":"), _sure(" "), entry, _sure("\n")]
    return Answer("".join(entry.token for entry in tokens), tuple(tokens))


def _sure(token: str) -> TokenLogprob:
    return TokenLogprob(token=token, logprob=0.0, top=((token, 0.0),))
