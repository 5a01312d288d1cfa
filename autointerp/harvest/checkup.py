"""What `doctor` looks at with torch: the device, and whether model, dictionaries and corpus go together.

A configuration flows in; findings with fixes flow out. Encodes one sample of text, writes nothing.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from autointerp.config import DictionaryConfig, RunConfig
from autointerp.errors import AutointerpError, UsageError
from autointerp.harvest.effort import busy_advice
from autointerp.harvest.events import free_bytes
from autointerp.harvest.forecast import BYTES_AN_EVENT
from autointerp.harvest.norms import median_norm
from autointerp.harvest.session import load_asked
from autointerp.metrics import MASSIVE
from autointerp.records import Finding
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.corpus.sources import SourceStream
from autointerp.subject.devices import choose_device, choose_dtype, describe_device, on_device, room_for
from autointerp.subject.fit import check_fit
from autointerp.subject.model import Subject, load_model
from autointerp.subject.random_directions import random_directions

SAMPLE_TOKENS = 64
N_SAMPLES = 16
OPENING, N_OPENINGS = 8, 64
"""Tokens at the start of how many documents, where massive activations mostly stand."""
N_SOURCES = 200
"""Sources read for a sample of the corpus."""


def check_harvest(config: RunConfig, cache: Path) -> list[Finding]:
    """Device, model, corpus, and each dictionary's fit with a forecast of its events on disk."""
    try:
        device = choose_device(config.harvest.device)
    except UsageError as error:
        return [Finding("fail", "device", str(error), "name one that is there")]
    with on_device(device):
        return [Finding("ok", "device", describe_device(device)), *_check_on(device, config, cache)]


def _check_on(device: str, config: RunConfig, cache: Path) -> list[Finding]:
    busy = busy_advice(config.harvest.threads, device)
    findings = [Finding("warn", "threads", *busy)] if busy else []
    try:
        dtype = choose_dtype(config.harvest.dtype, device)
        subject = load_model(config.model, device=device, dtype=dtype, bos_token=config.harvest.bos_token)
        findings.append(Finding("ok", "model", f"{subject.name}, context {subject.n_ctx}, {subject.d_vocab} tokens"))
    except AutointerpError as error:
        return [*findings, Finding("fail", "model", str(error), _where_else(config.model))]
    try:
        stream = open_sources(config.corpus, cache, config.harvest.text_column)
        sample, openings, n_tokens = _sample(config, subject, stream)
        size = f"about {n_tokens:,} tokens" if n_tokens else "of unknown size; [harvest] n_tokens bounds it"
        fine = n_tokens and not stream.notes
        findings.append(
            Finding("ok" if fine else "warn", "corpus", f"{config.corpus}, {size}", "; ".join(stream.notes))
        )
    except AutointerpError as error:
        return [*findings, Finding("fail", "corpus", str(error))]
    need, hooks = 0.0, dict[str, None]()
    for asked in config.dictionary:
        try:
            finding, hook, l0 = _check_dictionary(config, asked, subject, sample)
            findings.append(finding)
            need += l0 * n_tokens * BYTES_AN_EVENT
            hooks[hook] = None
        except AutointerpError as error:
            findings.append(Finding("fail", asked.id, str(error)))
    if not hooks:
        return findings  # a forecast for nothing would be 0
    findings += _check_activations(config, subject, list(hooks), sample, openings, n_tokens)
    return [*findings, _check_disk(config, need)]


def _check_dictionary(
    config: RunConfig, asked: DictionaryConfig, subject: Subject, sample: Tensor
) -> tuple[Finding, str, float]:
    """What one dictionary is in the model, where it reads, and its active features a token."""
    with room_for(f"the dictionary {asked.id} beside the model", "harvest fewer at once, or free some"):
        dictionary = load_asked(config, asked, subject).to(subject.device)
        remarks = check_fit(subject, dictionary)
        x = subject.capture(sample, [dictionary.hook_point])[dictionary.hook_point][:, 1:].flatten(0, 1)
        if asked.like is not None:
            dictionary = random_directions(dictionary, x, config.seed).to(subject.device)
        l0 = len(dictionary.encode_sparse(x.float()).value) / len(x)
    found = f"{dictionary.kind} at {dictionary.hook_point}, {dictionary.d_sae} features, about {l0:.0f} a token"
    return Finding("warn" if remarks else "ok", asked.id, found, "; ".join(remarks)), dictionary.hook_point, l0


def _check_activations(
    config: RunConfig, subject: Subject, hooks: Sequence[str], sample: Tensor, openings: Tensor, n_tokens: int
) -> Iterator[Finding]:
    """How fast the model gives them, and whether a few tokens are far out."""
    began = time.monotonic()
    inside = subject.capture(sample, hooks)
    rate = sample.numel() / max(time.monotonic() - began, 1e-9)
    whole = f"; {n_tokens / rate / 60:,.0f} minutes for {n_tokens:,}" if n_tokens > 120 * rate else ""
    yield Finding("ok", "speed", f"about {rate:,.0f} tokens a second through the model{whole}")
    first = subject.capture(openings, hooks)
    for hook in hooks if config.harvest.max_norm is None else ():
        at_start = first[hook].float().norm(dim=2)[:, 1:]
        norms = torch.cat([at_start.flatten(), inside[hook][:, 1:].float().norm(dim=2).flatten()])
        median = median_norm(norms)
        far = int((norms > MASSIVE * median).sum()) if median else 0
        if median and far:
            n_first = int((at_start[:, 0] > MASSIVE * median).sum())
            yield Finding(
                "warn",
                "massive tokens",
                f"{hook}: {far:,} of {len(norms):,} tokens tried, {n_first:,} of them the first of a document, have "
                f"activations over {MASSIVE:.0f} times the median norm ({median:.4g}): they can hold most variance",
                f"[harvest] max_norm = {MASSIVE:.0f} leaves them out, skip_tokens = 1 the first of every document",
            )


def _check_disk(config: RunConfig, need: float) -> Finding:
    free = free_bytes(config.out)
    forecast = f"the harvest needs about {need / 1e6:,.0f} MB of {free / 1e9:,.1f} GB free"
    if need > free:
        return Finding("fail", "disk forecast", forecast, "take a smaller corpus or another --out")
    return Finding("ok", "disk forecast", forecast)


def _where_else(model: str) -> str:
    """What to try where a model cannot be opened."""
    if Path(model).expanduser().exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        return ""
    return "a name is looked up on the hub, which needs a network; without one give --model a folder on this machine"


def _sample(config: RunConfig, subject: Subject, stream: SourceStream) -> tuple[Tensor, Tensor, int]:
    """A few rows of the corpus's tokens, the openings of some documents, and how many tokens it has.

    That is by the share of it that they took; 0 where it is not known. Openings begin with BOS where there is one, else
    with their first token twice.
    """
    texts = (source.text for source in stream.read(None) if source.text.strip())
    read = [row for row in subject.encode_text(list(islice(texts, N_SOURCES))) if row]
    ids = [i for row in read for i in row]
    if not ids:
        raise UsageError(f"the corpus {config.corpus} holds no text; point --corpus at some that does")
    wanted = SAMPLE_TOKENS * N_SAMPLES
    rows = torch.tensor((ids * (wanted // len(ids) + 1))[:wanted]).reshape(N_SAMPLES, SAMPLE_TOKENS)
    bos = subject.bos_token_id
    starts = [[row[0] if bos is None else bos, *row[:OPENING]] for row in read if len(row) >= OPENING][:N_OPENINGS]
    openings = torch.tensor(starts or rows[:1, :OPENING].tolist())
    n_tokens = round(len(ids) / stream.share()) if stream.share() else 0
    return rows, openings, min(filter(None, (n_tokens, config.harvest.n_tokens)), default=0)
