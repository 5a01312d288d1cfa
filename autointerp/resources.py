"""Where the files that travel with the package are: prompts and the demo's model, dictionaries and configuration.

In a wheel they lie under `autointerp/_bundled/`; in a clone they are `prompts/` and `data/demo/` at its top.
"""

from functools import cache
from pathlib import Path

from autointerp.errors import UsageError

_IN_CLONE = {"prompts": "prompts", "demo": "data/demo"}


@cache
def bundled(name: str) -> Path:
    """The folder `prompts` or `demo`."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_bundled" / name, package.parent / _IN_CLONE[name]):
        if folder.is_dir():
            return folder
    raise UsageError(f"this installation of autointerp lacks its {name} files; install it again")
