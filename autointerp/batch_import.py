"""Answers of batches on their way into the cache: every line of an answer file is put where it belongs, or counted.

Lines of answer files flow in; replies go into the reply cache, what they cost into the run's log, and what became of
each request into the run's record of batches. Sends nothing and needs no key.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from autointerp.llm.base import ChatMessage, ChatReply, ChatRequest, Endpoint, ReplyCache
from autointerp.llm.batch_lines import Answered, AnswerLine, NoAnswer, NotAnswered, decode_answer
from autointerp.llm.decode import classify, filtered_reply
from autointerp.llm.errors import EndpointStoppedError, TransientError
from autointerp.llm.negotiate import Negotiation
from autointerp.records import Record
from autointerp.store.batches import BatchBook, Question
from autointerp.store.calls import Call, CallLog

REPLIES_AT_A_TIME = 500
_EVERY_FIELD = ChatRequest(
    messages=(ChatMessage(role="system", content=""), ChatMessage(role="user", content="")),
    max_tokens=1,
    temperature=0.0,
    top_logprobs=20,
    json_schema={},
)
"""Holds all that an endpoint can refuse."""


class Imported(Record):
    """What the lines of answer files came to."""

    answered: int = 0
    """Replies that were put into the cache, refusals included."""
    refused: int = 0
    """Those among them in which the model or a filter refused."""
    known: int = 0
    """Lines for requests that had their answer already."""
    foreign: int = 0
    """Lines for requests that this run never exported."""
    unreadable: int = 0
    """Lines that are none of a batch's answers."""
    in_another_form: int = 0
    """Requests with a field that the endpoint refuses; the next export leaves it out."""
    failed: dict[str, int] = Field(default_factory=dict)
    """Other requests without an answer, by reason; asked again in the next export unless given up."""
    missing: int = 0
    """Requests that are still out: exported, and in no line so far."""
    given_up: int = 0
    """Requests of this run that will not be exported again, in all."""

    def told(self) -> str:
        """In one line, what is not 0."""
        counts = self.model_dump(exclude={"failed", "missing", "given_up"}) | self.failed
        return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n) or "nothing"


@dataclass
class AnswerImport:
    """Takes answer lines in; `counts` says what they came to."""

    cache: ReplyCache
    log: CallLog
    book: BatchBook
    secret: str = ""
    """Blotted out of what failures say."""
    counts: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    stopped: EndpointStoppedError | None = None
    """The last reason met for which no further request can succeed."""
    _forms: dict[Endpoint, tuple[str, ...]] = field(default_factory=dict)

    async def take(self, lines: Iterable[AnswerLine]) -> None:
        """Put every line where it belongs; what was taken is safe when this returns."""
        group: list[AnswerLine] = []
        for line in lines:
            group.append(line)
            if len(group) >= REPLIES_AT_A_TIME:
                await self._take(group)
                group = []
        await self._take(group)

    def result(self) -> Imported:
        """What it came to so far."""
        states = self.book.counts()
        return Imported(
            **self.counts, failed=dict(self.failed), missing=states.get("out", 0), given_up=states.get("failed", 0)
        )

    async def _take(self, group: Sequence[AnswerLine]) -> None:
        """One group: the log is told first, the book last, so that a kill forgets no payment."""
        with self.book.step():
            replies: dict[str, ChatReply] = {}
            for line in group:
                self._sort(line, replies)
            await asyncio.gather(*(self.cache.put(key, reply) for key, reply in replies.items()))

    def _sort(self, line: AnswerLine, replies: dict[str, ChatReply]) -> None:
        if isinstance(line, NoAnswer):
            self.counts["unreadable"] += 1
            return
        question = self.book.question(line.key)
        if question is None:
            self.counts["foreign"] += 1
        elif question.state == "answered":
            self.counts["known"] += 1
        else:
            said = decode_answer(line, question.read, self.secret) if isinstance(line, Answered) else line
            if isinstance(said, ChatReply):
                self._answer(question, said, replies)
            elif question.state == "out":
                self._fail(question, said, replies)

    def _answer(self, question: Question, reply: ChatReply, replies: dict[str, ChatReply]) -> None:
        self.counts["answered"] += 1
        self.counts["refused"] += reply.refused
        self.log.note(Call(question.digest, *question.purpose, question.endpoint, "batch", reply.usage))
        if self.cache.get(question.digest) is None:
            replies[question.digest] = reply
        self.book.answer(question.digest)

    def _fail(self, question: Question, line: NotAnswered, replies: dict[str, ChatReply]) -> None:
        if line.facts is None:
            self._give_back(question, "batch_unanswered", line.why)
        elif line.facts.is_filter:
            self._answer(question, filtered_reply(question.endpoint.model), replies)
        elif question.read is None and self._settled(question.endpoint, line):
            self.counts["in_another_form"] += 1
            self.book.ask_again(question.digest)
        else:
            error = classify(line.facts)
            if isinstance(error, EndpointStoppedError):
                self.stopped = error
                self.failed[error.reason] += 1
                self.book.ask_again(question.digest)
            else:
                self._give_back(question, error.reason, str(error), lasting=not isinstance(error, TransientError))

    def _give_back(self, question: Question, reason: str, why: str, *, lasting: bool = False) -> None:
        self.failed[reason] += 1
        self.book.fail(question.digest, reason, why, lasting=lasting)

    def _settled(self, endpoint: Endpoint, line: NotAnswered) -> bool:
        """Whether the request can be written in another form than the one it went out in."""
        assert line.facts is not None
        before = self._forms.setdefault(endpoint, self.book.refused(endpoint))
        negotiation = Negotiation(before)
        if not negotiation.settle(line.facts, negotiation.body(_EVERY_FIELD, endpoint.model)):
            return False
        for form in negotiation.rejected[len(before) :]:
            self.book.refuse(endpoint, form)
        return True
