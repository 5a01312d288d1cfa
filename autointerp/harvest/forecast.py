"""What a pass will need, said before it starts: bytes on disk, memory, time.

The events of one batch, its memory and its seconds flow in, a `Forecast` or a refusal flows out. Nothing is written.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from autointerp.errors import UsageError
from autointerp.harvest.beside import has_spare_core
from autointerp.harvest.encode import Reader
from autointerp.harvest.memory import Peak
from autointerp.harvest.plan import PassSettings
from autointerp.harvest.sample import WINDOW
from autointerp.harvest.sort import EVENTS_A_RUN
from autointerp.harvest.tokens import Corpus

BYTES_AN_EVENT = 6.1
"""Position, value, and the checksums' share."""
BYTES_A_FEATURE = 1250.0
"""Statistics and facts but for the decoder direction."""
BYTES_AN_EVENT_IN_RUNS = 8.0
BYTES_AN_EVENT_IN_WORK = 48.0
"""Of the run that is sorted, or the range that is merged."""
FREE_SHARE = 0.95


class Forecast(NamedTuple):
    """What a pass will need, roughly."""

    disk_bytes: float
    memory_bytes: float
    """Beside the model and the dictionaries."""
    gpu_bytes: float
    """Likewise on the GPU; 0 without one."""
    seconds: float

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time = f"{minutes:,.0f} minutes" if minutes >= 2 else f"{self.seconds:,.0f} seconds"
        on_gpu = f", {_size(self.gpu_bytes)} of GPU memory" if self.gpu_bytes else ""
        return f"about {_size(self.disk_bytes)} of disk, {_size(self.memory_bytes)} of memory{on_gpu} and {time}"


def forecast(
    readers: Sequence[Reader],
    l0: Mapping[str, float],
    corpus: Corpus,
    settings: PassSettings,
    seconds: float,
    peak: Peak,
) -> Forecast:
    """From each reader's active features a token in one batch, what that batch took, and the seconds of all batches.

    Disk is for the missing shards of all parts, which share it.
    """
    n_shard = settings.n_shard(corpus)
    shard_tokens = corpus.n_tokens / n_shard
    disk, runs, writing = 0.0, 0.0, 0.0
    for reader in readers:
        d_sae, active = reader.spec.d_sae, l0[reader.spec.id]
        seen = active * shard_tokens
        kept = active * min(settings.keep_tokens if settings.keep == "sample" else corpus.n_tokens, corpus.n_tokens)
        a_shard = kept / n_shard * BYTES_AN_EVENT + 4.5 * d_sae
        if settings.keep == "sample":
            in_windows = min(settings.keep_strongest * (1 + WINDOW * active / d_sae), seen / d_sae)
            a_shard += d_sae * (24.0 + BYTES_AN_EVENT * in_windows)
        missing = sum(not reader.shard(index).is_file() for index in range(n_shard))
        disk += missing * a_shard + d_sae * (BYTES_A_FEATURE + 2.0 * reader.spec.d_in)
        runs += seen * BYTES_AN_EVENT_IN_RUNS + 4.0 * d_sae * (1 + seen / EVENTS_A_RUN)
        writing = max(writing, a_shard + EVENTS_A_RUN * BYTES_AN_EVENT_IN_WORK)
    at_once = 2 if n_shard > 1 and has_spare_core(settings.threads, settings.device) else 1  # one is written meanwhile
    return Forecast(disk, peak.host + at_once * runs + writing, peak.gpu, seconds)


def check_disk(folder: Path, need: float, free_bytes: Callable[[Path], int]) -> None:
    """Refuse what a disk cannot hold.

    Raises:
        UsageError: it has too little free.
    """
    free = free_bytes(folder)
    if need > free * FREE_SHARE:
        raise UsageError(
            f"the harvest needs about {_size(need)} and the disk of {folder} has {_size(free)} free; free some, take a "
            f'smaller corpus, set [harvest] keep = "sample", or choose another --out'
        )


def _size(n: float) -> str:
    return f"{n / 1e9:,.2f} GB" if n >= 1e8 else f"{n / 1e6:,.1f} MB"
