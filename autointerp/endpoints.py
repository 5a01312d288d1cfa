"""What a run's endpoints were seen to do, and who answered there: kept with the run, asked anew where it may have
changed.

A connected model, or a configuration alone, and a run's folder flow in; capabilities flow out. What stops a run is
never kept.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from autointerp.config import RunConfig, SimulatorName
from autointerp.endpoint_config import EndpointConfig
from autointerp.llm.base import Capabilities, ChatModel, Endpoint
from autointerp.llm.manner import in_manner, label
from autointerp.llm.probe import probe, probe_prompts, unprobed
from autointerp.llm.registry import ConnectedModel, name_endpoint
from autointerp.llm.witness import foreign_names
from autointerp.provenance import digest
from autointerp.store.folder import RunFolder, damaged_note
from autointerp.store.replies import SqliteReplyCache

BELIEVED_S = 24 * 3600.0
"""How long a probe is believed: servers are started again with other flags, and other models."""
_NOTE = "endpoints"


async def learn_capabilities(
    connected: ConnectedModel, config: RunConfig, folder: RunFolder | None, simulator: SimulatorName | None
) -> Capabilities:
    """What the endpoint was seen to do: as kept with the run where that is of today, else asked now.

    Raises:
        LlmError: it could not be asked.
    """
    kept = kept_capabilities(connected.endpoint, config.endpoint, folder)
    witness = connected.witness
    if kept is not None:
        witness.names |= dict.fromkeys(kept.served)
        witness.crossed = kept.crossed
    if kept is not None and kept.seen is not None and 0 <= time.time() - kept.seen < BELIEVED_S:
        connected.provider.assume(kept.rejected, kept.window, kept.longest_read)
        seen = kept
    else:
        asked: ChatModel = in_manner(connected.meter, config.endpoint)
        seen = await probe(connected.provider, asked)
        seen = seen.model_copy(update={"seen": time.time()})
    if simulator == "prompt-logprobs" and seen.prompt_logprobs is None:
        seen = seen.model_copy(update={"prompt_logprobs": await probe_prompts(connected.provider)})
    return seen


def keep_capabilities(connected: ConnectedModel, config: RunConfig, folder: RunFolder, seen: Capabilities) -> None:
    """Keep what was seen with the run; where another model answers by now, so that the next start asks anew."""
    witness = connected.witness
    update = {
        "served": tuple(witness.names),
        "crossed": witness.crossed,
        "seen": None if witness.swapped else seen.seen,
    }
    seen = seen.model_copy(update=update)
    notes, key = folder.read_note(_NOTE), _key(seen.endpoint, config.endpoint)
    value = seen.model_dump(mode="json")
    if notes.get(key) != value:
        folder.write_note(_NOTE, {**notes, key: value})


def forget_probes(folder: RunFolder) -> None:
    """Let the next start ask every endpoint anew what it does; who answered stays known. Locks the run."""
    if not folder.path.is_dir():
        return
    with folder.lock():
        notes = folder.read_note(_NOTE)
        if notes:
            folder.write_note(_NOTE, {key: {**value, "seen": None} for key, value in notes.items()})


def kept_capabilities(endpoint: Endpoint, manner: EndpointConfig, folder: RunFolder | None) -> Capabilities | None:
    """What is kept with the run; None where nothing is.

    Raises:
        RunError: it is damaged.
    """
    if folder is None:
        return None
    kept = folder.read_note(_NOTE).get(_key(endpoint, manner))
    try:
        return None if kept is None else Capabilities.model_validate(kept)
    except ValidationError:
        raise damaged_note(folder.path / f"{_NOTE}.json") from None


def _key(endpoint: Endpoint, manner: EndpointConfig) -> str:
    """An endpoint that is asked in a manner of its own may do other things."""
    special = label(manner)
    return digest([endpoint.model_dump(), special]) if special else digest(endpoint.model_dump())


class Answerers(NamedTuple):
    """Who answered under the name of a model that was asked."""

    asked: str
    served: tuple[str, ...]
    crossed: int


def read_answerers(folder: RunFolder, config: RunConfig) -> Answerers | None:
    """Who answered for the model of a run's configuration; None where nobody is known to have.

    Raises:
        RunError: what the run keeps of it is damaged.
    """
    if config.llm is None:
        return None
    kept = kept_capabilities(name_endpoint(config.llm, config.base_url), config.endpoint, folder)
    return None if kept is None else Answerers(kept.endpoint.model, kept.served, kept.crossed)


def tell_answerers(who: Answerers | None) -> Iterator[str]:
    """What a reader of the run's scores should know of who answered, in sentences."""
    if who is None:
        return
    foreign = foreign_names(who.asked, who.served)
    if foreign:
        yield (
            f"{' and '.join(who.served)} answered where {who.asked} was asked: the server calls itself so, and the "
            f"scores are that model's."
        )
    elif set(who.served) - {who.asked}:
        yield f"{who.asked} was answered by {' and '.join(who.served)}."
    if who.crossed:
        yield (
            f"{who.crossed:,} answers came with the id of an answer to another question; something on the way to the "
            f"endpoint may have mixed up answers, and scores with them."
        )


class Known(NamedTuple):
    """What is known of an endpoint without asking it."""

    seen: Capabilities
    probed: bool
    """Whether it was ever asked; else it is taken for granted."""


def known_capabilities(config: RunConfig, folder: RunFolder | None, cache: SqliteReplyCache) -> Known:
    """What the endpoint was seen to do, as kept with the run or with imported replies, or is taken to do.

    Taken for granted are log probabilities where the configuration names the simulator that needs them, and none
    elsewhere.
    """
    assert config.llm is not None
    endpoint = name_endpoint(config.llm, config.base_url)
    asks_prompts = config.simulator == "prompt-logprobs"
    taken = unprobed(endpoint, logprobs=config.simulator == "top-logprobs", prompt_logprobs=asks_prompts)
    kept = kept_capabilities(endpoint, config.endpoint, folder) or cache.capabilities(endpoint)
    if kept is None:
        return Known(taken, False)
    if asks_prompts and kept.prompt_logprobs is None:
        return Known(kept.model_copy(update={"prompt_logprobs": taken.prompt_logprobs}), False)
    return Known(kept, True)
