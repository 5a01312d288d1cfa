"""The one table of checkpoint formats: how each is recognised from files alone and read.

A path flows in, the reader's `SaeParts` flow out. A new format is a module here and a line in the table.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from autointerp.errors import UsageError
from autointerp.subject.loaders import saelens
from autointerp.subject.loaders.parts import SaeParts


class Loader(NamedTuple):
    """One checkpoint family."""

    matches: Callable[[Path], bool]
    """Whether the files at a path look like this format."""
    read: Callable[[Path], SaeParts]


LOADERS: dict[str, Loader] = {
    "saelens": Loader(saelens.matches, saelens.read),
}
"""In the order in which formats are tried."""


def find_format(path: Path) -> str:
    """The name of the format of the files at `path`.

    Raises:
        UsageError: nothing there, or nothing that is known.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; a dictionary is a folder or file with weights, or neurons@HOOK")
    for name, loader in LOADERS.items():
        if loader.matches(path):
            return name
    known = ", ".join(LOADERS)
    raise UsageError(f"{path} is no dictionary in a known format ({known}); give --format where its files hide it")


def read_parts(path: Path, name: str | None) -> SaeParts:
    """The dictionary at `path`, whose format is found out where it is not given."""
    name = name or find_format(path)
    if name not in LOADERS:
        raise UsageError(f"no dictionary format {name!r}; choose from {', '.join(LOADERS)}")
    return LOADERS[name].read(path)
