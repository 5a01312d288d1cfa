"""Asks a language model until its answer can be read, at most three times in all.

A request per attempt and a reader flow in; the value or the reason why there is none flows out, with what it cost.
Errors that stop a run pass through. Knows no prompt but the turn in which an answer is asked for again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autointerp.errors import StoppedError
from autointerp.interpret.display import break_marks
from autointerp.interpret.parse import LASTING, Unparsed
from autointerp.interpret.prompts import load_prompt
from autointerp.llm.base import ChatMessage, ChatModel, ChatReply, ChatRequest, Settling
from autointerp.llm.errors import LlmError
from autointerp.records import Usage

ATTEMPTS = 3
"""The first asking and at most two more."""
PENDING = "pending"
"""Reason of a question whose answer is still to come: nothing may be concluded from it."""
AGAIN = "again.v1"
MOST_REPEATED = 600
"""Characters of an answer that are shown when it is asked for again; a longer one has its end left out."""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Asked(Generic[T_co]):
    """What came of a question."""

    value: T_co | Unparsed
    usage: Usage
    attempts: int


def again(said: str | None, form: str, **values: str) -> tuple[ChatMessage, ...]:
    """The turns after a question whose answer could not be used: that answer, and how to write it; none at first.

    Nothing is said of what was wrong: small models repeat it as their answer. `form` is a section of the prompt.
    """
    if said is None:
        return ()
    text = said.strip() or "…"
    text = text if len(text) <= MOST_REPEATED else f"{text[:MOST_REPEATED]}…"
    return (
        ChatMessage(role="assistant", content=break_marks(text)),
        ChatMessage(role="user", content=load_prompt(AGAIN).render(form, **values)),
    )


async def ask(
    model: ChatModel,
    make_request: Callable[[int, str | None], ChatRequest],
    read: Callable[[ChatReply], T | Unparsed],
) -> Asked[T]:
    """`make_request(attempt, said)` from attempt 0, with the answer before it, which could not be used.

    Raises:
        StoppedError: no request can succeed any more.
    """
    usage, asked = Usage(), list[ChatRequest]()
    value: T | Unparsed | None = None
    said: str | None = None
    while len(asked) < ATTEMPTS:
        asked.append(make_request(len(asked), said))
        try:
            reply = await model.complete(asked[-1])
        except StoppedError:
            raise
        except LlmError as error:
            value = Unparsed(error.reason, str(error))
            break
        usage += reply.usage
        value, said = read(reply), reply.text
        if not isinstance(value, Unparsed) or value.reason in LASTING:
            break
    assert value is not None
    if isinstance(model, Settling):
        model.settle(value.reason if isinstance(value, Unparsed) else None, asked)
    return Asked(value, usage, len(asked))


async def all_in_order(work: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Results in the order of the work; an error is raised when all have ended, as the others' answers are paid for."""
    ended = await asyncio.gather(*work, return_exceptions=True)
    results: list[T] = []
    for result in ended:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
