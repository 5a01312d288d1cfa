"""Which kept replies could not be used, and why: what `retry` makes the cache forget.

A reason and digests flow in, one line for each item that failed; digests flow out. Holds no answer. A torn last line,
as a kill leaves it, is left out.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from autointerp.files import open_in_place
from autointerp.provenance import write_atomically


class UnusableReplies:
    """A run's `unusable.jsonl`; one writer, guarded by the run's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, reason: str, digests: Sequence[str]) -> None:
        """An item failed for this reason after these replies."""
        handle = open_in_place(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "digests": list(digests)}) + "\n")

    def take(self, wanted: Callable[[str], bool]) -> list[str]:
        """Digests of the items that failed for such a reason."""
        return [digest for reason, digests in self._read() if wanted(reason) for digest in digests]

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Strike out the items that failed for such a reason."""
        kept = [{"reason": reason, "digests": digests} for reason, digests in self._read() if not unwanted(reason)]
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def _read(self) -> list[tuple[str, list[str]]]:
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(line)
                found.append((str(values["reason"]), [str(digest) for digest in values["digests"]]))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found
