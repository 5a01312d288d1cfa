"""The explainer `tsv`: shows a language model the explain part as token-tab-level lines and asks for the rule.

A feature record flows in, explanations or a failure flow out. Sees no other part of the record (a revision: the select
part), and scores nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from autointerp.format import format_lines
from autointerp.interpret.ask import PENDING, Asked, again, all_in_order, ask
from autointerp.interpret.display import break_marks, token_lines
from autointerp.interpret.explain import ANSWER_TOKENS, answer_schema
from autointerp.interpret.parse import ParsedExplanation, Unparsed, parse_explanation
from autointerp.interpret.prompts import load_few_shots, load_prompt
from autointerp.interpret.refine import refine_digest, revise
from autointerp.llm.base import ChatMessage, ChatModel, ChatRequest
from autointerp.llm.errors import ContextTooLongError
from autointerp.provenance import digest
from autointerp.records import Explanation, Failed, FeatureRecord, Simulation, Usage

PROMPT = "explain-tsv.v1"
TEMPERATURE = 0.7
MOST_SAMPLES = 1000
"""Candidates of one feature at most; keeps the samples of repeated askings apart."""
STOP = ("\nWindow 1\n",)
"""Where a model that does not end begins a question of its own; never in an answer, whatever it is thought about."""
SHOWN_OUTPUTS = 10
"""Output tokens shown of either end."""


@dataclass(frozen=True)
class TsvExplainer:
    """Asks for explanations with demonstrations before and the feature last."""

    model: ChatModel
    show_outputs: bool = True
    """Show the output tokens that the feature's decoder direction raises and lowers most, where they are known."""

    @property
    def author(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def prompt_digest(self) -> str:
        """Of the prompt's words, its demonstrations and its settings."""
        settings = {"show_outputs": self.show_outputs, "temperature": TEMPERATURE}
        return digest([load_prompt(PROMPT).digest, load_few_shots().digest, settings])

    @property
    def refine_digest(self) -> str:
        """Of the words, demonstrations and settings with which a revision is asked for."""
        return refine_digest()

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        """At most `n_candidates` different explanations, in the order of their samples.

        Where the examples are too long for the model's context, every other one is shown, down to one.
        What candidates cost that failed or said the same again is in the first one's usage.

        Raises:
            StoppedError: no request can succeed any more.
        """
        asked = await all_in_order([self._candidate(record, k) for k in range(min(n_candidates, MOST_SAMPLES))])
        if len(record.splits.explain) > 1 and all(_is_too_long(answer) for answer in asked):
            return await self.explain(_with_half(record), n_candidates)
        kept: dict[str, tuple[ParsedExplanation, Usage]] = {}
        wasted = Usage()
        for answer in asked:
            if isinstance(answer.value, Unparsed) or answer.value.text.casefold() in kept:
                wasted += answer.usage
            else:
                kept[answer.value.text.casefold()] = (answer.value, answer.usage)
        if not kept or any(_is_pending(answer) for answer in asked):
            return _failed(asked)
        examples_digest = digest([example.model_dump(mode="json") for example in record.splits.explain])
        return [
            Explanation(
                feature=record.feature,
                text=parsed.text,
                no_pattern=parsed.no_pattern,
                author=self.author,
                method="tsv",
                prompt_digest=self.prompt_digest,
                examples_digest=examples_digest,
                usage=usage + wasted if i == 0 else usage,
            )
            for i, (parsed, usage) in enumerate(kept.values())
        ]

    async def refine(
        self, record: FeatureRecord, explanation: Explanation, simulated: Simulation
    ) -> Explanation | Failed:
        """A revision after a look at the explanation's worst errors on the select part.

        Raises:
            StoppedError: no request can succeed any more.
        """
        return await revise(self.model, record, explanation, simulated)

    async def _candidate(self, record: FeatureRecord, k: int) -> Asked[ParsedExplanation]:
        def request(attempt: int, said: str | None) -> ChatRequest:
            feature = ChatMessage(role="user", content=self._feature(record))
            return ChatRequest(
                messages=(*_preface(self.show_outputs), feature, *again(said, "explanation")),
                max_tokens=ANSWER_TOKENS,
                temperature=TEMPERATURE,
                json_schema=answer_schema(attempt),
                sample=k + MOST_SAMPLES * attempt,
                stop=STOP,
            )

        return await ask(self.model, request, parse_explanation)

    def _feature(self, record: FeatureRecord) -> str:
        windows = _windows([(example.record.tokens, example.levels) for example in record.splits.explain])
        top, bottom = record.facts.top_outputs, record.facts.bottom_outputs
        evidence = _evidence([t for t, _ in top], [t for t, _ in bottom]) if self.show_outputs else ""
        return load_prompt(PROMPT).render("user", windows=windows, evidence=evidence, note="")


def _is_too_long(answer: Asked[ParsedExplanation]) -> bool:
    return isinstance(answer.value, Unparsed) and answer.value.reason == ContextTooLongError.reason


def _with_half(record: FeatureRecord) -> FeatureRecord:
    """The record with every other example to show, so that each stratum keeps its share."""
    splits = record.splits.model_copy(update={"explain": record.splits.explain[::2]})
    return record.model_copy(update={"splits": splits})


@cache
def _preface(show_outputs: bool) -> tuple[ChatMessage, ...]:
    """Instructions and demonstrations: the same for every feature."""
    prompt = load_prompt(PROMPT)
    messages = [ChatMessage(role="system", content=prompt.render("system"))]
    for shot in load_few_shots().features:
        windows = _windows([(w.tokens, w.levels) for w in shot.windows])
        evidence = _evidence(shot.top_outputs, shot.bottom_outputs) if show_outputs else ""
        asked = prompt.render("user", windows=windows, evidence=evidence, note="")
        messages.append(ChatMessage(role="user", content=asked))
        messages.append(ChatMessage(role="assistant", content=prompt.render("assistant", explanation=shot.explanation)))
    return tuple(messages)


def _evidence(top: Sequence[str], bottom: Sequence[str]) -> str:
    """The output tokens at both ends; nothing where they are not known."""
    if not top or not bottom:
        return ""
    shown = [", ".join(f'"{break_marks(token)}"' for token in tokens[:SHOWN_OUTPUTS]) for tokens in (top, bottom)]
    return load_prompt(PROMPT).render("evidence", top=shown[0], bottom=shown[1])


def _windows(windows: Sequence[tuple[Sequence[str], Sequence[int]]]) -> str:
    """Windows one under another, one `token<TAB>level` line per token."""
    return "\n\n".join(
        f"Window {i}\n{format_lines(token_lines(tokens), levels)}"
        for i, (tokens, levels) in enumerate(windows, start=1)
    )


def _is_pending(answer: Asked[ParsedExplanation]) -> bool:
    return isinstance(answer.value, Unparsed) and answer.value.reason == PENDING


def _failed(asked: Sequence[Asked[ParsedExplanation]]) -> Failed:
    """`pending` where one is, else the commonest reason among the candidates, the earliest among equals."""
    asked = [answer for answer in asked if _is_pending(answer)] or asked
    unread = [answer.value for answer in asked if isinstance(answer.value, Unparsed)]
    ((reason, _),) = Counter(value.reason for value in unread).most_common(1)
    message = next(value.message for value in unread if value.reason == reason)
    attempts = sum(answer.attempts for answer in asked)
    usage = sum((answer.usage for answer in asked), Usage())
    return Failed(stage="explain", reason=reason, message=message, attempts=attempts, usage=usage)
