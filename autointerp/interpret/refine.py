"""One round of revision: an explanation's worst errors on the select part are shown, and a better text is asked for.

A feature record, an explanation and its simulation on the select part flow in; a revision or a failure flows out. Sees
no other part of the record, and does not judge whether the revision is better.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from autointerp.interpret.ask import again, ask
from autointerp.interpret.display import break_marks, token_lines
from autointerp.interpret.explain import ANSWER_TOKENS, answer_schema
from autointerp.interpret.parse import Unparsed, parse_explanation
from autointerp.interpret.prompts import load_few_shots, load_prompt, load_revisions, one_line
from autointerp.llm.base import ChatMessage, ChatModel, ChatRequest
from autointerp.provenance import digest
from autointerp.records import Example, Explanation, Failed, FeatureRecord, Simulation

PROMPT = "refine-tsv.v1"
STOP = ("\nCase 1, ",)
"""Where a model that does not end begins a question of its own."""
MOST_CASES = 8
TEMPERATURE = 0.0


class Case(NamedTuple):
    """A window, and what was predicted of it."""

    tokens: Sequence[str]
    levels: Sequence[int]
    """True level of every token."""
    predicted: Mapping[int, int]
    """Predicted level by place: the target's alone, or every token's."""

    @property
    def error(self) -> int:
        """True level less predicted level where they differ most: above 0 a miss, below 0 a false alarm."""
        return max((self.levels[place] - level for place, level in self.predicted.items()), key=abs)


def refine_digest() -> str:
    """Of the prompt's words, its demonstrations and its settings."""
    settings = {"temperature": TEMPERATURE, "most_cases": MOST_CASES}
    return digest([load_prompt(PROMPT).digest, load_revisions().digest, load_few_shots().digest, settings])


async def revise(
    model: ChatModel, record: FeatureRecord, explanation: Explanation, simulated: Simulation
) -> Explanation | Failed:
    """A revision in the light of the explanation's worst errors on the select part.

    `simulated` holds the explanation's levels on the select part's windows, in their order. Without an error there is
    nothing to ask: a failure of no attempts.

    Raises:
        StoppedError: no request can succeed any more.
    """
    cases = choose_cases(record.splits.select, simulated)
    if not cases:
        message = "nothing in the select part was predicted wrongly"
        return Failed(stage="refine", reason="no_error_to_show", message=message, attempts=0)
    shown = _format_cases(cases)

    def request(attempt: int, said: str | None) -> ChatRequest:
        return ChatRequest(
            messages=(*_preface(), _asked(explanation.text, shown), *again(said, "explanation")),
            max_tokens=ANSWER_TOKENS,
            temperature=TEMPERATURE,
            json_schema=answer_schema(attempt),
            sample=attempt,
            stop=STOP,
        )

    answer = await ask(model, request, parse_explanation)
    if isinstance(answer.value, Unparsed):
        reason, message = answer.value
        return Failed(stage="refine", reason=reason, message=message, attempts=answer.attempts, usage=answer.usage)
    return Explanation(
        feature=record.feature,
        text=answer.value.text,
        no_pattern=answer.value.no_pattern,
        author=model.name,
        method=explanation.method,
        prompt_digest=refine_digest(),
        examples_digest=digest([explanation.examples_digest, shown]),
        usage=answer.usage,
    )


def choose_cases(examples: Sequence[Example], simulated: Simulation) -> list[Case]:
    """The windows predicted worst, as many misses as false alarms where there are enough of both, misses first."""
    cases: list[Case] = []
    for example, predicted in zip(examples, simulated.levels, strict=True):
        if predicted is not None:
            places = range(len(example.levels)) if example.target is None else (example.target,)
            cases.append(Case(example.record.tokens, example.levels, dict(zip(places, predicted, strict=True))))
    missed = sorted((case for case in cases if case.error > 0), key=lambda case: -case.error)
    alarms = sorted((case for case in cases if case.error < 0), key=lambda case: case.error)
    n_missed = max(MOST_CASES // 2, MOST_CASES - len(alarms))
    missed = missed[:n_missed]
    return missed + alarms[: MOST_CASES - len(missed)]


@cache
def _preface() -> tuple[ChatMessage, ...]:
    """Instructions and demonstrations: the same for every explanation."""
    prompt = load_prompt(PROMPT)
    messages = [ChatMessage(role="system", content=prompt.render("system"))]
    for revision in load_revisions().revisions:
        (shot,) = load_few_shots().named(revision.feature)
        cases = [
            Case(shot.windows[case.window].tokens, shot.windows[case.window].levels, dict(case.predicted))
            for case in revision.cases
        ]
        messages.append(_asked(revision.before, _format_cases(cases)))
        messages.append(ChatMessage(role="assistant", content=prompt.render("assistant", explanation=shot.explanation)))
    return tuple(messages)


def _asked(explanation: str, cases: str) -> ChatMessage:
    described = break_marks(one_line(explanation))
    content = load_prompt(PROMPT).render("user", explanation=described, cases=cases, note="")
    return ChatMessage(role="user", content=content)


def _format_cases(cases: Sequence[Case]) -> str:
    """Cases one under another, each headed by its kind."""
    return "\n\n".join(
        f"Case {i}, {'missed' if case.error > 0 else 'false alarm'}\n{_format_case(case)}"
        for i, case in enumerate(cases, start=1)
    )


def _format_case(case: Case) -> str:
    """One `token<TAB>level` line per token, with the predicted level behind where either is above 0."""
    lines = []
    for place, (token, level) in enumerate(zip(token_lines(case.tokens), case.levels, strict=True)):
        predicted = case.predicted.get(place)
        tested = predicted is not None and (predicted or level)
        lines.append(f"{token}\t{level}\t{predicted}" if tested else f"{token}\t{level}")
    return "\n".join(lines)
