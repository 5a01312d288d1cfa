"""Peak anonymous memory of a harvest, by the number of tokens and of features, with what it leaves on disk.

    python tests/bench/bench_memory.py [--features 16384 65536] [--tokens 1000000 10000000] [--shard-slots 1048576]
        [--threads 1] [--work FOLDER]

The demo's model reads Python's documentation over and over under fresh ids; a random TopK dictionary (k=32) reads its
residual stream after block 1. All of a pass: tokens, shards, statistics, facts; loss splicing is off. Each case runs in
a process of its own; its anonymous memory (Linux: RssAnon) is looked at every 20 ms. With --work a killed case goes on.
"""

import argparse
import itertools
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from autointerp.aio import cache_folder
from autointerp.harvest.encode import Reader
from autointerp.harvest.plan import PassSettings
from autointerp.harvest.run import open_pass, run_pass
from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.records import DictionarySpec
from autointerp.resources import bundled
from autointerp.subject.activations import TopK
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.corpus.sources import ListedSources, Source
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.model import load_model
from autointerp.subject.sae import Sae

HOOK = "blocks.1.hook_resid_post"
CONTEXT = 512
BATCH = 4
HEAD = """\
| features | tokens | peak memory | model and dictionary loaded | the pass adds | on disk | seconds | tokens/s |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


class Seen(NamedTuple):
    """What one pass took."""

    n_tokens: int
    peak: int
    """Bytes of anonymous memory."""
    before: int
    """The same before the pass."""
    disk: int
    seconds: float


def main() -> int:
    """One row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, nargs="+", default=[2**14, 2**16])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--shard-slots", type=int, default=2**20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    print(HEAD)
    for d_sae, n_tokens in itertools.product(asked.features, asked.tokens):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            s = pool.apply(measure, (work / f"{d_sae}-{n_tokens}", d_sae, n_tokens, asked.shard_slots, asked.threads))
        sizes = " | ".join(f"{size / 1e9:.2f} GB" for size in (s.peak, s.before, s.peak - s.before, s.disk))
        print(
            f"| {d_sae:,} | {s.n_tokens:,} | {sizes} | {s.seconds:,.0f} | {s.n_tokens / s.seconds:,.0f} |", flush=True
        )
    if asked.work is None:
        shutil.rmtree(work)
    return 0


def measure(folder: Path, d_sae: int, n_tokens: int, shard_slots: int, threads: int) -> Seen:
    """One pass in this process."""
    torch.set_num_threads(threads)
    subject = load_model(str(bundled("demo") / "model"), device="cpu", dtype="float32")
    sae = make_sae(subject.width_at(HOOK), d_sae)
    bos = subject.bos_token_id
    assert bos is not None
    encoding = Encoding(subject.encode_text, tuple(subject.vocabulary()), bos=bos, pad=bos, context=CONTEXT)
    before = anonymous_bytes()
    with Watch() as watch:
        began = time.monotonic()
        sources = ListedSources("python-docs, repeated", repeated_docs)
        corpus = write_corpus(folder, "python-docs, repeated", lambda: sources, encoding, _silent, _note, n_tokens)
        spec = DictionarySpec(
            id="memory", role="trained", model="demo", hook_point=HOOK, d_in=sae.d_in, d_sae=d_sae, kind=sae.kind,
            source="random", weights_digest=sae.weights_digest,
        )  # fmt: skip
        settings = PassSettings(BATCH, shard_slots // CONTEXT, "cpu", "float32", threads)
        readers, settings = open_pass(subject, [Reader(spec, sae, folder / "memory")], corpus, settings, _note)
        run_pass(subject, readers, corpus, settings, _silent)
        seconds = time.monotonic() - began
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Seen(corpus.n_tokens, watch.peak, before, disk, seconds)


def repeated_docs() -> Iterator[Source]:
    """The documentation again and again, each time under fresh ids, 64 times in all."""
    sources = list(open_sources("python-docs", cache_folder()).read(None))
    for copy in range(64):
        for source in sources:
            yield Source(f"{source.id} {copy}", source.text)


def make_sae(d_in: int, d_sae: int) -> Sae:
    """Random unit directions."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    return SaeParts(
        W_enc=weight.T, b_enc=torch.zeros(d_sae), W_dec=weight, b_dec=torch.zeros(d_in), activation=TopK(32),
        architecture="bench", hook_point=HOOK,
    ).build(HOOK)  # fmt: skip


class Watch:
    """Looks at this process's anonymous memory as long as it is open."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    """Anonymous memory of this process that is resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def _silent(stage: str, done: int, total: int) -> None:
    """Says nothing."""


def _note(text: str) -> None:
    """What the pass says before it starts."""
    print(f"<!-- {text} -->", flush=True)


if __name__ == "__main__":
    sys.exit(main())
