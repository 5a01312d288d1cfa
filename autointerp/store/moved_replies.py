"""Replies in a file of their own, to take to another machine: gzipped JSON lines.

The first line says what it is and what the endpoints were seen to do, then one reply a line under its key with a digest
of both, then how many there were. Replies flow in and out one at a time; a file that is cut, changed or something else
is refused before anything of it is used. Knows no cache and no run.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from autointerp.errors import UsageError
from autointerp.limits import BODY
from autointerp.llm.base import Capabilities, ChatReply
from autointerp.provenance import digest, replace_file

FORMAT = "autointerp replies"
VERSION = 1
_KEY = re.compile(r"blake2b:[0-9a-f]{40}")


class Moved(NamedTuple):
    """A reply and the digest of the request that it answers."""

    key: str
    reply: ChatReply


def write_replies(path: Path, seen: Sequence[Capabilities], replies: Iterable[Moved]) -> int:
    """Write a file; it stands under its name only when it is whole.

    Returns:
        How many replies are in it.
    """
    n = 0
    # No time and no name inside, so that equal content gives equal bytes.
    with replace_file(path) as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        capabilities = [one.model_dump(mode="json") for one in seen]
        _write(file, {"format": FORMAT, "version": VERSION, "capabilities": capabilities})
        for moved in replies:
            value = moved.reply.model_dump(mode="json")
            _write(file, {"key": moved.key, "reply": value, "digest": digest([moved.key, value])})
            n += 1
        _write(file, {"replies": n})
    return n


def read_replies(path: Path) -> tuple[list[Capabilities], Iterator[Moved]]:
    """What the endpoints were seen to do, and the replies, after the whole file was found sound.

    Raises:
        UsageError: it cannot be read, is no such file, is of a later version, was cut, or was changed.
    """
    for _ in _replies(path):
        pass
    return _head(path, next(_lines(path))), _replies(path)


def _write(file: gzip.GzipFile, value: object) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _lines(path: Path) -> Iterator[Any]:
    """The file's lines as JSON values; every way in which they may not be that is a `UsageError`."""
    try:
        with gzip.open(path, "rb") as file:
            while True:
                line = file.readline(BODY)
                if not line.endswith(b"\n"):
                    raise _refused(path, "it ends in the middle, or a line is too long")
                yield json.loads(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _refused(path, f"it cannot be unpacked ({error})") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    except (ValueError, RecursionError):
        raise _refused(path, "a line is no JSON") from None


def _head(path: Path, value: Any) -> list[Capabilities]:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _refused(path, "its first line does not say so")
    if value.get("version") != VERSION:
        raise UsageError(f"{path} is of version {value.get('version')}; this autointerp reads version {VERSION}")
    try:
        return [Capabilities.model_validate(one) for one in value.get("capabilities", [])]
    except (ValidationError, TypeError):
        raise _refused(path, "what it says of its endpoints cannot be read") from None


def _replies(path: Path) -> Iterator[Moved]:
    lines = _lines(path)
    _head(path, next(lines))
    for n, value in enumerate(lines):
        if not isinstance(value, dict):
            raise _refused(path, f"its reply {n + 1} is no object")
        if "replies" in value:
            if value["replies"] != n:
                raise _refused(path, f"it says {value['replies']} replies and holds {n}")
            return
        yield _reply(path, n + 1, value)


def _reply(path: Path, n: int, value: dict[str, Any]) -> Moved:
    key = value.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _refused(path, f"its reply {n} has no key")
    if value.get("digest") != digest([key, value.get("reply")]):
        raise _refused(path, f"its reply {n} was changed")
    try:
        return Moved(key, ChatReply.model_validate_json(json.dumps(value["reply"])))
    except ValidationError:
        raise _refused(path, f"its reply {n} is of another shape") from None


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is not a whole file of `autointerp cache export`: {why}; get it again")
