"""Step 5: train one dictionary on the demo model's residual stream.

In: the model and the training documents of `python-docs`. Out: a folder in SAELens' format, the decoder's rows
of unit norm. `topk` has an auxiliary loss that lets features that have not fired lately explain the error (Gao
et al. 2024, arXiv:2406.04093). `relu` has an L1 penalty weighted by decoder norms whose strength is steered to
the asked mean L0; at the end its decoder is refitted by ridge regression with the encoder held, which undoes the
shrinkage.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from activations import capture, load_model
from dictionary import Dictionary, make_dictionary, normalise_decoder, save_dictionary
from prepare_tokens import load_pieces


def training_inputs(args: argparse.Namespace) -> torch.Tensor:
    """Activations [tok, d_in] of the training documentation."""
    room = args.context - 1
    sources = load_pieces(args.work, "docs")
    documents = [ids[at : at + room] for ids in sources for at in range(0, len(ids), room)]
    model = load_model(args.model, args.rerandomise_seed)
    return torch.cat(list(capture(model, documents))).clone()


def topk_loss(made: Dictionary, x: torch.Tensor, idle: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """Squared error in units of the variance (inputs come scaled to 1), plus the idle features' part.

    `idle` [d_sae] counts the tokens since each feature last fired, and is brought up to date here.
    """
    pre = made.pre_activations(x)
    activations = made.activate(pre)
    error = x - made.decode(activations)
    loss = error.square().sum(-1).mean()
    fired = (activations.detach() > 0).any(0)
    idle += len(x)
    idle[fired] = 0
    dead = (idle > args.idle_tokens).nonzero()[:, 0]
    if len(dead):
        some = pre[:, dead]
        top = some.topk(min(args.aux_k, len(dead)), dim=-1, sorted=False)
        helped = torch.zeros_like(some).scatter(-1, top.indices, torch.relu(top.values)) @ made.w_dec[dead]
        left = error.detach()
        auxiliary = (left - helped).square().sum(-1).mean() / left.square().sum(-1).mean()
        loss = loss + args.aux_weight * auxiliary * loss.detach()
    return loss


class SteeredPenalty:
    """An L1 weight that grows while the mean L0 is above its aim and falls while below."""

    def __init__(self, weight: float, aim: float, speed: float = 0.02) -> None:
        self.weight, self.aim, self.speed = weight, aim, speed
        self.l0 = 0.0

    def of(self, made: Dictionary, activations: torch.Tensor, *, steer: bool) -> torch.Tensor:
        """The weighted penalty of activations [tok, d_sae], a decoder row's norm counted in."""
        self.l0 = float((activations.detach() > 0).sum(-1).float().mean())
        if steer:
            self.weight *= min(max(self.l0 / self.aim, 0.5), 2.0) ** self.speed
        return self.weight * (activations * made.w_dec.norm(dim=1)).sum(-1).mean()


def relu_loss(made: Dictionary, x: torch.Tensor, penalty: SteeredPenalty, progress: float) -> torch.Tensor:
    """Squared error and the penalty, which comes in over the first twentieth and is steered after a tenth."""
    activations = made.encode(x)
    error = (x - made.decode(activations)).square().sum(-1).mean()
    return error + min(progress / 0.05, 1.0) * penalty.of(made, activations, steer=progress > 0.1)


def train(made: Dictionary, x: torch.Tensor, args: argparse.Namespace) -> float:
    """Train in place on inputs scaled to unit variance; returns the last L1 weight, 0 for TopK."""
    parameters = made.parameters()
    optimizer = torch.optim.Adam(parameters, lr=args.lr, betas=(0.9, 0.999))
    idle = torch.zeros(made.w_enc.shape[1], dtype=torch.int64)
    penalty = SteeredPenalty(args.l1, args.aim_l0)
    generator = torch.Generator().manual_seed(args.seed)
    steps = args.epochs * (len(x) // args.batch)
    order = torch.empty(0, dtype=torch.long)
    began = time.monotonic()
    for step in range(steps):
        progress = step / steps
        scale = min((step + 1) / 100, 1.0, (1 - progress) / 0.4)
        optimizer.param_groups[0]["lr"] = args.lr * scale
        if len(order) < args.batch:
            order = torch.randperm(len(x), generator=generator)
        chosen, order = order[: args.batch], order[args.batch :]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16 and progress < 0.8):
            loss = topk_loss(made, x[chosen], idle, args) if made.k else relu_loss(made, x[chosen], penalty, progress)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if made.k:
            normalise_decoder(made)
        if (step + 1) % 100 == 0:
            dead = int((idle > args.idle_tokens).sum())
            seconds = time.monotonic() - began
            print(
                f"step {step + 1}/{steps} loss {loss.item():.4f} idle {dead} L0 {penalty.l0:.1f}"
                f" L1 weight {penalty.weight:.4f} {seconds:.0f} s",
                flush=True,
            )
    return penalty.weight if made.k is None else 0.0


@torch.no_grad()
def refit_decoder(made: Dictionary, x: torch.Tensor) -> None:
    """The least-squares decoder for the activations as they are, drawn a little to the old one; `b_dec` is held."""
    d_sae = made.w_enc.shape[1]
    gram, cross = torch.zeros(d_sae, d_sae), torch.zeros(d_sae, x.shape[1])
    for rows in x.split(8192):
        activations = made.encode(rows)
        gram.addmm_(activations.T, activations)
        cross.addmm_(activations.T, rows - made.b_dec)
    ridge = 1e-3 * gram.diagonal().mean()
    exact = (gram + ridge * torch.eye(d_sae)).double()
    made.w_dec.copy_(torch.linalg.solve(exact, (cross + ridge * made.w_dec).double()).float())


@torch.no_grad()
def unscale(made: Dictionary, scale: float) -> None:
    """From inputs divided by `scale` to inputs as they are; activations grow with them."""
    made.b_enc *= scale
    made.b_dec *= scale


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the demo model")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder with the output of step 2")
    parser.add_argument("--out", type=Path, required=True, help="the dictionary's folder")
    parser.add_argument("--kind", choices=["topk", "relu"], required=True)
    parser.add_argument("--rerandomise-seed", type=int, help="redraw the model's matrices first")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--k", type=int, default=16, help="topk: features active at once")
    parser.add_argument("--widen", type=int, help="features for each input dimension; default topk 16, relu 8")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2048, help="tokens")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--idle-tokens", type=int, default=200_000, help="topk: unfired this long is helped")
    parser.add_argument("--aux-k", type=int, default=64)
    parser.add_argument("--aux-weight", type=float, default=0.1)
    parser.add_argument("--l1", type=float, default=0.05, help="relu: the first weight")
    parser.add_argument("--aim-l0", type=float, default=22.5, help="relu: the mean L0 to steer to")
    parser.add_argument("--refit-every", type=int, default=3, help="relu: refit on one token in so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products for the first four fifths")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    k = args.k if args.kind == "topk" else None
    x = training_inputs(args)
    scale = float((x - x.mean(0)).square().sum(-1).mean().sqrt())
    x /= scale
    made = make_dictionary(x, (args.widen or (16 if k else 8)) * x.shape[1], k, args.seed)
    began = time.monotonic()
    weight = train(made, x, args)
    if not k:
        refit_decoder(made, x[:: args.refit_every])
    normalise_decoder(made)
    unscale(made, scale)
    settings = {name: value for name, value in vars(args).items() if name not in ("model", "work", "out")}
    extra: dict[str, object] = {"training": settings}
    if args.rerandomise_seed is not None:
        extra["rerandomise_seed"] = args.rerandomise_seed
    save_dictionary(made, args.out, args.context, extra)
    report = {"settings": settings, "last_l1_weight": weight, "seconds": round(time.monotonic() - began)}
    (args.work / f"{args.out.name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
