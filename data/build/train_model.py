"""Step 4: train the demo model, a small GPT-2, on documentation and code.

In: the tokenizer and `tokens.npz`. Out: a Hugging Face folder with half-precision weights, and `model.json` in
the scratch folder with the settings, the time and the held-out bits per byte of the weights as stored.
Hidden matrices learn by Muon, all else by AdamW; both rates fall linearly to zero after a short warm-up.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kneser_ney import BOS_ID
from numpy.typing import NDArray
from prepare_tokens import Tokens, load_pieces
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

IGNORED = -100


def make_model(args: argparse.Namespace) -> GPT2LMHeadModel:
    """A GPT-2 of the asked size with fresh weights and tied embeddings."""
    config = GPT2Config(
        vocab_size=args.vocab_size,
        n_positions=args.context,
        n_embd=args.d_model,
        n_layer=args.layers,
        n_head=args.heads,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=args.dropout,
        embd_pdrop=args.dropout,
        attn_pdrop=0.0,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
        pad_token_id=BOS_ID,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    model.set_attn_implementation("sdpa")
    return model


def make_optimizers(model: GPT2LMHeadModel, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings (no decay) and vectors."""
    blocks = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    chosen = {id(parameter) for parameter in blocks}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        blocks, lr=args.muon_lr, weight_decay=args.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=args.embed_decay)
    return [muon, adam]


def training_rows(
    docs: Sequence[Tokens], code: Sequence[Tokens], args: argparse.Namespace
) -> Iterator[NDArray[np.int64]]:
    """Batches of rows without end: BOS, then a cut of a stream of shuffled sources with BOS between them.

    In each pass a code source comes once and a documentation source `docs_weight` times; the cuts fall
    elsewhere in each pass.
    """
    rng = np.random.default_rng(args.seed)
    room = args.context - 1
    waiting = np.empty((0, args.context), dtype=np.int64)
    while True:
        extra = [docs[i] for i in rng.permutation(len(docs))[: round(args.docs_weight % 1 * len(docs))]]
        sources = [*code, *(list(docs) * int(args.docs_weight)), *extra]
        order = rng.permutation(len(sources))
        stream = np.concatenate([np.concatenate([[BOS_ID], sources[i]]) for i in order]).astype(np.int64)
        stream = stream[rng.integers(room) :]
        rows = stream[: len(stream) // room * room].reshape(-1, room)
        rows = np.concatenate([np.full((len(rows), 1), BOS_ID), rows], axis=1)
        waiting = np.concatenate([waiting, rows[rng.permutation(len(rows))]])
        while len(waiting) >= args.batch:
            yield waiting[: args.batch]
            waiting = waiting[args.batch :]


def token_losses(model: torch.nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Next-token losses in nats, one for each target, 0 where the target is IGNORED."""
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1).float()
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")


def shifted_targets(ids: torch.Tensor) -> torch.Tensor:
    """The next token at each place but the last; BOS, which also pads, is never a target."""
    return ids[:, 1:].masked_fill(ids[:, 1:] == BOS_ID, IGNORED)


def pad_documents(documents: Sequence[Tokens], batch: int) -> Iterator[torch.Tensor]:
    """Batches of rows: BOS, a document, BOS as padding; documents of like length together."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    for start in range(0, len(order), batch):
        chosen = [documents[i] for i in order[start : start + batch]]
        rows = torch.full((len(chosen), 1 + max(map(len, chosen))), BOS_ID, dtype=torch.long)
        for row, ids in zip(rows, chosen, strict=True):
            row[1 : 1 + len(ids)] = torch.from_numpy(ids.astype(np.int64))
        yield rows


@torch.inference_mode()
def bits_per_byte(model: torch.nn.Module, documents: Sequence[Tokens], n_bytes: int, device: str = "cpu") -> float:
    """Bits per byte of the documents, BOS prepended."""
    model.eval()
    nats = 0.0
    for rows in pad_documents(documents, 16):
        ids = rows.to(device)
        nats += float(token_losses(model, ids, shifted_targets(ids)).double().sum())
    model.train()
    return nats / float(np.log(2)) / n_bytes


def accumulate_gradients(model: GPT2LMHeadModel, ids: torch.Tensor, args: argparse.Namespace) -> float:
    """Add the gradients of the mean loss over a batch; return that loss in nats a token.

    Rows go through the blocks a few at a time and logits are made for a few tokens at a time, so that all of
    it stays in the processor's cache: three times as fast as one piece.
    """
    targets = shifted_targets(ids)
    wanted = int((targets != IGNORED).sum())
    total = 0.0
    for rows, row_targets in zip(ids.split(args.micro_batch), targets.split(args.micro_batch), strict=True):
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=args.bf16):
            hidden = model.transformer(input_ids=rows).last_hidden_state[:, :-1].flatten(0, 1)
            leaf = hidden.detach().requires_grad_()
            for part, part_targets in zip(leaf.split(2048), row_targets.flatten().split(2048), strict=True):
                logits = F.linear(part, model.lm_head.weight).float()
                loss = F.cross_entropy(logits, part_targets, ignore_index=IGNORED, reduction="sum") / wanted
                loss.backward()
                total += loss.item()
        hidden.backward(leaf.grad)
    return total


def train(model: GPT2LMHeadModel, parts: dict[str, list[Tokens]], n_bytes: int, args: argparse.Namespace) -> None:
    """Train in place for `args.steps` steps, printing progress."""
    optimizers = make_optimizers(model, args)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    batches = training_rows(parts["docs"], parts["code"], args)
    began, recent = time.monotonic(), 0.0
    model.train()
    for step in range(1, args.steps + 1):
        scale = min(step / args.warmup, (args.steps + 1 - step) / (args.steps - args.warmup))
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * scale
        loss = accumulate_gradients(model, torch.from_numpy(next(batches)).to(args.device), args)
        recent = loss if step == 1 else 0.98 * recent + 0.02 * loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % args.report_every == 0 or step == args.steps:
            figure = bits_per_byte(model, parts["held_out_documents"], n_bytes, args.device)
            seconds = time.monotonic() - began
            print(f"step {step} loss {recent:.3f} held-out {figure:.4f} b/B {seconds:.0f} s", flush=True)


def save(model: GPT2LMHeadModel, args: argparse.Namespace) -> None:
    """Write the folder: configuration, half-precision weights, and the tokenizer that was there."""
    half = GPT2LMHeadModel(model.config).to(torch.float16)
    half.load_state_dict(model.state_dict())
    half.config.resid_pdrop = half.config.embd_pdrop = half.config.summary_first_dropout = 0.0
    half.config.use_cache = True
    half.save_pretrained(args.model)
    AutoTokenizer.from_pretrained(args.model).save_pretrained(args.model)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with the tokenizer; the weights go here")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder with the output of step 2")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--d-model", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=16, help="rows in a step")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--docs-weight", type=float, default=3.0)
    parser.add_argument("--muon-lr", type=float, default=4e-3)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--embed-decay", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--micro-batch", type=int, default=8, help="rows at a time through the blocks")
    parser.add_argument("--report-every", type=int, default=200, help="steps")
    parser.add_argument("--no-save", action="store_true")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    torch.manual_seed(args.seed)
    parts = {name: load_pieces(args.work, name) for name in ("docs", "code", "held_out_documents")}
    n_bytes = json.loads((args.work / "figures.json").read_text(encoding="utf-8"))["held_out_bytes"]
    model = make_model(args).to(args.device)
    began = time.monotonic()
    train(model, parts, n_bytes, args)
    if args.no_save:
        return
    seconds = round(time.monotonic() - began)
    save(model.cpu(), args)
    stored = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    settings = {name: value for name, value in vars(args).items() if name not in ("model", "work")}
    figure = bits_per_byte(stored, parts["held_out_documents"], n_bytes)
    report = {"settings": settings, "seconds": seconds, "held_out_bits_per_byte": figure}
    (args.work / "model.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
