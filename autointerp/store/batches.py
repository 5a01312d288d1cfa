"""What became of a run's requests that were written into batch files: `RUN/batch.sqlite`.

Digests flow in as they are exported, uploaded, answered or given up; what is still out, what failed and why flow out.
Everything of one export or one part of an import commits together. Holds no request and no reply. Knows no HTTP.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from pydantic import ValidationError

from autointerp.errors import RunError
from autointerp.files import refuse_odd_database
from autointerp.llm.base import Endpoint, Purpose
from autointerp.store.database import database_error, refuse_programs

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
    read text,                        -- what a prompt asks to be read, where it is no chat
    state text not null,
    tries integer not null default 0, -- batches that ended without an answer
    reason text,
    message text,
    round integer not null,           -- the export that it went out with last
    part integer not null             -- and its file there, from 1
) without rowid;
create index if not exists question_state on question (state);
create index if not exists question_part on question (round, part);
create table if not exists refused (endpoint text not null, form text not null, unique (endpoint, form));
create table if not exists upload (
    id integer primary key,
    round integer not null,
    part integer not null,
    file text not null,               -- name of the request file in the run's folder
    url text not null,                -- the path that its requests go to
    n integer not null,               -- its requests
    state text not null,              -- written, uploaded, created, done
    tries integer not null default 0, -- jobs that were refused for want of room
    file_id text,
    batch_id text
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
    round: int
    """The export that it went out with last."""
    read: str | None
    """What a `PromptRequest` asked to be read; None for a chat."""


class Upload(NamedTuple):
    """A file of requests on its way through a batch endpoint."""

    id: int
    file: str
    url: str
    """The path that its requests go to."""
    n: int
    state: Literal["written", "uploaded", "created", "done"]
    tries: int
    file_id: str | None
    batch_id: str | None

    @property
    def label(self) -> str:
        """By which its job is found again."""
        return f"{self.file} {self.tries}"


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise database_error(error, path, "record of batches") from None


class BatchBook:
    """One run's batch requests; a single writer, guarded by the run's lock. Close it, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Open or create it.

        Raises:
            RunError: the file holds something else.
        """
        refuse_odd_database(path)
        self._path = path
        self._db = _connect(path)
        try:
            refuse_programs(self._db, path, "record of batches")
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._db.close()
            raise database_error(error, path, "record of batches") from None
        except RunError:
            self._db.close()
            raise

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
        try:
            self._db.execute("begin immediate")
            yield
            self._db.execute("commit")
        except BaseException as error:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("rollback")
            if isinstance(error, sqlite3.Error):
                raise database_error(error, self._path, "record of batches") from None
            raise

    def _execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(query, values)
        except sqlite3.Error as error:
            raise database_error(error, self._path, "record of batches") from None

    def question(self, key: str) -> Question | None:
        """A request by its digest; None where it was never exported."""
        row = self._execute(
            "select digest, stage, feature, endpoint, state, reason, message, round, read from question "
            "where digest = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        try:
            return Question(row[0], Purpose(row[1], row[2]), Endpoint.model_validate_json(row[3]), *row[4:])
        except ValidationError as error:
            raise database_error(error, self._path, "record of batches") from None

    def next_round(self) -> int:
        """The number of the next export, from 1."""
        return int(self._execute("select coalesce(max(round), 0) + 1 from question").fetchone()[0])

    def ask(
        self, key: str, asked_for: Purpose, endpoint: Endpoint, place: tuple[int, int], read: str | None = None
    ) -> None:
        """A request goes out in a round's part."""
        self._execute(
            "insert into question (digest, stage, feature, endpoint, read, state, round, part) "
            "values (?, ?, ?, ?, ?, 'out', ?, ?) "
            "on conflict (digest) do update set state = 'out', round = excluded.round, part = excluded.part",
            (key, *asked_for, endpoint.model_dump_json(), read, *place),
        )

    def answer(self, key: str) -> None:
        """A request was answered."""
        self._execute("update question set state = 'answered', reason = null, message = null where digest = ?", (key,))

    def fail(self, key: str, reason: str, message: str, *, lasting: bool) -> None:
        """A batch ended without an answer; given up where that lasts, or has happened too often."""
        self._execute(
            "update question set tries = tries + 1, reason = ?, message = ?, "
            "state = case when ? or tries + 1 >= ? then 'failed' else 'back' end where digest = ?",
            (reason, message, lasting, MOST_TRIES, key),
        )

    def ask_again(self, key: str) -> None:
        """A request is to be asked once more, in another form, as if it had never gone out."""
        self._execute("update question set state = 'back' where digest = ?", (key,))

    def counts(self) -> dict[State, int]:
        """Requests by what became of them."""
        return dict(self._execute("select state, count(*) from question group by state"))

    def end_upload(self, upload: Upload, why: str) -> int:
        """An upload is through; requests of it that nothing came back for are back, for this reason.

        Returns:
            How many those were.
        """
        missing = self._out(upload)
        for key in missing:
            self.fail(key, "batch_unanswered", why, lasting=False)
        self.move_upload(upload, "done")
        return len(missing)

    def drop_upload(self, upload: Upload) -> None:
        """An upload came to nothing, through no fault of its requests: they are back."""
        for key in self._out(upload):
            self.ask_again(key)
        self.move_upload(upload, "done")

    def _out(self, upload: Upload) -> list[str]:
        query = (
            "select digest from question join upload using (round, part) where upload.id = ? and question.state = 'out'"
        )
        return [row[0] for row in self._execute(query, (upload.id,))]

    def refuse(self, endpoint: Endpoint, form: str) -> None:
        """An endpoint refused a form of the request."""
        self._execute("insert or ignore into refused values (?, ?)", (endpoint.model_dump_json(), form))

    def refused(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Forms of the request that an endpoint refused in batches."""
        query = "select form from refused where endpoint = ? order by rowid"
        return tuple(row[0] for row in self._execute(query, (endpoint.model_dump_json(),)))

    def add_upload(self, place: tuple[int, int], file: str, url: str, n: int) -> None:
        """A round's part is to be uploaded."""
        query = "insert into upload (round, part, file, url, n, state) values (?, ?, ?, ?, ?, 'written')"
        self._execute(query, (*place, file, url, n))

    def uploads(self) -> list[Upload]:
        """Those that are not done, in the order in which they were made."""
        query = "select id, file, url, n, state, tries, file_id, batch_id from upload where state <> 'done' order by id"
        return [Upload(*row) for row in self._execute(query)]

    def move_upload(
        self, upload: Upload, state: str, *, file_id: str | None = None, batch_id: str | None = None
    ) -> None:
        """An upload got on, with the name that the endpoint gave it."""
        self._execute(
            "update upload set state = ?, file_id = coalesce(?, file_id), batch_id = coalesce(?, batch_id) "
            "where id = ?",
            (state, file_id, batch_id, upload.id),
        )

    def retry_upload(self, upload: Upload) -> None:
        """Its job was refused for want of room; it needs another one."""
        self._execute("update upload set state = 'uploaded', tries = tries + 1 where id = ?", (upload.id,))
