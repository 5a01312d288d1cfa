"""Answer files into the cache: unordered, twice, missing, refused, foreign and broken lines each get their place."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from autointerp.batch_import import AnswerImport, Imported
from autointerp.llm.base import Endpoint, Purpose
from autointerp.llm.batch_lines import Answered, AnswerLine, NoAnswer, NotAnswered
from autointerp.llm.decode import ErrorFacts
from autointerp.llm.errors import BadKeyError
from autointerp.llm.fakes import text_reply
from autointerp.provenance import digest
from autointerp.records import Usage
from autointerp.store.batches import MOST_TRIES, BatchBook
from autointerp.store.calls import CallLog
from autointerp.store.replies import SqliteReplyCache

ENDPOINT = Endpoint(provider="openai", base_url="http://h/v1", model="m")
KEYS = [digest(i) for i in range(6)]


@dataclass
class Desk:
    """Everything that answers go into, with six questions out."""

    cache: SqliteReplyCache
    log: CallLog
    book: BatchBook

    def take(self, *lines: AnswerLine) -> tuple[Imported, AnswerImport]:
        work = AnswerImport(self.cache, self.log, self.book)
        asyncio.run(work.take(lines))
        return work.result(), work

    def states(self) -> list[str | None]:
        questions = [self.book.question(key) for key in KEYS]
        return [question.state if question else None for question in questions]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with (
        SqliteReplyCache(tmp_path / "replies.sqlite") as cache,
        CallLog(tmp_path / "calls.jsonl") as log,
        BatchBook(tmp_path / "batch.sqlite") as book,
    ):
        with book.step():
            for i, key in enumerate(KEYS):
                book.ask(key, Purpose("explain", f"d/{i}"), ENDPOINT, (1, 1))
        yield Desk(cache, log, book)


def good(i: int) -> Answered:
    body = {
        "model": "m",
        "choices": [{"message": {"content": f"answer {i}"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5},
    }
    return Answered(KEYS[i], json.dumps(body).encode())


def bad(i: int, status: int, message: str) -> NotAnswered:
    facts = ErrorFacts(status, {}, {"error": {"message": message}})
    return NotAnswered(KEYS[i], facts, facts.message)


def test_every_kind_of_line_gets_its_place(desk: Desk) -> None:
    """An answer under the wrong question is a wrong score; a line counted twice is a wrong bill."""
    lines: list[AnswerLine] = [good(3), good(1), good(3), Answered("foreign", good(0).body), NoAnswer("no JSON")]
    lines += [bad(0, 500, "it broke"), bad(2, 400, "maximum context length is 8192 tokens")]
    lines += [bad(4, 400, "flagged by content_filter")]
    result, work = desk.take(*lines)
    assert result == Imported(
        answered=3,
        refused=1,
        known=1,
        foreign=1,
        unreadable=1,
        failed={"server_error": 1, "context_too_long": 1},
        missing=1,
        given_up=1,
    )
    assert desk.states() == ["back", "answered", "failed", "answered", "answered", "out"]
    kept = [desk.cache.get(key) for key in KEYS]
    assert [reply.text if reply else None for reply in kept] == [None, "answer 1", None, "answer 3", "", None]
    assert kept[4] is not None
    assert kept[4].refused
    assert work.stopped is None
    assert desk.log.total() == Usage(calls=3, input_tokens=200, output_tokens=10)
    assert {account.via for account in desk.log.accounts()} == {"batch"}


def test_a_second_import_of_the_same_file_changes_nothing(desk: Desk) -> None:
    """Whoever is unsure imports again; that must not count money twice or give requests up."""
    lines = (good(0), bad(1, 500, "it broke"), bad(2, 400, "maximum context length"))
    desk.take(*lines)
    states, spent = desk.states(), desk.log.total()
    again, _ = desk.take(*lines)
    assert (again.answered, again.known, again.failed) == (0, 1, {})
    assert (desk.states(), desk.log.total()) == (states, spent)


def test_a_late_answer_wins_over_an_error(desk: Desk) -> None:
    """A request may stand in the error file of one batch and in the output file of the next."""
    desk.take(bad(0, 500, "it broke"), bad(1, 400, "maximum context length"))
    desk.take(good(0), good(1))
    assert desk.states()[:2] == ["answered", "answered"]


def test_what_no_batch_answers_is_given_up_in_the_end(desk: Desk) -> None:
    """Else a loop of batches would ask it for ever."""
    for tried in range(1, MOST_TRIES + 1):
        desk.take(NotAnswered(KEYS[0], None, "too late"))
        assert desk.states()[0] == ("failed" if tried == MOST_TRIES else "back")
        with desk.book.step():
            if tried < MOST_TRIES:
                desk.book.ask(KEYS[0], Purpose("explain", "d/0"), ENDPOINT, (2, 1))
    question = desk.book.question(KEYS[0])
    assert question is not None
    assert (question.reason, question.message) == ("batch_unanswered", "too late")


def test_a_refused_field_is_left_out_next_time(desk: Desk) -> None:
    """All lines of the batch complain alike; each is to be asked again, and none counts as failed."""
    complaint = "Unsupported parameter: 'max_tokens' is not supported with this model."
    result, _ = desk.take(*(bad(i, 400, complaint) for i in range(6)))
    assert (result.in_another_form, result.failed) == (6, {})
    assert desk.book.refused(ENDPOINT) == ("max_tokens",)
    assert set(desk.states()) == {"back"}


def test_a_reason_to_stop_is_handed_on(desk: Desk) -> None:
    """A wrong key is no failure of a feature; nothing may be given up for it."""
    result, work = desk.take(*(bad(i, 401, "invalid api key") for i in range(6)))
    assert isinstance(work.stopped, BadKeyError)
    assert result.given_up == 0
    assert set(desk.states()) == {"back"}


def test_a_reply_that_is_already_in_the_cache_stays(desk: Desk) -> None:
    """A live answer may have been used already; what is computed from it again must not change. Both were paid."""
    asyncio.run(desk.cache.put(KEYS[0], text_reply("live")))
    result, _ = desk.take(good(0))
    kept = desk.cache.get(KEYS[0])
    assert kept is not None
    assert (result.answered, kept.text) == (1, "live")
    assert desk.log.total().calls == 1


def test_a_kill_between_groups_forgets_no_payment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of batches is rolled back with its group, the log is not: what was paid stays counted."""

    async def dying(key: str, reply: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.cache, "put", dying)
    with pytest.raises(KeyboardInterrupt):
        desk.take(good(0))
    assert desk.states()[0] == "out"
    assert desk.log.total().calls == 1
