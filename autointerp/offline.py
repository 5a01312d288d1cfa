"""A run without a connection: which questions its cache could not answer, counted, and the first few by name.

Requests that were looked up in vain flow in; the error that names them flows out. Sends nothing.
"""

from collections import Counter
from pathlib import Path

from autointerp.errors import StoppedError
from autointerp.llm.base import ChatRequest, Purpose
from autointerp.llm.unasked import GivenUpError
from autointerp.store.batches import BatchBook

NAMED = 5
"""Missing replies that are named one by one."""


class MissingRepliesError(StoppedError):
    """The cache does not hold every reply that the run needs."""

    def __init__(self, stages: Counter[str], first: list[tuple[str, Purpose]]) -> None:
        self.stages = dict(stages)
        n = stages.total()
        by_stage = ", ".join(f"{stage} {count}" for stage, count in stages.items())
        named = "; ".join(f"{purpose.stage} of {purpose.feature}: {key}" for key, purpose in first)
        more = "" if n <= len(first) else f" and {n - len(first)} more"
        super().__init__(
            f"{n} replies are not in the cache ({by_stage}), and nothing was asked: {named}{more}. What could be done "
            f"without them is done. Get them with `autointerp cache import` or `autointerp batch`, or run without "
            f"--offline; later stages may need further ones"
        )


class Offline:
    """Counts what is missing; requests that a batch gave up end as failed, as they would have live."""

    def __init__(self, book: Path) -> None:
        """`book` is the run's record of batches, where there is one."""
        self._book = BatchBook(book) if book.is_file() else None
        self._stages: Counter[str] = Counter()
        self._first: list[tuple[str, Purpose]] = []
        self._seen: set[bytes] = set()

    def missing(self, key: str, request: ChatRequest, purpose: Purpose) -> None:
        """A request has no reply.

        Raises:
            GivenUpError: it was given up after batches.
        """
        check_given_up(self._book, key)
        digest = bytes.fromhex(key.rpartition(":")[2])
        if digest in self._seen:
            return
        self._seen.add(digest)
        self._stages[purpose.stage] += 1
        if len(self._first) < NAMED:
            self._first.append((key, purpose))

    def close(self) -> None:
        """Release the record of batches."""
        if self._book is not None:
            self._book.close()

    def check(self) -> None:
        """Pass where nothing was missing.

        Raises:
            MissingRepliesError: names what was.
        """
        if self._stages:
            raise MissingRepliesError(self._stages, self._first)


def check_given_up(book: BatchBook | None, key: str) -> None:
    """Pass, unless batches gave a request up.

    Raises:
        GivenUpError: says why.
    """
    question = book.question(key) if book is not None else None
    if question is not None and question.state == "failed":
        raise GivenUpError(question.reason or "batch_unanswered", question.message or "")
