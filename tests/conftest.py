"""Fixtures shared by unit and flow tests: one tiny model with text and dictionaries, made once a session."""

import pytest

from tests.small_run import SmallRun, make_small_run


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A model folder, a corpus and two dictionaries."""
    return make_small_run(tmp_path_factory.mktemp("small"))
