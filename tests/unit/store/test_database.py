"""What SQLite says, told as what it is: a disk's no is no damage, and what could run in a file is refused."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from autointerp.errors import RunError
from autointerp.store.batches import BatchBook
from autointerp.store.database import DiskError, database_error
from autointerp.store.replies import SqliteReplyCache
from autointerp.store.runs import RunStore


def error_of(do: Callable[[], object]) -> sqlite3.Error:
    try:
        do()
    except sqlite3.Error as error:
        return error
    raise AssertionError("no error")


def full(path: Path) -> sqlite3.Error:
    db = sqlite3.connect(path)
    db.execute("create table t (x)")
    db.execute("pragma max_page_count = 3")
    return error_of(lambda: db.execute("insert into t values (zeroblob(100000))"))


def read_only(path: Path) -> sqlite3.Error:
    sqlite3.connect(path).execute("create table t (x)")
    return error_of(lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True).execute("insert into t values (1)"))


def unopened(path: Path) -> sqlite3.Error:
    return error_of(lambda: sqlite3.connect(path / "no such folder" / "f").execute("select 1"))


def busy(path: Path) -> sqlite3.Error:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("begin exclusive")
    return error_of(lambda: sqlite3.connect(path, timeout=0).execute("create table u (x)"))


def garbage(path: Path) -> sqlite3.Error:
    path.write_bytes(b"garbage" * 1000)
    return error_of(lambda: sqlite3.connect(path).execute("select * from t"))


@pytest.mark.parametrize(
    ("make", "advice"),
    [(full, "make room"), (read_only, "make it writable"), (unopened, "make it writable"), (busy, "wait for that one")],
)
def test_a_disk_is_not_answered_with_move_it_away(
    tmp_path: Path, make: Callable[[Path], sqlite3.Error], advice: str
) -> None:
    """A user who obeyed `move it away and run again` on a full disk lost the run."""
    told = database_error(make(tmp_path / "f"), tmp_path / "f", "store")
    assert isinstance(told, DiskError)
    assert advice in str(told)
    assert str(tmp_path / "f") in str(told)
    assert "away" not in str(told)


def test_damage_is(tmp_path: Path) -> None:
    told = database_error(garbage(tmp_path / "f"), tmp_path / "f", "store")
    assert not isinstance(told, DiskError)
    assert "is not a readable store" in str(told)
    assert "move it away and run again" in str(told)


@pytest.mark.parametrize(
    "program",
    [
        "create view reply as with recursive e(x) as (select 1 union all select x from e) select x as body from e",
        "create trigger t after insert on own begin delete from own; end",
    ],
)
def test_a_file_with_something_to_run_is_refused(tmp_path: Path, program: str) -> None:
    """A view in the place of the cache's table never ended; triggers run with the reader's rights."""
    path = tmp_path / "f.sqlite"
    db = sqlite3.connect(path)
    db.execute("create table own (x)")
    db.execute(program)
    db.commit()
    db.close()
    for open_it in (RunStore, BatchBook, SqliteReplyCache):
        with pytest.raises(RunError, match=r"f.sqlite holds a (view|trigger), which no .* does"):
            open_it(path)


def test_a_store_is_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` of a finished run on a full disk called the sound store unreadable."""
    RunStore(tmp_path / "store.sqlite").close()

    def no_room(connection: sqlite3.Connection, _: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr("autointerp.store.runs._on_connect", no_room)
    with pytest.raises(DiskError):
        RunStore(tmp_path / "store.sqlite")
    store = RunStore(tmp_path / "store.sqlite", reading=True)
    assert store.ends("d", "explain") == {}
    store.close()
