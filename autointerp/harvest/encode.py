"""From rows of tokens to sparse events: one forward pass, every dictionary's code of the tokens that are looked at.

A subject, dictionaries and rows flow in; events as arrays, and sums for a dictionary's metrics, flow out. Copies from a
GPU are asynchronous: they are waited for when they are collected, a batch later. Writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.harvest.capture import capture_rows
from autointerp.harvest.events import is_finished
from autointerp.harvest.masks import TextMask
from autointerp.harvest.metrics import SUMS
from autointerp.harvest.shards import shard_name
from autointerp.metrics import MASSIVE
from autointerp.records import DictionarySpec
from autointerp.subject.dictionaries import Dictionary
from autointerp.subject.model import Subject
from autointerp.subject.products import Products


@dataclass(frozen=True)
class Reader:
    """A dictionary about to be harvested into its own folder."""

    spec: DictionarySpec
    dictionary: Dictionary
    folder: Path
    norm_limit: float | None = None
    """Tokens whose activations at its hook point have a larger norm are masked; None masks none."""
    median_norm: float | None = None
    """Of activations where it reads; tokens far above it are counted apart (`harvest.massive`), with None not."""
    median_norm_out: float | None = None
    """The same of what it stands for: another hook point in a transcoder."""

    @property
    def done(self) -> bool:
        """The whole pass was finished before."""
        return is_finished(self.folder)

    def shard(self, index: int) -> Path:
        """Path of one shard."""
        return self.folder / shard_name(index)


class Encoded:
    """One reader's events of one batch, perhaps still on their way from the device."""

    def __init__(self, slots: Int[np.ndarray, " n"], arrays: Sequence[Tensor]) -> None:
        self._slots = slots
        self._arrays = [_start_copy(array) for array in arrays]
        self._arrived = torch.cuda.Event() if arrays[0].device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._arrived is not None:
            # Of the arrays' device: without a stream it would be the current device's, which may be another.
            self._arrived.record(torch.cuda.current_stream(arrays[0].device))

    def collect(self) -> "Events":
        """The events, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        row, feature, value, outlier, per_token, sum_in, massive, massive_in = (a.numpy() for a in self._arrays)
        counted = per_token[:, massive[: per_token.shape[1]]]
        return Events(
            slot=self._slots[row],
            feature=feature,
            value=value,
            masked=self._slots[outlier],
            n_token=len(self._slots) - int(outlier.sum()),
            sums=per_token.sum(axis=1, dtype=np.float64),
            sum_in=sum_in.astype(np.float64),
            massive=self._slots[~outlier][massive],
            massive_sums=counted.sum(axis=1, dtype=np.float64),
            massive_sum_in=massive_in.astype(np.float64),
        )


class Events(NamedTuple):
    """One reader's events of one batch, in slot order, and what its metrics need."""

    slot: Int[np.ndarray, " n"]
    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    masked: Int[np.ndarray, " m"]
    """Slots masked for their norm."""
    n_token: int
    sums: Float[np.ndarray, " name"]
    """`metrics.SUMS`; zeros where the dictionary cannot decode."""
    sum_in: Float[np.ndarray, " d_out"]
    massive: Int[np.ndarray, " k"]
    """Slots looked at whose norm is massive."""
    massive_sums: Float[np.ndarray, " name"]
    """The same sums of these slots alone."""
    massive_sum_in: Float[np.ndarray, " d_out"]


def _start_copy(array: Tensor) -> Tensor:
    if array.device.type != "cuda":
        return array.cpu()
    pinned = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
    return pinned.copy_(array, non_blocking=True)


@torch.inference_mode()
def encode_rows(
    subject: Subject,
    readers: Sequence[Reader],
    text: TextMask,
    rows: Int[np.ndarray, " n"],
    first_row: int,
    products: Products,
) -> list[Encoded]:
    """Every reader's events of some rows, from one forward pass; slots count from `first_row`."""
    at_hook, slots = capture_text(subject, readers, text, rows, first_row)
    return [encode(reader, at_hook, slots, products) for reader in readers]


def capture_text(
    subject: Subject, readers: Sequence[Reader], text: TextMask, rows: Int[np.ndarray, " n"], first_row: int
) -> tuple[dict[str, Float[Tensor, "n width"]], Int[np.ndarray, " n"]]:
    """Activations of the tokens that are looked at, by hook point that a reader needs, and their slots."""
    corpus = text.corpus
    hooks = {hook for r in readers for hook in (r.spec.hook_point, r.dictionary.hook_out)}
    captured, places = capture_rows(subject, corpus, rows, sorted(hooks))
    mask = text.of_rows(rows, places)
    slots = ((rows[:, None] - first_row) * corpus.context + np.arange(mask.shape[1]))[mask].astype(np.uint32)
    # Numbers of places, since a mask on the device would make the host wait until its true places are counted there.
    keep = torch.from_numpy(np.flatnonzero(mask)).to(subject.device)
    return {hook: captured.pop(hook).flatten(0, 1).index_select(0, keep).float() for hook in sorted(hooks)}, slots


@torch.inference_mode()
def encode(
    reader: Reader, at_hook: Mapping[str, Float[Tensor, "n width"]], slots: Int[np.ndarray, " n"], products: Products
) -> Encoded:
    """One reader's events of the tokens that `capture_text` gave."""
    x, target = at_hook[reader.spec.hook_point], at_hook[reader.dictionary.hook_out]
    outlier = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    inside = None
    if reader.norm_limit is not None:
        norm = x.norm(dim=1)
        outlier = (norm > reader.norm_limit) & norm.isfinite()  # what is not finite has to stop the pass
        inside = (~outlier).nonzero()[:, 0]
        if len(inside) < len(x):
            x, target = x[inside], target[inside]
    massive = is_massive(x, reader.median_norm) | is_massive(target, reader.median_norm_out)
    with products.in_force(x.device):  # not the model's own products, whose rotations want all of float32
        code = reader.dictionary.encode_sparse(x)
    try:
        out = reader.dictionary.decode_sparse(code, x)
        per_token, sum_in = _compare(target, out), target.sum(dim=0, dtype=_exact(target))
        massive_in = (target * massive[:, None]).sum(dim=0, dtype=_exact(target))
    except UsageError:
        per_token, sum_in, massive_in = x.new_zeros(len(SUMS), 0), x.new_zeros(0), x.new_zeros(0)
    row = code.row if inside is None else inside[code.row]
    events = row, code.feature.to(torch.int32), code.value.float()
    return Encoded(slots, [*events, outlier, per_token, sum_in, massive, massive_in])


def is_massive(x: Float[Tensor, "n d"], median: float | None) -> Bool[Tensor, " n"]:
    """Which tokens' norms are more than `MASSIVE` times the median; none where that is not known, or 0."""
    limit = MASSIVE * median if median else float("inf")
    return torch.gt(x.norm(dim=1), limit)


def _compare(x: Float[Tensor, "n d"], out: Float[Tensor, "n d"]) -> Float[Tensor, "name n"]:
    """`metrics.SUMS` of each token, before they are summed.

    Squares of inputs are exact: a residual stream's variance is the small difference of two large sums.
    """
    in_square = x.to(_exact(x)).square().sum(dim=1)
    norm, norm_out = in_square.sqrt().float(), out.norm(dim=1)
    product = (x * out).sum(dim=1)
    cosine = product / (norm * norm_out).clamp_min(1e-12)
    error = (x - out).square_().sum(dim=1)
    ratio = norm_out / norm.clamp_min(1e-12)
    sums = [torch.ones_like(norm), in_square, norm_out.square(), error, product, cosine, ratio]
    return torch.stack([one.to(in_square.dtype) for one in sums])


def _exact(x: Tensor) -> torch.dtype:
    """float64, but where a device has none (Apple's)."""
    return torch.float32 if x.device.type == "mps" else torch.float64
