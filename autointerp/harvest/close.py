"""The end of a pass: statistics, weight-side facts, metrics, and the manifest that says that all is there.

Finished shards and the loaded model flow in; a dictionary's last files come out. Run again, it writes the same.
"""

import datetime
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from autointerp.errors import RunError
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.effort import loss_groups
from autointerp.harvest.encode import Reader
from autointerp.harvest.facts import compute_facts
from autointerp.harvest.losses import measure_losses
from autointerp.harvest.masks import TextMask
from autointerp.harvest.massive import count_massive, find_massive, save_massive, tell_massive
from autointerp.harvest.metrics import dictionary_metrics, reconstruction_metrics
from autointerp.harvest.plan import PassSettings, read_plan
from autointerp.harvest.shards import Shard
from autointerp.harvest.stats import compute_stats
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.listener import Listener
from autointerp.metrics import DictionaryMetrics, LossMetrics
from autointerp.provenance import digest_file, seal, write_atomically
from autointerp.subject.model import Subject


def close_readers(
    subject: Subject,
    readers: Sequence[Reader],
    corpus: Corpus,
    settings: PassSettings,
    listener: Listener,
    loss_tokens: int,
    began: str,
    started: float,
) -> None:
    """Write what follows from the finished shards; each reader's manifest last."""
    n_shard = settings.n_shard(corpus)
    shards = {r.spec.id: [_open_shard(r, index, corpus, settings) for index in range(n_shard)] for r in readers}
    text = TextMask(corpus, settings.skip_tokens, special=settings.special_tokens)
    masked = text.count()
    losses = _losses(subject, readers, shards, text, loss_tokens, listener.progress)
    metrics = {}
    for number, reader in enumerate(readers):
        i = reader.spec.id

        def tell(stage: str, done: int, number: int = number) -> None:
            listener.progress(stage, number + done, len(readers))

        metrics[i] = _close(subject, reader, shards[i], corpus, settings, masked, losses.get(i), began, started, tell)
    for sentence in tell_massive(metrics, {r.spec.id: r.spec.hook_point for r in readers}):
        listener.note(sentence)


def _open_shard(reader: Reader, index: int, corpus: Corpus, settings: PassSettings) -> Shard:
    shard = Shard(reader.shard(index), corpus.context)
    if (shard.dictionary, shard.first_row) != (reader.spec.id, settings.rows(corpus, index).start):
        raise RunError(f"{shard.path} is another shard than its name says; delete it and run the harvest again")
    return shard


def _losses(
    subject: Subject,
    readers: Sequence[Reader],
    shards: dict[str, list[Shard]],
    text: TextMask,
    n_tokens: int,
    progress: Callable[[str, int, int], None],
) -> dict[str, LossMetrics | None]:
    """Losses of the readers that decode; those at one hook point share the forward passes."""
    found: dict[str, LossMetrics | None] = {}
    decoding = [r for r in readers if n_tokens and len(shards[r.spec.id][0].more["sum_in"])]
    for group in loss_groups(decoding):
        first = shards[group[0].spec.id]
        n = sum(float(shard.more["sums"][0]) for shard in first)
        mean = np.sum([shard.more["sum_in"] for shard in first], axis=0) / max(n, 1.0)
        stage = f"measure losses at {group[0].spec.hook_point}"
        measured = measure_losses(subject, group, text, mean, n_tokens, partial(progress, stage))
        found |= {reader.spec.id: one for reader, one in zip(group, measured, strict=True)}
    return found


def _close(
    subject: Subject,
    reader: Reader,
    shards: Sequence[Shard],
    corpus: Corpus,
    settings: PassSettings,
    masked: dict[str, int],
    loss: LossMetrics | None,
    began: str,
    started: float,
    tell: Callable[[str, int], None],
) -> DictionaryMetrics:
    tell("statistics", 0)
    stats = compute_stats(shards, reader.spec.d_sae, corpus.seen, settings.threads)
    save_arrays(reader.folder / "stats.safetensors", stats._asdict())
    tell("statistics", 1)
    tell("facts from weights", 0)
    save_arrays(reader.folder / "facts.safetensors", compute_facts(subject, reader.dictionary)._asdict())
    tell("facts from weights", 1)
    n_tokens = sum(shard.n_token for shard in shards)
    sums = [shard.more["sums"] for shard in shards], [shard.more["sum_in"] for shard in shards]
    reconstruction = reconstruction_metrics(*sums) if len(sums[1][0]) else None
    metrics = dictionary_metrics(n_tokens, stats.n_active, stats.total, reconstruction, loss)
    names = [*(shard.path.name for shard in shards), "stats.safetensors", "facts.safetensors"]
    found = find_massive(shards, corpus, stats.max, stats.deciles[:, -1])
    if found is not None and reader.median_norm is not None:
        massive = count_massive(found, shards, corpus, settings.skip_tokens, reader.median_norm)
        metrics = metrics.model_copy(update={"massive": massive})
        names.append(save_massive(reader.folder, found))
    tell("checksums", 0)
    manifest = {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.model_dump(),
        "plan": read_plan(reader.folder / "plan.json"),
        "files": {name: digest_file(reader.folder / name) for name in names},
        "n_event": sum(shard.n_event for shard in shards),
        "n_tokens": n_tokens,
        "masked": {**masked, "norm": sum(shard.n_outlier for shard in shards)},
        "metrics": metrics.model_dump(),
    }
    when = {
        "started": began,
        "closed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "host": platform.node(),
    }
    write_atomically(reader.folder / "manifest.json", seal(manifest, when))
    tell("checksums", 1)
    return metrics
