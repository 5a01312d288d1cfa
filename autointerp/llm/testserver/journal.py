"""What a test server received, as a file of JSON lines that can be read while it runs.

One entry flows in for each request; a line flows out, flushed before the request's answer is done. Holds digests of
bodies and never a body, header or key.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from autointerp.errors import UsageError


class Entry(NamedTuple):
    """One request."""

    time: float
    """When it was received, in seconds since 1970."""
    path: str
    digest: str | None
    """Of the canonical body; None where there is none."""
    stage: str | None
    """What our prompts ask for, where the server was told how to see it."""
    asking: int
    """How often this body came so far, this time included."""
    status: int | None
    """As answered; None where no answer got through: a connection cut by either side."""
    fault: str | None
    seconds: float = 0.0
    """Until it was answered, or given up."""
    batch: str | None = None
    """The batch job that it is a line of."""


class Journal:
    """Appends to a file; entries of an earlier server stay."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write the log {path}: {error.strerror}") from None

    def note(self, entry: Entry) -> None:
        """Write one line."""
        self._file.write(json.dumps(entry._asdict()) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def read_journal(path: Path) -> list[Entry]:
    """All entries so far; a last line that is still being written is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [Entry(**json.loads(line)) for line in lines]
