"""What the questions asked in a block are for: a context variable that tasks started in the block inherit.

`feature_steps` says it; the log of calls and whoever collects requests read it. Part of no request and no key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from autointerp.llm.base import Purpose
from autointerp.records import FeatureId

_OUTSIDE = Purpose("other", "")
_current: ContextVar[Purpose] = ContextVar("purpose", default=_OUTSIDE)


def purpose() -> Purpose:
    """What a question that is asked here and now is for."""
    return _current.get()


@contextmanager
def asking_for(stage: str, feature: FeatureId) -> Iterator[None]:
    """Questions asked in the block, and by tasks started in it, are for this stage of this feature."""
    token = _current.set(Purpose(stage, str(feature)))
    try:
        yield
    finally:
        _current.reset(token)
