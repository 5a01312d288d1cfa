"""What `doctor` looks at with torch: the device, and whether model, dictionaries and corpus go together.

A configuration flows in; findings with fixes flow out. Encodes one sample of text, writes nothing.
"""

from itertools import islice
from pathlib import Path

import torch

from autointerp.config import RunConfig
from autointerp.errors import AutointerpError, UsageError
from autointerp.harvest.events import free_bytes
from autointerp.harvest.forecast import BYTES_AN_EVENT
from autointerp.harvest.session import load_asked
from autointerp.records import Finding
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.corpus.sources import SourceStream
from autointerp.subject.devices import choose_device, choose_dtype, describe_device, on_device, room_for
from autointerp.subject.fit import check_fit
from autointerp.subject.model import Subject, load_model
from autointerp.subject.random_directions import random_directions

SAMPLE_TOKENS = 64
N_SAMPLES = 16
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
    findings = []
    try:
        subject = load_model(config.model, device=device, dtype=choose_dtype(config.harvest.dtype, device))
        findings.append(Finding("ok", "model", f"{subject.name}, context {subject.n_ctx}, {subject.d_vocab} tokens"))
        stream = open_sources(config.corpus, cache, config.harvest.text_column)
        sample, n_tokens = _sample(config, subject, stream)
        size = f"about {n_tokens:,} tokens" if n_tokens else "of unknown size; [harvest] n_tokens bounds it"
        fine = n_tokens and not stream.notes
        findings.append(
            Finding("ok" if fine else "warn", "corpus", f"{config.corpus}, {size}", "; ".join(stream.notes))
        )
    except AutointerpError as error:
        return [*findings, Finding("fail", "model or corpus", str(error), "mend that first")]
    need = 0.0
    for asked in config.dictionary:
        try:
            with room_for(f"the dictionary {asked.id} beside the model", "harvest fewer at once, or free some"):
                dictionary = load_asked(config, asked, subject).to(subject.device)
                remarks = check_fit(subject, dictionary)
                x = subject.capture(sample, [dictionary.hook_point])[dictionary.hook_point][:, 1:].flatten(0, 1)
                if asked.like is not None:
                    dictionary = random_directions(dictionary, x, config.seed).to(subject.device)
                l0 = len(dictionary.encode_sparse(x.float()).value) / len(x)
            need += l0 * n_tokens * BYTES_AN_EVENT
            found = f"{dictionary.kind} at {dictionary.hook_point}, {dictionary.d_sae} features, about {l0:.0f} a token"
            findings.append(Finding("warn" if remarks else "ok", asked.id, found, "; ".join(remarks)))
        except AutointerpError as error:
            findings.append(Finding("fail", asked.id, str(error), "mend that first"))
    free = free_bytes(config.out)
    state, fix = ("fail", "take a smaller corpus or another --out") if need > free else ("ok", "")
    forecast = f"the harvest needs about {need / 1e6:,.0f} MB of {free / 1e9:,.1f} GB free"
    return [*findings, Finding("fail" if state == "fail" else "ok", "disk forecast", forecast, fix)]


def _sample(config: RunConfig, subject: Subject, stream: SourceStream) -> tuple[torch.Tensor, int]:
    """A few rows of the corpus's tokens, and how many it has by the share of it that they took; 0 where not known."""
    texts = (source.text for source in stream.read(None) if source.text.strip())
    ids = [i for row in subject.encode_text(list(islice(texts, N_SOURCES))) for i in row]
    if not ids:
        raise UsageError(f"the corpus {config.corpus} holds no text; point --corpus at some that does")
    wanted = SAMPLE_TOKENS * N_SAMPLES
    rows = torch.tensor((ids * (wanted // len(ids) + 1))[:wanted]).reshape(N_SAMPLES, SAMPLE_TOKENS)
    n_tokens = round(len(ids) / stream.share()) if stream.share() else 0
    return rows, min(filter(None, (n_tokens, config.harvest.n_tokens)), default=0)
