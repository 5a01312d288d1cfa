"""Real servers on loopback with a small real model, one at a time; `make test-endpoints` says where they are."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

START_S = 300
"""Seconds that a server may take until it answers, on a busy machine."""


def place(name: str) -> str:
    """The path in an environment variable; the test is skipped where there is none."""
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} is not set; run make test-endpoints")
    return found


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def server(words: list[str], port: int, health: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a process of its own, from when it answers until the block ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as written:
        process = subprocess.Popen(words, stdout=written, stderr=subprocess.STDOUT, env=environment)
        try:
            give_up = time.monotonic() + START_S
            while not _answers(f"http://127.0.0.1:{port}{health}"):
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < give_up, f"{words[0]} does not answer"
                time.sleep(0.5)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


Started = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Started:
    """Starts llama-server with these options on a port."""
    binary, model = place("AUTOINTERP_LLAMA_SERVER"), place("AUTOINTERP_SMOLLM2_GGUF")

    def start(port: int, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        words = [binary, "-m", model, "--host", "127.0.0.1", "--port", str(port), "--threads", "1", *options]
        return server(words, port, "/health", tmp_path / "llama.log")

    return start


@pytest.fixture
def transformers_serve(tmp_path: Path) -> Started:
    """Starts `transformers serve` on a port; gives the model's name there through the folder's path."""
    binary, folder = place("AUTOINTERP_TRANSFORMERS"), place("AUTOINTERP_SMOLLM2_FOLDER")

    def start(port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        words = [binary, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        return server(words, port, "/health", tmp_path / "transformers.log")

    return start


@pytest.fixture
def litellm(tmp_path: Path) -> Started:
    """Starts a litellm proxy on a port in front of an OpenAI-compatible URL."""
    binary = place("AUTOINTERP_LITELLM")

    def start(port: int, behind: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        config = tmp_path / "litellm.yaml"
        config.write_text(
            "model_list:\n  - model_name: smollm2\n    litellm_params:\n      model: openai/smollm2\n"
            f"      api_base: {behind}\n      api_key: none\n"
        )
        words = [binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        return server(words, port, "/health/liveliness", tmp_path / "litellm.log")

    return start
