"""The path to a language model: its cost beside the bare client, a rate limit, and faults.

    python tests/bench/bench_llm.py [--requests 4000] [--rounds 3] [--only path|limit|faults]

`path`: a server process on one core, this process on another, 0.3 s latency, answers of 64 tokens with the 11 likeliest
at each. The floor is the `openai` client's untyped post on aiohttp, its JSON decoded to text, end, usage and log
probabilities, with nothing cached or stored. Ours is `interpret.ask` through cache, meter, retry and pace, the request
built and the levels read. Rounds alternate; the median is shown. CPU is this process's, all threads.

`limit`: the test server takes 100 requests a second. `faults`: 5,000 requests at 0.3 s latency, 64 in flight all the
time, with 30 % transient first answers (5xx, cut, malformed, a time-out at 2 s) and 2 % permanent ones (refusal,
context too long).
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai

from autointerp.interpret.ask import Asked, ask
from autointerp.interpret.parse import NUMBERS, Distributions, Unparsed, parse_distributions
from autointerp.interpret.questions import Question, make_questions
from autointerp.llm.base import ChatRequest
from autointerp.llm.collector import rare_collections
from autointerp.llm.negotiate import Negotiation
from autointerp.llm.registry import ConnectedModel, connect_model
from autointerp.llm.testserver.journal import read_journal
from autointerp.records import Explanation, FeatureId, Window
from autointerp.store.replies import SqliteReplyCache
from tests.bench.pinned import N_LEVELS, cheap_server, pin
from tests.flows.rehearsal import rehearsing

LATENCY_S = 0.3
IN_FLIGHT = (256, 512)
RATE = 100.0
TRANSIENT, PERMANENT = 0.30, 0.02
TRANSIENT_KINDS = ("server-error", "cut", "malformed", "timeout")
PERMANENT_KINDS = ("refusal", "context-too-long")
WORKERS = 256
ANSWERER = "tests.bench.bench_llm:thirteen_levels"


def thirteen_levels(_: dict[str, object]) -> str:
    """What the test server says in `limit` and `faults`."""
    return json.dumps({str(i): i % 10 for i in range(1, N_LEVELS + 1)})


class Measured(NamedTuple):
    """One way of asking, once."""

    per_s: float
    cpu_ms: float
    """Per request."""


def questions(n: int, start: int = 0) -> list[Question]:
    """Questions of one window each, all different."""
    feature = FeatureId(dictionary="bench", index=0)
    found = []
    for i in range(start, start + n):
        explanation = Explanation(
            feature=feature, text=f"the number {i} in words", author="human", method="human", examples_digest="none"
        )
        found += make_questions("numbers", explanation, [Window(tuple(f" w{i}-{j}" for j in range(N_LEVELS)))])
    return found


async def ask_one(model: ConnectedModel, question: Question) -> Asked[Distributions]:
    """One question through everything."""

    def request(attempt: int, said: str | None) -> ChatRequest:
        return question.request(attempt, said, top_logprobs=11)

    return await ask(model.model, request, lambda reply: parse_distributions(reply, N_LEVELS, NUMBERS))


async def all_of(work: list[Callable[[], Awaitable[None]]], in_flight: int) -> None:
    """Do it all, so many at a time, by as many workers."""
    left = iter(work)

    async def worker() -> None:
        for piece in left:
            await piece()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def timed(run: Awaitable[None], n: int) -> Measured:
    """Requests a second and processor time a request."""
    began, cpu = time.perf_counter(), time.process_time()
    await run
    return Measured(n / (time.perf_counter() - began), (time.process_time() - cpu) / n * 1e3)


async def floor(base_url: str, n: int, in_flight: int) -> Measured:
    """The bare client."""
    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    http = openai.DefaultAioHttpClient(limits=limits, timeout=httpx2.Timeout(60.0))
    client = openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0, http_client=http)
    bodies = [Negotiation().body(question.request(0, None, top_logprobs=11), "m") for question in questions(n)]

    def asking(body: dict[str, object]) -> Callable[[], Awaitable[None]]:
        async def piece() -> None:
            data = json.loads(await client.post("/chat/completions", cast_to=bytes, body=body))
            choice = data["choices"][0]
            taken = (
                choice["message"]["content"],
                choice["finish_reason"],
                data["usage"],
                choice["logprobs"]["content"],
            )
            assert len(taken[3]) == 64

        return piece

    await all_of([asking(body) for body in bodies[:in_flight]], in_flight)  # opens the connections
    measured = await timed(all_of([asking(body) for body in bodies], in_flight), n)
    await client.close()
    return measured


async def ours(base_url: str, n: int, in_flight: int) -> Measured:
    """The whole path, with an empty cache on disk."""
    with tempfile.TemporaryDirectory() as folder, SqliteReplyCache(Path(folder) / "replies.sqlite") as cache:
        connected = connect_model("m", base_url=base_url, cache=cache, in_flight=in_flight)

        def asking(question: Question) -> Callable[[], Awaitable[None]]:
            async def piece() -> None:
                answer = await ask_one(connected, question)
                assert isinstance(answer.value, Distributions), answer.value

            return piece

        with rare_collections():
            await all_of([asking(question) for question in questions(4 * in_flight, start=n)], in_flight)
            measured = await timed(all_of([asking(question) for question in questions(n)], in_flight), n)
        await connected.aclose()
    return measured


def bench_path(n: int, rounds: int) -> None:
    """Floor and ours, alternating."""
    print(f"whole path beside the bare client: {n} requests, {LATENCY_S} s latency, median of {rounds}")
    print(f"{'in flight':>9} {'':8} {'req/s':>7} {'CPU ms':>7} {'of floor':>9}")
    pin(0)
    for in_flight in IN_FLIGHT:
        found: dict[str, list[Measured]] = {"floor": [], "ours": []}
        with cheap_server(LATENCY_S, core=1) as base_url:
            for _ in range(rounds):
                found["floor"].append(asyncio.run(floor(base_url, n, in_flight)))
                found["ours"].append(asyncio.run(ours(base_url, n, in_flight)))
        shares = [mine.per_s / bare.per_s for mine, bare in zip(found["ours"], found["floor"], strict=True)]
        for name, rows in found.items():
            share = f"{statistics.median(shares):9.2f}" if name == "ours" else ""
            middle = [statistics.median(column) for column in zip(*rows, strict=True)]
            print(f"{in_flight:>9} {name:8} {middle[0]:7.0f} {middle[1]:7.2f} {share}", flush=True)


class Ended(NamedTuple):
    """What became of some questions."""

    wall_s: float
    reasons: Counter[str]
    """`done`, or why not."""


async def ask_all(
    base_url: str, n: int, in_flight: int, timeout_s: float, cache: SqliteReplyCache, *, fixed: bool
) -> Ended:
    """n questions, by 256 workers, to a server that answers thirteen levels as JSON; `fixed` as many in flight."""
    connected = connect_model("m", base_url=base_url, cache=cache, in_flight=in_flight, timeout_s=timeout_s)
    if fixed:
        connected.pace.growth.value = float(in_flight)
    reasons: Counter[str] = Counter()

    def asking(question: Question) -> Callable[[], Awaitable[None]]:
        async def piece() -> None:
            answer = await ask(
                connected.model,
                lambda attempt, said: question.request(attempt, said),
                lambda reply: Unparsed("refused", "") if reply.refused else len(reply.text),
            )
            reasons[answer.value.reason if isinstance(answer.value, Unparsed) else "done"] += 1

        return piece

    pieces = [asking(question) for question in questions(n)]
    began = time.perf_counter()
    await all_of(pieces, WORKERS)
    wall_s = time.perf_counter() - began
    await connected.aclose()
    return Ended(wall_s, reasons)


@contextmanager
def a_cache() -> Iterator[SqliteReplyCache]:
    """A new one, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, SqliteReplyCache(Path(folder) / "replies.sqlite") as cache:
        yield cache


def served(
    options: Mapping[str, str], n: int, in_flight: int, timeout_s: float, *, fixed: bool
) -> tuple[Ended, Counter[str]]:
    """A run against a test server process with these options; the second value counts statuses by its log."""
    with tempfile.TemporaryDirectory() as folder, a_cache() as cache:
        log = Path(folder) / "log.jsonl"
        given = [piece for name, value in options.items() for piece in (f"--{name}", value)]
        with rehearsing("--answer", ANSWERER, "--log", str(log), *given) as base_url:
            ended = asyncio.run(ask_all(base_url, n, in_flight, timeout_s, cache, fixed=fixed))
        return ended, Counter(str(entry.status) for entry in read_journal(log) if entry.digest)


def bench_limit(n: int) -> None:
    """A limit of 100 requests a second."""
    print(f"\nrate limit of {RATE:g}/s, {LATENCY_S} s latency, {n} requests by 256 workers, at most 256 in flight")
    ended, statuses = served({"rate-limit": f"{RATE:g}", "latency": str(LATENCY_S)}, n, 256, 60.0, fixed=False)
    per_s = ended.reasons["done"] / ended.wall_s
    print(f"{per_s:.1f}/s, {per_s / RATE:.0%} of it; rejected {statuses['429']}; ended {dict(ended.reasons)}")


def bench_faults(n: int) -> None:
    """Transient and permanent faults beside a run without."""
    shares = {kind: TRANSIENT / len(TRANSIENT_KINDS) for kind in TRANSIENT_KINDS}
    shares |= {kind: PERMANENT / len(PERMANENT_KINDS) for kind in PERMANENT_KINDS}
    faults = ",".join(f"{kind}={share:g}" for kind, share in shares.items())
    print(f"\nfaults: {n} requests, {LATENCY_S} s latency, 64 in flight, time-out 2 s; {faults}")
    plain, _ = served({"latency": str(LATENCY_S)}, n, 64, 2.0, fixed=True)
    broken, statuses = served({"latency": str(LATENCY_S), "faults": faults}, n, 64, 2.0, fixed=True)
    print(f"fault-free {plain.wall_s:.1f} s {dict(plain.reasons)}")
    ratio = broken.wall_s / plain.wall_s
    print(f"with faults {broken.wall_s:.1f} s ({ratio:.2f} times) {dict(broken.reasons)}; statuses {dict(statuses)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["path", "limit", "faults"])
    args = parser.parse_args()
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if args.only in (None, "path"):
        bench_path(args.requests, args.rounds)
    if args.only in (None, "limit"):
        bench_limit(6000)
    if args.only in (None, "faults"):
        bench_faults(5000)


if __name__ == "__main__":
    main()
