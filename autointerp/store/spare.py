"""Replies that the reply cache could not take, in a file of the run: JSON lines under the digest of their request.

Digests and replies as JSON flow in and out. The file serves its own run alone: a folder that came from elsewhere puts
nothing into the cache of whoever opens it. A torn last line, as a kill leaves it, is left out.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from autointerp.files import open_in_place
from autointerp.llm.base import ChatReply
from autointerp.provenance import write_atomically


class SpareReplies:
    """A run's `replies.jsonl`; one writer, guarded by the run's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, object] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            try:
                values = json.loads(line)
                self._replies[str(values["digest"])] = values["reply"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue

    def get(self, key: str) -> ChatReply | None:
        """The reply kept under a key; None where there is none that can be read."""
        if key not in self._replies:
            return None
        try:
            return ChatReply.model_validate_json(json.dumps(self._replies[key]))
        except ValidationError:
            return None

    def put(self, replies: Sequence[tuple[str, bytes]]) -> None:
        """Keep replies, each as its key and its JSON; they are on disk when this returns.

        Raises:
            OSError: the file cannot be written.
            UsageError: its name is a link.
        """
        read = {key: json.loads(body) for key, body in replies}
        lines = [json.dumps({"digest": key, "reply": reply}) + "\n" for key, reply in read.items()]
        file = open_in_place(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            text = ("\n" if torn else "").encode() + "".join(lines).encode()
            while text:
                text = text[os.write(file, text) :]
            os.fsync(file)
        finally:
            os.close(file)
        self._replies |= read

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the replies kept under these keys."""
        unwanted = set(keys) & self._replies.keys()
        if not unwanted:
            return
        self._replies = {key: reply for key, reply in self._replies.items() if key not in unwanted}
        lines = [json.dumps({"digest": key, "reply": reply}) + "\n" for key, reply in self._replies.items()]
        write_atomically(self.path, "".join(lines))
