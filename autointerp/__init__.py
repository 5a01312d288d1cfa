"""autointerp: explain the features of a sparse autoencoder, score the explanations, and trust the scores."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autointerp.api import compare_runs as compare_runs
    from autointerp.api import doctor as doctor
    from autointerp.api import estimate_changes as estimate_changes
    from autointerp.api import estimate_run as estimate_run
    from autointerp.api import export_records as export_records
    from autointerp.api import export_replies as export_replies
    from autointerp.api import export_requests as export_requests
    from autointerp.api import import_answers as import_answers
    from autointerp.api import import_records as import_records
    from autointerp.api import import_replies as import_replies
    from autointerp.api import open_harvest as open_harvest
    from autointerp.api import plan_comparison as plan_comparison
    from autointerp.api import run as run
    from autointerp.api import run_batches as run_batches
    from autointerp.api import run_explain as run_explain
    from autointerp.api import run_harvest as run_harvest
    from autointerp.api import run_harvest_part as run_harvest_part
    from autointerp.api import run_score as run_score
    from autointerp.api import score as score
    from autointerp.api import write_report as write_report
    from autointerp.config import HarvestPart as HarvestPart
    from autointerp.config import RunConfig as RunConfig
    from autointerp.config import make_config as make_config
    from autointerp.errors import AutointerpError as AutointerpError
    from autointerp.errors import RunError as RunError
    from autointerp.errors import UsageError as UsageError
    from autointerp.listener import Listener as Listener
    from autointerp.subject.dictionaries import load_dictionary as load_dictionary

_HOME = {
    "AutointerpError": "errors",
    "HarvestPart": "config",
    "Listener": "aio",
    "RunConfig": "config",
    "RunError": "errors",
    "UsageError": "errors",
    "compare_runs": "api",
    "doctor": "api",
    "export_records": "api",
    "estimate_changes": "api",
    "estimate_run": "api",
    "export_replies": "api",
    "export_requests": "api",
    "import_answers": "api",
    "import_replies": "api",
    "run_batches": "api",
    "import_records": "api",
    "load_dictionary": "subject.dictionaries",
    "make_config": "config",
    "open_harvest": "api",
    "plan_comparison": "api",
    "run": "api",
    "run_explain": "api",
    "run_harvest": "api",
    "run_harvest_part": "api",
    "run_score": "api",
    "score": "api",
    "write_report": "api",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'autointerp' has no attribute {name!r}")
    return getattr(import_module(f"autointerp.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(_HOME)
