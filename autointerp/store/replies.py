"""The reply cache: what language models answered, under the digest of the request, in one SQLite file per user.

Beside them stands what an endpoint was seen to do, where replies came with that from elsewhere. Keys and replies flow
in; a reply is acknowledged only when its commit is done. One writer thread commits in groups, so that many tasks share
one commit. A file that another process holds is waited for; replies that it cannot take at all go into the file beside
it (`store.spare`), and the run stops. Knows no request and no key of an account.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pydantic import ValidationError

from autointerp.errors import StoppedError, UsageError
from autointerp.limits import unpack
from autointerp.llm.base import Capabilities, ChatReply, Endpoint
from autointerp.provenance import digest
from autointerp.store.database import refuse_programs
from autointerp.store.spare import SpareReplies

BUSY_TIMEOUT_S = 5.0
"""How long one try waits for another process to be done with the file."""
BUSY_PATIENCE_S = 600.0
"""How long the writer tries in all."""
SAY_BUSY_EVERY_S = 30.0
COMPRESSION = 1
"""A tenth larger than the usual 6, in a fifth of the time: log probabilities hardly compress."""
LARGEST_GROUP = 500
"""At most so many replies in one commit."""
GATHER_S = 0.02
"""How long a commit waits for company. A commit for every reply takes as long again as asking for it did."""
_TAG = "blake2b:"
_ADVICE = "make it writable or name another with --cache, then run the same command again"
_SCHEMA = """
create table if not exists reply (
    digest blob not null unique,  -- 20 bytes of the canonical request's digest
    body blob not null,           -- zlib-compressed JSON of the reply
    created real not null         -- seconds since 1970
);
create table if not exists capabilities (
    endpoint text not null unique,  -- digest of the endpoint
    body text not null              -- JSON of what it was seen to do
);
"""


class _Put(NamedTuple):
    digest: bytes
    body: bytes
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"


def default_path() -> Path:
    """`$XDG_CACHE_HOME/autointerp/replies.sqlite`, with `~/.cache` where that is not set."""
    home = os.environ.get("XDG_CACHE_HOME")
    base = Path(home) if home else Path.home() / ".cache"
    return base / "autointerp" / "replies.sqlite"


class SqliteReplyCache:
    """A `ReplyCache` on disk; several processes may use one file. Close it, or use it in a `with` block."""

    def __init__(
        self,
        path: Path | None = None,
        spare: Path | None = None,
        note: Callable[[str], None] = lambda text: None,
        busy_patience_s: float = BUSY_PATIENCE_S,
    ) -> None:
        """Open or create the file.

        Args:
            spare: where replies go that the file cannot take; they are found there too.
            note: told where another process holds the file, from the writer's thread.

        Raises:
            UsageError: the path cannot be written, or holds something else.
        """
        self.path = default_path() if path is None else path
        self.failure: CacheError | None = None
        """Why a reply could not be kept, where that happened."""
        self._spare = SpareReplies(spare) if spare else None
        self._note = note
        self._patience_s = busy_patience_s
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._open()
            refuse_programs(self._reader, self.path, "reply cache")
            self._reader.executescript(_SCHEMA)
            self._file = _identity(self.path)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot use {self.path} as the reply cache: {error}; name another with --cache") from None
        self._reading = threading.Lock()
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="reply-cache", daemon=True)
        self._writer.start()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        return db

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what was put and close the file."""
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()
        self._reader.close()

    def get(self, key: str) -> ChatReply | None:
        """The reply kept under a key; one that a later version of the record cannot read counts as absent.

        Raises:
            StoppedError: the file cannot be read.
        """
        row = self._one("select body from reply where digest = ?", _digest_bytes(key))
        if row is None:
            return self._spare.get(key) if self._spare else None
        try:
            return ChatReply.model_validate_json(unpack(row[0]))
        except (TypeError, ValueError):
            return None

    def capabilities(self, endpoint: Endpoint) -> Capabilities | None:
        """What an endpoint was seen to do where replies from it were imported; None where nothing is known.

        Raises:
            StoppedError: the file cannot be read.
        """
        row = self._one("select body from capabilities where endpoint = ?", digest(endpoint.model_dump()))
        try:
            return None if row is None else Capabilities.model_validate_json(row[0])
        except ValidationError:
            return None

    def _one(self, query: str, key: bytes | str) -> tuple[bytes] | None:
        with self._reading:
            try:
                row: tuple[bytes] | None = self._reader.execute(query, (key,)).fetchone()
            except sqlite3.Error as error:
                raise CacheError(f"cannot read the reply cache {self.path}: {error}; {_ADVICE}") from None
        return row

    def put_capabilities(self, seen: Capabilities) -> None:
        """Keep what an endpoint was seen to do, in the place of what was known before.

        Raises:
            StoppedError: the file cannot be written.
        """
        with self._reading:
            try:
                self._reader.execute(
                    "insert or replace into capabilities (endpoint, body) values (?, ?)",
                    (digest(seen.endpoint.model_dump()), seen.model_dump_json()),
                )
            except sqlite3.Error as error:
                raise self._unwritable(str(error)) from None

    async def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; returns when it is committed.

        Raises:
            StoppedError: the file cannot take it; the reply stands in the spare file, where there is one.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        body = zlib.compress(reply.model_dump_json().encode(), COMPRESSION)
        self._queue.put(_Put(_digest_bytes(key), body, loop, done))
        await done

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the replies kept under these keys.

        Raises:
            StoppedError: the file cannot be written.
        """
        db = self._open()
        try:
            db.execute("begin immediate")
            db.executemany("delete from reply where digest = ?", [(_digest_bytes(key),) for key in keys])
            db.execute("commit")
        except sqlite3.Error as error:
            raise self._unwritable(str(error)) from None
        finally:
            db.close()
        if self._spare:
            self._spare.forget(keys)

    def _write(self) -> None:
        """The writer thread: everything that waits, in one commit, until there is a None."""
        db = self._open()
        try:
            open_for_more = True
            while open_for_more:
                group: list[_Put] = []
                item = self._queue.get()
                if item is not None:
                    time.sleep(GATHER_S)
                while item is not None:
                    group.append(item)
                    if len(group) >= LARGEST_GROUP or self._queue.empty():
                        break
                    item = self._queue.get()
                open_for_more = item is not None
                if group:
                    self._commit(db, group)
        finally:
            db.close()

    def _commit(self, db: sqlite3.Connection, group: list[_Put]) -> None:
        why = self._insert(db, group)
        failure = None
        if why is not None:
            failure = self._unwritable(why, self._set_aside(group))
            self.failure = self.failure or failure
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for put in group:
            by_loop.setdefault(put.loop, []).append(put.done)
        for loop, waiting in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_acknowledge, waiting, failure)

    def _insert(self, db: sqlite3.Connection, group: list[_Put]) -> str | None:
        """Commit, waiting while another process holds the file; why not, where it cannot be."""
        rows = [(put.digest, put.body, time.time()) for put in group]
        began, said = time.monotonic(), -SAY_BUSY_EVERY_S
        while True:
            try:
                db.execute("begin immediate")
                db.executemany("insert or replace into reply (digest, body, created) values (?, ?, ?)", rows)
                db.execute("commit")
            except sqlite3.Error as error:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("rollback")
                waited = time.monotonic() - began
                if not _is_busy(error) or self.failure or waited >= self._patience_s:
                    return str(error)
                if waited - said >= SAY_BUSY_EVERY_S:
                    self._note(f"another process holds the reply cache {self.path}; waiting for it")
                    said = waited
            else:
                # SQLite goes on writing into a file that has lost its name, where nobody will find it.
                return None if _identity(self.path) == self._file else "it was deleted or moved away meanwhile"

    def _set_aside(self, group: Sequence[_Put]) -> str:
        """Put a group into the spare file; where its replies are now, as a clause."""
        if self._spare is None:
            return "the answers that came are used but not kept"
        try:
            self._spare.put([(f"{_TAG}{put.digest.hex()}", unpack(put.body)) for put in group])
        except (OSError, UsageError) as error:
            return (
                f"the answers that came are used but not kept, as {self._spare.path} cannot be written either ({error})"
            )
        return f"the answers that came are kept in {self._spare.path}"

    def _unwritable(self, why: str, kept: str = "") -> "CacheError":
        clauses = [f"cannot write the reply cache {self.path}: {why}", *([kept] if kept else []), _ADVICE]
        return CacheError("; ".join(clauses))


class CacheError(StoppedError):
    """The reply cache cannot be written or read; what was paid for would be paid for again."""


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands under a name now; None for none."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def _acknowledge(waiting: "list[asyncio.Future[None]]", failure: CacheError | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)


def _digest_bytes(key: str) -> bytes:
    """`blake2b:` and 40 hex digits as 20 bytes."""
    return bytes.fromhex(key.rpartition(":")[2])
