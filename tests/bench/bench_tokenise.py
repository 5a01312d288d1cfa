"""Tokens a second, tokens a second of CPU, and the memory that is added at the peak, of tokenising a corpus.

    python tests/bench/bench_tokenise.py [--megabytes 50] [--repeats 3] [--formats jsonl parquet] [--work FOLDER]

The text is the Python documentation over and over, its words shuffled by paragraph; the tokenizer is the demo's. Each
case runs in a process of its own, so that its peak memory is its own; the fastest of the repeats. Run by hand.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
from transformers import AutoTokenizer

from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.resources import bundled
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.vocabulary import encode_texts, escaped_vocabulary

LENGTHS = {"short": 1, "long": 40}
"""Paragraphs a document."""


def main() -> None:
    """One line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=["jsonl", "parquet", "data set"])
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    heads = f"{'documents':10} {'format':10} {'packed':6} {'MB':>4} {'tokens':>12} {'tokens/s':>10}"
    print(f"{heads} {'a CPU s':>9} {'more MB':>8}")
    fork = multiprocessing.get_context("spawn")
    for name, paragraphs in LENGTHS.items():
        corpora = write_corpora(work / name, paragraphs, int(asked.megabytes * 1e6))
        for kind, spec in ((kind, corpora[kind]) for kind in asked.formats):
            for pack in (False, True) if kind == "jsonl" else (False,):
                best: dict[str, float] = {}
                for _ in range(asked.repeats):
                    with fork.Pool(1) as pool:
                        seen = pool.apply(measure, (spec, work / "out", pack))
                    best = min(best or seen, seen, key=lambda s: s["seconds"])
                speed = best["tokens"] / best["seconds"]
                print(
                    f"{name:10} {kind:10} {pack!s:6} {asked.megabytes:4.0f} {best['tokens']:12,.0f} {speed:10,.0f} "
                    f"{best['tokens'] / best['cpu']:9,.0f} {best['more_mb']:8.0f}",
                    flush=True,
                )


def write_corpora(folder: Path, paragraphs: int, n_bytes: int) -> dict[str, str]:
    """The same documents as JSON lines, Parquet, and a data set saved to disk."""
    texts = list(make_documents(folder, paragraphs, n_bytes))
    lines = folder / "text.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    table = folder / "text.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), table, row_group_size=10_000)
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(folder / "saved"))
    return {"jsonl": str(lines), "parquet": str(table), "data set": str(folder / "saved")}


def make_documents(folder: Path, paragraphs: int, n_bytes: int) -> Iterator[str]:
    """Documents of so many paragraphs until they have so many bytes."""
    sources = open_sources("python-docs", folder).read(None)
    known = [piece.split() for source in sources for piece in source.text.split("\n\n") if len(piece) > 100]
    draw = random.Random(0)
    while n_bytes > 0:
        pieces = draw.sample(known, min(paragraphs, len(known)))
        document = "\n\n".join(" ".join(draw.sample(piece, len(piece))) for piece in pieces)
        n_bytes -= len(document.encode())
        yield document


def measure(spec: str, out: Path, pack: bool) -> dict[str, float]:
    """Tokenise once."""
    shutil.rmtree(out, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(str(bundled("demo") / "model"))
    vocabulary = tuple(escaped_vocabulary(tokenizer, len(tokenizer)))
    encoding = Encoding(lambda texts: encode_texts(tokenizer, texts), vocabulary, 0, 0, 512, pack)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    corpus = write_corpus(out, "bench", lambda: open_sources(spec, out), encoding, lambda *_: None, lambda _: None)
    seconds = time.perf_counter() - started
    used = time.process_time() - cpu
    return {"seconds": seconds, "cpu": used, "tokens": corpus.n_tokens, "more_mb": peak_mb() - before}


def peak_mb() -> float:
    """The most memory that the process held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
