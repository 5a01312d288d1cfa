"""What a simulator asks: all tokens of one window, or the marked targets of several windows that share a request.

An explanation and bare windows flow in; requests flow out that differ only after the explanation, so that a server's
prefix cache reads what stands before once. Sees no activation, level or stratum, and sends nothing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple, TypeVar

from autointerp.interpret.ask import again
from autointerp.interpret.display import break_marks, cut_characters, mend_marks, running_text, token_lines
from autointerp.interpret.parse import LETTERS, NUMBERS
from autointerp.interpret.prompts import load_few_shots, load_prompt, one_line
from autointerp.interpret.simulate import WINDOWS_A_REQUEST
from autointerp.llm.base import ChatMessage, ChatRequest, PromptRequest
from autointerp.provenance import digest
from autointerp.records import Explanation, Window

Form = Literal["structured", "numbers", "letters"]
FORMS: dict[Form, Mapping[str, int] | None] = {"structured": None, "numbers": NUMBERS, "letters": LETTERS}
"""How each form writes levels; None is a JSON object."""
Asking = Form | Literal["echo"]
"""How levels are asked for: to be generated in a form, or at places held open for their letters in a text to read."""
PLACE = "x"
"""Holds the place of a level that is still open; a letter, as levels are, so that tokenizers treat it alike."""
ROOM_TOKENS = 500
"""Room for a model that thinks before it answers, in tokens."""
TOKENS_PER_LEVEL = 8
"""At most so many generated tokens per level, its number and punctuation included."""
TOKENS_PER_TARGET = 100
"""As above for a target, which a thinking model thinks about more than about one of many tokens."""
Shown = tuple[str, tuple[tuple[int, int | None], ...]]
"""A few-shot feature, and which of its windows are shown with which target."""
OF_TOKENS: tuple[Shown, ...] = (
    ("departure", ((0, None),)),
    ("apology", ((0, None),)),
    ("raised-exception", ((2, None),)),
    ("line-start", ((1, None),)),
)
"""One of them is silent throughout."""
OF_TARGETS: tuple[Shown, ...] = (
    ("connective", ((1, 11), (1, 3), (2, 4), (0, 8))),
    ("departure", ((1, 1), (0, 11), (2, 3), (3, 2), (2, 11))),
    ("raised-exception", ((0, 13), (2, 2), (2, 13), (1, 4))),
    ("apology", ((3, 4), (2, 2), (0, 7), (1, 0), (0, 2), (1, 7))),
    ("french-negation", ((0, 11), (2, 1), (1, 4), (1, 13), (0, 3))),
    ("line-start", ((1, 3), (0, 7), (1, 13))),
)
"""From none to all of the passages fit: how many do is no habit. Most of those that do not are look-alikes, or stand
beside a token that fits. With the instructions they are long enough for hosted prefix caches, from 1,024 tokens on."""
OPEN, CLOSE = "«", "»"
_MARKS = {OPEN: "\\u{AB}", CLOSE: "\\u{BB}"}
_UNMARKED = {escaped: mark for mark, escaped in _MARKS.items()}
_MARK_OR_BACKSLASH = re.compile(r"\\\\|\\u\{AB\}|\\u\{BB\}")
T = TypeVar("T")


class Passage(NamedTuple):
    """The text of a window around its target, escaped as tokens are."""

    before: str
    target: str
    after: str


@dataclass(frozen=True)
class Wording:
    """A prompt file and how it is used."""

    prompt: str
    form: Form
    demonstrated: tuple[Shown, ...]
    opened: tuple[int, ...] = ()
    """In a text to be read, how many levels are still open at the head of each demonstrated list."""


TOKEN_WORDINGS: dict[Form, Wording] = {form: Wording(f"simulate-{form}.v1", form, OF_TOKENS) for form in FORMS}
TARGET_WORDINGS: dict[Form, Wording] = {form: Wording(f"grade-{form}.v1", form, OF_TARGETS) for form in FORMS}


ECHO_WORDINGS: dict[bool, Wording] = {
    False: Wording("simulate-echo.v1", "letters", OF_TOKENS[1:], (10, 0, 4)),
    True: Wording("grade-echo.v1", "letters", (OF_TARGETS[3], OF_TARGETS[2], OF_TARGETS[4]), (3, 0, 1)),
}
"""By whether windows have targets. Few demonstrations: such a text is read anew each time and comes back whole."""


def wording(form: Asking, *, targets: bool) -> Wording:
    """How the targets of windows are asked for, or all their tokens."""
    if form == "echo":
        return ECHO_WORDINGS[targets]
    return (TARGET_WORDINGS if targets else TOKEN_WORDINGS)[form]


@dataclass(frozen=True)
class Question:
    """One request's worth of windows: one without a target, or some with."""

    wording: Wording
    explanation: str
    windows: tuple[Window, ...]

    @property
    def n_levels(self) -> int:
        """How many levels its answer holds."""
        return sum(len(window.tokens) if window.target is None else 1 for window in self.windows)

    def request(
        self,
        attempt: int,
        said: str | None,
        top_logprobs: int | None = None,
        json_schema: dict[str, object] | None = None,
    ) -> ChatRequest:
        """The request of one attempt, with the answer before it, which could not be used."""
        per_level = TOKENS_PER_LEVEL if self.windows[0].target is None else TOKENS_PER_TARGET
        return ChatRequest(
            messages=(
                *_preface(self.wording),
                _asked(self.wording, self.explanation, self.windows),
                *again(said, self.wording.form, n=str(self.n_levels)),
            ),
            max_tokens=ROOM_TOKENS + per_level * self.n_levels,
            temperature=0.0,
            top_logprobs=top_logprobs,
            json_schema=json_schema,
            sample=attempt,
            stop=() if FORMS[self.wording.form] is None else (f"\n{self.n_levels + 1}:",),
        )

    def halves(self) -> "tuple[Question, Question]":
        """The same in two requests; only where there are two windows or more."""
        middle = len(self.windows) // 2
        return replace(self, windows=self.windows[:middle]), replace(self, windows=self.windows[middle:])

    def prompt_request(self, attempt: int, top_logprobs: int) -> PromptRequest:
        """The text in which this question's levels are all open, to be read."""
        asked = "\n\n".join([_opening(self.wording), _question(self.wording, self.explanation, self.windows)])
        read = _open_levels([0] * self.n_levels, self.n_levels)
        return PromptRequest(prompt=f"{asked}\n", read=read, top_logprobs=top_logprobs, sample=attempt)

    def by_window(self, values: Sequence[T]) -> list[tuple[T, ...]]:
        """An answer's values, window by window."""
        if self.windows[0].target is None:
            return [tuple(values)]
        return [(value,) for value in values]


def make_questions(form: Asking, explanation: Explanation, windows: Sequence[Window]) -> list[Question]:
    """The questions that ask for all windows, in order: one a window, or `WINDOWS_A_REQUEST` targets at a time.

    Raises:
        ValueError: some windows have a target and some have none.
    """
    kinds = {window.target is not None for window in windows}
    if len(kinds) > 1:
        raise ValueError("some windows have a target and some have none; a protocol asks for one or the other")
    targets = kinds == {True}
    size = WINDOWS_A_REQUEST if targets else 1
    return [
        Question(wording(form, targets=targets), explanation.text, tuple(windows[low : low + size]))
        for low in range(0, len(windows), size)
    ]


def prompt_digest(form: Asking, *, targets: bool) -> str:
    """Of a prompt's words and its demonstrations."""
    used = wording(form, targets=targets)
    if form == "echo":
        return digest([load_prompt(used.prompt).digest, load_few_shots().digest, used.demonstrated, used.opened])
    # Runs of before there were targets name this digest over (feature, window) pairs.
    shown = used.demonstrated if targets else [(feature, i) for feature, ((i, _),) in used.demonstrated]
    return digest([load_prompt(used.prompt).digest, load_few_shots().digest, shown])


def format_passage(window: Window) -> str:
    """A window with a target as running text; marks that belong to the text itself are escaped."""
    before, target, after = _around(window)
    return f"{_escape_marks(before)}{OPEN}{_escape_marks(target)}{CLOSE}{_escape_marks(after)}"


def parse_passage(text: str) -> Passage | None:
    """The inverse of `format_passage`, but for where the other tokens begin; None without exactly one mark."""
    before, opened, rest = text.partition(OPEN)
    target, closed, after = rest.partition(CLOSE)
    if not opened or not closed or {OPEN, CLOSE} & set(before + target + after):
        return None
    return Passage(*(mend_marks(_unescape_marks(piece)) for piece in (before, target, after)))


def _around(window: Window) -> Passage:
    assert window.target is not None
    before, after = window.tokens[: window.target], window.tokens[window.target + 1 :]
    return Passage(*map(running_text, (before, (window.tokens[window.target],), after)))


def _escape_marks(text: str) -> str:
    return "".join(_MARKS.get(c, c) for c in text)


def _unescape_marks(text: str) -> str:
    return _MARK_OR_BACKSLASH.sub(lambda match: _UNMARKED.get(match[0], match[0]), text)


@cache
def _preface(used: Wording) -> tuple[ChatMessage, ...]:
    """Instructions and demonstrations: the same for every explanation and window."""
    prompt = load_prompt(used.prompt)
    messages = [ChatMessage(role="system", content=prompt.render("system"))]
    for explanation, windows, levels in _demonstrations(used):
        messages.append(_asked(used, explanation, windows))
        answer = prompt.render("assistant", levels=format_levels(levels, FORMS[used.form]))
        messages.append(ChatMessage(role="assistant", content=answer))
    return tuple(messages)


@cache
def _opening(used: Wording) -> str:
    """Instructions and demonstrations of a text to be read, in which some levels are open and all after them given."""
    prompt = load_prompt(used.prompt)
    pieces = [prompt.render("system")]
    for (explanation, windows, levels), n_open in zip(_demonstrations(used), used.opened, strict=True):
        answer = prompt.render("assistant", levels=_open_levels(levels, n_open))
        pieces.append(f"{_question(used, explanation, windows)}\n{answer}")
    return "\n\n".join(pieces)


def _open_levels(levels: Sequence[int], n_open: int) -> str:
    """Levels as letters, the first ones open."""
    lines = format_levels(levels, LETTERS).split("\n")
    return "\n".join([*(f"{i}: {PLACE}" for i in range(1, n_open + 1)), *lines[n_open:]])


def _demonstrations(used: Wording) -> list[tuple[str, list[Window], list[int]]]:
    """Explanation, windows and true levels of each demonstration."""
    found = []
    for feature, shown in used.demonstrated:
        (shot,) = load_few_shots().named(feature)
        windows = [Window(shot.windows[i].tokens, target) for i, target in shown]
        levels = [
            level
            for i, target in shown
            for level in (shot.windows[i].levels if target is None else (shot.windows[i].levels[target],))
        ]
        found.append((shot.explanation, windows, levels))
    return found


def _asked(used: Wording, explanation: str, windows: Sequence[Window]) -> ChatMessage:
    return ChatMessage(role="user", content=_question(used, explanation, windows, note=""))


def _question(used: Wording, explanation: str, windows: Sequence[Window], **more: str) -> str:
    if windows[0].target is None:
        (window,) = windows
        shown = {"tokens": _numbered(token_lines(window.tokens)), "n": str(len(window.tokens))}
    else:
        shown = {"passages": _numbered([_passage_line(window) for window in windows]), "n": str(len(windows))}
    return load_prompt(used.prompt).render("user", explanation=break_marks(one_line(explanation)), **shown, **more)


def _passage_line(window: Window) -> str:
    """A passage; behind a tab what the target is a part of, where it is a part of a character."""
    cut = cut_characters(*_around(window))
    return f"{format_passage(window)}\t({cut})" if cut else format_passage(window)


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{i}\t{line}" for i, line in enumerate(lines, start=1))


def format_levels(levels: Sequence[int], form: Mapping[str, int] | None) -> str:
    """Levels as an answer in that form writes them; `parse` reads them."""
    if form is None:
        return json.dumps({str(i): level for i, level in enumerate(levels, start=1)})
    written = {level: text for text, level in form.items()}
    return "\n".join(f"{i}: {written[level]}" for i, level in enumerate(levels, start=1))
