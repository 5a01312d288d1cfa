"""Kills a run's whole process group at random moments, lets it go on, and compares with an undisturbed run.

    python tests/bench/kill_demo.py --seed 1 --kills 20 [--in-writes 3] [--command harvest] [--work FOLDER] [-- FLAGS]

Prints a line a kill with the last stage the run spoke of and the shard that was being written, if one was, then whether
summary, tokens and shards are byte-identical. `--in-writes` adds kills that wait, from a random moment on, for a shard
to be written. Takes several minutes; run by hand. FLAGS are the command's own, `--demo` by default.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

COMMAND = [sys.executable, "-c", "from autointerp.cli.main import main; main()"]


def main() -> int:
    """One undisturbed run, one killed as often as asked; 0 where they are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--in-writes", type=int, default=0)
    parser.add_argument("--command", default="run")
    parser.add_argument("--work", type=Path)
    parser.add_argument("flags", nargs="*", default=["--demo"])
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    whole, killed, said = work / "whole", work / "killed", work / "said"
    command = [*COMMAND, asked.command, *asked.flags, "--out"]
    events = _watch([*command, str(whole)], said, lambda event: False)
    print(f"undisturbed: {events[-1].seconds:.0f} s", flush=True)
    order = list(dict.fromkeys(event.stage for event in events))
    draw = random.Random(asked.seed)
    n_kill = asked.kills + asked.in_writes
    aimed = set(draw.sample(range(n_kill), asked.in_writes))
    for number in range(n_kill):
        moment = (number + draw.random()) / n_kill * events[-1].seconds
        aim = max((e for e in events if e.seconds <= moment), key=lambda e: e.seconds, default=events[0])

        def reached(event: Event, aim: Event = aim) -> bool:
            here, there = order.index(event.stage), order.index(aim.stage)
            return (here, event.done) >= (there, aim.done)

        delay = None if number in aimed else draw.random()
        seen = _watch([*command, str(killed)], said, reached, delay, killed)
        written = ", ".join(_being_written(killed)) or "no shard"
        how = "aimed at a write" if number in aimed else "at random"
        print(
            f"kill {number + 1}, {how}: in {seen[-1].stage}, {seen[-1].done} done; {written} half written", flush=True
        )
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    differing = [name for name in _kept(whole) if _digest(whole / name) != _digest(killed / name)]
    print(f"{len(_kept(whole))} files compared, differing: {differing or 'none'}")
    return bool(differing)


def _being_written(run: Path) -> list[str]:
    """Shards of which a part is on disk under another name."""
    return sorted(str(path.relative_to(run / "harvest")) for path in run.glob("harvest/*/shard-*.tmp"))


class Event(NamedTuple):
    """One word of progress."""

    seconds: float
    """Since the start."""
    stage: str
    done: int


def _watch(
    command: list[str],
    said: Path,
    reached: Callable[[Event], bool],
    delay: float | None = 0.0,
    run: Path = Path(),
) -> list[Event]:
    """Run and note every word of progress; kill the process group once one is `reached`.

    That is `delay` seconds later, or, where it is None, as soon as a shard of `run` is being written.
    """
    events: list[Event] = []
    began = time.monotonic()
    for old in run.glob("harvest/*/shard-*.tmp"):
        old.unlink()
    with said.open("w") as file:
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            lines = [json.loads(line) for line in said.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            for line in [line for line in lines if "stage" in line][len(events) :]:
                events.append(Event(time.monotonic() - began, line["stage"], line["done"]))
            if events and reached(events[-1]):
                time.sleep(delay or 0.0)
                while delay is None and process.poll() is None and not _being_written(run):
                    time.sleep(0.0005)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.02)
    return events


def _kept(folder: Path) -> list[str]:
    names = ("*.safetensors", "plan.json")
    paths = [path for name in names for path in folder.glob(f"harvest/*/{name}")]
    paths += [folder / "summary.json", *folder.glob("harvest/_corpus/*")]
    return sorted(str(path.relative_to(folder)) for path in paths)


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "missing"


if __name__ == "__main__":
    sys.exit(main())
