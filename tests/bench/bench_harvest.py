"""The harvest pass against its floor: the forward pass and the encoder's product alone, everything dropped.

    python tests/bench/bench_harvest.py [--threads 1] [--tokens 16384] [--device cpu]

A model of pythia-70m's shape with random weights reads Python's documentation; dictionaries read the residual stream
after its block 3. A round times the floor, the pass and a dense cache one after the other; the table gives medians over
rounds and their ratio to the round's own floor. Weight-side facts and loss splicing are no part of the pass here.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

from autointerp.aio import cache_folder
from autointerp.config import HarvestPart
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.encode import Reader
from autointerp.harvest.plan import PassSettings
from autointerp.harvest.run import open_pass, run_pass
from autointerp.harvest.shards import Shard
from autointerp.harvest.stats import compute_stats
from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.harvest.tokens import Corpus
from autointerp.records import DictionarySpec
from autointerp.resources import bundled
from autointerp.subject.activations import Activation, Relu, TopK
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.model import Subject, wrap_model
from autointerp.subject.sae import Sae

HOOK = "blocks.3.hook_resid_post"
D_MODEL = 512
CONTEXT = 512
BATCH = 4
HEAD = """\
| dictionary | floor, tokens/s | harvest, tokens/s | wanted | harvest/floor | processor | dense/floor | processor |
| --- | --- | --- | --- | --- | --- | --- | --- |"""
L0 = 60


class Case(NamedTuple):
    """One row of the table."""

    name: str
    activation: Activation
    d_sae: int
    wanted: float


class Seconds(NamedTuple):
    """What one measurement took; on a machine shared with others the processor's time is the steadier one."""

    wall: float
    processor: float


CASES = (
    Case("TopK k=32, 16k", TopK(32), 2**14, 0.85),
    Case("TopK k=32, 65k", TopK(32), 2**16, 0.80),
    Case(f"ReLU, L0 {L0}, 16k", Relu(), 2**14, 0.80),
    Case(f"ReLU, L0 {L0}, 65k", Relu(), 2**16, 0.70),
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=2**14)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    subject = make_subject(asked.device)
    with tempfile.TemporaryDirectory() as work:
        corpus = make_corpus(subject, Path(work), asked.tokens)
        whole = HarvestPart(0, 1)  # of a part nothing is closed
        settings = PassSettings(BATCH, 2**20 // CONTEXT, asked.device, "float32", asked.threads, part=whole)
        print(f"{corpus.n_tokens:,} tokens, {asked.threads} threads, {asked.device}, median of {asked.rounds} rounds\n")
        print(HEAD)
        for number in asked.cases:
            case = CASES[number]
            print(_measure(subject, corpus, settings, case, asked.rounds, Path(work)), flush=True)
    return 0


def _measure(subject: Subject, corpus: Corpus, settings: PassSettings, case: Case, rounds: int, work: Path) -> str:
    sae = make_sae(subject, corpus, case).to(settings.device)
    spec = DictionarySpec(
        id="bench", role="trained", model="bench", hook_point=HOOK, d_in=D_MODEL, d_sae=case.d_sae, kind=sae.kind,
        source="bench", weights_digest=sae.weights_digest,
    )  # fmt: skip
    seconds: dict[str, list[Seconds]] = {"floor": [], "harvest": [], "dense": []}
    for number in range(rounds):
        reader = Reader(spec, sae, work / f"{case.d_sae}-{type(case.activation).__name__}-{number}")

        def harvest(reader: Reader = reader) -> None:
            run_harvest(subject, reader, corpus, settings)

        ways: dict[str, Callable[[], object]] = {
            "floor": lambda: run_floor(subject, corpus, sae, settings.batch_size),
            "harvest": harvest,
            "dense": lambda: run_dense_cache(subject, corpus, sae, settings.batch_size),
        }
        for name, way in ways.items():
            seconds[name].append(_seconds(way, settings.device))
    floor, own = (statistics.median(s.wall for s in seconds[name]) for name in ("floor", "harvest"))
    n = corpus.n_tokens
    ratios = [_ratio(seconds, name, kind) for name in ("harvest", "dense") for kind in ("wall", "processor")]
    told = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {case.name} | {n / floor:,.0f} | {n / own:,.0f} | {case.wanted:.2f} | {told} |"


def _ratio(seconds: dict[str, list[Seconds]], name: str, kind: str) -> float:
    """The median over rounds of the floor's seconds over those of `name`."""
    pairs = zip(seconds["floor"], seconds[name], strict=True)
    of_kind = [(f.wall, o.wall) if kind == "wall" else (f.processor, o.processor) for f, o in pairs]
    return statistics.median(floor / own for floor, own in of_kind)


def _seconds(way: Callable[[], object], device: str) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    way()
    if device != "cpu":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def run_harvest(subject: Subject, reader: Reader, corpus: Corpus, settings: PassSettings) -> None:
    """The pass and the statistics of its events."""
    readers, settings = open_pass(subject, [reader], corpus, settings, lambda text: None)
    run_pass(subject, readers, corpus, settings, lambda stage, done, total: None)
    shards = [Shard(path, corpus.context) for path in sorted(reader.folder.glob("shard-*"))]
    save_arrays(reader.folder / "stats.safetensors", compute_stats(shards, reader.spec.d_sae, corpus)._asdict())


def batches(corpus: Corpus, size: int) -> Iterator[torch.Tensor]:
    """The token rows of a pass, batch by batch, each as wide as its longest row."""
    for low in range(0, corpus.n_row, size):
        rows = slice(low, min(low + size, corpus.n_row))
        yield torch.from_numpy(corpus.tokens[rows, : int(corpus.length[rows].max())].astype(np.int64))


@torch.inference_mode()
def run_floor(subject: Subject, corpus: Corpus, sae: Sae, size: int) -> None:
    """Forward to the hook, the encoder's product, ReLU in place; nothing is kept."""
    for tokens in batches(corpus, size):
        x = subject.capture(tokens, [HOOK])[HOOK].flatten(0, 1)
        (x @ sae.W_enc + sae.b_enc).relu_()


@torch.inference_mode()
def run_dense_cache(subject: Subject, corpus: Corpus, sae: Sae, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A common cache: codes made dense, `nonzero`, int64 triples and values in memory until the end."""
    places, values = [], []
    row = 0
    for tokens in batches(corpus, size):
        x = subject.capture(tokens, [HOOK])[HOOK]
        pre = x @ sae.W_enc + sae.b_enc
        if isinstance(sae.activation, TopK):
            best = pre.relu().topk(sae.activation.k, dim=-1)
            acts = torch.zeros_like(pre).scatter_(-1, best.indices, best.values)
        else:
            acts = pre.relu()
        found = acts.nonzero()
        values.append(acts[acts > 0].cpu())
        found[:, 0] += row
        places.append(found.cpu())
        row += len(tokens)
    return torch.cat(places), torch.cat(values)


def make_subject(device: str) -> Subject:
    """pythia-70m's shape, random weights, the demo's tokenizer."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304, hidden_size=D_MODEL, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048,
        max_position_embeddings=2048, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    return wrap_model(GPTNeoXForCausalLM(config).to(device), tokenizer, "pythia-70m's shape")


def make_corpus(subject: Subject, folder: Path, n_tokens: int) -> Corpus:
    """The first documents of `python-docs`, about as many tokens."""
    encoding = Encoding(
        encode=subject.encode_text,
        vocabulary=tuple(subject.vocabulary()),
        bos=0,
        pad=0,
        context=CONTEXT,
    )
    return write_corpus(
        folder,
        "python-docs",
        lambda: open_sources("python-docs", cache_folder()),
        encoding,
        lambda stage, done, total: None,
        lambda text: None,
        n_tokens,
    )


def make_sae(subject: Subject, corpus: Corpus, case: Case) -> Sae:
    """Random unit encoder; a ReLU dictionary's bias makes `L0` features active on a token."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.functional.normalize(torch.randn(case.d_sae, D_MODEL, generator=generator), dim=1)
    bias = torch.zeros(case.d_sae)
    if isinstance(case.activation, Relu):
        x = subject.capture(next(batches(corpus, 1)), [HOOK])[HOOK][0].cpu()
        bias -= (x @ weight.T).flatten().topk(L0 * len(x)).values[-1]
    return SaeParts(
        W_enc=weight.T, b_enc=bias, W_dec=weight, b_dec=torch.zeros(D_MODEL), activation=case.activation,
        architecture="bench", hook_point=HOOK,
    ).build(HOOK)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
