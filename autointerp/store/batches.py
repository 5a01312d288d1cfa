"""What became of a run's requests that were written into batch files: `RUN/batch.sqlite`.

Digests flow in as they are exported, uploaded, answered or given up; what is still out, what failed and why flow out.
Everything of one export or one part of an import commits together. Holds no request and no reply. Knows no HTTP.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from autointerp.errors import RunError
from autointerp.llm.base import Endpoint, Purpose

MOST_TRIES = 3
"""Batches that may end without an answer to a request before it is given up."""
State = Literal["out", "back", "answered", "failed"]
"""In a file that was exported; back without an answer, to be asked again; answered; given up."""
_SCHEMA = """
create table if not exists question (
    digest text primary key,
    stage text not null,
    feature text not null,
    endpoint text not null,           -- JSON of who is to answer
    state text not null,
    tries integer not null default 0, -- batches that ended without an answer
    reason text,
    message text,
    upload integer                    -- the upload it went out with, where there was one
) without rowid;
create index if not exists question_state on question (state);
create table if not exists refused (endpoint text not null, form text not null, unique (endpoint, form));
create table if not exists upload (
    id integer primary key,
    file text not null,               -- name of the request file in the run's folder
    n integer not null,               -- its requests
    state text not null,              -- written, uploaded, created, done
    file_id text,
    batch_id text,
    message text
);
"""


class Question(NamedTuple):
    """A request that was exported."""

    digest: str
    purpose: Purpose
    endpoint: Endpoint
    state: State
    reason: str | None
    message: str | None


class Upload(NamedTuple):
    """A file of requests on its way through a batch endpoint."""

    id: int
    file: str
    n: int
    state: Literal["written", "uploaded", "created", "done"]
    file_id: str | None
    batch_id: str | None
    message: str | None


class BatchBook:
    """One run's batch requests; a single writer, guarded by the run's lock. Close it, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Open or create it.

        Raises:
            RunError: the file holds something else.
        """
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise RunError(
                f"{path} is not a readable record of batches ({error}); move it away and run again"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Everything written inside commits together or not at all."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def question(self, key: str) -> Question | None:
        """A request by its digest; None where it was never exported."""
        row = self._db.execute(
            "select digest, stage, feature, endpoint, state, reason, message from question where digest = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        endpoint = Endpoint.model_validate_json(row[3])
        return Question(row[0], Purpose(row[1], row[2]), endpoint, row[4], row[5], row[6])

    def ask(self, key: str, asked_for: Purpose, endpoint: Endpoint, upload: int | None = None) -> None:
        """A request goes out, in an upload or in a file of the user's."""
        self._db.execute(
            "insert into question (digest, stage, feature, endpoint, state, upload) values (?, ?, ?, ?, 'out', ?) "
            "on conflict (digest) do update set state = 'out', upload = excluded.upload",
            (key, *asked_for, endpoint.model_dump_json(), upload),
        )

    def answer(self, key: str) -> None:
        """A request was answered."""
        self._db.execute(
            "update question set state = 'answered', reason = null, message = null where digest = ?", (key,)
        )

    def fail(self, key: str, reason: str, message: str, *, lasting: bool) -> None:
        """A batch ended without an answer; given up where that lasts, or has happened too often."""
        self._db.execute(
            "update question set tries = tries + 1, reason = ?, message = ?, "
            "state = case when ? or tries + 1 >= ? then 'failed' else 'back' end where digest = ?",
            (reason, message, lasting, MOST_TRIES, key),
        )

    def ask_again(self, key: str) -> None:
        """A request is to be asked once more, in another form, as if it had never gone out."""
        self._db.execute("update question set state = 'back' where digest = ?", (key,))

    def counts(self) -> dict[State, int]:
        """Requests by what became of them."""
        return dict(self._db.execute("select state, count(*) from question group by state"))

    def end_upload(self, upload: int, message: str | None = None) -> int:
        """An upload is through; requests of it that nothing came back for are back.

        Returns:
            How many those were.
        """
        self._db.execute("update upload set state = 'done', message = ? where id = ?", (message, upload))
        missing = self._db.execute(
            "select digest from question where upload = ? and state = 'out'", (upload,)
        ).fetchall()
        for (key,) in missing:
            self.fail(key, "batch_unanswered", message or "the batch ended without this answer", lasting=False)
        return len(missing)

    def refuse(self, endpoint: Endpoint, form: str) -> None:
        """An endpoint refused a form of the request."""
        self._db.execute("insert or ignore into refused values (?, ?)", (endpoint.model_dump_json(), form))

    def refused(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Forms of the request that an endpoint refused in batches."""
        query = "select form from refused where endpoint = ? order by rowid"
        return tuple(row[0] for row in self._db.execute(query, (endpoint.model_dump_json(),)))

    def add_uploads(self, files: Sequence[tuple[str, int]]) -> list[int]:
        """Files of requests that are to be uploaded, and how many requests each holds; their numbers."""
        added: list[int] = []
        for name, n in files:
            cursor = self._db.execute("insert into upload (file, n, state) values (?, ?, 'written')", (name, n))
            added.append(int(cursor.lastrowid or 0))
        return added

    def uploads(self) -> list[Upload]:
        """All uploads, in the order in which they were made."""
        query = "select id, file, n, state, file_id, batch_id, message from upload order by id"
        return [Upload(*row) for row in self._db.execute(query)]

    def move_upload(self, upload: int, state: str, *, file_id: str | None = None, batch_id: str | None = None) -> None:
        """An upload got on, with the name that the endpoint gave it."""
        self._db.execute(
            "update upload set state = ?, file_id = coalesce(?, file_id), batch_id = coalesce(?, batch_id) "
            "where id = ?",
            (state, file_id, batch_id, upload),
        )
