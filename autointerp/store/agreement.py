"""Whether a start may go on with what another one began: which settings a run folder keeps one value of.

Two configurations and a harvest's folder flow in; nothing, or a sentence that names the setting, flows out.
"""

import json
from pathlib import Path

from pydantic import BaseModel

from autointerp.config import RunConfig
from autointerp.errors import UsageError
from autointerp.settings import device_type

_FIXED = ("model", "hook_point", "corpus", "records", "seed", "harvest")
"""What a run's harvest depends on."""
_FIXED_BY_TOKENS = ("model", "corpus", "records")
_TOKEN_SETTINGS = ("context", "prepend_bos", "text_column", "n_tokens", "pack")
"""Of `[harvest]`, what its tokens depend on."""
_FREE_WHILE_UNFINISHED = ("batch_size", "loss_tokens")
"""What may have stopped a harvest for want of memory."""


def check_agreement(run: Path, harvest: Path, earlier: RunConfig, asked: RunConfig) -> None:
    """Hold a start against an earlier one in the same folder.

    Raises:
        UsageError: they differ in what finished work depends on.
    """
    only_tokens = any(harvest.glob("*/corpus.json")) and not any(harvest.glob("*/plan.json"))
    for key in _FIXED_BY_TOKENS if only_tokens else _FIXED:
        if key == "corpus" and whole_path(earlier.corpus) == whole_path(asked.corpus):
            continue
        if key == "harvest":
            earlier = _with_what_may_change(harvest, earlier, asked)
        _agree(run, key, getattr(earlier, key), getattr(asked, key))
    if only_tokens:
        for key in _TOKEN_SETTINGS:
            _agree(run, f"[harvest] {key}", getattr(earlier.harvest, key), getattr(asked.harvest, key))
        return
    known = {d.id: d for d in earlier.dictionary}
    for dictionary in asked.dictionary:
        if dictionary.id in known:
            _agree(run, f"dictionary {dictionary.id}", known[dictionary.id], dictionary)


def whole_path(spec: str) -> str:
    """A file's or folder's whole path, as it lies from here; anything else as it is."""
    return str(Path(spec).resolve()) if Path(spec).exists() else spec


def _with_what_may_change(harvest: Path, earlier: RunConfig, asked: RunConfig) -> RunConfig:
    """The earlier settings, with this start's where another value takes nothing from what is finished.

    Which of several devices of a type makes the rest is free, and what `auto` comes to is the plans' to hold.
    """
    free: list[str] = []
    if "auto" in (str(earlier.harvest.dtype), str(asked.harvest.dtype)):
        free.append("dtype")
    devices = [device_type(config.harvest.device) for config in (earlier, asked)]
    if "auto" in devices or devices[0] == devices[1]:
        free.append("device")
    if not all((harvest / d.id / "manifest.json").is_file() for d in asked.dictionary):
        free.extend(_FREE_WHILE_UNFINISHED)
    now = {name: getattr(asked.harvest, name) for name in free}
    return earlier.model_copy(update={"harvest": earlier.harvest.model_copy(update=now)})


def _agree(run: Path, key: str, earlier: object, asked: object) -> None:
    if isinstance(earlier, BaseModel) and isinstance(asked, BaseModel):
        table = "[harvest]" if key == "harvest" else key
        for name in type(earlier).model_fields:
            _agree(run, f"{table} {name}", getattr(earlier, name), getattr(asked, name))
    elif earlier != asked:
        raise UsageError(
            f"{run} holds a run with {key} = {_say(earlier)}, not {_say(asked)}; "
            f"ask for that again or choose another --out"
        )


def _say(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, default=str)
