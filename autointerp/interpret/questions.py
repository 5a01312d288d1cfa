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

from autointerp.interpret.parse import LETTERS, NUMBERS, Unparsed
from autointerp.interpret.prompts import load_few_shots, load_prompt, one_line
from autointerp.interpret.simulate import WINDOWS_A_REQUEST
from autointerp.llm.base import ChatMessage, ChatRequest
from autointerp.provenance import digest
from autointerp.records import Explanation, Window

Form = Literal["structured", "numbers", "letters"]
FORMS: dict[Form, Mapping[str, int] | None] = {"structured": None, "numbers": NUMBERS, "letters": LETTERS}
"""How each form writes levels; None is a JSON object."""
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


TOKEN_WORDINGS: dict[Form, Wording] = {form: Wording(f"simulate-{form}.v1", form, OF_TOKENS) for form in FORMS}
TARGET_WORDINGS: dict[Form, Wording] = {form: Wording(f"grade-{form}.v1", form, OF_TARGETS) for form in FORMS}


def wording(form: Form, *, targets: bool) -> Wording:
    """How the targets of windows are asked for, or all their tokens."""
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
        unread: Unparsed | None,
        top_logprobs: int | None = None,
        json_schema: dict[str, object] | None = None,
    ) -> ChatRequest:
        """The request of one attempt, with the reason why the answer before it could not be used."""
        prompt = load_prompt(self.wording.prompt)
        note = "" if unread is None else prompt.render("note", reason=unread.message)
        per_level = TOKENS_PER_LEVEL if self.windows[0].target is None else TOKENS_PER_TARGET
        return ChatRequest(
            messages=(*_preface(self.wording), _asked(self.wording, self.explanation, self.windows, note)),
            max_tokens=ROOM_TOKENS + per_level * self.n_levels,
            temperature=0.0,
            top_logprobs=top_logprobs,
            json_schema=json_schema,
            sample=attempt,
        )

    def halves(self) -> "tuple[Question, Question]":
        """The same in two requests; only where there are two windows or more."""
        middle = len(self.windows) // 2
        return replace(self, windows=self.windows[:middle]), replace(self, windows=self.windows[middle:])

    def by_window(self, values: Sequence[T]) -> list[tuple[T, ...]]:
        """An answer's values, window by window."""
        if self.windows[0].target is None:
            return [tuple(values)]
        return [(value,) for value in values]


def make_questions(form: Form, explanation: Explanation, windows: Sequence[Window]) -> list[Question]:
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


def prompt_digest(form: Form, *, targets: bool) -> str:
    """Of a prompt's words and its demonstrations."""
    used = wording(form, targets=targets)
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
    return Passage(*(_unescape_marks(piece) for piece in (before, target, after)))


def _around(window: Window) -> Passage:
    assert window.target is not None
    before, after = window.tokens[: window.target], window.tokens[window.target + 1 :]
    return Passage("".join(before), window.tokens[window.target], "".join(after))


def _escape_marks(text: str) -> str:
    return "".join(_MARKS.get(c, c) for c in text)


def _unescape_marks(text: str) -> str:
    return _MARK_OR_BACKSLASH.sub(lambda match: _UNMARKED.get(match[0], match[0]), text)


@cache
def _preface(used: Wording) -> tuple[ChatMessage, ...]:
    """Instructions and demonstrations: the same for every explanation and window."""
    prompt = load_prompt(used.prompt)
    messages = [ChatMessage(role="system", content=prompt.render("system"))]
    for feature, shown in used.demonstrated:
        (shot,) = load_few_shots().named(feature)
        windows = [Window(shot.windows[i].tokens, target) for i, target in shown]
        levels = [
            level
            for i, target in shown
            for level in (shot.windows[i].levels if target is None else (shot.windows[i].levels[target],))
        ]
        messages.append(_asked(used, shot.explanation, windows, ""))
        answer = prompt.render("assistant", levels=format_levels(levels, FORMS[used.form]))
        messages.append(ChatMessage(role="assistant", content=answer))
    return tuple(messages)


def _asked(used: Wording, explanation: str, windows: Sequence[Window], note: str) -> ChatMessage:
    if windows[0].target is None:
        (window,) = windows
        shown = {"tokens": _numbered(window.tokens), "n": str(len(window.tokens))}
    else:
        shown = {"passages": _numbered([format_passage(window) for window in windows]), "n": str(len(windows))}
    content = load_prompt(used.prompt).render("user", explanation=one_line(explanation), note=note, **shown)
    return ChatMessage(role="user", content=content)


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{i}\t{line}" for i, line in enumerate(lines, start=1))


def format_levels(levels: Sequence[int], form: Mapping[str, int] | None) -> str:
    """Levels as an answer in that form writes them; `parse` reads them."""
    if form is None:
        return json.dumps({str(i): level for i, level in enumerate(levels, start=1)})
    written = {level: text for text, level in form.items()}
    return "\n".join(f"{i}: {written[level]}" for i, level in enumerate(levels, start=1))
