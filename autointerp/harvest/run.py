"""The pass over a corpus: rows → capture → encode → events, shard by shard, several dictionaries at once.

A model, dictionaries and a tokenised corpus flow in; committed shards, statistics, facts and manifests come out. A
shard is a function of the configuration and its index alone, so a killed pass goes on at its first missing shard.
"""

import datetime
import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from autointerp.config import HarvestPart
from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.capture import capture_rows
from autointerp.harvest.events import (
    FORMAT_VERSION,
    Shard,
    ShardArrays,
    free_bytes,
    is_finished,
    shard_name,
    write_shard,
)
from autointerp.harvest.facts import compute_facts
from autointerp.harvest.stats import compute_stats
from autointerp.harvest.tokenise import Progress
from autointerp.harvest.tokens import Corpus
from autointerp.provenance import canonical_json, digest_file, write_atomically
from autointerp.records import DictionarySpec
from autointerp.subject.dictionaries import Dictionary
from autointerp.subject.model import Subject

log = logging.getLogger(__name__)
BYTES_AN_EVENT = 6.2
FREE_SHARE = 0.95


@dataclass(frozen=True)
class PassSettings:
    """What a shard's bytes depend on besides weights and tokens; a resume with others is refused."""

    batch_size: int
    """Rows a forward pass."""
    shard_rows: int
    device: str
    dtype: str
    threads: int
    part: HarvestPart | None = None
    """Only every `of`-th shard from `number` on, and nothing is closed; no shard's bytes depend on it."""

    def shards(self, corpus: Corpus) -> list[int]:
        """The shards to make."""
        every = range(-(-corpus.n_row // self.shard_rows))
        return list(every if self.part is None else every[self.part.number :: self.part.of])

    def rows(self, corpus: Corpus, index: int) -> slice:
        """The rows of a shard."""
        return slice(index * self.shard_rows, min((index + 1) * self.shard_rows, corpus.n_row))


@dataclass(frozen=True)
class Reader:
    """A dictionary about to be harvested into its own folder."""

    spec: DictionarySpec
    dictionary: Dictionary
    folder: Path

    @property
    def done(self) -> bool:
        """The whole pass was finished before."""
        return is_finished(self.folder)

    def shard(self, index: int) -> Path:
        """Path of one shard."""
        return self.folder / shard_name(index)


def open_pass(subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Write the readers' plans, or hold this start against earlier ones; the settings that are in force.

    Raises:
        UsageError: an earlier start used other settings, or the disk cannot hold the events.
    """
    readers = [reader for reader in readers if not reader.done]
    if not readers:
        return settings
    settings = _open_plans(readers, corpus, settings)
    torch.set_num_threads(settings.threads)
    return _check_disk(subject, readers, corpus, settings)


def run_pass(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings, progress: Progress
) -> None:
    """Harvest every reader over the whole corpus with one forward pass per batch, then close each.

    The settings are `open_pass`'s. Of a part only its own shards are made, and nothing is closed.

    Raises:
        UsageError: the GPU has too little memory.
        RunError: an activation is NaN or infinite.
    """
    started = time.monotonic()
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    readers = [reader for reader in readers if not reader.done]
    if not readers:
        return
    stage = f"harvest {', '.join(r.spec.id for r in readers)}"
    shards = settings.shards(corpus)
    missing = {i: [reader for reader in readers if not reader.shard(i).is_file()] for i in shards}
    n_tokens = {i: corpus.count_tokens(settings.rows(corpus, i)) for i in shards}
    done, total = sum(n for i, n in n_tokens.items() if not missing[i]), sum(n_tokens.values())
    progress(stage, done, total)
    for index in (i for i in shards if missing[i]):
        settings = _harvest_shard(subject, missing[index], corpus, settings, index)
        done += n_tokens[index]
        progress(stage, done, total)
    for reader in readers if settings.part is None else ():
        _close(reader, subject, corpus, len(shards), began, started)


def _open_plans(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Write each reader's plan, or hold an earlier one against this start."""
    for reader in readers:
        path = reader.folder / "plan.json"
        plan = _plan(reader, corpus, settings)
        if not path.is_file():
            write_atomically(path, canonical_json(plan))
            continue
        earlier = _read_plan(path)
        asked = earlier.pop("batch_size_asked", earlier["batch_size"])
        if asked == settings.batch_size:
            settings = replace(settings, batch_size=earlier["batch_size"])
            plan = _plan(reader, corpus, settings)
        for key, value in plan.items():
            if earlier.get(key) != value:
                raise UsageError(
                    f"the harvest in {reader.folder} was started with {key} = {earlier.get(key)!r}, not {value!r}; "
                    f"start it with that again, or choose another --out"
                )
    return settings


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        plan["batch_size"] = int(plan["batch_size"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path} is damaged; delete the folder {path.parent} and run the harvest again") from None
    return plan


def _plan(reader: Reader, corpus: Corpus, settings: PassSettings) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.id,
        "batch_size": settings.batch_size,
        "shard_rows": settings.shard_rows,
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "corpus": corpus.digest,
        "context": corpus.context,
        "model": reader.spec.model,
        "rerandomise_seed": reader.spec.rerandomise_seed,
        "weights": reader.spec.weights_digest,
        "hook_point": reader.spec.hook_point,
    }


def _check_disk(subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Refuse before the pass what the disk cannot hold, from the events of one batch; may halve the batch."""
    while True:
        rows = np.arange(min(settings.batch_size, corpus.n_row))
        try:
            events = _encode_rows(subject, readers, corpus, rows, int(rows[0]))
            break
        except torch.cuda.OutOfMemoryError:
            settings = _halve_batch(readers, corpus, settings)
    n_tokens = corpus.count_tokens(slice(0, len(rows)))
    n_shard = len(replace(settings, part=None).shards(corpus))
    need = 0.0
    for reader, (_, feature, _) in zip(readers, events, strict=True):
        missing = 1 - sum(reader.shard(i).is_file() for i in range(n_shard)) / n_shard
        need += len(feature) / max(n_tokens, 1) * corpus.n_tokens * BYTES_AN_EVENT * missing
        need += (n_shard * missing + 1) * 4.0 * reader.spec.d_sae + 300.0 * reader.spec.d_sae
    free = free_bytes(readers[0].folder)
    if need > free * FREE_SHARE:
        raise UsageError(
            f"the harvest needs about {need / 1e9:.2f} GB and the disk of {readers[0].folder.parent} has "
            f"{free / 1e9:.2f} GB free; free some, take a smaller corpus, or choose another --out"
        )
    return settings


def _halve_batch(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Half the batch for a GPU out of memory, recorded in the plans; refused once a shard may have the whole one."""
    smaller = max(settings.batch_size // 2, 1)
    if (
        settings.batch_size == 1
        or settings.part is not None
        or any(any(reader.folder.glob("shard-*.safetensors")) for reader in readers)
    ):
        raise UsageError(
            f"the GPU has too little memory for batches of {settings.batch_size} rows; "
            f"set [harvest] batch_size to {smaller} or context lower"
        ) from None
    log.warning("GPU out of memory: batches of %d rows instead of %d", smaller, settings.batch_size)
    torch.cuda.empty_cache()
    for reader in readers:
        path = reader.folder / "plan.json"
        asked = _read_plan(path).get("batch_size_asked", settings.batch_size)
        plan = {**_plan(reader, corpus, replace(settings, batch_size=smaller)), "batch_size_asked": asked}
        write_atomically(path, canonical_json(plan))
    return replace(settings, batch_size=smaller)


def _harvest_shard(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings, index: int
) -> PassSettings:
    """One shard of every reader that lacks it; before any shard is finished a GPU out of memory halves the batch."""
    while True:
        try:
            shards = _shard_events(subject, readers, corpus, settings, index)
            break
        except torch.cuda.OutOfMemoryError:
            settings = _halve_batch(readers, corpus, settings)
    first_row = index * settings.shard_rows
    meta: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "first_row": first_row,
        "n_row": min(settings.shard_rows, corpus.n_row - first_row),
    }
    for reader, shard in zip(readers, shards, strict=True):
        write_shard(reader.shard(index), shard, {**meta, "dictionary": reader.spec.id})
    return settings


def _shard_events(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings, index: int
) -> list[ShardArrays]:
    first = index * settings.shard_rows
    last = min(first + settings.shard_rows, corpus.n_row)
    pieces: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in readers]
    for low in range(first, last, settings.batch_size):
        rows = np.arange(low, min(low + settings.batch_size, last))
        for piece, events in zip(pieces, _encode_rows(subject, readers, corpus, rows, first), strict=True):
            piece.append(events)
    n_slot = (last - first) * corpus.context
    return [_sort_by_feature(piece, n_slot, reader.spec.d_sae) for piece, reader in zip(pieces, readers, strict=True)]


def _encode_rows(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, rows: np.ndarray, first_row: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(slot in the shard, feature, value) of the rows' unmasked tokens per reader, in slot order."""
    captured, mask = capture_rows(subject, corpus, rows, sorted({reader.spec.hook_point for reader in readers}))
    slots = ((rows[:, None] - first_row) * corpus.context + np.arange(mask.shape[1]))[mask].astype(np.uint32)
    keep = torch.from_numpy(mask).to(subject.device)
    events = []
    for reader in readers:
        code = reader.dictionary.encode_sparse(captured[reader.spec.hook_point][keep].float())
        row = code.row.cpu().numpy()
        events.append((slots[row], code.feature.to(torch.int32).cpu().numpy(), code.value.float().cpu().numpy()))
    return events


def _sort_by_feature(
    pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], n_slot: int, d_sae: int
) -> ShardArrays:
    """Counting sort: slot-major events are compressed rows, and their columns are features."""
    slot, feature, value = (np.concatenate([piece[i] for piece in pieces]) for i in range(3))
    indptr = np.zeros(n_slot + 1, np.int64)
    np.cumsum(np.bincount(slot, minlength=n_slot), out=indptr[1:])
    columns = scipy.sparse.csr_matrix((value, feature, indptr), shape=(n_slot, d_sae)).tocsc()
    return ShardArrays(columns.indptr, columns.indices, columns.data)


def _close(reader: Reader, subject: Subject, corpus: Corpus, n_shard: int, began: str, started: float) -> None:
    """Statistics and facts from the finished shards, then the manifest."""
    shards = [Shard(reader.shard(index), corpus.context) for index in range(n_shard)]
    save_arrays(reader.folder / "stats.safetensors", compute_stats(shards, reader.spec.d_sae)._asdict())
    save_arrays(reader.folder / "facts.safetensors", compute_facts(subject, reader.dictionary)._asdict())
    manifest = {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.model_dump(),
        "plan": json.loads((reader.folder / "plan.json").read_text(encoding="utf-8")),
        "shards": [
            {"name": shard_name(index), "digest": digest_file(reader.shard(index)), "n_event": int(shard.indptr[-1])}
            for index, shard in enumerate(shards)
        ],
        "started": began,
        "closed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "host": platform.node(),
    }
    write_atomically(reader.folder / "manifest.json", canonical_json(manifest))
