"""The simulators `structured` and `top-logprobs`: one request per window, answers aligned by our own token numbers.

An explanation and bare tokens flow in, a `Simulation` flows out. Sees no activation, level or stratum.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from autointerp.errors import UsageError
from autointerp.format import MAX_LEVEL
from autointerp.interpret.ask import Asked, all_in_order, ask
from autointerp.interpret.parse import (
    LETTERS,
    NUMBERS,
    Distributions,
    Unparsed,
    parse_distributions,
    parse_structured,
)
from autointerp.interpret.prompts import load_few_shots, load_prompt, one_line
from autointerp.interpret.simulate import Simulator, Tokens
from autointerp.llm.base import Capabilities, ChatMessage, ChatModel, ChatReply, ChatRequest
from autointerp.provenance import digest
from autointerp.records import Explanation, Simulation, Usage

LlmSimulatorName = Literal["structured", "top-logprobs"]
Form = Literal["numbers", "letters"]
FORMS: dict[Form, Mapping[str, int]] = {"numbers": NUMBERS, "letters": LETTERS}
STRUCTURED_PROMPT = "simulate-structured.v1"
PROMPTS: dict[str, Mapping[str, int] | None] = {
    STRUCTURED_PROMPT: None,
    "simulate-numbers.v1": NUMBERS,
    "simulate-letters.v1": LETTERS,
}
"""How each prompt wants levels written; None is a JSON object."""
DEMONSTRATED = (("departure", 0), ("apology", 0), ("raised-exception", 2), ("line-start", 1))
"""Few-shot features and which of their windows is shown; one of them is silent throughout."""
TOP_LOGPROBS = 11
"""One for each legal answer."""
ROOM_TOKENS = 500
"""Room for a model that thinks before it answers, in tokens."""
TOKENS_PER_LEVEL = 8
"""At most so many generated tokens per level, its number and punctuation included."""


@dataclass(frozen=True)
class StructuredSimulator:
    """Asks for a JSON object from token numbers to levels, and for its schema to be enforced where that is possible."""

    model: ChatModel

    @property
    def name(self) -> str:
        """`structured provider:name`."""
        return f"structured {self.model.name}"

    @property
    def prompt_digest(self) -> str:
        """Of the prompt's words and its demonstrations."""
        return _prompt_digest(STRUCTURED_PROMPT)

    async def simulate(self, explanation: Explanation, windows: Sequence[Tokens]) -> Simulation:
        """Levels per window; a window whose answer failed is None with its reason.

        Raises:
            StoppedError: no request can succeed any more.
        """
        answers = await all_in_order([self._window(explanation.text, tokens) for tokens in windows])
        levels = tuple(None if isinstance(answer.value, Unparsed) else answer.value for answer in answers)
        return Simulation(levels=levels, failures=_failures(answers), usage=_usage(answers))

    async def _window(self, explanation: str, tokens: Tokens) -> Asked[tuple[int, ...]]:
        n = len(tokens)
        make = _Asking(STRUCTURED_PROMPT, explanation, tokens, json_schema=levels_schema(n))
        return await ask(self.model, make.request, lambda reply: parse_structured(reply, n))


@dataclass(frozen=True)
class TopLogprobsSimulator:
    """Asks for one line per token and reads each level's distribution from the most likely tokens at its place."""

    model: ChatModel
    form: Form
    """How levels are written: `letters` where the endpoint's tokenizer splits "10" or is not known to keep it whole."""

    @property
    def name(self) -> str:
        """`top-logprobs/FORM provider:name`."""
        return f"top-logprobs/{self.form} {self.model.name}"

    @property
    def prompt_digest(self) -> str:
        """Of the prompt's words and its demonstrations."""
        return _prompt_digest(f"simulate-{self.form}.v1")

    async def simulate(self, explanation: Explanation, windows: Sequence[Tokens]) -> Simulation:
        """Rounded expectations per window and the expectations themselves; a failed window is None with its reason.

        Raises:
            StoppedError: no request can succeed any more.
        """
        answers = await all_in_order([self._window(explanation.text, tokens) for tokens in windows])
        read = [None if isinstance(answer.value, Unparsed) else answer.value for answer in answers]
        masses = [(value.legal_mass, len(value.levels)) for value in read if value is not None]
        n_tokens = sum(n for _, n in masses)
        return Simulation(
            levels=tuple(None if value is None else value.levels for value in read),
            expected=tuple(None if value is None else value.expected for value in read),
            failures=_failures(answers),
            legal_mass=sum(mass * n for mass, n in masses) / n_tokens if n_tokens else None,
            usage=_usage(answers),
        )

    async def _window(self, explanation: str, tokens: Tokens) -> Asked[Distributions]:
        n, form = len(tokens), FORMS[self.form]
        make = _Asking(f"simulate-{self.form}.v1", explanation, tokens, TOP_LOGPROBS)

        def read(reply: ChatReply) -> Distributions | Unparsed:
            return parse_distributions(reply, n, form)

        return await ask(self.model, make.request, read)


@dataclass(frozen=True)
class _Asking:
    """The requests for one window."""

    prompt: str
    explanation: str
    tokens: Tokens
    top_logprobs: int | None = None
    json_schema: dict[str, object] | None = None

    def request(self, attempt: int, unread: Unparsed | None) -> ChatRequest:
        prompt = load_prompt(self.prompt)
        note = "" if unread is None else prompt.render("note", reason=unread.message)
        asked = _question(self.prompt, self.explanation, self.tokens, note)
        return ChatRequest(
            messages=(*_preface(self.prompt), asked),
            max_tokens=ROOM_TOKENS + TOKENS_PER_LEVEL * len(self.tokens),
            temperature=0.0,
            top_logprobs=self.top_logprobs,
            json_schema=self.json_schema,
            sample=attempt,
        )


@cache
def _preface(name: str) -> tuple[ChatMessage, ...]:
    """Instructions and demonstrations: the same for every explanation and window."""
    prompt, form = load_prompt(name), PROMPTS[name]
    messages = [ChatMessage(role="system", content=prompt.render("system"))]
    for feature, i in DEMONSTRATED:
        (shot,) = load_few_shots().named(feature)
        window = shot.windows[i]
        levels = _as_json(window.levels) if form is None else _as_lines(window.levels, form)
        messages.append(_question(name, shot.explanation, window.tokens, ""))
        messages.append(ChatMessage(role="assistant", content=prompt.render("assistant", levels=levels)))
    return tuple(messages)


def _question(prompt: str, explanation: str, tokens: Tokens, note: str) -> ChatMessage:
    lines = "\n".join(f"{i}\t{token}" for i, token in enumerate(tokens, start=1))
    content = load_prompt(prompt).render(
        "user", explanation=one_line(explanation), tokens=lines, n=str(len(tokens)), note=note
    )
    return ChatMessage(role="user", content=content)


def levels_schema(n_tokens: int) -> dict[str, object]:
    """A JSON schema for one level 0..10 under each of the keys 1..n_tokens."""
    names = [str(i) for i in range(1, n_tokens + 1)]
    level = {"type": "integer", "enum": list(range(MAX_LEVEL + 1))}
    return {
        "type": "object",
        "properties": dict.fromkeys(names, level),
        "required": names,
        "additionalProperties": False,
    }


def _as_json(levels: Sequence[int]) -> str:
    return json.dumps({str(i): level for i, level in enumerate(levels, start=1)})


def _as_lines(levels: Sequence[int], form: Mapping[str, int]) -> str:
    written = {level: text for text, level in form.items()}
    return "\n".join(f"{i}: {written[level]}" for i, level in enumerate(levels, start=1))


def _prompt_digest(name: str) -> str:
    return digest([load_prompt(name).digest, load_few_shots().digest, DEMONSTRATED])


def _failures(
    answers: Sequence[Asked[object]],
) -> tuple[tuple[int, str], ...]:
    return tuple((i, answer.value.reason) for i, answer in enumerate(answers) if isinstance(answer.value, Unparsed))


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
    if not capabilities.top_logprobs or not capabilities.logprobs_differ:
        raise UsageError(
            f"{model.name} returns no usable log probabilities, which the simulator top-logprobs needs; "
            "choose --simulator structured"
        )
    return TopLogprobsSimulator(model, "numbers" if capabilities.ten_is_one_token else "letters")
