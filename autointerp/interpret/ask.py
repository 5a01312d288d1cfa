"""Asks a language model until its answer can be read, at most three times in all.

A request per attempt and a reader flow in; the value or the reason why there is none flows out, with what it cost.
Errors that stop a run pass through. Knows no prompt.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autointerp.errors import RunError, StoppedError
from autointerp.interpret.parse import LASTING, Unparsed
from autointerp.llm.base import ChatModel, ChatReply, ChatRequest
from autointerp.llm.errors import LlmError
from autointerp.records import Usage

ATTEMPTS = 3
"""The first asking and at most two more."""
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
    usage = Usage()
    unread: Unparsed | None = None
    for attempt in range(ATTEMPTS):
        try:
            reply = await model.complete(make_request(attempt, unread))
        except StoppedError:
            raise
        except RunError as error:
            reason = error.reason if isinstance(error, LlmError) else "lost"
            return Asked(Unparsed(reason, str(error)), usage, attempt + 1)
        usage += reply.usage
        value = read(reply)
        if not isinstance(value, Unparsed):
            return Asked(value, usage, attempt + 1)
        unread = value
        if value.reason in LASTING:
            return Asked(value, usage, attempt + 1)
    assert unread is not None
    return Asked(unread, usage, ATTEMPTS)


async def all_in_order(work: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Results in the order of the work; the first error cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(piece) for piece in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
