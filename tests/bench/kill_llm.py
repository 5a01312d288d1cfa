"""Kills a run that asks a language model, again and again, and counts what was asked for twice.

    python tests/bench/kill_llm.py [--features 1000] [--kills 20] [--seed 1] [--work FOLDER]

Bare records of planted features are explained and scored through the test server, in a process of its own that lives
on and logs what it receives. One run is undisturbed; the other is killed with SIGKILL when the server has received a
random number of its requests, and started again. Then both stores are compared row by row, without what is no result.
A request that was received more than once must have been in flight at a kill: sent and not yet answered by the log, or
answered in the last half second, when its reply may not have reached the disk. Takes several minutes; by hand.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autointerp.llm.testserver.journal import Entry, read_journal
from tests.flows.rehearsal import rehearsing

COMMAND = [sys.executable, "-c", "from autointerp.cli.main import main; main()"]
IN_FLIGHT = 64
LATENCY_S = 0.1
JUST_S = 0.5
RECORDS, TOKENS = 60, 16
SYLLABLES = ("ba", "do", "fe", "gi", "ku", "la", "mo", "ne", "pi", "ru", "sa", "to")
TABLES = ("explanations", "scores", "simulations", "outcomes", "records")


class Kill(NamedTuple):
    """One, in seconds since 1970."""

    sent: float
    over: float
    """From here on nothing of the killed process arrives."""


def main() -> int:
    """One undisturbed run, one killed as often as asked; 0 where they end alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    os.environ.update({"OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"})
    write_records(work / "records.jsonl", asked.features)
    log = work / "log.jsonl"
    with rehearsing("--answer", "lookup", "--latency", str(LATENCY_S), "--log", str(log)) as base_url:
        began = time.monotonic()
        run(start(work, "whole", base_url))
        whole = [entry for entry in read_journal(log) if entry.stage]
        seconds = time.monotonic() - began
        print(f"undisturbed: {seconds:.0f} s, {len(whole)} requests, {repeated(whole)} more than once", flush=True)
        draw = random.Random(asked.seed)
        moments = sorted(draw.uniform(0, len(whole)) for _ in range(asked.kills))
        kills = [kill_at(start(work, "killed", base_url), log, len(whole) + int(moment)) for moment in moments]
        run(start(work, "killed", base_url))
    return report(work, log, len(whole), kills)


def report(work: Path, log: Path, n_whole: int, kills: list[Kill]) -> int:
    """Say what was asked for twice and what differs."""
    entries = [entry for entry in read_journal(log) if entry.stage][n_whole:]
    open_at: list[set[str | None]] = [
        {e.digest for e in entries if e.time <= kill.over and kill.sent <= e.time + e.seconds + JUST_S}
        for kill in kills
    ]
    asked_again: Counter[int] = Counter()
    strays, last = 0, dict[str | None, float]()
    for entry in sorted(entries, key=lambda entry: entry.time):
        before = last.get(entry.digest)
        if before is not None:
            met = next((i for i, kill in enumerate(kills) if kill.over >= before), None)
            asked_again[-1 if met is None else met] += 1
            strays += met is None or entry.digest not in open_at[met]
        last[entry.digest] = entry.time
    for i, kill in enumerate(kills):
        n = sum(entry.time <= kill.sent for entry in entries)
        print(f"kill {i + 1:2}: {n:6} received, {len(open_at[i]):3} in flight, {asked_again[i]:3} received again")
    print(f"received again: {asked_again.total()} of {len(last)}, {strays} of them not in flight at a kill")
    counts = {table: len(rows(work / "whole", table)) for table in TABLES}
    differing = [table for table in TABLES if rows(work / "whole", table) != rows(work / "killed", table)]
    print(f"rows compared: {counts}, differing: {differing or 'none'}")
    return int(bool(differing) or strays > 0)


def write_records(path: Path, n_features: int) -> None:
    """Each feature fires on a word of its own, among words that differ from record to record."""
    with path.open("w", encoding="utf-8") as file:
        for feature in range(n_features):
            rng = np.random.default_rng(feature)
            for _ in range(RECORDS):
                tokens = [f" {''.join(rng.choice(SYLLABLES, 3))}" for _ in range(TOKENS)]
                values = [0.0] * TOKENS
                if rng.random() < 0.6:
                    place = int(rng.integers(TOKENS))
                    tokens[place], values[place] = f" word{feature}", round(float(rng.uniform(1, 5)), 2)
                file.write(json.dumps({"feature": feature, "tokens": tokens, "activations": values}) + "\n")


def start(work: Path, name: str, base_url: str) -> list[str]:
    """The command that works on that run, whose records are there from the first time on."""
    folder = work / name
    if not folder.exists():
        done = [*COMMAND, "import", str(work / "records.jsonl"), "--out", str(folder)]
        subprocess.run(done, check=True, capture_output=True)
    options = ["--llm", "rehearsal", "--base-url", base_url, "--simulator", "structured", "--features", "all"]
    cache = ["--cache", str(work / f"{name}.sqlite"), "--in-flight", str(IN_FLIGHT)]
    return [*COMMAND, "score", str(folder), *options, *cache]


def run(command: list[str]) -> None:
    """Run to the end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_at(command: list[str], log: Path, n: int) -> Kill:
    """Run until the server has received n requests, then kill."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    with log.open("rb") as file:
        received = 0
        while process.poll() is None and received < n:
            received += sum(b'"stage": "' in line for line in file)
            time.sleep(0.005)
    sent = time.time()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # the server reads what was sent before, and notices what nobody waits for any more
    return Kill(sent, time.time())


def repeated(entries: list[Entry]) -> int:
    """Requests received more than once."""
    return sum(n > 1 for n in Counter(entry.digest for entry in entries).values())


def rows(folder: Path, table: str) -> list[tuple[object, ...]]:
    """A table's rows without their numbers, which hang on the order of writing."""
    with sqlite3.connect(folder / "store.sqlite") as db:
        names = [row[1] for row in db.execute(f"pragma table_info({table})")]
        kept = ", ".join(name for name in names if name not in ("id", "explanation"))
        return sorted(db.execute(f"select {kept} from {table}"), key=repr)


if __name__ == "__main__":
    sys.exit(main())
