"""Files that grow together, with commits: a kill at any moment leaves what the last commit said, and no less.

Bytes flow in; files of exactly the committed size, and a small JSON state, come back after a kill. Knows no content.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from autointerp.files import open_in_place
from autointerp.provenance import canonical_json, write_atomically


class AppendedFiles:
    """Open files of one folder, cut back to the last commit.

    A commit writes and syncs the data first and its `state_file`, which says how much counts, last.
    """

    def __init__(self, folder: Path, names: Sequence[str], state_file: Path, asked: str) -> None:
        """What was committed for something else than `asked`, or is damaged, is dropped: the files begin empty."""
        self._asked, self._state_file = asked, state_file
        state_file.parent.mkdir(parents=True, exist_ok=True)
        committed = _read(state_file)
        paths = {name: folder / name for name in names}
        sizes = committed.get("sizes", {})
        if committed.get("asked") != asked or any(_size(path) < sizes[name] for name, path in paths.items()):
            shutil.rmtree(state_file.parent)
            state_file.parent.mkdir()
            committed, sizes = {}, dict.fromkeys(names, 0)
        self.state: dict[str, Any] = committed.get("state", {})
        """As given to the last commit; empty before the first."""
        self._files: dict[str, BinaryIO] = {}
        for name, path in paths.items():
            file = os.fdopen(open_in_place(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
            file.truncate(sizes[name])
            self._files[name] = file

    def __enter__(self) -> "AppendedFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def write(self, name: str, data: bytes) -> None:
        """Append to one file."""
        self._files[name].write(data)

    def commit(self, state: dict[str, Any]) -> None:
        """Keep all that was written so far, and `state` with it."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: file.tell() for name, file in self._files.items()}
        write_atomically(self._state_file, canonical_json({"asked": self._asked, "sizes": sizes, "state": state}))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
