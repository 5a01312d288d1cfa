"""The reply cache on disk: what was acknowledged is there, whatever happens to the process."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from autointerp.errors import StoppedError, UsageError
from autointerp.limits import BODY
from autointerp.llm.base import ChatReply, TokenLogprob
from autointerp.provenance import digest
from autointerp.records import Usage
from autointerp.store.replies import SqliteReplyCache, default_path

WRITER = """
import asyncio, sys
from pathlib import Path
from autointerp.llm.fakes import text_reply
from autointerp.provenance import digest
from autointerp.store.replies import SqliteReplyCache

async def worker(cache, w):
    for i in range(100000):
        key = f"{w}-{i}"
        await cache.put(digest(key), text_reply(key))
        print(key, flush=True)

async def main():
    cache = SqliteReplyCache(Path(sys.argv[1]))
    await asyncio.gather(*(worker(cache, w) for w in range(16)))

asyncio.run(main())
"""


FILLS_A_DISK = """
import asyncio, resource, sys
from pathlib import Path
from autointerp.errors import StoppedError
from autointerp.llm.fakes import text_reply
from autointerp.provenance import digest
from autointerp.store.replies import SqliteReplyCache

async def main():
    folder = Path(sys.argv[1])
    with SqliteReplyCache(folder / "replies.sqlite", folder / "spare.jsonl") as cache:
        for i in range(1000):
            try:
                await cache.put(digest(i), text_reply(f"{i} " + digest(i) * 10))
            except StoppedError as error:
                assert cache.failure is error
                print(i, error, flush=True)
                return

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
asyncio.run(main())
"""
"""Puts replies where no file may grow beyond 200 kB, as on a full disk, and says which one could not be kept."""


def reply(text: str) -> ChatReply:
    """A reply with every field set."""
    return ChatReply(
        text=text,
        finish_reason="stop",
        logprobs=(TokenLogprob(token="1", logprob=-0.5, top=(("1", -0.5), ("2", -1.0))),),
        model="m",
        usage=Usage(calls=1, input_tokens=5),
    )


def test_what_was_put_is_got_by_another_process_too(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "replies.sqlite"
    with SqliteReplyCache(path) as cache, SqliteReplyCache(path) as other:
        assert cache.get(digest("a")) is None
        asyncio.run(cache.put(digest("a"), reply("one")))
        asyncio.run(other.put(digest("a"), reply("two")))
        assert cache.get(digest("a")) == other.get(digest("a")) == reply("two")
    with SqliteReplyCache(path) as again:
        assert again.get(digest("a")) == reply("two")


def test_many_puts_share_commits(tmp_path: Path) -> None:
    """One commit a put takes seconds for what takes a fraction of one in groups."""

    async def run(cache: SqliteReplyCache) -> None:
        await asyncio.gather(*(cache.put(digest(i), reply(str(i))) for i in range(2000)))

    with SqliteReplyCache(tmp_path / "replies.sqlite") as cache:
        asyncio.run(run(cache))
        assert all(cache.get(digest(i)) == reply(str(i)) for i in range(0, 2000, 97))


@pytest.mark.parametrize("after", [1, 40, 400])
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, after: int) -> None:
    path = tmp_path / "replies.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline().strip() for _ in range(after)]
    os.kill(writer.pid, signal.SIGKILL)
    *rest, _cut = writer.stdout.read().split("\n")
    acknowledged += [line for line in rest if line]
    writer.wait()
    with SqliteReplyCache(path) as cache:
        kept = [cache.get(digest(key)) for key in acknowledged]
    assert [found.text if found else None for found in kept] == acknowledged
    assert sqlite3.connect(path).execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_reply_of_another_shape_counts_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with SqliteReplyCache(path) as cache:
        asyncio.run(cache.put(digest("a"), reply("x")))
        with sqlite3.connect(path) as db:
            db.execute("update reply set body = ?", (b"not zlib",))
        assert cache.get(digest("a")) is None


def test_a_file_that_is_no_cache_is_said(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_text("this is no database, and long enough to be looked at" * 40)
    with pytest.raises(UsageError, match="--cache"):
        SqliteReplyCache(path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        SqliteReplyCache(tmp_path / "file" / "replies.sqlite")


def test_the_default_path_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "autointerp" / "replies.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_path() == Path("/home/someone/.cache/autointerp/replies.sqlite")


def test_what_the_disk_has_no_room_for_stands_in_the_spare_file(tmp_path: Path) -> None:
    """A full disk made `lost` of answers that were paid for, and nobody was told why."""
    ended = subprocess.run(
        [sys.executable, "-c", FILLS_A_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    number, said = ended.stdout.strip().split(" ", 1)
    assert said.startswith(f"cannot write the reply cache {tmp_path / 'replies.sqlite'}: ")
    assert f"kept in {tmp_path / 'spare.jsonl'}" in said
    with SqliteReplyCache(tmp_path / "replies.sqlite", tmp_path / "spare.jsonl") as cache:
        kept = [cache.get(digest(i)) for i in range(int(number) + 1)]
        assert [found.text.split()[0] for found in kept if found] == [str(i) for i in range(int(number) + 1)]
        cache.forget([digest(int(number))])
    with SqliteReplyCache(tmp_path / "replies.sqlite", tmp_path / "spare.jsonl") as cache:
        assert cache.get(digest(int(number))) is None


def test_a_file_held_for_too_long_is_said(tmp_path: Path) -> None:
    """Waiting for ever for a process that hangs looks like a run that works."""
    path = tmp_path / "replies.sqlite"
    notes: list[str] = []
    with SqliteReplyCache(path, tmp_path / "spare.jsonl", notes.append, busy_patience_s=1.0) as cache:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("begin immediate")
        with pytest.raises(StoppedError, match=r"locked; the answers that came are kept in .*spare\.jsonl"):
            asyncio.run(cache.put(digest("a"), reply("one")))
        holder.execute("rollback")
        assert cache.get(digest("a")) == reply("one")


@pytest.mark.parametrize("body", ["text", 7, zlib.compress(b"{}"), zlib.compress(b" " * (BODY + 1))])
def test_a_damaged_reply_counts_as_absent(tmp_path: Path, body: object) -> None:
    """Bodies of another type ended as a traceback; one of two kilobytes that unpacks to gigabytes filled the memory."""
    path = tmp_path / "replies.sqlite"
    with SqliteReplyCache(path) as cache:
        asyncio.run(cache.put(digest("a"), reply("x")))
        with sqlite3.connect(path) as db:
            db.execute("update reply set body = ?", (body,))
        assert cache.get(digest("a")) is None


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    """It ended as a traceback of the database's."""
    path = tmp_path / "replies.sqlite"
    with SqliteReplyCache(path) as cache:
        for i in range(200):
            asyncio.run(cache.put(digest(i), reply("x" * 500)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with SqliteReplyCache(path) as cache, pytest.raises(StoppedError, match="cannot read the reply cache"):
        cache.get(digest(7))
