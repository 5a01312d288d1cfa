"""What a pass was started with, on disk before its first shard; a resume with anything else is refused.

Settings, readers and a corpus flow in; `plan.json` files and the settings in force flow out. Knows no model.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from autointerp.config import HarvestPart
from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import REPAIR
from autointerp.harvest.encode import Reader
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.provenance import seal, unseal, write_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PassSettings:
    """What a shard's bytes depend on besides weights and tokens; a resume with others is refused."""

    batch_size: int
    """Rows a forward pass."""
    shard_rows: int
    device: str
    dtype: str
    threads: int
    keep: Literal["all", "sample"] = "all"
    """Whether all events are kept, or those of some documents and each feature's strongest windows."""
    keep_tokens: int = 0
    """With `sample`: tokens of the documents that are kept whole."""
    keep_strongest: int = 0
    """With `sample`: windows a feature and shard kept beside them."""
    skip_tokens: int = 0
    """Places after BOS that are masked in every document."""
    special_tokens: bool = False
    """Whether special tokens inside the text are looked at like others."""
    max_norm: float | None = None
    """Tokens of a larger norm are masked; in multiples of the median norm at the hook point."""
    part: HarvestPart | None = None
    """Only every `of`-th shard from `number` on, and nothing is closed; no shard's bytes depend on it."""

    def n_shard(self, corpus: Corpus) -> int:
        """Shards of all parts."""
        return -(-corpus.n_row // self.shard_rows)

    def shards(self, corpus: Corpus) -> list[int]:
        """The shards to make."""
        every = range(self.n_shard(corpus))
        return list(every if self.part is None else every[self.part.number :: self.part.of])

    def rows(self, corpus: Corpus, index: int) -> slice:
        """The rows of a shard."""
        return slice(index * self.shard_rows, min((index + 1) * self.shard_rows, corpus.n_row))


def open_plans(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> tuple[list[Reader], PassSettings]:
    """Write each reader's plan, or hold an earlier one against this start; what an earlier one measured stays.

    Raises:
        UsageError: an earlier start was another one.
        RunError: a plan is damaged.
    """
    planned = []
    for reader in readers:
        path = reader.folder / "plan.json"
        if path.is_file():
            earlier = read_plan(path)
            asked = earlier.pop("batch_size_asked", earlier["batch_size"])
            if asked == settings.batch_size:
                settings = replace(settings, batch_size=earlier["batch_size"])
            if earlier.get("max_norm") == settings.max_norm:
                reader = replace(reader, norm_limit=earlier.get("norm_limit"))
            _compare(reader, earlier, make_plan(reader, corpus, settings))
        else:
            write_atomically(path, seal(make_plan(reader, corpus, settings)))
        planned.append(reader)
    return planned, settings


def _compare(reader: Reader, earlier: dict[str, Any], plan: dict[str, object]) -> None:
    for key, value in plan.items():
        if earlier.get(key) != value:
            raise UsageError(
                f"the harvest in {reader.folder} was started with {key} = {earlier.get(key)!r}, not {value!r}; "
                f"start it with that again, or choose another --out"
            )


def read_plan(path: Path) -> dict[str, Any]:
    """The values of a plan.

    Raises:
        RunError: it is damaged.
    """
    try:
        plan = unseal(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RunError(f"{path} is damaged; {REPAIR}") from None
    return plan


def make_plan(reader: Reader, corpus: Corpus, settings: PassSettings) -> dict[str, object]:
    """The values of a plan; those a user sets come first, so that a refusal names them."""
    return {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.id,
        **{key: value for key, value in asdict(settings).items() if key != "part"},
        "corpus": corpus.digest,
        "context": corpus.context,
        "model": reader.spec.model,
        "rerandomise_seed": reader.spec.rerandomise_seed,
        "weights": reader.spec.weights_digest,
        "hook_point": reader.spec.hook_point,
        "norm_limit": reader.norm_limit,
    }


def halve_batch(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Half the batch for a GPU out of memory, recorded in the plans; refused once a shard may have the whole one.

    So it is in parts: another process may be making shards of whole batches.
    """
    smaller = max(settings.batch_size // 2, 1)
    if (
        settings.batch_size == 1
        or settings.part is not None
        or any(any(reader.folder.glob("shard-*.safetensors")) for reader in readers)
    ):
        everywhere = " for all parts, in another --out" if settings.part is not None else ""
        raise UsageError(
            f"the GPU has too little memory for batches of {settings.batch_size} rows; "
            f"set [harvest] batch_size to {smaller} or context lower{everywhere}"
        ) from None
    log.warning("GPU out of memory: batches of %d rows instead of %d", smaller, settings.batch_size)
    torch.cuda.empty_cache()
    for reader in readers:
        path = reader.folder / "plan.json"
        asked = read_plan(path).get("batch_size_asked", settings.batch_size)
        plan = {**make_plan(reader, corpus, replace(settings, batch_size=smaller)), "batch_size_asked": asked}
        write_atomically(path, seal(plan))
    return replace(settings, batch_size=smaller)
