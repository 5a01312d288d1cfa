"""From a configuration to who explains and who simulates: the look-up path, or a language model behind its wrappers.

A configuration and a run's folder flow in; an explainer and a simulator with the keys of their results flow out. What
the endpoint was seen to do is kept with the run, and decides the simulator where the configuration does not.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from autointerp.asking import may_send_key
from autointerp.config import ExplainerName, RunConfig, SimulatorName
from autointerp.endpoints import keep_capabilities, known_capabilities, learn_capabilities
from autointerp.errors import UsageError
from autointerp.interpret.explain import Explainer, Refiner
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.lookup import LookupExplainer, LookupSimulator
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.simulate_llm import (
    PromptLogprobsSimulator,
    StructuredSimulator,
    TopLogprobsSimulator,
    make_llm_simulator,
)
from autointerp.listener import SILENT, Listener, Spending
from autointerp.llm.answers import AnswerFunction
from autointerp.llm.base import Capabilities, ChatModel, Endpoint
from autointerp.llm.budget import Budget
from autointerp.llm.collector import rare_collections
from autointerp.llm.foreseen import Foreseen
from autointerp.llm.gate import Breaker, Gate
from autointerp.llm.manner import in_manner
from autointerp.llm.prices import Prices
from autointerp.llm.registry import connect_model, name_endpoint
from autointerp.llm.unasked import Missing, Unasked
from autointerp.llm.wrappers import Cached, Watched
from autointerp.plans import Retries, asks_again
from autointerp.records import Usage
from autointerp.store.calls import CallLog
from autointerp.store.folder import RunFolder
from autointerp.store.replies import SqliteReplyCache
from autointerp.store.unusable import UnusableReplies

FEATURES_AT_A_TIME = 16
"""At least, with a language model, and one for each request that may be in flight."""


@dataclass(frozen=True)
class Backends:
    """Who explains and simulates, and under which keys their results stand in the store."""

    explainer: Explainer
    refiner: Refiner | None
    """Who revises explanations, where the explainer can."""
    explainer_key: str
    simulator: Simulator
    simulator_key: str
    concurrency: int
    prompts: dict[str, str]
    """Digest of each prompt in use."""
    spending: Callable[[], Spending] | None = None
    """What the run has cost until now; None where nobody is asked for money."""
    taken: str = ""
    """What is taken for granted of an endpoint that nobody ever asked, in a sentence; empty where nothing is."""


@dataclass(frozen=True)
class _Endpoint:
    """A model behind the cache, and what it was seen to do."""

    name: Endpoint
    model: ChatModel
    capabilities: Capabilities
    taken: bool = False
    """Whether nobody ever asked it what it does."""
    spending: Callable[[], Spending] | None = None
    moved: Mapping[str, str] = field(default_factory=dict)
    """Where replies of this model stand whose questions' own digests are another one's."""
    keep: Callable[[], None] = lambda: None
    """Keeps what it was seen to do, and who answered until now, with the run."""


@asynccontextmanager
async def open_backends(
    config: RunConfig,
    folder: RunFolder | None,
    gate: Gate | None = None,
    missing: Missing | None = None,
    listener: Listener = SILENT,
    *,
    scoring: bool = True,
) -> AsyncIterator[Backends]:
    """The configured explainer and simulator, connected until the block ends; without a folder nothing is kept.

    Closing the gate ends the asking. With `missing` nothing is connected: answers come from the cache alone, and it is
    told every question that has none there. Without `scoring` there is a simulator only where explaining needs one.

    Raises:
        UsageError: no key, no usable URL, or an endpoint that cannot do what was asked.
        StoppedError: the endpoint refuses the key or does not know the model, or the reply cache cannot be written.
        RunError: the endpoint cannot be reached.
    """
    if config.llm is None:
        yield Backends(LookupExplainer(), None, "lookup", LookupSimulator(), "lookup", 1, {})
        return
    gate = gate or Gate()
    spare = folder.replies if folder else None
    with (
        SqliteReplyCache(config.cache, spare, listener.note) as cache,
        CallLog(folder.calls) if folder else nullcontext() as calls,
    ):
        async with (
            _connected(config, folder, gate, cache, calls, listener, scoring=scoring)
            if missing is None
            else _unasked(config, folder, missing, cache, calls)
        ) as endpoint:
            if folder:
                breaker = Breaker(gate, config.endpoint.most_failed)
                unusable, moved = UnusableReplies(folder.unusable), endpoint.moved

                def note(reason: str, digests: Sequence[str]) -> None:
                    unusable.note(reason, [moved.get(digest, digest) for digest in digests])

                endpoint = replace(endpoint, model=Watched(endpoint.model, endpoint.name, breaker, note))
            backends = _choose(config, endpoint, scoring=scoring)
            endpoint.keep()  # not before: what stops the run is asked anew by the next one
            yield backends
        if cache.failure:
            raise cache.failure


@asynccontextmanager
async def _unasked(
    config: RunConfig, folder: RunFolder | None, missing: Missing, cache: SqliteReplyCache, calls: CallLog | None
) -> AsyncIterator[_Endpoint]:
    """The cache alone, in the place of an endpoint."""
    assert config.llm is not None
    name = name_endpoint(config.llm, config.base_url)
    known = known_capabilities(config, folder, cache)
    cached = Cached(Unasked(name, missing), cache, name, calls, also=known.seen.served)
    yield _Endpoint(name, cached, known.seen, taken=not known.probed)


@asynccontextmanager
async def _connected(
    config: RunConfig,
    folder: RunFolder | None,
    gate: Gate,
    cache: SqliteReplyCache,
    calls: CallLog | None,
    listener: Listener,
    *,
    scoring: bool,
) -> AsyncIterator[_Endpoint]:
    """The endpoint behind the cache, probed where nothing is known of it."""
    assert config.llm is not None
    budget = budget_for(config, name_endpoint(config.llm, config.base_url), calls, gate)
    connected = connect_model(
        config.llm,
        base_url=config.base_url,
        cache=cache,
        in_flight=config.endpoint.in_flight,
        timeout_s=config.endpoint.timeout_s,
        gate=gate,
        budget=budget,
        notes=calls,
        say=listener.note,
        with_key=may_send_key(config, folder.named() if folder else {}),
    )
    try:
        seen = await learn_capabilities(connected, config, folder, config.simulator if scoring else None)

        def keep() -> None:
            if folder:
                keep_capabilities(connected, config, folder, seen)

        def open_end() -> None:
            keep()
            connected.witness.learnt = keep

        with rare_collections():
            yield _Endpoint(
                connected.endpoint,
                connected.model,
                seen,
                spending=budget.spending,
                moved=connected.moved,
                keep=open_end,
            )
    finally:
        await connected.aclose()


@contextmanager
def foreseen_backends(
    config: RunConfig, folder: RunFolder, answer: AnswerFunction
) -> Iterator[tuple[Backends, Foreseen]]:
    """The configured explainer and simulator over an endpoint that is not asked, and what counts its questions.

    Answers that the cache lacks are made up by the function; nothing is connected and nothing kept.

    Raises:
        UsageError: no model name, no usable URL, or an endpoint that cannot do what was asked.
    """
    assert config.llm is not None
    name = name_endpoint(config.llm, config.base_url)
    with SqliteReplyCache(config.cache, folder.replies) as cache:
        known = known_capabilities(config, folder, cache)
        model = Foreseen(name, cache.get, answer, known.seen.rejected)
        yield _choose(config, _Endpoint(name, model, known.seen, taken=not known.probed), scoring=True), model


def budget_for(
    config: RunConfig, endpoint: Endpoint, calls: CallLog | None, gate: Gate, *, batch: bool = False
) -> Budget:
    """The run's budget, with what was paid already counted at what it cost; with `batch` the rest at a batch's price.

    Raises:
        UsageError: there is a budget in dollars and no price.
    """
    prices = Prices(config.prices)
    quote = prices.quote(endpoint)
    if quote is None and config.budget_usd is not None:
        raise UsageError(
            f"no price is known for {endpoint.model} at {endpoint.base_url}, so a budget in dollars cannot be kept; "
            f"give one with prices = FILE in the configuration, or use --budget-tokens"
        )
    accounts = calls.accounts() if calls else {}
    paid = [(account, usage) for account, usage in accounts.items() if account.via != "cache"]
    before = sum(prices.price(a.endpoint, usage, batch=a.via == "batch") or 0.0 for a, usage in paid)
    spent = sum((usage for _, usage in paid), Usage())
    price = None if quote is None else lambda usage: before + quote.price(usage - spent, batch=batch)
    return Budget(gate, config.budget_tokens, config.budget_usd, price, spent)


async def probe_endpoint(config: RunConfig, folder: RunFolder, listener: Listener) -> None:
    """Ask the configured endpoint what it does, unless that is known.

    Raises:
        UsageError: no key or no usable URL.
        LlmError: it could not be asked.
    """
    with SqliteReplyCache(config.cache) as cache:
        async with _connected(config, folder, Gate(), cache, None, listener, scoring=True) as endpoint:
            _choose(config, endpoint, scoring=True)
            endpoint.keep()


def forget_unusable(config: RunConfig, folder: RunFolder, retries: Retries) -> None:
    """Make the cache forget the replies that failed items could not use, so that they are asked for again."""
    unusable, wanted = UnusableReplies(folder.unusable), partial(asks_again, retries)
    with SqliteReplyCache(config.cache, folder.replies) as cache:
        cache.forget(unusable.take(wanted))
    unusable.drop(wanted)


def _choose(config: RunConfig, endpoint: _Endpoint, *, scoring: bool) -> Backends:
    endpoint = replace(endpoint, model=in_manner(endpoint.model, config.endpoint))
    explainer = EXPLAINERS[config.explainer_name](endpoint)
    usable = endpoint.capabilities.top_logprobs > 0 and endpoint.capabilities.logprobs_differ
    name: SimulatorName = config.simulator or ("top-logprobs" if usable else "structured")
    if not scoring and config.explain.candidates == 1 and not config.explain.refine:
        name = "structured"  # nobody asks it, and it needs nothing
    simulator = SIMULATORS[name](endpoint)
    explainer_key, simulator_key, prompts = "lookup", simulator.name, {}
    if isinstance(explainer, TsvExplainer):
        prompts["explain-tsv"] = explainer.prompt_digest
        explainer_key = f"tsv {explainer.author} {_short(explainer.prompt_digest)} best of {config.explain.candidates}"
        if config.explain.refine:
            prompts["refine-tsv"] = explainer.refine_digest
            explainer_key += f" refined {_short(explainer.refine_digest)}"
    if isinstance(simulator, StructuredSimulator | TopLogprobsSimulator | PromptLogprobsSimulator):
        prompts["simulate"] = simulator.prompt_digest(targets=PROTOCOLS[config.protocol].design.targets)
        simulator_key = f"{simulator.name} {_short(prompts['simulate'])}"
    refiner = explainer if isinstance(explainer, TsvExplainer) and config.explain.refine else None
    at_a_time = max(FEATURES_AT_A_TIME, config.endpoint.in_flight)
    return Backends(
        explainer=explainer,
        refiner=refiner,
        explainer_key=explainer_key,
        simulator=simulator,
        simulator_key=simulator_key,
        concurrency=at_a_time,
        prompts=prompts,
        spending=endpoint.spending,
        taken=_say_taken(endpoint, simulator) if endpoint.taken else "",
    )


def _say_taken(endpoint: _Endpoint, simulator: Simulator) -> str:
    return (
        f"{endpoint.name.model} at {endpoint.name.base_url} was never asked what it can do: it is taken to honour JSON "
        f"schemas{' and to give log probabilities' if endpoint.capabilities.top_logprobs else ''}, so the simulator is "
        f"{simulator.name}; choose another with --simulator"
    )


def _short(tagged: str) -> str:
    return tagged.partition(":")[2][:12]


EXPLAINERS: dict[ExplainerName, Callable[[_Endpoint], Explainer]] = {
    "lookup": lambda endpoint: LookupExplainer(),
    "tsv": lambda endpoint: TsvExplainer(endpoint.model),
}
SIMULATORS: dict[SimulatorName, Callable[[_Endpoint], Simulator]] = {
    "lookup": lambda endpoint: LookupSimulator(),
    "top-logprobs": lambda endpoint: make_llm_simulator("top-logprobs", endpoint.model, endpoint.capabilities),
    "structured": lambda endpoint: make_llm_simulator("structured", endpoint.model, endpoint.capabilities),
    "prompt-logprobs": lambda endpoint: make_llm_simulator("prompt-logprobs", endpoint.model, endpoint.capabilities),
}
