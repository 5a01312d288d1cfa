"""SQLite files that travel with a folder: opened without what could run in them, and their errors as sentences.

Connections and errors flow in; refusals and errors of ours flow out. What a disk does is told from damage: a user who
moves away a sound store because the disk was full has lost a run.
"""

import sqlite3
from pathlib import Path

from autointerp.errors import AutointerpError, RunError, StoppedError

_PATIENCE = "then run the same command again; what was done is kept"
_DISK = {
    sqlite3.SQLITE_FULL: f"the disk is full; make room, {_PATIENCE}",
    sqlite3.SQLITE_READONLY: f"it lies on a disk or in a folder that cannot be written; make it writable, {_PATIENCE}",
    sqlite3.SQLITE_CANTOPEN: f"it or its folder cannot be written; make it writable, {_PATIENCE}",
    sqlite3.SQLITE_PERM: f"that is not allowed; make it readable and writable, {_PATIENCE}",
    sqlite3.SQLITE_IOERR: (
        "the disk is full, fails, or has no locks (SQLite wants one host and a file system with locks, which network "
        f"disks may not have); look at it, {_PATIENCE}"
    ),
    sqlite3.SQLITE_BUSY: f"another process holds it; wait for that one, {_PATIENCE}",
    sqlite3.SQLITE_LOCKED: f"another process holds it; wait for that one, {_PATIENCE}",
    sqlite3.SQLITE_NOMEM: f"there is too little memory; make room, {_PATIENCE}",
    sqlite3.SQLITE_NOLFS: f"the file system takes no file so large; choose another, {_PATIENCE}",
    sqlite3.SQLITE_PROTOCOL: f"its locks do not hold (a network disk: SQLite wants one host); move it, {_PATIENCE}",
}


class DiskError(StoppedError):
    """A disk, a lock or a permission is in the way; the file itself is sound as far as anybody knows."""


def is_disk(error: BaseException | None) -> bool:
    """Whether an error of SQLite says nothing against the file itself."""
    return _code(error) in _DISK


def database_error(error: BaseException | None, path: Path, what: str) -> AutointerpError:
    """An error of SQLite on a file as a sentence; `what` says what the file should be, such as `store`."""
    advice = _DISK.get(_code(error))
    if advice is not None:
        return DiskError(f"cannot use {path} ({error}): {advice}")
    return RunError(f"{path} is not a readable {what} ({error}); move it away and run again")


def refuse_programs(db: sqlite3.Connection, path: Path, what: str) -> None:
    """Refuse a file with views or triggers, which would run in the place of reading and writing a table.

    Raises:
        RunError: it has one.
        sqlite3.Error: it cannot be read.
    """
    db.execute("pragma trusted_schema = off")
    found = db.execute("select type, name from sqlite_master where type in ('view', 'trigger') limit 1").fetchone()
    if found is not None:
        raise RunError(
            f"{path} holds a {found[0]}, which no {what} of autointerp does: somebody else made it; move it away"
        )


def _code(error: BaseException | None) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF
