"""What this user named for a run that leads out of its folder: kept beside the reply cache, never in the folder.

A run's configuration travels with its folder, so that one from somebody else may name any host and any file. Keys go
to a host, and files outside are read, only where this user named them for this very run. A run is known by a random
line in its configuration together with its place or its inode: a copy is another run.
"""

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from autointerp.provenance import write_atomically
from autointerp.store.replies import default_path

LEADS_OUT = ("base_url", "prices", "cache", "features")
"""Keys of a configuration that may name a host, or a file outside."""
_MARK = "# run "


def leading_out(values: Mapping[str, object]) -> dict[str, str]:
    """Those of a configuration's values that lead out of a run's folder."""
    found = {key: str(values[key]) for key in LEADS_OUT if values.get(key) is not None}
    if not found.get("features", "").startswith("@"):
        found.pop("features", None)
    return found


def mark_of(text: str) -> str | None:
    """The random line by which a configuration's run is known; None where it has none."""
    first = text.partition("\n")[0]
    mark = first.removeprefix(_MARK)
    known = first.startswith(_MARK) and len(mark) == 32 and all(c in "0123456789abcdef" for c in mark)
    return mark if known else None


def new_mark() -> str:
    """A line for a run that has none."""
    return secrets.token_hex(16)


def marked(mark: str | None, text: str) -> str:
    """A configuration's text under its mark."""
    return text if mark is None else f"{_MARK}{mark}\n{text}"


def remember(mark: str, folder: Path, named: Mapping[str, str]) -> None:
    """Keep what this user named for a run; where it cannot be kept, it is to be named again."""
    with suppress(OSError):
        values = {**recall(mark, folder), **named}
        place = {"path": str(folder.resolve()), "inode": folder.stat().st_ino}
        write_atomically(_file(mark), json.dumps({**place, "named": values}, indent=1, sort_keys=True) + "\n")


def is_here(mark: str | None, folder: Path) -> bool:
    """Whether the run known by a mark is the one that stands there, and no copy of it."""
    return _kept(mark, folder) is not None


def recall(mark: str | None, folder: Path) -> dict[str, str]:
    """What this user named for the run that stands there; nothing for one that only looks like it."""
    return _kept(mark, folder) or {}


def _kept(mark: str | None, folder: Path) -> dict[str, str] | None:
    if mark is None:
        return None
    try:
        kept = json.loads(_file(mark).read_text(encoding="utf-8"))
        here = kept["path"] == str(folder.resolve()) or kept["inode"] == folder.stat().st_ino
        return {str(key): str(value) for key, value in kept["named"].items()} if here else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _file(mark: str) -> Path:
    return default_path().with_name("chosen") / f"{mark}.json"
