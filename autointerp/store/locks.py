"""Who writes in a run's folder: one process, or several of which each works on one part of its harvest.

A folder flows in; locks that the system frees when their process dies flow out. Knows nothing of what is written.

    lock                   held alone by a writer of the run, shared by writers of parts; names the writer
    lock.part-0-of-3       held by the process that works on that part; names it
    lock.parts             held for a moment while a process becomes the writer of a part
    lock.turn              held by the one part that writes what all parts need
"""

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from autointerp.config import HarvestPart
from autointerp.errors import UsageError
from autointerp.files import open_in_place, refuse_links, sweep_temporaries


class NoLocksError(UsageError):
    """The file system has no locks, so that nothing keeps two processes from writing one run."""

    def __init__(self, file: TextIO, error: OSError) -> None:
        super().__init__(
            f"{Path(file.name).parent} lies on a file system that gives no locks ({error.strerror}), without which two "
            f"processes could write one run; choose an --out on a local disk, or have that one mounted with locks "
            f"(Lustre: -o flock; NFS: a running lock service)"
        )


@contextmanager
def hold_alone(folder: Path) -> Iterator[None]:
    """Be the only writer.

    Raises:
        UsageError: another process writes here, the folder cannot be written, or holds a link.
    """
    with _open(folder / "lock") as file:
        _take(file, fcntl.LOCK_EX, str(folder))
        refuse_links(folder)
        _sign(file, _me())
        for old in folder.glob("lock.*"):
            old.unlink()
        sweep_temporaries(folder)
        yield


@contextmanager
def hold_part(folder: Path, part: HarvestPart) -> Iterator[None]:
    """Be the only writer of one part, beside the writers of other parts of as many.

    Raises:
        UsageError: another process writes all of the run, or this part, or parts of another number.
    """
    with _open(folder / "lock") as shared:
        _take(shared, fcntl.LOCK_SH, str(folder))
        refuse_links(folder)
        _sign(shared, "processes that harvest parts of it")
        with _open(_part_lock(folder, part)) as own:
            with _open(folder / "lock.parts") as door:
                _wait(door)
                for other in sorted(folder.glob("lock.part-*-of-*")):
                    if not other.name.endswith(f"-of-{part.of}") and _is_held(other):
                        raise UsageError(
                            f"{folder} is being harvested as {other.name.removeprefix('lock.')}; wait for that, or "
                            f"give all processes the same number of parts"
                        )
                _take(own, fcntl.LOCK_EX, f"part {part} of {folder}")
            _sign(own, _me())
            yield


@contextmanager
def take_turn(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Wait for the other parts to have written what all need; `waiting` is called where that takes time."""
    with _open(folder / "lock.turn") as file:
        if not _try(file, fcntl.LOCK_EX):
            waiting()
            _wait(file)
        yield


def holder(folder: Path) -> str | None:
    """Who holds the folder's lock, by what they wrote into it; None where nobody does, or nobody can say."""
    path = folder / "lock"
    try:
        if not path.is_file() or not _is_held(path):
            return None
    except NoLocksError:
        return None
    return path.read_text(encoding="utf-8").strip() or "another process"


def _part_lock(folder: Path, part: HarvestPart) -> Path:
    return folder / f"lock.part-{part.number}-of-{part.of}"


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8", opener=_in_place)
    except OSError as error:
        raise UsageError(
            f"cannot write to {path.parent} ({error.strerror}); make it writable, or choose another --out"
        ) from None


def _in_place(path: str, flags: int) -> int:
    return open_in_place(Path(path), flags)


def _take(file: TextIO, kind: int, what: str) -> None:
    if not _try(file, kind):
        file.seek(0)
        writer = file.read().strip() or "another process"
        raise UsageError(f"{what} is being written by {writer}; wait for it or stop it")


def _try(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocksError(file, error) from None
    return True


def _wait(file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise NoLocksError(file, error) from None


def _is_held(path: Path) -> bool:
    with open(path, encoding="utf-8", opener=_in_place) as file:
        return not _try(file, fcntl.LOCK_SH)


def _sign(file: TextIO, writer: str) -> None:
    file.truncate(0)
    file.write(writer + "\n")
    file.flush()


def _me() -> str:
    return f"process {os.getpid()} on {platform.node()}"
