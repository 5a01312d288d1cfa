"""How much memory a piece of work takes at its highest, beyond what was taken before.

A device flows in; bytes on the host and on a GPU flow out. Knows no model.
"""

import threading
from pathlib import Path
from typing import NamedTuple

import torch

SECONDS_BETWEEN_LOOKS = 0.002
_STATUS = Path("/proc/self/status")


class Peak(NamedTuple):
    """Bytes added at the highest."""

    host: int
    """Anonymous memory; 0 where the system does not tell (Linux does)."""
    gpu: int
    """0 without one."""


class PeakWatch:
    """Looks at the process's memory again and again as long as it is open; `peak` is what it saw."""

    def __init__(self, device: torch.device | str) -> None:
        self._gpu = torch.device(device) if torch.device(device).type == "cuda" else None
        self._gpu_before = 0
        self._before = self._highest = _anonymous_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "PeakWatch":
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)
            self._gpu_before = torch.cuda.memory_allocated(self._gpu)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak(self) -> Peak:
        """What was added since the beginning, at its highest."""
        gpu = torch.cuda.max_memory_allocated(self._gpu) - self._gpu_before if self._gpu is not None else 0
        return Peak(self._highest - self._before, gpu)

    def _look(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self._highest = max(self._highest, _anonymous_bytes())


def _anonymous_bytes() -> int:
    if not _STATUS.is_file():
        return 0
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
