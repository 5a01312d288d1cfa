"""Fixtures shared by unit and flow tests: one tiny model with text and dictionaries, made once a session."""

import os

# Before numpy and torch are imported: threads that wait for each other make tests crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["AUTOINTERP_LOOPBACK_ONLY"] = "1"

import pytest
from hypothesis import settings

from tests.small_run import SmallRun, make_small_run

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A model folder, a corpus and two dictionaries."""
    return make_small_run(tmp_path_factory.mktemp("small"))
