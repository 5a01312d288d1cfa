"""Reading a large store without torch: one feature's events, a cold open, a feature's examples, and bytes an event.

    python tests/bench/bench_reading.py [--events 30000000] [--features 16384] [--examples 200] [--no-all]

Writes a store of random events (densities log-uniform over two decades) with the harvest's own writer, then reads it.
Each figure is the median over features, or the best of five openings; a feature's examples are timed by processor time
on a sample of features, and all features' by the clock in two processes, each with the whole corpus to look through.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autointerp.config import ProtocolName
from autointerp.examples import Chooser
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.events import FactsArrays, Harvest
from autointerp.harvest.metrics import SUMS, dictionary_metrics
from autointerp.harvest.shards import Shard, ShardArrays, shard_name
from autointerp.harvest.stats import compute_stats
from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.interpret.protocols import PROTOCOLS, Protocol
from autointerp.provenance import digest_file, seal, write_atomically
from autointerp.records import DictionarySpec
from autointerp.splits import CorpusIndex
from autointerp.subject.corpus.sources import ListedSources, Source
from tests.shard_files import write_shard

CONTEXT = 512
TOKENS = 500_000
N_SHARD = 2
D_VOCAB = 4096


def main() -> int:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000_000)
    parser.add_argument("--features", type=int, default=2**14)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--all", action=argparse.BooleanOptionalAction, default=True, help="choose all features' too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_store(folder, asked.events, asked.features)
        print("| what | here | wanted |\n| --- | --- | --- |")
        for row in _measure(folder, asked.features, asked.examples):
            print(f"| {' | '.join(row)} |", flush=True)
        for name in PROTOCOLS if asked.all else ():
            seconds = _all_examples(folder, name, asked.features)
            told = f"{seconds:,.0f} s"
            print(
                f"| {asked.features:,} features' examples, `{name}`, two processes | {told} | 60 s at 16k |", flush=True
            )
    return 0


def _measure(folder: Path, d_sae: int, n_examples: int) -> list[tuple[str, str, str]]:
    harvest = Harvest(folder, "bench")
    n_event = harvest.manifest["n_event"]
    size = sum(path.stat().st_size for path in (folder / "bench").glob("shard-*"))
    rng = np.random.default_rng(1)
    features = rng.permutation(d_sae)[:2000].tolist()
    first = [_seconds(lambda f=f: harvest.read(f)) for f in features]  # type: ignore[misc]
    again = [_seconds(lambda f=f: harvest.read(f)) for f in features]  # type: ignore[misc]
    opened = [_seconds(lambda i=i: Harvest(folder, "bench").read(i)) for i in range(5)]  # type: ignore[misc]
    index = CorpusIndex(harvest.corpus, 0)
    examples = [
        row for protocol in PROTOCOLS.values() for row in _examples(harvest, index, protocol, features[:n_examples])
    ]
    return [
        ("events", f"{n_event:,} in {N_SHARD} shards of {d_sae:,} features", ""),
        ("bytes an event in the shards", f"{size / n_event:.2f}", "6.50"),
        ("the same at ten events a feature", f"{_thin_shard(folder, d_sae):.2f}", "6.50"),
        ("one feature's events, first time, p50", f"{statistics.median(first) * 1e3:.3f} ms", "0.1 ms"),
        ("one feature's events, again, p50", f"{statistics.median(again) * 1e3:.3f} ms", "0.1 ms"),
        ("open and one feature, warm", f"{min(opened) * 1e3:.1f} ms", "50 ms"),
        *examples,
    ]


def _examples(
    harvest: Harvest, index: CorpusIndex, protocol: Protocol, features: list[int]
) -> list[tuple[str, str, str]]:
    """What choosing examples takes under one protocol; the corpus's own part, once for all features, left out."""
    chooser = Chooser(harvest, index, "bench", protocol.design)
    splits = chooser.feature_record(features[0]).splits
    n_windows = len(splits.explain) + len(splits.select) + len(splits.score)
    seconds = [_processor_seconds(lambda f=f: chooser.feature_record(f)) for f in features]  # type: ignore[misc]
    what = f"`{protocol.name}`, {n_windows} windows"
    return [
        (f"a feature's examples, {what}, processor time, p50", f"{statistics.median(seconds) * 1e3:.1f} ms", "5 ms")
    ]


def _all_examples(folder: Path, protocol: ProtocolName, d_sae: int) -> float:
    """Seconds by the clock for every feature, in two processes that start from nothing but the imports."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_import_all, range(2))
        return _seconds(lambda: pool.starmap(_choose, [(folder, protocol, range(i, d_sae, 2)) for i in range(2)]))


def _import_all(number: int) -> None:
    """Its module is imported once this is called."""


def _choose(folder: Path, protocol: ProtocolName, features: range) -> None:
    harvest = Harvest(folder, "bench")
    chooser = Chooser(harvest, CorpusIndex(harvest.corpus, 0), "bench", PROTOCOLS[protocol].design)
    for feature in features:
        chooser.feature_record(feature)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _processor_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _thin_shard(folder: Path, d_sae: int) -> float:
    """Bytes an event of a shard with ten events of every feature."""
    n = 10 * d_sae
    events = ShardArrays(np.arange(0, n + 1, 10), np.arange(n), np.ones(n, np.float32))
    meta: dict[str, object] = {"dictionary": "thin", "first_row": 0, "first_kept": 0, "n_token": n, "n_outlier": 0}
    more: dict[str, np.ndarray] = {
        "masked": np.zeros(0, np.uint32),
        "sums": np.zeros(len(SUMS)),
        "sum_in": np.zeros(512),
    }
    write_shard(folder / "thin.safetensors", events, meta, more)
    return (folder / "thin.safetensors").stat().st_size / n


def write_store(folder: Path, n_event: int, d_sae: int) -> None:
    """A finished harvest of random events over random text."""
    rng = np.random.default_rng(0)
    words = tuple(f" w{i}" for i in range(D_VOCAB))
    encoding = Encoding(lambda texts: [[int(t) for t in text.split()] for text in texts], words, None, 0, CONTEXT)
    texts = [" ".join(map(str, (rng.zipf(1.2, CONTEXT) % D_VOCAB).tolist())) for _ in range(TOKENS // CONTEXT)]
    sources = ListedSources("bench", lambda: [Source(f"source-{i}", text) for i, text in enumerate(texts)])
    corpus = write_corpus(
        folder, "bench", lambda: sources, encoding, lambda stage, done, total: None, lambda text: None
    )
    density = 10 ** rng.uniform(-2, 0, d_sae)
    density *= n_event / TOKENS / density.sum()
    bench = folder / "bench"
    edges = np.linspace(0, corpus.n_row, N_SHARD + 1).astype(int)
    for index in range(N_SHARD):
        n_slot = int(edges[index + 1] - edges[index]) * CONTEXT
        position = [np.flatnonzero(rng.random(n_slot, dtype=np.float32) < d).astype(np.uint32) for d in density]
        indptr = np.concatenate([[0], np.cumsum([len(p) for p in position])])
        value = rng.exponential(1, indptr[-1]).astype(np.float32) + np.float32(0.01)
        first = int(edges[index])
        meta: dict[str, object] = {"dictionary": "bench", "first_row": first, "first_kept": first, "n_token": n_slot}
        meta["n_outlier"] = 0
        more = {"masked": np.zeros(0, np.uint32)}
        write_shard(bench / shard_name(index), ShardArrays(indptr, np.concatenate(position), value), meta, more)
    _close(bench, corpus, d_sae)


def _close(bench: Path, corpus: Corpus, d_sae: int) -> None:
    shards = [Shard(path, CONTEXT) for path in sorted(bench.glob("shard-*"))]
    stats = compute_stats(shards, d_sae, corpus)
    save_arrays(bench / "stats.safetensors", stats._asdict())
    rng = np.random.default_rng(2)
    table = rng.integers(0, d_sae, (d_sae, 20)).astype(np.int32)
    cosine, words = np.full((d_sae, 20), 0.3, np.float32), rng.integers(0, D_VOCAB, (d_sae, 20)).astype(np.int32)
    norm = np.ones(d_sae, np.float32)
    direction = np.zeros((d_sae, 512), np.float16)
    facts = FactsArrays(direction, norm, norm, table, cosine, words, cosine, words, cosine)
    save_arrays(bench / "facts.safetensors", facts._asdict())
    spec = DictionarySpec(
        id="bench", role="trained", model="", hook_point="", d_in=512, d_sae=d_sae, kind="", source="bench",
        weights_digest="",
    )  # fmt: skip
    n_tokens = sum(shard.n_token for shard in shards)
    manifest = {
        "format_version": FORMAT_VERSION,
        "dictionary": spec.model_dump(),
        "plan": {"keep": "all", "corpus": corpus.digest, "skip_tokens": 0, "special_tokens": True},
        "files": {path.name: digest_file(path) for path in bench.glob("*.safetensors")},
        "n_event": sum(shard.n_event for shard in shards),
        "n_tokens": n_tokens,
        "masked": {"position": 0, "special": 0},
        "metrics": dictionary_metrics(n_tokens, stats.n_active, stats.total, None, None).model_dump(),
    }
    write_atomically(bench / "manifest.json", seal(manifest))


if __name__ == "__main__":
    sys.exit(main())
