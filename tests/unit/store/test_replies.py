"""The reply cache on disk: what was acknowledged is there, whatever happens to the process."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from autointerp.errors import UsageError
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
