"""The pass over a corpus: rows → capture → encode → events, shard by shard, several dictionaries at once.

A model, dictionaries and a tokenised corpus flow in; committed shards, statistics, facts and manifests come out. A
shard is a function of the configuration and its index alone, so a killed pass goes on at its first missing shard.
"""

import datetime
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from autointerp.harvest.close import close_readers
from autointerp.harvest.encode import Encoded, Events, Reader, TextMask, encode_rows
from autointerp.harvest.events import FORMAT_VERSION, Corpus, free_bytes
from autointerp.harvest.forecast import Forecast, check_disk, forecast
from autointerp.harvest.metrics import SUMS
from autointerp.harvest.plan import PassSettings, halve_batch, open_plans
from autointerp.harvest.sample import keep_rows, strongest_windows, totals
from autointerp.harvest.shards import write_shard
from autointerp.harvest.sort import Sorter
from autointerp.harvest.tokenise import Progress
from autointerp.subject.model import Subject


def run_pass(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    progress: Progress,
    note: Callable[[str], None],
    loss_tokens: int = 0,
) -> None:
    """Harvest every reader over the whole corpus with one forward pass per batch, then close each.

    Before the pass `note` says what it will need. Progress counts tokens.

    Raises:
        UsageError: an earlier start used other settings, or the disk cannot hold the events.
        RunError: an activation is NaN or infinite.
    """
    started = time.monotonic()
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    readers = [reader for reader in readers if not reader.done]
    if not readers:
        return
    torch.set_num_threads(settings.threads)
    readers, settings = harvest_shards(subject, readers, corpus, settings, progress, note)
    close_readers(subject, readers, corpus, settings, loss_tokens, began, started)


def harvest_shards(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[list[Reader], PassSettings]:
    """Write every missing shard; returns the readers and settings as planned.

    Raises:
        As `run_pass`.
    """
    planned, settings = open_plans(readers, corpus, settings)
    n_shard = -(-corpus.n_row // settings.shard_rows)
    missing = [[reader for reader in planned if not reader.shard(i).is_file()] for i in range(n_shard)]
    tokens_of = np.add.reduceat(corpus.length - corpus.first, np.arange(0, corpus.n_row, settings.shard_rows))
    left = int(tokens_of[[bool(m) for m in missing]].sum())
    if left:
        need, settings = _probe(subject, planned, corpus, settings, left)
        note(f"the harvest of {', '.join(r.spec.id for r in planned)} will need {need}")
        check_disk(planned[0].folder.parent, need.disk_bytes, free_bytes)
    done = corpus.n_tokens - left
    stage = f"harvest {', '.join(r.spec.id for r in planned)}"
    for index in range(n_shard):
        if missing[index]:

            def tell(n: int, before: int = done) -> None:
                progress(stage, before + n, corpus.n_tokens)

            settings = _harvest_shard(subject, missing[index], corpus, settings, index, tell)
            done += int(tokens_of[index])
        progress(stage, done, corpus.n_tokens)
    return planned, settings


def _probe(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings, left: int
) -> tuple[Forecast, PassSettings]:
    """What the pass will need, from one batch; a GPU out of memory halves the batch."""
    text = TextMask(corpus, settings.skip_tokens, special=settings.special_tokens)
    while True:
        rows = np.arange(min(settings.batch_size, corpus.n_row))
        began = time.monotonic()
        try:
            events = [encoded.collect() for encoded in encode_rows(subject, readers, text, rows, 0)]
            break
        except torch.cuda.OutOfMemoryError:
            settings = halve_batch(readers, corpus, settings)
    seconds = time.monotonic() - began
    n_tokens = int((corpus.length[rows] - corpus.first).sum())
    l0 = {r.spec.id: len(e.value) / max(n_tokens, 1) for r, e in zip(readers, events, strict=True)}
    return forecast(readers, l0, corpus, settings, seconds / max(n_tokens, 1) * left), settings


def _harvest_shard(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    index: int,
    tell: Callable[[int], None],
) -> PassSettings:
    """One shard of every reader that lacks it; before any shard is finished a GPU out of memory halves the batch."""
    while True:
        try:
            pieces = _collect_shard(subject, readers, corpus, settings, index, tell)
            break
        except torch.cuda.OutOfMemoryError:
            settings = halve_batch(readers, corpus, settings)
    for reader, piece in zip(readers, pieces, strict=True):
        _write(reader, piece, corpus, settings, index)
    return settings


class _Piece:
    """What one reader has seen of a shard so far."""

    def __init__(self, n_slot: int, d_sae: int) -> None:
        self.sorter = Sorter(n_slot, d_sae)
        self.masked: list[np.ndarray] = []
        self.n_token = 0
        self.sums = np.zeros(len(SUMS))
        self.sum_in: np.ndarray = np.zeros(0)

    def add(self, events: Events) -> None:
        self.sorter.add(events.slot, events.feature, events.value)
        self.masked.append(events.masked)
        self.n_token += events.n_token
        self.sums += events.sums
        self.sum_in = self.sum_in + events.sum_in if len(self.sum_in) else events.sum_in


def _collect_shard(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    index: int,
    tell: Callable[[int], None],
) -> list[_Piece]:
    text = TextMask(corpus, settings.skip_tokens, special=settings.special_tokens)
    first = index * settings.shard_rows
    last = min(first + settings.shard_rows, corpus.n_row)
    pieces = [_Piece((last - first) * corpus.context, reader.spec.d_sae) for reader in readers]
    seen = 0
    for rows, encoded in _a_batch_late(subject, readers, text, settings.batch_size, first, last):
        for piece, one in zip(pieces, encoded, strict=True):
            piece.add(one.collect())
        seen += int((corpus.length[rows] - corpus.first).sum())
        tell(seen)
    return pieces


def _a_batch_late(
    subject: Subject, readers: Sequence[Reader], text: TextMask, size: int, first: int, last: int
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    """A shard's batches, each given when the next is under way, so that its copies from the device are over."""
    waiting: tuple[np.ndarray, list[Encoded]] | None = None
    for low in range(first, last, size):
        rows = np.arange(low, min(low + size, last))
        encoded = encode_rows(subject, readers, text, rows, first)
        if waiting is not None:
            yield waiting
        waiting = rows, encoded
    if waiting is not None:
        yield waiting


def _write(reader: Reader, piece: _Piece, corpus: Corpus, settings: PassSettings, index: int) -> None:
    """Commit one shard, reduced to what is kept."""
    first_row = index * settings.shard_rows
    n_row = min(settings.shard_rows, corpus.n_row - first_row)
    events, strongest = piece.sorter.finish(), None
    masked = np.concatenate(piece.masked)
    more = {"sums": piece.sums, "sum_in": piece.sum_in}
    first_kept = first_row
    if corpus.kept is not None:
        kept = np.zeros(n_row, np.bool_)
        first_kept, last_kept = np.searchsorted(corpus.kept, [first_row, first_row + n_row]).tolist()
        kept[corpus.kept[first_kept:last_kept] - first_row] = True
        more |= totals(events, corpus.context)
        strongest = strongest_windows(events, settings.keep_strongest, corpus.context)
        events = keep_rows(events, kept, corpus.context)
        row, place = np.divmod(masked, np.uint32(corpus.context))
        masked = ((np.cumsum(kept) - 1)[row] * corpus.context + place)[kept[row]]
    meta = {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.id,
        "first_row": first_row,
        "first_kept": first_kept,
        "n_row": n_row,
        "n_token": piece.n_token,
        "n_outlier": sum(map(len, piece.masked)),
    }
    write_shard(reader.shard(index), events, meta, {**more, "masked": masked.astype(np.uint32)}, strongest)
