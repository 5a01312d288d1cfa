"""What a harvest is doing right now, kept beside its run, so that another process can say how far it is.

A listener's progress flows in; a small note on disk, and what others read there, flow out. The note is gone when the
harvest ends; where it was killed the note stays and is of no meaning, as nobody writes the run.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import ValidationError

from autointerp.config import HarvestPart
from autointerp.errors import RunError
from autointerp.listener import Listener
from autointerp.records import Record
from autointerp.store.folder import RunFolder

SECONDS_BETWEEN = 1.0
NOTE = "underway"


class Underway(Record):
    """A stage of a harvest."""

    stage: str
    """With the dictionaries' ids where they share it."""
    done: int
    total: int
    """0 where it is not known."""
    part: str | None = None
    """`I/N`, of a harvest in parts."""


@contextmanager
def kept(folder: RunFolder, listener: Listener, part: HarvestPart | None = None) -> Iterator[Listener]:
    """A listener that also keeps on disk what it hears of progress, once a second."""
    name = NOTE if part is None else f"{NOTE}-{part.number}-of-{part.of}"
    written = time.monotonic()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal written
        listener.progress(stage, done, total)
        if time.monotonic() - written >= SECONDS_BETWEEN and folder.path.is_dir():
            written = time.monotonic()
            here = Underway(stage=stage, done=done, total=total, part=None if part is None else str(part))
            with suppress(OSError):  # a disk that is full is told where something is lost by it
                folder.write_note(name, here.model_dump())

    try:
        yield listener._replace(progress=progress)
    finally:
        with suppress(OSError):
            folder.drop_note(name)


def read_underway(folder: RunFolder) -> tuple[Underway, ...]:
    """What is under way now, of each part; what cannot be read is left out."""
    found = []
    for path in sorted(folder.path.glob(f"{NOTE}*.json")):
        with suppress(RunError, ValidationError):
            found.append(Underway.model_validate(folder.read_note(path.stem)))
    return tuple(found)
