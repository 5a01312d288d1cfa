"""Step 6: a short tuning of a dictionary for what the model does with the reconstruction.

In: a dictionary of step 5, its model, the training documentation. Out: the same folder, tuned. The loss is the
squared error in units of the variance plus the divergence from the model's own next-token distribution to the
one with the dictionary spliced in, after Karvonen (2025, arXiv:2503.17272), who found that a short tuning of
this kind at the end is enough. A ReLU keeps its L1 penalty, still steered to the asked mean L0.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from activations import load_model, log_probs, residuals
from dictionary import Dictionary, load_dictionary, normalise_decoder, save_dictionary
from kneser_ney import BOS_ID
from prepare_tokens import load_pieces
from train_dictionaries import SteeredPenalty
from train_model import pad_documents
from transformers import GPT2LMHeadModel


def tune(made: Dictionary, model: GPT2LMHeadModel, batches: list[torch.Tensor], args: argparse.Namespace) -> None:
    """One pass over the batches in a seeded order, the rate falling to zero."""
    variance = float(torch.cat([_told(residuals(model, ids), ids) for ids in batches[::20]]).var(0).sum())
    optimizer = torch.optim.Adam(made.parameters(), lr=args.lr, betas=(0.9, 0.99))
    penalty = SteeredPenalty(args.l1, args.aim_l0, args.l1_speed)
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(args.seed))
    began = time.monotonic()
    for step, chosen in enumerate(order.tolist()):
        ids = batches[chosen]
        scale = min((step + 1) / 20, 1.0) * (1 - step / len(order))
        optimizer.param_groups[0]["lr"] = args.lr * scale
        at_hook = residuals(model, ids)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16), torch.no_grad():
            original = log_probs(model, ids, at_hook).float()
        x = _told(at_hook, ids)
        activations = made.encode(x)
        reconstructed = made.decode(activations)
        spliced_in = at_hook.clone()
        spliced_in[ids != BOS_ID] = reconstructed
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            spliced = log_probs(model, ids, spliced_in).float()
        divergence = (original.exp() * (original - spliced)).sum(-1).mean()
        error = (x - reconstructed).square().sum(-1).mean() / variance
        loss = error + args.kl_weight * divergence
        if made.k is None:
            loss = loss + penalty.of(made, activations, steer=True) / variance**0.5
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if made.k:
            normalise_decoder(made)
        if (step + 1) % 10 == 0:
            print(
                f"step {step + 1}/{len(order)} error {error.item():.4f} KL {divergence.item():.4f}"
                f" L0 {penalty.l0:.1f} L1 weight {penalty.weight:.4f} {time.monotonic() - began:.0f} s",
                flush=True,
            )


def _told(at_hook: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return at_hook[ids != BOS_ID]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the demo model")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder with the output of step 2")
    parser.add_argument("--dictionary", type=Path, required=True, help="the folder to tune")
    parser.add_argument("--kl-weight", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=8, help="documents")
    parser.add_argument("--l1", type=float, default=0.2, help="relu: the first weight")
    parser.add_argument("--l1-speed", type=float, default=0.1, help="relu: how fast the weight is steered")
    parser.add_argument("--aim-l0", type=float, default=22.5, help="relu: the mean L0 to steer to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="the later blocks in bfloat16")
    args = parser.parse_args()
    metadata = json.loads((args.dictionary / "cfg.json").read_text(encoding="utf-8"))["metadata"]
    made = load_dictionary(args.dictionary)
    for parameter in made.parameters():
        parameter.requires_grad_()
    model = load_model(args.model, metadata.get("rerandomise_seed")).requires_grad_(False)
    room = metadata["context_size"] - 1
    sources = load_pieces(args.work, "docs")
    documents = [ids[at : at + room] for ids in sources for at in range(0, len(ids), room)]
    tune(made, model, list(pad_documents(documents, args.batch)), args)
    normalise_decoder(made)
    settings = {name: value for name, value in vars(args).items() if name not in ("model", "work", "dictionary")}
    save_dictionary(made, args.dictionary, metadata["context_size"], metadata | {"tuning": settings})


if __name__ == "__main__":
    main()
