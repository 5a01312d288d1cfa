"""The pass over a corpus: rows → capture → encode → events, shard by shard, several dictionaries at once.

A model, dictionaries and a tokenised corpus flow in; committed shards, statistics, facts and manifests come out. A
shard is a function of the configuration and its index alone, so a killed pass goes on at its first missing shard.
"""

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from autointerp.errors import UsageError
from autointerp.harvest.beside import Beside, has_spare_core
from autointerp.harvest.close import close_readers
from autointerp.harvest.effort import work_a_token
from autointerp.harvest.encode import Encoded, Events, Reader, capture_text, encode, encode_rows
from autointerp.harvest.events import free_bytes
from autointerp.harvest.forecast import Forecast, check_disk, forecast
from autointerp.harvest.masks import TextMask
from autointerp.harvest.memory import PeakWatch
from autointerp.harvest.metrics import SUMS
from autointerp.harvest.norms import median_norm
from autointerp.harvest.plan import PassSettings, halve_batch, note_medians, open_plans
from autointerp.harvest.sample import keep_documents, shard_documents, strongest_windows, totals
from autointerp.harvest.shards import ShardWriter
from autointerp.harvest.sort import Sorter
from autointerp.harvest.tokenise import Progress
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.listener import SILENT, Listener
from autointerp.settings import device_type
from autointerp.subject.devices import is_out_of_memory
from autointerp.subject.model import Subject


def open_pass(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    note: Callable[[str], None],
    loss_tokens: int = 0,
) -> tuple[list[Reader], PassSettings]:
    """Write plans, or hold this start against earlier ones; the unfinished readers and the settings in force.

    `note` says what the pass will need.

    Raises:
        UsageError: an earlier start used other settings, or the disk cannot hold the events.
    """
    readers = [reader for reader in readers if not reader.done]
    if not readers:
        return [], settings
    torch.set_num_threads(settings.threads)
    readers, settings = open_plans(readers, corpus, settings)
    work = _Work.find(readers, corpus, settings)
    left = work.n_tokens - work.n_done
    if left:
        n_loss = loss_tokens if settings.part is None else 0
        need, settings, readers = _probe(subject, readers, corpus, settings, left, n_loss)
        note(f"the harvest of {', '.join(r.spec.id for r in readers)} will need {need}")
        check_disk(readers[0].folder.parent, need.disk_bytes, free_bytes)
    return readers, settings


def run_pass(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    progress: Progress,
    loss_tokens: int = 0,
    note: Callable[[str], None] = SILENT.note,
) -> None:
    """Harvest every reader over the whole corpus with one forward pass per batch, then close each.

    Readers and settings are `open_pass`'s. Of a part only its own shards are made, and nothing is closed. Progress
    counts tokens.

    Raises:
        UsageError: the GPU has too little memory.
        RunError: an activation is NaN or infinite.
    """
    started = time.monotonic()
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if not readers:
        return
    stage = f"harvest {', '.join(r.spec.id for r in readers)}"
    work = _Work.find(readers, corpus, settings)
    done = work.n_done
    progress(stage, done, work.n_tokens)
    threaded = has_spare_core(settings.threads, settings.device)
    with Beside(1, threaded=threaded) as writing:  # one shard while the next one runs: memory holds two at most
        for index, missing in work.missing.items():

            def tell(n: int, before: int = done) -> None:
                progress(stage, before + n, work.n_tokens)

            settings, pieces = _harvest_shard(subject, missing, corpus, settings, index, tell)
            writing.do(_writer(missing, pieces, corpus, settings, index))
            done += corpus.count_tokens(settings.rows(corpus, index))
            progress(stage, done, work.n_tokens)
    if settings.part is None:
        listener = Listener(progress=progress, note=note)
        close_readers(subject, readers, corpus, settings, listener, loss_tokens, began, started)


class _Work(NamedTuple):
    """What a pass, or its part, has to do."""

    missing: dict[int, list[Reader]]
    """By shard, the readers that lack it."""
    n_tokens: int
    """Of all shards to make, finished ones included."""
    n_done: int

    @classmethod
    def find(cls, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> "_Work":
        """What is on disk now."""
        lacking = {i: [r for r in readers if not r.shard(i).is_file()] for i in settings.shards(corpus)}
        n_tokens = {i: corpus.count_tokens(settings.rows(corpus, i)) for i in lacking}
        n_done = sum(n for i, n in n_tokens.items() if not lacking[i])
        return cls({i: missing for i, missing in lacking.items() if missing}, sum(n_tokens.values()), n_done)


def _probe(
    subject: Subject, readers: Sequence[Reader], corpus: Corpus, settings: PassSettings, left: int, loss_tokens: int
) -> tuple[Forecast, PassSettings, list[Reader]]:
    """What the pass will need, from one batch of rows spread over the corpus; a GPU out of memory halves the batch.

    New readers come back knowing the median norms there.
    """
    text = TextMask(corpus, settings.skip_tokens, special=settings.special_tokens)
    while True:
        n_row = min(settings.batch_size, corpus.n_row)
        rows = np.arange(n_row) * corpus.n_row // n_row
        began = time.monotonic()
        try:
            with PeakWatch(settings.device) as watch:
                at_hook, slots = capture_text(subject, readers, text, rows, 0)
                events = [encode(reader, at_hook, slots, settings.products).collect() for reader in readers]
            seconds = time.monotonic() - began
            if device_type(settings.device) != "cpu":  # whose first batch is slow: it loads its kernels
                began = time.monotonic()
                for encoded in encode_rows(subject, readers, text, rows, 0, settings.products):
                    encoded.collect()
                seconds = time.monotonic() - began
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        settings = halve_batch(readers, corpus, settings)
    if not any(e.n_token for e in events):
        _check_text(text)
    n_tokens = sum(corpus.count_tokens(slice(row, row + 1)) for row in rows.tolist())
    l0 = {r.spec.id: len(e.value) / max(n_tokens, 1) for r, e in zip(readers, events, strict=True)}
    of_losses = min(loss_tokens, corpus.n_tokens) * work_a_token(subject, readers)
    seconds *= (left + of_losses) / max(n_tokens, 1)
    need = forecast(readers, l0, corpus, settings, seconds, watch.peak)
    medians = {hook: median_norm(x.norm(dim=1)) for hook, x in at_hook.items()}
    return need, settings, note_medians(readers, medians)


def _check_text(text: TextMask) -> None:
    left_out = text.count()
    if text.corpus.n_tokens == left_out["position"] + left_out["special"]:
        raise UsageError(
            f"none of the corpus's {text.corpus.n_tokens:,} tokens would be looked at: {left_out['position']:,} stand "
            f"where [harvest] skip_tokens leaves them out, {left_out['special']:,} are special; set skip_tokens lower, "
            f"or take longer documents"
        )


def _harvest_shard(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    index: int,
    tell: Callable[[int], None],
) -> tuple[PassSettings, list["_Piece"]]:
    """One shard of every reader that lacks it; a device out of memory halves the batch from here on."""
    while True:
        try:
            return settings, _collect_shard(subject, readers, corpus, settings, index, tell)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        settings = halve_batch(readers, corpus, settings)  # not while the error is at hand: its frames hold the batch


def _writer(
    readers: Sequence[Reader], pieces: list["_Piece"], corpus: Corpus, settings: PassSettings, index: int
) -> Callable[[], None]:
    """What commits one shard of every reader; it lets each piece go as soon as it is written."""

    def write() -> None:
        for reader in readers:
            _write(reader, pieces.pop(0), corpus, settings, index)

    return write


class _Piece:
    """What one reader has seen of a shard so far.

    Nothing is kept of a batch by itself: a small array a batch would hold the batch's own memory apart from the next's.
    """

    def __init__(self, name: str, n_slot: int, d_sae: int) -> None:
        self.sorter = Sorter(name, d_sae)
        self.is_masked = np.zeros(n_slot, np.bool_)
        self.n_token = 0
        self.sums = np.zeros(len(SUMS))
        self.sum_in = np.zeros(0)
        self.is_massive = np.zeros(n_slot, np.bool_)
        self.massive_sums = np.zeros(len(SUMS))
        self.massive_sum_in = np.zeros(0)

    def add(self, events: Events) -> None:
        self.sorter.add(events.slot, events.feature, events.value)
        self.is_masked[events.masked] = True
        self.n_token += events.n_token
        self.sums += events.sums
        if len(self.sum_in) < len(events.sum_in):
            self.sum_in = np.zeros_like(events.sum_in)
            self.massive_sum_in = np.zeros_like(events.sum_in)
        self.sum_in += events.sum_in
        self.is_massive[events.massive] = True
        self.massive_sums += events.massive_sums
        self.massive_sum_in += events.massive_sum_in


def _collect_shard(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    index: int,
    tell: Callable[[int], None],
) -> list[_Piece]:
    text = TextMask(corpus, settings.skip_tokens, special=settings.special_tokens)
    stretch = settings.rows(corpus, index)
    n_slot = (stretch.stop - stretch.start) * corpus.context
    pieces = [_Piece(reader.shard(index).stem, n_slot, reader.spec.d_sae) for reader in readers]
    seen = 0
    with Beside(2, threaded=has_spare_core(settings.threads, settings.device)) as collecting:
        for rows, encoded in _a_batch_late(subject, readers, text, settings, stretch):

            def add(encoded: list[Encoded] = encoded) -> None:
                for piece, one in zip(pieces, encoded, strict=True):
                    piece.add(one.collect())

            collecting.do(add)
            seen += corpus.count_tokens(slice(int(rows[0]), int(rows[-1]) + 1))
            tell(seen)
    return pieces


def _a_batch_late(
    subject: Subject, readers: Sequence[Reader], text: TextMask, settings: PassSettings, stretch: slice
) -> Iterator[tuple[np.ndarray, list[Encoded]]]:
    """A shard's batches, each given when the next is under way, so that its copies from the device are over."""
    waiting: tuple[np.ndarray, list[Encoded]] | None = None
    for low in range(stretch.start, stretch.stop, settings.batch_size):
        rows = np.arange(low, min(low + settings.batch_size, stretch.stop))
        encoded = encode_rows(subject, readers, text, rows, stretch.start, settings.products)
        if waiting is not None:
            yield waiting
        waiting = rows, encoded
    if waiting is not None:
        yield waiting


def _write(reader: Reader, piece: _Piece, corpus: Corpus, settings: PassSettings, index: int) -> None:
    """Commit one shard, reduced to what is kept."""
    rows, sorter = settings.rows(corpus, index), piece.sorter
    masked = np.flatnonzero(piece.is_masked)
    more = {"sums": piece.sums, "sum_in": piece.sum_in}
    if reader.median_norm is not None:
        more |= {"massive_sums": piece.massive_sums, "massive_sum_in": piece.massive_sum_in}
        more["massive"] = np.flatnonzero(piece.is_massive).astype(np.uint32)
    first_kept, n_event = rows.start, sorter.finish()
    documents = shard_documents(corpus, rows) if corpus.kept is not None else None
    writer = ShardWriter(reader.shard(index), float(sorter.largest), n_event, strongest=documents is not None)
    if documents is None:
        for events in sorter.ranges():
            writer.add(events)
    else:
        first_kept = documents.first_kept
        masked = documents.position[masked[documents.is_kept[masked]]]
        sums = []
        for events in sorter.ranges():
            sums.append(totals(events, documents))
            writer.add(keep_documents(events, documents), strongest_windows(events, settings.keep_strongest, documents))
        more |= {name: np.concatenate([s[name] for s in sums]) for name in sums[0]}
    meta = {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.id,
        "first_row": rows.start,
        "first_kept": first_kept,
        "n_row": rows.stop - rows.start,
        "batch_size": settings.batch_size,
        "n_token": piece.n_token,
        "n_outlier": int(piece.is_masked.sum()),
    }
    writer.commit(meta, {**more, "masked": masked.astype(np.uint32)})
