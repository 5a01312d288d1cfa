"""What a pass was started with, on disk before its first shard; a resume with anything else is refused.

Settings, readers and a corpus flow in; `plan.json` files and the settings in force flow out. Knows no model.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from autointerp.config import HarvestPart
from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import REPAIR
from autointerp.harvest.encode import Reader
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.provenance import seal, unseal, write_atomically
from autointerp.settings import device_type
from autointerp.subject.codes import DENSE_LIMIT
from autointerp.subject.devices import no_room, release_memory
from autointerp.subject.products import Precision, Products

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PassSettings:
    """What a shard's bytes depend on besides weights and tokens; a resume with others is refused."""

    batch_size: int
    """Rows a forward pass; may change in an unfinished harvest, since each shard says what it was made with."""
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
    precision: Precision = "ieee"
    dense_limit: int = DENSE_LIMIT
    """Both as `subject.products.Products`; a plan names them where they are a GPU's."""
    part: HarvestPart | None = None
    """Only every `of`-th shard from `number` on, and nothing is closed; no shard's bytes depend on it."""

    @property
    def products(self) -> Products:
        """How the encoders' products are made."""
        return Products(self.precision, self.dense_limit)

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


_MAY_CHANGE = ("batch_size", "batch_size_asked")


def open_plans(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> tuple[list[Reader], PassSettings]:
    """Write each reader's plan, or hold an earlier one against this start; what an earlier one measured stays.

    Raises:
        UsageError: an earlier start was another one.
        RunError: a plan is damaged.
    """
    paths = {reader.spec.id: reader.folder / "plan.json" for reader in readers}
    plans = {name: read_plan(path) for name, path in paths.items() if path.is_file()}
    asked = settings.batch_size
    # Of all plans before any is written: the batch that one dictionary found room for is that of the whole pass.
    found = [plan["batch_size"] for plan in plans.values() if plan.get("batch_size_asked") == asked]
    settings = replace(settings, batch_size=min([asked, *found]))
    for plan in plans.values():  # a GPU's ways go on as they began, in old plans as a CPU's
        ways = Products(plan.get("precision", "ieee"), plan.get("dense_limit", DENSE_LIMIT))
        settings = replace(settings, precision=ways.precision, dense_limit=ways.dense_limit)
    planned = []
    for reader in readers:
        earlier = plans.get(reader.spec.id)
        if earlier is not None:
            if earlier.get("max_norm") == settings.max_norm:
                reader = replace(reader, norm_limit=earlier.get("norm_limit"))
            median, out = earlier.get("median_norm"), earlier.get("median_norm_out")
            reader = replace(reader, median_norm=median, median_norm_out=out)
            _compare(reader, earlier, make_plan(reader, corpus, settings))
        _write(reader, corpus, settings, asked)
        planned.append(reader)
    return planned, settings


def _write(reader: Reader, corpus: Corpus, settings: PassSettings, asked: int) -> None:
    plan = make_plan(reader, corpus, settings)
    halved = {} if asked == settings.batch_size else {"batch_size_asked": asked}
    write_atomically(reader.folder / "plan.json", seal({**plan, **halved}))


def note_medians(readers: Sequence[Reader], medians: Mapping[str, float | None]) -> list[Reader]:
    """Give the usual norms by hook point to readers without a shard that have none, and to their plans.

    An earlier start's shards counted by its own, or not at all.
    """
    found = []
    for reader in readers:
        if reader.median_norm is None and not any(reader.folder.glob("shard-*.safetensors")):
            median, out = medians.get(reader.spec.hook_point), medians.get(reader.dictionary.hook_out)
            reader = replace(reader, median_norm=median, median_norm_out=out)
            path = reader.folder / "plan.json"
            write_atomically(path, seal({**read_plan(path), "median_norm": median, "median_norm_out": out}))
        found.append(reader)
    return found


def _compare(reader: Reader, earlier: dict[str, Any], plan: dict[str, object]) -> None:
    for key, value in plan.items():
        if key == "device":
            earlier = {**earlier, key: device_type(str(earlier.get(key)))}
        if key not in _MAY_CHANGE and earlier.get(key) != value:
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
    of_a_cpu = Products()._asdict().items()
    return {
        "format_version": FORMAT_VERSION,
        "dictionary": reader.spec.id,
        **{key: value for key, value in asdict(settings).items() if key != "part" and (key, value) not in of_a_cpu},
        "device": device_type(settings.device),
        "corpus": corpus.digest,
        "context": corpus.context,
        "model": reader.spec.model,
        "rerandomise_seed": reader.spec.rerandomise_seed,
        "weights": reader.spec.weights_digest,
        "hook_point": reader.spec.hook_point,
        "norm_limit": reader.norm_limit,
        "median_norm": reader.median_norm,
        "median_norm_out": reader.median_norm_out,
    }


def halve_batch(readers: Sequence[Reader], corpus: Corpus, settings: PassSettings) -> PassSettings:
    """Half the batch where a device is out of memory, recorded in the plans, so that a resume begins with it.

    A part of several records nothing: the others may have room for the whole one.

    Raises:
        UsageError: the batch is one row.
    """
    if settings.batch_size == 1:
        fewer = ", harvest fewer dictionaries at once" if len(readers) > 1 else ""
        raise no_room(
            f"one row of {corpus.context} tokens",
            f"what is finished stays, so free some and start it again{fewer}, or choose another --out with a lower "
            f"[harvest] context",
        )
    smaller = replace(settings, batch_size=settings.batch_size // 2)
    log.warning("%s is out of memory: batches of %d rows from here on", settings.device, smaller.batch_size)
    release_memory(settings.device)
    if settings.part is None:
        for reader in readers:
            earlier = read_plan(reader.folder / "plan.json")
            _write(reader, corpus, smaller, earlier.get("batch_size_asked", earlier["batch_size"]))
    return smaller
