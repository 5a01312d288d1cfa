"""The harvest pass against its floors: the forward pass and the encoder's product alone, everything dropped.

    python tests/bench/bench_harvest.py [--threads 1] [--tokens 16384] [--cases 0 2] [--batch 4] [--context 512]
    python tests/bench/bench_harvest.py --device cuda --shape gemma-2-2b [--dtype bfloat16] [--tf32] --peak-tflops 989

A model of a published shape with random weights reads Python's documentation, over and over where more tokens are
wanted than it has; dictionaries read the residual stream in its middle. *Floor* runs the model as the pass does;
*plain* is the same model in Hugging Face's own class, its attention in one kernel where it has one, left by a hook
behind the last block. A round times both floors, the pass and a dense cache one after the other; the table gives
medians over rounds, and ratios to the round's own floors, by the clock and by processor time, which says more on a busy
machine. Weight-side facts and loss splicing are no part of the pass here. On a GPU batches are a harvest's own there,
the model is in bf16 unless told, and encoders' products are as precise as a harvest's (--tf32: TF32 beside a float32
model too). With the card's peak the table says what share of it the pass reaches: 2 operations a weight and token, up
to the hook and in the encoder.
"""

import argparse
import contextlib
import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
)

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
from autointerp.subject.corpus.sources import ListedSources
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.model import Subject, wrap_model
from autointerp.subject.model_sources import DTYPES
from autointerp.subject.products import Products
from autointerp.subject.sae import Sae
from tests.bench.bench_memory import repeated_docs

HEAD = """\
| dictionary | plain, tokens/s | harvest, tokens/s | wanted | harvest/floor | processor | harvest/plain | processor \
| dense/floor | processor |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


class Size(NamedTuple):
    """What is run where nothing else is asked for."""

    batch: int
    context: int
    n_tokens: int
    dtype: str


ON_A_CPU, ON_A_GPU = Size(4, 512, 2**14, "float32"), Size(32, 1024, 2**21, "bfloat16")
L0 = 60


class Shape(NamedTuple):
    """A published model's shape."""

    make: Callable[[], PreTrainedModel]
    n_block: int
    """Blocks up to the hook point, it included."""
    d_model: int
    blocks: str
    """Where the model has its blocks."""

    @property
    def hook(self) -> str:
        """Where dictionaries read."""
        return f"blocks.{self.n_block - 1}.hook_resid_post"


SHAPES = {
    "pythia-70m": Shape(
        lambda: GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=50304, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048,
                max_position_embeddings=2048, bos_token_id=0, eos_token_id=0,
            )
        ),
        4,
        512,
        "gpt_neox.layers",
    ),
    "gemma-2-2b": Shape(
        lambda: Gemma2ForCausalLM(Gemma2Config(bos_token_id=0, eos_token_id=0)), 13, 2304, "model.layers"
    ),
}  # fmt: skip


class Case(NamedTuple):
    """One row of the table."""

    name: str
    activation: Activation
    d_sae: int
    wanted: float
    """On a CPU; on a GPU it is `WANTED_ON_GPU`."""


class Seconds(NamedTuple):
    """What one measurement took; on a machine shared with others the processor's time is the steadier one."""

    wall: float
    processor: float


CASES = (
    Case("TopK k=32, 16k", TopK(32), 2**14, 0.85),
    Case("TopK k=32, 65k", TopK(32), 2**16, 0.80),
    Case(f"ReLU, L0 {L0}, 16k", Relu(), 2**14, 0.80),
    Case(f"ReLU, L0 {L0}, 65k", Relu(), 2**16, 0.70),
    Case("TopK k=32, 262k", TopK(32), 2**18, 0.0),
    Case(f"ReLU, L0 {L0}, 262k", Relu(), 2**18, 0.0),
)
ON_CPU = 4
"""The first cases; the others are for a GPU."""
WANTED_ON_GPU = 0.9


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--context", type=int)
    parser.add_argument("--dtype", choices=tuple(DTYPES))
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="pythia-70m")
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--cases", type=int, nargs="*")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    on_cpu = asked.device == "cpu"
    usual = ON_A_CPU if on_cpu else ON_A_GPU
    size = Size(
        asked.batch or usual.batch,
        asked.context or usual.context,
        asked.tokens or usual.n_tokens,
        asked.dtype or usual.dtype,
    )
    with tempfile.TemporaryDirectory() as work:
        bench = make_bench(SHAPES[asked.shape], size, asked, Path(work))
        print(
            f"{asked.shape} in {size.dtype}, encoders in {bench.settings.precision}, "
            f"{bench.corpus.n_tokens:,} tokens in batches of {size.batch} x {size.context}, "
            f"{asked.threads} threads, {asked.device}, {asked.rounds} rounds"
        )
        print(f"\n{HEAD}")
        for number in asked.cases or range(ON_CPU if on_cpu else len(CASES)):
            print(bench.row(CASES[number]), flush=True)
    return 0


def make_bench(shape: Shape, size: Size, asked: argparse.Namespace, work: Path) -> "Bench":
    """The model twice, as a subject and as it is, and its corpus."""
    plain = make_model(shape, asked.device, size.dtype)
    n_weight = sum(p.numel() for name, p in plain.named_parameters() if _block(name) < shape.n_block)
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    subject = wrap_model(make_model(shape, asked.device, size.dtype), tokenizer, "a published shape")
    whole = HarvestPart(0, 1)  # of a part nothing is closed
    products = Products.fitting(asked.device, size.dtype)
    settings = PassSettings(
        size.batch, 2**20 // size.context, asked.device, size.dtype, asked.threads, part=whole,
        precision="tf32" if asked.tf32 else products.precision, dense_limit=products.dense_limit,
    )  # fmt: skip
    corpus = make_corpus(subject, work, size)
    return Bench(subject, plain, shape, n_weight, corpus, settings, work, asked.rounds, asked.peak_tflops)


class Bench(NamedTuple):
    """What all rows share."""

    subject: Subject
    plain: PreTrainedModel
    """The same weights without a bridge."""
    shape: Shape
    n_weight: int
    """Of the blocks up to the hook point."""
    corpus: Corpus
    settings: PassSettings
    work: Path
    rounds: int
    peak_tflops: float | None

    def row(self, case: Case) -> str:
        """One line of the table."""
        sae = make_sae(self, case).to(self.settings.device)
        spec = DictionarySpec(
            id="bench", role="trained", model="bench", hook_point=self.shape.hook, d_in=self.shape.d_model,
            d_sae=case.d_sae, kind=sae.kind, source="bench", weights_digest=sae.weights_digest,
        )  # fmt: skip
        seconds: dict[str, list[Seconds]] = {"floor": [], "plain": [], "harvest": [], "dense": []}
        for number in range(self.rounds):
            reader = Reader(spec, sae, self.work / f"{case.d_sae}-{type(case.activation).__name__}-{number}")
            ways: dict[str, Callable[[], object]] = {
                "floor": lambda: run_floor(self, sae),
                "plain": lambda: run_plain(self, sae),
                "harvest": lambda reader=reader: run_harvest(self, reader),  # type: ignore[misc]
                "dense": lambda: run_dense_cache(self, sae),
            }
            for name, way in ways.items():
                seconds[name].append(_seconds(way, self.settings.device))
        plain, own = (statistics.median(s.wall for s in seconds[name]) for name in ("plain", "harvest"))
        n = self.corpus.n_tokens
        pairs = ("floor", "harvest"), ("plain", "harvest"), ("floor", "dense")
        ratios = [_ratio(seconds, of, name, kind) for of, name in pairs for kind in ("wall", "processor")]
        told = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        wanted = case.wanted if self.settings.device == "cpu" else WANTED_ON_GPU
        return f"| {case.name} | {n / plain:,.0f} | {n / own:,.0f}{self._peak(case, n / own)} | {wanted:.2f} | {told} |"

    def _peak(self, case: Case, tokens_a_second: float) -> str:
        """The share of the card's peak, where it is known."""
        if self.peak_tflops is None:
            return ""
        operations = 2 * (self.n_weight + self.shape.d_model * case.d_sae)
        return f" ({operations * tokens_a_second / self.peak_tflops / 1e12:.0%} of peak)"


def _block(name: str) -> float:
    """Number of the block that a parameter belongs to; infinity for one outside all blocks."""
    found = re.search(r"(?:blocks|layers)\.(\d+)\.", name)
    return int(found[1]) if found else math.inf


def _ratio(seconds: dict[str, list[Seconds]], of: str, name: str, kind: str) -> float:
    """The median over rounds of the seconds of the floor `of` over those of `name`."""
    pairs = zip(seconds[of], seconds[name], strict=True)
    of_kind = [(f.wall, o.wall) if kind == "wall" else (f.processor, o.processor) for f, o in pairs]
    return statistics.median(floor / own for floor, own in of_kind)


def _seconds(way: Callable[[], object], device: str) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    way()
    if device != "cpu":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def run_harvest(bench: Bench, reader: Reader) -> None:
    """The pass and the statistics of its events."""
    corpus = bench.corpus
    readers, settings = open_pass(bench.subject, [reader], corpus, bench.settings, lambda text: None)
    run_pass(bench.subject, readers, corpus, settings, lambda stage, done, total: None)
    shards = [Shard(path, corpus.context) for path in sorted(reader.folder.glob("shard-*"))]
    save_arrays(reader.folder / "stats.safetensors", compute_stats(shards, reader.spec.d_sae, corpus)._asdict())


def batches(corpus: Corpus, size: int) -> Iterator[torch.Tensor]:
    """The token rows of a pass, batch by batch, each as wide as its longest row."""
    for low in range(0, corpus.n_row, size):
        rows = slice(low, min(low + size, corpus.n_row))
        yield torch.from_numpy(corpus.tokens[rows, : int(corpus.length[rows].max())].astype(np.int64))


def encode_all(bench: Bench, sae: Sae, x: torch.Tensor) -> torch.Tensor:
    """The encoder's product, ReLU in place."""
    with bench.settings.products.in_force(x.device):
        return (x @ sae.W_enc + sae.b_enc).relu_()


@torch.inference_mode()
def run_floor(bench: Bench, sae: Sae) -> None:
    """Forward to the hook, the encoder's product, ReLU in place; nothing is kept."""
    hook = bench.shape.hook
    for tokens in batches(bench.corpus, bench.settings.batch_size):
        x = bench.subject.capture(tokens, [hook])[hook].flatten(0, 1).float()
        encode_all(bench, sae, x)


class _LeftError(Exception):
    """Ends a forward pass behind the last block that is wanted."""


@torch.inference_mode()
def run_plain(bench: Bench, sae: Sae) -> None:
    """As the floor, with the model in Hugging Face's own class."""
    block = bench.plain.get_submodule(f"{bench.shape.blocks}.{bench.shape.n_block - 1}")
    seen: list[torch.Tensor] = []

    def leave(module: torch.nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        seen.append(output if isinstance(output, torch.Tensor) else output[0])
        raise _LeftError

    handle = block.register_forward_hook(leave)
    for tokens in batches(bench.corpus, bench.settings.batch_size):
        with contextlib.suppress(_LeftError):
            bench.plain(tokens.to(bench.settings.device), use_cache=False)
        encode_all(bench, sae, seen.pop().flatten(0, 1).float())
    handle.remove()


@torch.inference_mode()
def run_dense_cache(bench: Bench, sae: Sae) -> tuple[torch.Tensor, torch.Tensor]:
    """A common cache: codes made dense, `nonzero`, int64 triples and values in memory until the end."""
    hook = bench.shape.hook
    places, values = [], []
    row = 0
    for tokens in batches(bench.corpus, bench.settings.batch_size):
        x = bench.subject.capture(tokens, [hook])[hook].float()
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


def make_model(shape: Shape, device: str, dtype: str) -> PreTrainedModel:
    """Random weights, the same each time."""
    torch.manual_seed(0)
    with torch.device(device):
        model = shape.make()
    return model.to(DTYPES[dtype]).eval()


def make_corpus(subject: Subject, folder: Path, size: Size) -> Corpus:
    """The first documents of `python-docs`, about as many tokens; again under fresh ids where it has fewer."""
    encoding = Encoding(
        encode=subject.encode_text,
        vocabulary=tuple(subject.vocabulary()),
        bos=0,
        pad=0,
        context=size.context,
    )
    return write_corpus(
        folder,
        "python-docs",
        lambda: ListedSources("python-docs", repeated_docs),
        encoding,
        lambda stage, done, total: None,
        lambda text: None,
        size.n_tokens,
    )


def make_sae(bench: Bench, case: Case) -> Sae:
    """Random unit encoder; a ReLU dictionary's bias makes `L0` features active on a token."""
    hook, d_model = bench.shape.hook, bench.shape.d_model
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.functional.normalize(torch.randn(case.d_sae, d_model, generator=generator), dim=1)
    bias = torch.zeros(case.d_sae)
    if isinstance(case.activation, Relu):
        x = bench.subject.capture(next(batches(bench.corpus, 1)), [hook])[hook][0].float().cpu()
        bias -= (x @ weight.T).flatten().topk(L0 * len(x)).values[-1]
    return SaeParts(
        W_enc=weight.T, b_enc=bias, W_dec=weight, b_dec=torch.zeros(d_model), activation=case.activation,
        architecture="bench", hook_point=hook,
    ).build(hook)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
