"""Who may write beside whom."""

import errno
import os
import threading
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from autointerp.config import HarvestPart, parse_part
from autointerp.errors import UsageError
from autointerp.store.locks import hold_alone, hold_part, holder, take_turn


def refused(match: str) -> AbstractContextManager[object]:
    return pytest.raises(UsageError, match=match)


def test_parts_stand_beside_each_other_and_nothing_else(tmp_path: Path) -> None:
    """Two processes on one shard would write one temporary file; a closing harvest would miss what is being made."""
    with ExitStack() as held:
        held.enter_context(hold_part(tmp_path, HarvestPart(0, 3)))
        held.enter_context(hold_part(tmp_path, HarvestPart(2, 3)))
        with refused(r"part 2/3 of .* is being written by process \d+ on "), hold_part(tmp_path, HarvestPart(2, 3)):
            pass
        with refused(r"harvested as part-0-of-3; .* the same number of parts"), hold_part(tmp_path, HarvestPart(1, 2)):
            pass
        with refused("processes that harvest parts of it"), hold_alone(tmp_path):
            pass
    with hold_part(tmp_path, HarvestPart(1, 2)):
        pass
    with hold_alone(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        with refused(r"is being written by process \d+"), hold_part(tmp_path, HarvestPart(0, 3)):
            pass


def test_turns_wait_and_say_so(tmp_path: Path) -> None:
    """A part that waits for the tokens, which may take an hour, must not look hung."""
    said: list[str] = []
    order: list[int] = []
    waiting = threading.Event()

    def wait() -> None:
        said.append("waits")
        waiting.set()

    def second() -> None:
        with take_turn(tmp_path, wait):
            order.append(2)

    with take_turn(tmp_path, lambda: said.append("first")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append(1)
    thread.join(30)
    assert (said, order) == (["waits"], [1, 2])


def test_parts_are_written_as_fractions() -> None:
    """Printed as they are asked for."""
    assert parse_part("0/1") == HarvestPart(0, 1)
    assert str(parse_part("11/12")) == "11/12"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Lustre without `-o flock` and some network disks: every command was a traceback, `status` too."""
    (tmp_path / "lock").touch()

    def flock(file: object, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    holds = (hold_alone(tmp_path), hold_part(tmp_path, HarvestPart(0, 2)), take_turn(tmp_path, lambda: None))
    for hold in holds:
        with refused(rf"{tmp_path} lies on a file system that gives no locks .*-o flock"), hold:
            pass
    assert holder(tmp_path) is None
