"""The command line on the small model: once in a process of its own, and cheaply inside this one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import autointerp
from autointerp.cli.main import main
from tests.small_run import SmallRun

CODE = Path(autointerp.__file__).parents[1]
SETTINGS = {
    "AUTOINTERP_HARVEST__BATCH_SIZE": "8",
    "AUTOINTERP_HARVEST__SHARD_TOKENS": "2048",
    "AUTOINTERP_HARVEST__THREADS": "1",
    "AUTOINTERP_HARVEST__DEVICE": "cpu",
}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The last line of standard output."""
        value: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return value

    @property
    def error(self) -> str:
        """The one sentence of a refusal; everything else on standard error must be progress as JSON lines."""
        lines = self.err.splitlines()
        assert lines, self.out
        for line in lines[:-1]:
            assert isinstance(json.loads(line), dict), self.err
        assert lines[-1].startswith("error: "), self.err
        assert "Traceback" not in self.err
        return lines[-1]


Call = Callable[..., Ended]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Call]:
    """Run `autointerp …` in this process, as the installed program would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    handler = signal.getsignal(signal.SIGINT)

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["autointerp", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Ended(int(caught.value.code or 0), out, err)

    yield run
    signal.signal(signal.SIGINT, handler)


def environment(cache: Path) -> dict[str, str]:
    """For a process of its own."""
    own = {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(CODE)}
    return {**os.environ, **SETTINGS, **own}


def command(*words: object) -> list[str]:
    """`autointerp …` as a list of words for `subprocess`."""
    return [sys.executable, "-c", "from autointerp.cli.main import main; main()", *map(str, words)]


class Finished(NamedTuple):
    """A finished run of both dictionaries and all their features."""

    path: Path
    ended: Ended
    cache: Path


@pytest.fixture(scope="session")
def finished(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Made by a process of its own; not to be written to (copy it)."""
    folder = tmp_path_factory.mktemp("finished")
    words = command("run", *small.flags(folder / "run"), "--features", "all", "--json")
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return Finished(folder / "run", Ended(done.returncode, done.stdout, done.stderr), folder)
