"""From a model's name to a wrapped `ChatModel`.

`provider:name` picks the provider; a prefix that is no known provider belongs to the name (`llama3.1:8b`), whose
provider is `openai`. With `AUTOINTERP_LOOPBACK_ONLY` set, as in the tests, any endpoint off this machine is refused.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from autointerp.addresses import host_of, is_loopback
from autointerp.errors import UsageError
from autointerp.llm.base import CallNotes, ChatModel, Endpoint, ReplyCache
from autointerp.llm.budget import Budget
from autointerp.llm.gate import Gate
from autointerp.llm.heartbeat import Heartbeat
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.pace import PATIENCE, Paced, Patience
from autointerp.llm.witness import Witness
from autointerp.llm.wrappers import Cached, Metered, Retrying

PROVIDERS: dict[str, type[OpenAICompatible]] = {"openai": OpenAICompatible}
DEFAULT_PROVIDER = "openai"
LOOPBACK_ONLY = "AUTOINTERP_LOOPBACK_ONLY"


@dataclass
class ConnectedModel:
    """A wrapped model with what a run wants to know of it."""

    model: ChatModel
    """Ask this one."""
    provider: OpenAICompatible
    """The bare endpoint: its models, what it refused, and `aclose`."""
    meter: Metered
    pace: Paced
    witness: Witness
    moved: dict[str, str]
    """As the cache's, where there is one."""

    @property
    def endpoint(self) -> Endpoint:
        """Who answers where."""
        return self.provider.endpoint

    async def aclose(self) -> None:
        """Close the connections."""
        await self.provider.aclose()


def split_model_name(name: str) -> tuple[str, str]:
    """Provider and model: `openai:gpt-x` is (`openai`, `gpt-x`), `llama3.1:8b` is (`openai`, `llama3.1:8b`)."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in PROVIDERS:
        provider, model = prefix, rest
    else:
        provider, model = DEFAULT_PROVIDER, name
    if not model.strip():
        raise UsageError(f"{name!r} names no model; write it as PROVIDER:NAME or NAME")
    return provider, model


def name_endpoint(name: str, base_url: str | None = None) -> Endpoint:
    """Who `connect_model` would ask; needs no key and connects nothing.

    Raises:
        UsageError: no model name, or no usable URL.
    """
    provider, model = split_model_name(name)
    return Endpoint(provider=provider, base_url=PROVIDERS[provider].url_of(base_url), model=model)


def connect_model(
    name: str,
    *,
    base_url: str | None = None,
    cache: ReplyCache | None = None,
    in_flight: int = 64,
    attempts: int = 8,
    timeout_s: float | None = None,
    first_pause_s: float = 0.5,
    patience: Patience = PATIENCE,
    gate: Gate | None = None,
    budget: Budget | None = None,
    notes: CallNotes | None = None,
    say: Callable[[str], None] = lambda text: None,
    with_key: bool = True,
) -> ConnectedModel:
    """A model behind cache, meter, retry and pace; opens no connection yet.

    Args:
        in_flight: requests at the same time, at most; how many there are is found out.
        timeout_s: of one answer; 120 s, and 600 s at a server of one's own, which may queue, where None.
        patience: how long the server may be away.
        gate: closed where something stops the run, and then heeded by all of its models.
        notes: told of every reply that is used, where there is a cache.
        say: told what a person who waits should know, a line at a time.
        with_key: whether the user's key may be sent there.

    Raises:
        UsageError: no model name, no usable URL, no key where one is needed, or a refused endpoint.
    """
    provider_name, model = split_model_name(name)
    provider = PROVIDERS[provider_name](model, base_url, timeout_s=timeout_s, connections=in_flight, with_key=with_key)
    _refuse_outside(provider.endpoint)
    gate = gate or Gate()
    heartbeat = Heartbeat(host_of(provider.endpoint.base_url), say)
    pace = _paced(provider, in_flight, gate, heartbeat, patience)
    provider.heed = pace.pause
    retrying = Retrying(pace, attempts=attempts, first_pause_s=first_pause_s, gate=gate, heartbeat=heartbeat)
    witness = Witness(retrying, model, heartbeat.host, say)
    meter = Metered(witness, gate, budget, heartbeat=heartbeat)
    moved: dict[str, str] = {}
    wrapped: ChatModel = meter
    if cache is not None:
        wrapped = Cached(meter, cache, provider.endpoint, notes, gate, witness, moved=moved)
    return ConnectedModel(wrapped, provider, meter, pace, witness, moved)


def _paced(provider: OpenAICompatible, in_flight: int, gate: Gate, heartbeat: Heartbeat, patience: Patience) -> Paced:
    """The provider, given as much at once as it takes."""
    return Paced(
        provider,
        in_flight,
        gate,
        near=provider.near,
        timeout_s=provider.timeout_s,
        slots=provider.slots,
        heartbeat=heartbeat,
        patience=patience,
    )


def _refuse_outside(endpoint: Endpoint) -> None:
    if not os.environ.get(LOOPBACK_ONLY):
        return
    if not is_loopback(endpoint.base_url):
        host = host_of(endpoint.base_url)
        raise UsageError(
            f"{LOOPBACK_ONLY} is set, so the endpoint at {host} is refused; unset it to leave this machine"
        )
