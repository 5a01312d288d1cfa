"""The simulators that ask a language model: answers aligned by our own numbers of tokens or of windows.

An explanation and bare windows flow in, a `Simulation` flows out. Sees no activation, level or stratum.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from autointerp.errors import UsageError
from autointerp.format import levels_schema
from autointerp.interpret.ask import Asked, all_in_order, ask
from autointerp.interpret.parse import (
    LETTERS,
    NUMBERS,
    Distributions,
    Unparsed,
    parse_distributions,
    parse_echoed,
    parse_structured,
)
from autointerp.interpret.questions import PLACE, Question, make_questions, prompt_digest
from autointerp.interpret.simulate import Simulator
from autointerp.llm.base import Capabilities, ChatModel, ChatReply, ChatRequest
from autointerp.llm.errors import ContextTooLongError
from autointerp.records import Explanation, Simulation, Usage, Window

LlmSimulatorName = Literal["structured", "top-logprobs", "prompt-logprobs"]
LogprobForm = Literal["numbers", "letters"]
TOP_LOGPROBS = 11
"""One for each legal answer."""
ECHO_TOP_LOGPROBS = 15
"""The legal answers, the open place, and a few of a model's other thoughts. Source: Bills et al. 2023."""
T = TypeVar("T")


@dataclass(frozen=True)
class StructuredSimulator:
    """Asks for a JSON object from numbers to levels, and for its schema to be enforced where that is possible."""

    model: ChatModel

    @property
    def name(self) -> str:
        """`structured provider:name`."""
        return f"structured {self.model.name}"

    def prompt_digest(self, *, targets: bool) -> str:
        """Of the words and demonstrations with which windows' targets are asked for, or all their tokens."""
        return prompt_digest("structured", targets=targets)

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Levels per window; a window whose answer failed is None with its reason.

        Raises:
            StoppedError: no request can succeed any more.
            ValueError: some windows have a target and some have none.
        """
        questions, answers = await _ask_all(make_questions("structured", explanation, windows), self._ask)
        levels = [None if isinstance(answer.value, Unparsed) else answer.value for answer in answers]
        return Simulation(
            levels=_by_window(questions, levels), failures=_failures(questions, answers), usage=_usage(answers)
        )

    async def _ask(self, question: Question) -> Asked[tuple[int, ...]]:
        n = question.n_levels

        def request(attempt: int, said: str | None) -> ChatRequest:
            return question.request(attempt, said, json_schema=levels_schema(n))

        def read(reply: ChatReply) -> tuple[int, ...] | Unparsed:
            return _cut_by_context(question, reply, parse_structured(reply, n))

        return await ask(self.model, request, read)


@dataclass(frozen=True)
class TopLogprobsSimulator:
    """Asks for one line per level and reads each level's distribution from the most likely tokens at its place."""

    model: ChatModel
    form: LogprobForm
    """How levels are written: `letters` where the endpoint's tokenizer splits "10" or is not known to keep it whole."""

    @property
    def name(self) -> str:
        """`top-logprobs/FORM provider:name`."""
        return f"top-logprobs/{self.form} {self.model.name}"

    def prompt_digest(self, *, targets: bool) -> str:
        """Of the words and demonstrations with which windows' targets are asked for, or all their tokens."""
        return prompt_digest(self.form, targets=targets)

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Rounded expectations per window and the expectations themselves; a failed window is None with its reason.

        Raises:
            StoppedError: no request can succeed any more.
            ValueError: some windows have a target and some have none.
        """
        return _expected(*await _ask_all(make_questions(self.form, explanation, windows), self._ask))

    async def _ask(self, question: Question) -> Asked[Distributions]:
        form = NUMBERS if self.form == "numbers" else LETTERS

        def request(attempt: int, said: str | None) -> ChatRequest:
            return question.request(attempt, said, top_logprobs=TOP_LOGPROBS)

        def read(reply: ChatReply) -> Distributions | Unparsed:
            return _cut_by_context(question, reply, parse_distributions(reply, question.n_levels, form))

        return await ask(self.model, request, read)


@dataclass(frozen=True)
class PromptLogprobsSimulator:
    """Has a prompt read in which every level is still open, and takes each one's distribution from that place.

    One request a question and nothing generated. Levels are letters, which any tokenizer keeps whole. Works where
    completions echo their prompt with log probabilities. Source: all-at-once simulation of Bills et al. 2023.
    """

    model: ChatModel

    @property
    def name(self) -> str:
        """`prompt-logprobs provider:name`."""
        return f"prompt-logprobs {self.model.name}"

    def prompt_digest(self, *, targets: bool) -> str:
        """Of the words and demonstrations with which windows' targets are asked for, or all their tokens."""
        return prompt_digest("echo", targets=targets)

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Rounded expectations per window and the expectations themselves; a failed window is None with its reason.

        Raises:
            StoppedError: no request can succeed any more.
            ValueError: some windows have a target and some have none.
        """
        return _expected(*await _ask_all(make_questions("echo", explanation, windows), self._ask))

    async def _ask(self, question: Question) -> Asked[Distributions]:
        def request(attempt: int, _: str | None) -> ChatRequest:
            return question.prompt_request(attempt, ECHO_TOP_LOGPROBS)

        n = question.n_levels
        return await ask(self.model, request, lambda reply: parse_echoed(reply, n, LETTERS, PLACE))


def _expected(questions: Sequence[Question], answers: Sequence[Asked[Distributions]]) -> Simulation:
    read = [None if isinstance(answer.value, Unparsed) else answer.value for answer in answers]
    masses = [(value.legal_mass, len(value.levels)) for value in read if value is not None]
    n_levels = sum(n for _, n in masses)
    return Simulation(
        levels=_by_window(questions, [None if value is None else value.levels for value in read]),
        expected=_by_window(questions, [None if value is None else value.expected for value in read]),
        failures=_failures(questions, answers),
        legal_mass=sum(mass * n for mass, n in masses) / n_levels if n_levels else None,
        usage=_usage(answers),
    )


async def _ask_all(
    questions: Sequence[Question], ask_one: Callable[[Question], Coroutine[object, object, Asked[T]]]
) -> tuple[list[Question], list[Asked[T]]]:
    """The questions that were asked in the end, in order, and their answers.

    One that is too long for the model's context is asked as its halves, down to one window.
    """
    answers = await all_in_order([ask_one(question) for question in questions])
    ended: tuple[list[Question], list[Asked[T]]] = ([], [])
    for question, answer in zip(questions, answers, strict=True):
        too_long = isinstance(answer.value, Unparsed) and answer.value.reason == ContextTooLongError.reason
        split = too_long and len(question.windows) > 1
        asked, answered = await _ask_all(question.halves(), ask_one) if split else ([question], [answer])
        ended[0].extend(asked)
        ended[1].extend(answered)
    return ended


def _cut_by_context(question: Question, reply: ChatReply, value: T | Unparsed) -> T | Unparsed:
    """An answer that was cut off because the context was full, as one that is too long where it can be halved."""
    cut = isinstance(value, Unparsed) and value.reason == "cut_off" and reply.context_full
    if cut and len(question.windows) > 1:
        return Unparsed(ContextTooLongError.reason, "The answer was cut off where the model's context was full.")
    return value


def _by_window(questions: Sequence[Question], values: Sequence[Sequence[T] | None]) -> tuple[tuple[T, ...] | None, ...]:
    """The answers' values window by window; None for every window of a failed answer."""
    spread: list[tuple[T, ...] | None] = []
    for question, answer in zip(questions, values, strict=True):
        spread += [None] * len(question.windows) if answer is None else question.by_window(answer)
    return tuple(spread)


def _failures(questions: Sequence[Question], answers: Sequence[Asked[object]]) -> tuple[tuple[int, str], ...]:
    """(window, reason) for every window of a failed answer."""
    reasons = [
        answer.value.reason if isinstance(answer.value, Unparsed) else None
        for question, answer in zip(questions, answers, strict=True)
        for _ in question.windows
    ]
    return tuple((i, reason) for i, reason in enumerate(reasons) if reason is not None)


def _usage(answers: Sequence[Asked[object]]) -> Usage:
    return sum((answer.usage for answer in answers), Usage())


def make_llm_simulator(kind: LlmSimulatorName, model: ChatModel, capabilities: Capabilities) -> Simulator:
    """The simulator of that name, in the form that the endpoint was seen to support.

    Raises:
        UsageError: the endpoint cannot do what the simulator needs.
    """
    if not capabilities.answers_differ:
        raise UsageError(
            f"{model.name} answers every question alike, so nothing can be learnt from it; check the server"
        )
    if kind == "structured":
        return StructuredSimulator(model)
    if kind == "prompt-logprobs":
        if not capabilities.prompt_logprobs:
            raise UsageError(
                f"{model.name} returns no log probabilities of a prompt (completions with echo), which the simulator "
                "prompt-logprobs needs; vLLM does; else choose --simulator top-logprobs or structured"
            )
        return PromptLogprobsSimulator(model)
    if not capabilities.top_logprobs or not capabilities.logprobs_differ:
        raise UsageError(
            f"{model.name} returns no usable log probabilities, which the simulator top-logprobs needs; "
            "choose --simulator structured"
        )
    return TopLogprobsSimulator(model, "numbers" if capabilities.ten_is_one_token else "letters")
