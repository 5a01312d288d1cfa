"""A stand-in for the hub's HTTP endpoint: one repository's files, listed and served as the hub does it.

A folder flows in, a server on a free loopback port runs until the context ends. Counts what was asked for.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(NamedTuple):
    """A running server."""

    url: str
    asked: list[str]


@contextmanager
def serve_repository(folder: Path, name: str) -> Iterator[Hub]:
    """Serve `folder` as the repository `name`; every other repository is unknown."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            if path.startswith(f"/api/models/{name}/tree/"):
                self._send(json.dumps(_listing(folder)).encode(), {"Content-Type": "application/json"}, body)
                return
            prefix = f"/{name}/resolve/"
            file = folder / "/".join(path.removeprefix(prefix).split("/")[1:])
            if path.startswith(prefix) and file.is_file():
                data = file.read_bytes()
                headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
                self._send(data, headers, body)
                return
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if path.startswith(prefix) else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for key, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(folder: Path) -> list[dict[str, object]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [
        {"type": "file", "path": file.relative_to(folder).as_posix(), "size": file.stat().st_size, "oid": "0" * 40}
        for file in files
    ]
