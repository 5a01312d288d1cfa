"""Everything the package raises on purpose.

    AutointerpError            root; exit code 1
    ├── UsageError             the caller can fix it; says how; exit code 2
    └── RunError               the world failed; exit code 1; may become a `Failed` outcome
        └── StoppedError       stopped early and resumable (budget, quota, bad key, Ctrl-C); exit code 3

Anything else that escapes is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class AutointerpError(Exception):
    """Root of everything this package raises on purpose."""

    exit_code = 1


class UsageError(AutointerpError):
    """The caller can fix it: a wrong option, a missing file, a checkpoint that does not fit."""

    exit_code = 2


class RunError(AutointerpError):
    """The world failed: a damaged shard, a NaN met on the way, a lost endpoint."""


class StoppedError(RunError):
    """The run stopped before its end and goes on when it is started again."""

    exit_code = 3


def near_matches(wrong: str, known: Iterable[str], n: int = 3) -> str:
    """A readable list of the known names nearest to a wrong one, or of the first few where none is near."""
    names = list(known)
    near = difflib.get_close_matches(wrong, names, n=n, cutoff=0.5)
    if not near:
        near = names[: 2 * n]
    return ", ".join(near)
