"""Packages that only some corpora need, imported when such a corpus is opened.

A module's name flows in, the module flows out. Knows no corpus.
"""

import importlib
from types import ModuleType

from autointerp.errors import UsageError


def import_extra(module: str, wanted_for: str) -> ModuleType:
    """An optional module: `datasets` takes two seconds to import, and neither it nor pyarrow is always there.

    Raises:
        UsageError: its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UsageError(f"{wanted_for} needs {package}, which is not installed; install autointerp[corpora]") from None
