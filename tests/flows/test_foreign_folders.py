"""Run folders from somebody else: nothing outside them is written, and no key goes where only they say."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from autointerp import api
from autointerp.errors import AutointerpError, UsageError
from autointerp.listener import Listener
from tests.flows.asked_records import make_run

KEY = "sk-CANARY-9f8e7d6c5b4a"

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


class Host:
    """A server that refuses everybody and keeps what they showed it."""

    def __init__(self) -> None:
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append(KEY in str(self.headers))
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the name that the base class calls

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.name = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.name}/v1"

    seen: list[bool]
    """Of each request whether the key came along."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Host()
    yield made
    made.server.shutdown()
    made.server.server_close()


def names(run: Path, **settings: str) -> None:
    """Write settings into a run's configuration, as its sender may."""
    path = run / "config.toml"
    lines = path.read_text().splitlines(keepends=True)
    mark = lines.pop(0) if lines[0].startswith("#") else ""
    kept = [line for line in lines if line.partition(" = ")[0] not in settings]
    path.write_text(mark + "".join(f'{key} = "{value}"\n' for key, value in settings.items()) + "".join(kept))


def ask(run: Path, host: Host, **changes: object) -> bool:
    """Whether the key went to the host when the run was scored."""
    said: list[str] = []
    before = len(host.seen)
    with pytest.raises(AutointerpError):
        api.run_score(run, changes, Listener(note=said.append))
    assert f"asking {changes.get('llm', 'gpt-x')} at {host.name}" in said
    assert len(host.seen) > before
    sent = any(host.seen[before:])
    assert sent != any("OPENAI_API_KEY is not sent to" in line for line in said)
    return sent


def test_no_key_goes_where_only_the_folder_says(received: Path, host: Host) -> None:
    """`score RUN` and `retry RUN --failed` of a received folder sent the key to its sender's server."""
    said: list[str] = []
    names(received, llm="gpt-x", base_url=host.url)
    assert not ask(received, host)
    with pytest.raises(AutointerpError, match=rf"yours was not sent to it.* --base-url {host.url}"):
        api.retry(received)
    with pytest.raises(AutointerpError):
        api.run_batches(received, {}, Listener(note=said.append))
    assert f"asking gpt-x at {host.name}" in said
    assert len(host.seen) >= 3
    assert not any(host.seen)


def test_a_host_named_once_is_known_for_that_run_alone(received: Path, host: Host, tmp_path: Path) -> None:
    """A copy, another folder at the same place, or another host in the same folder is not what the user named."""
    assert ask(received, host, llm="gpt-x", base_url=host.url)
    assert ask(received, host)
    copied = Path(shutil.copytree(received, tmp_path / "copied"))
    assert not ask(copied, host)
    assert ask(Path(shutil.copytree(received, tmp_path / "second")), host, base_url=host.url), "named for the copy"
    moved = received.rename(tmp_path / "moved")
    assert ask(moved, host)
    shutil.copytree(copied, received)
    assert ask(received, host), "the very run, brought back to its place"
    lines = (received / "config.toml").read_text().splitlines(keepends=True)
    (received / "config.toml").write_text("".join(lines[1:]))
    assert not ask(received, host), "a run without the mark of the user's own"
    names(moved, base_url=host.url + "/")
    assert not ask(moved, host), "another URL"


def test_the_environment_names_a_host_too(received: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    names(received, llm="gpt-x", base_url=host.url)
    monkeypatch.setenv("OPENAI_BASE_URL", host.url)
    assert ask(received, host)
    monkeypatch.setenv("OPENAI_BASE_URL", host.url.replace("http:", "https:"))
    assert not ask(received, host), "the same host without encryption is another one"


def test_files_outside_are_not_touched_unasked(received: Path, host: Host, tmp_path: Path) -> None:
    """A received configuration named caches to write, prices to read, and lists whose words an error would quote."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "list").write_text("SECRET")
    said: list[str] = []
    names(received, llm="gpt-x", base_url=host.url, cache=str(outside / "c.sqlite"), prices=str(outside / "none.toml"))
    with pytest.raises(AutointerpError):
        api.run_score(received, {}, Listener(note=said.append))
    assert [path.name for path in outside.iterdir()] == ["list"]
    assert len([line for line in said if "is not read: it leads out of the folder" in line]) == 2
    names(received, features=f"@{outside / 'list'}")
    for look in (api.run_score, api.read_status, api.write_report):
        with pytest.raises(UsageError, match=r"lists its features in .*which only the folder names") as caught:
            look(received)
        assert "SECRET" not in str(caught.value)


def test_a_list_of_features_that_the_user_named_is_read_again(received: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("0")
    assert api.run_score(received, {"features": f"@{tmp_path / 'list'}"})["records"].n_features == 1
    assert api.run_score(received)["records"].n_features == 1
    assert api.read_status(received).finished


def test_a_url_with_a_password_is_refused_before_it_is_kept(received: Path, host: Host) -> None:
    """It stood in the run's configuration in clear, for a call that could never work."""
    before = (received / "config.toml").read_bytes()
    with pytest.raises(UsageError, match="user name or a password"):
        api.run_score(received, {"llm": "m", "base_url": "http://user:CANARYpass@127.0.0.1:1/v1"})
    assert (received / "config.toml").read_bytes() == before


@pytest.mark.parametrize("key", ["sk-abc…def", "sk-ä1234567", "sk-1234\n5678", "sk 12345678"])
def test_a_key_that_is_none_is_told_in_a_sentence(
    received: Path, host: Host, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys pasted from shortened or formatted texts ended in a traceback."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match=r"OPENAI_API_KEY holds .*copy it again") as caught:
        api.run_score(received, {"llm": "m", "base_url": host.url})
    assert key not in str(caught.value)
    assert not host.seen
