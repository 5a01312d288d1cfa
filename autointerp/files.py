"""Files written where somebody else may have been before: no way out through links, no name that can be foreseen.

Paths flow in, open files flow out, or a sentence that names the link. Knows no run and no content.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from autointerp.errors import UsageError

DISK_ADVICE = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota is used up; make room",
    errno.EROFS: "the disk is mounted read-only; mount it writable",
    errno.EACCES: "that is not allowed; make it readable and writable",
    errno.EPERM: "that is not allowed; make it readable and writable",
    errno.EIO: "the disk or the connection to it fails; look at it",
    errno.ESTALE: "the file is gone from the network disk; look at it",
    errno.ENOENT: "it is gone; see who removed it",
    errno.EISDIR: "it is a folder; name a file, or move the folder away",
    errno.ENOTDIR: "a file stands where a folder should be; choose another place",
    errno.EEXIST: "something else stands there; choose another place",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ETIMEDOUT: "the network disk does not answer; look at it",
    errno.EFBIG: "the file system or a limit (`ulimit -f`) takes no file so large; raise it",
}
"""What a disk says no with, and what a person can do about it. Nothing of this is a fault of the data."""
_IN_PLACE = (".jsonl", ".sqlite", ".bin")
"""Ends of names that are written where they stand; all others are replaced as a whole."""
TEMPORARY = re.compile(r".+\.[0-9a-f]{16}\.tmp")
"""What a kill leaves of a file that was being replaced."""


def disk_error(error: OSError, where: object) -> UsageError:
    """What a disk said no with, as a sentence that names the file and what to do."""
    advice = DISK_ADVICE.get(error.errno or 0, error.strerror or str(error))
    return UsageError(f"{error.filename or where}: {advice}, then run the same command again; what was done is kept")


def make_temporary(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `path`, under a name that nobody can have laid a link at, open for writing."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        error.filename = str(path)
        raise
    return temporary, os.fdopen(handle, "wb")


def open_in_place(path: Path, flags: int) -> int:
    """A descriptor of a file that is read or written where it stands, made where `flags` say so.

    Raises:
        UsageError: the name is a link, a file with further names, or no file at all.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            refuse_odd_files([path])
        raise
    try:
        _refuse_odd(path, os.fstat(handle))
    except UsageError:
        os.close(handle)
        raise
    return handle


def refuse_odd_files(paths: Iterable[Path]) -> None:
    """Refuse files that would be written in place and are links, have further names, or are no files; absent is fine.

    Raises:
        UsageError: one is; the text names it.
    """
    for path in paths:
        try:
            found = path.lstat()
        except OSError:
            continue
        _refuse_odd(path, found)


def refuse_odd_database(path: Path) -> None:
    """As `refuse_odd_files`, for an SQLite file and those that it keeps beside itself."""
    refuse_odd_files([path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))])


def refuse_links(folder: Path) -> None:
    """Refuse a folder with a link anywhere inside; the folder itself may be reached through one.

    Raises:
        UsageError: there is one; the text names it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise UsageError(_is_link(path))
        refuse_odd_files(Path(place, name) for name in files if name.endswith(_IN_PLACE))


def sweep_temporaries(folder: Path) -> None:
    """Remove what kills left of files that were being replaced, in a folder that nobody else writes."""
    for place, _, files in os.walk(folder):
        for name in files:
            if TEMPORARY.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)


def _refuse_odd(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(_is_link(path))
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is no ordinary file, and would be written to; remove it, or choose another folder")
    if found.st_nlink > 1:
        raise UsageError(
            f"{path} is a file with a second name elsewhere (a hard link), which would be written too; put a copy in "
            f"its place (cp {path.name} copy && mv copy {path.name}), or choose another folder"
        )


def _is_link(path: Path) -> str:
    try:
        target = os.readlink(path)
    except OSError:
        target = "elsewhere"
    return (
        f"{path} is a link to {target}: a run is not written through links, which may lead to any file of yours; "
        f"remove it, put what it names in its place, or choose another folder"
    )
