"""The rehearsal server as a process of its own, as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from autointerp.cli.main import main; main()", "testserver")


@contextmanager
def rehearsing(*options: str, errors: Path | None = None) -> Iterator[str]:
    """The base URL of a server with these options; it must end well when it is told to."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(errors or os.devnull, "w") as stderr:
        server = subprocess.Popen(
            [*COMMAND, *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert server.stdout is not None
        try:
            base_url = server.stdout.readline().strip()
            assert base_url.startswith("http://127.0.0.1:"), base_url
            assert base_url.endswith("/v1")
            yield base_url
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(timeout=20)
            server.stdout.close()
    assert status == 0
