"""The replies that a run used, taken out of one cache and into another, so that others recompute its tables.

A run's folder and a reply cache flow in, a file flows out; or the other way round. Sends nothing and needs no key.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from autointerp.errors import UsageError
from autointerp.llm.base import Capabilities, Endpoint
from autointerp.store.calls import read_calls
from autointerp.store.folder import RunFolder, damaged_note
from autointerp.store.moved_replies import Moved, read_replies, write_replies
from autointerp.store.replies import SqliteReplyCache

REPLIES_AT_A_TIME = 500


class ExportedReplies(NamedTuple):
    """What was written."""

    replies: int
    missing: int
    """Replies that the run used and the cache no longer holds."""


class ImportedReplies(NamedTuple):
    """What was read."""

    new: int
    known: int
    """Replies that the cache held already; they stay as they are."""
    endpoints: tuple[Endpoint, ...]
    """Who gave them, where what they were seen to do came along."""


def export_replies(folder: RunFolder, out: Path, cache: SqliteReplyCache) -> ExportedReplies:
    """Write every reply that a run used, and what its endpoints were seen to do.

    Raises:
        UsageError: the run used none, or the file cannot be written.
    """
    keys: dict[bytes, None] = {}
    endpoints: dict[Endpoint, None] = {}
    for call in read_calls(folder.calls):
        keys[bytes.fromhex(call.digest.rpartition(":")[2])] = None
        endpoints[call.endpoint] = None
    if not keys:
        raise UsageError(f"{folder.path} has used no reply of a language model yet; there is nothing to export")
    missing = 0

    def replies() -> Iterator[Moved]:
        nonlocal missing
        for digest in keys:
            key = f"blake2b:{digest.hex()}"
            reply = cache.get(key)
            if reply is None:
                missing += 1
            else:
                yield Moved(key, reply)

    try:
        n = write_replies(out, _seen(folder, list(endpoints), cache), replies())
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    return ExportedReplies(n, missing)


def _seen(folder: RunFolder, endpoints: list[Endpoint], cache: SqliteReplyCache) -> list[Capabilities]:
    try:
        kept = [Capabilities.model_validate(value) for value in folder.read_note("endpoints").values()]
    except ValidationError:
        raise damaged_note(folder.path / "endpoints.json") from None
    seen = {one.endpoint: one for one in kept}
    known = [seen.get(endpoint) or cache.capabilities(endpoint) for endpoint in endpoints]
    return [one for one in known if one is not None]


async def import_replies(path: Path, cache: SqliteReplyCache) -> ImportedReplies:
    """Put the replies of a file into a cache.

    Raises:
        UsageError: the file is not whole, or is something else; nothing of it is used.
    """
    seen, replies = read_replies(path)
    new = known = 0
    group: list[Moved] = []
    for moved in replies:
        if cache.get(moved.key) is not None:
            known += 1
            continue
        new += 1
        group.append(moved)
        if len(group) >= REPLIES_AT_A_TIME:
            await _put(cache, group)
            group = []
    await _put(cache, group)
    for one in seen:
        cache.put_capabilities(one)
    return ImportedReplies(new, known, tuple(one.endpoint for one in seen))


async def _put(cache: SqliteReplyCache, group: list[Moved]) -> None:
    await asyncio.gather(*(cache.put(moved.key, moved.reply) for moved in group))
