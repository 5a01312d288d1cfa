"""Asks a language model until its answer can be read, at most three times in all.

A request per attempt and a reader flow in; the value or the reason why there is none flows out, with what it cost.
Errors that stop a run pass through. Knows no prompt.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autointerp.errors import StoppedError
from autointerp.interpret.parse import LASTING, Unparsed
from autointerp.llm.base import ChatModel, ChatReply, ChatRequest, Settling
from autointerp.llm.errors import LlmError
from autointerp.records import Usage

ATTEMPTS = 3
"""The first asking and at most two more."""
PENDING = "pending"
"""Reason of a question whose answer is still to come: nothing may be concluded from it."""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Asked(Generic[T_co]):
    """What came of a question."""

    value: T_co | Unparsed
    usage: Usage
    attempts: int


async def ask(
    model: ChatModel,
    make_request: Callable[[int, Unparsed | None], ChatRequest],
    read: Callable[[ChatReply], T | Unparsed],
) -> Asked[T]:
    """`make_request(attempt, why)` from attempt 0, with the reason why the answer before it could not be used.

    Raises:
        StoppedError: no request can succeed any more.
    """
    usage, asked = Usage(), list[ChatRequest]()
    value: T | Unparsed | None = None
    while len(asked) < ATTEMPTS:
        asked.append(make_request(len(asked), value if isinstance(value, Unparsed) else None))
        try:
            reply = await model.complete(asked[-1])
        except StoppedError:
            raise
        except LlmError as error:
            value = Unparsed(error.reason, str(error))
            break
        usage += reply.usage
        value = read(reply)
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
