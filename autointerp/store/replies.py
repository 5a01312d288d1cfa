"""The reply cache: what language models answered, under the digest of the request, in one SQLite file per user.

Beside them stands what an endpoint was seen to do, where replies came with that from elsewhere. Keys and replies flow
in; a reply is acknowledged only when its commit is done. One writer thread commits in groups, so that many tasks share
one commit. Knows no request and no key of an account.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pydantic import ValidationError

from autointerp.errors import RunError, UsageError
from autointerp.llm.base import Capabilities, ChatReply, Endpoint
from autointerp.provenance import digest

BUSY_TIMEOUT_S = 60.0
COMPRESSION = 1
"""A tenth larger than the usual 6, in a fifth of the time: log probabilities hardly compress."""
LARGEST_GROUP = 500
"""At most so many replies in one commit."""
GATHER_S = 0.02
"""How long a commit waits for company. A commit for every reply takes as long again as asking for it did."""
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

    def __init__(self, path: Path | None = None) -> None:
        """Open or create the file.

        Raises:
            UsageError: the path cannot be written, or holds something else.
        """
        self.path = default_path() if path is None else path
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._open()
            self._reader.executescript(_SCHEMA)
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
        """The reply kept under a key; one that a later version of the record cannot read counts as absent."""
        with self._reading:
            row = self._reader.execute("select body from reply where digest = ?", (_digest_bytes(key),)).fetchone()
        if row is None:
            return None
        try:
            return ChatReply.model_validate_json(zlib.decompress(row[0]))
        except (zlib.error, ValidationError):
            return None

    def capabilities(self, endpoint: Endpoint) -> Capabilities | None:
        """What an endpoint was seen to do where replies from it were imported; None where nothing is known."""
        with self._reading:
            query = "select body from capabilities where endpoint = ?"
            row = self._reader.execute(query, (digest(endpoint.model_dump()),)).fetchone()
        return None if row is None else Capabilities.model_validate_json(row[0])

    def put_capabilities(self, seen: Capabilities) -> None:
        """Keep what an endpoint was seen to do, in the place of what was known before."""
        with self._reading:
            self._reader.execute(
                "insert or replace into capabilities (endpoint, body) values (?, ?)",
                (digest(seen.endpoint.model_dump()), seen.model_dump_json()),
            )

    async def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; returns when it is committed.

        Raises:
            RunError: the file cannot be written.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        body = zlib.compress(reply.model_dump_json().encode(), COMPRESSION)
        self._queue.put(_Put(_digest_bytes(key), body, loop, done))
        await done

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the replies kept under these keys.

        Raises:
            RunError: the file cannot be written.
        """
        db = self._open()
        try:
            db.execute("begin immediate")
            db.executemany("delete from reply where digest = ?", [(_digest_bytes(key),) for key in keys])
            db.execute("commit")
        except sqlite3.Error as error:
            raise RunError(f"cannot write the reply cache {self.path}: {error}") from None
        finally:
            db.close()

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
        failure: RunError | None = None
        now = time.time()
        try:
            db.execute("begin immediate")
            rows = [(put.digest, put.body, now) for put in group]
            db.executemany("insert or replace into reply (digest, body, created) values (?, ?, ?)", rows)
            db.execute("commit")
        except sqlite3.Error as error:
            failure = RunError(f"cannot write the reply cache {self.path}: {error}")
            if db.in_transaction:
                db.execute("rollback")
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for put in group:
            by_loop.setdefault(put.loop, []).append(put.done)
        for loop, waiting in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_acknowledge, waiting, failure)


def _acknowledge(waiting: "list[asyncio.Future[None]]", failure: RunError | None) -> None:
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
