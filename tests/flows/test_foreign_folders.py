"""Run folders from somebody else: nothing outside them is written, and no key goes where only they say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autointerp import api
from autointerp.errors import UsageError
from tests.flows.asked_records import make_run

PRECIOUS = b"precious-token-without-newline"
IN_PLACE = ("lock", "calls.jsonl", "unusable.jsonl", "store.sqlite", "store.sqlite-wal", "batch.sqlite")
REPLACED = ("config.toml.tmp", "manifest.json.tmp", "summary.json.tmp", "report.html.tmp", "report.html",
            "summary.json", "records.jsonl.tmp", "lock.turn", "harvest/inputs.json.tmp")  # fmt: skip


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("foreign") / "run", n=60)
    api.run_score(run, {"features": "0"})
    return run


@pytest.fixture
def received(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "received"))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(PRECIOUS)
    return path


@pytest.mark.parametrize("name", [*IN_PLACE, *REPLACED])
def test_a_link_in_a_run_folder_is_refused_and_what_it_names_stays(received: Path, victim: Path, name: str) -> None:
    """A received folder overwrote the file of the user's that a link in it named, up to a shell's start file."""
    laid = received / name
    laid.parent.mkdir(exist_ok=True)
    laid.unlink(missing_ok=True)
    laid.symlink_to(victim)
    for write in (
        lambda: api.run_score(received, {"features": "1"}),
        lambda: api.write_report(received),
        lambda: api.retry(received),
    ):
        with pytest.raises(UsageError, match=rf"{name} is a link to .*victim.*remove it"):
            write()
        assert victim.read_bytes() == PRECIOUS


def test_a_linked_subfolder_is_refused(received: Path, tmp_path: Path) -> None:
    """`harvest -> /somewhere` put a harvest's files there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("harvest", "batches"):
        (received / name).symlink_to(outside)
        with pytest.raises(UsageError, match=f"{name} is a link to "):
            api.run_score(received, {"features": "1"})
        (received / name).unlink()
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_second_name_of_a_file_is_refused(received: Path, victim: Path, name: str) -> None:
    """A hard link is written through like any link, and says so nowhere."""
    (received / name).unlink(missing_ok=True)
    os.link(victim, received / name)
    with pytest.raises(UsageError, match=r"a second name elsewhere .*copy"):
        api.run_score(received, {"features": "1"})
    assert victim.read_bytes() == PRECIOUS


@pytest.mark.parametrize("name", ["store.sqlite", "store.sqlite-wal"])
def test_looking_at_a_run_writes_through_no_link(received: Path, victim: Path, name: str) -> None:
    """`status` takes no lock, and SQLite writes beside what it reads."""
    (received / name).unlink(missing_ok=True)
    (received / name).symlink_to(victim)
    with pytest.raises(UsageError, match=f"{name} is a link"):
        api.read_status(received)
    assert victim.read_bytes() == PRECIOUS


def test_a_pipe_for_a_lock_does_not_hang(received: Path) -> None:
    """Opening a named pipe waits for its other end for ever."""
    (received / "lock").unlink(missing_ok=True)
    os.mkfifo(received / "lock")
    code = f"from autointerp import api; from pathlib import Path; api.run_score(Path({str(received)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "lock is no ordinary file" in done.stderr


def test_the_folder_itself_may_be_reached_through_a_link(received: Path, tmp_path: Path) -> None:
    """`runs` on a larger disk is a link of the user's own."""
    (tmp_path / "runs").symlink_to(received.parent)
    (tmp_path / "named").symlink_to(received)
    assert api.run_score(tmp_path / "runs" / received.name, {"features": "1"})["records"].scored == 1
    assert api.run_score(tmp_path / "named", {"features": "0"})["records"].scored == 1
