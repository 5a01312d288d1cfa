"""Kills a run's whole process group at random moments, lets it go on, and compares with an undisturbed run.

    python tests/bench/kill_demo.py --seed 1 --kills 10 [--work FOLDER] [-- FLAGS OF autointerp run]

Prints a line a kill with the last stage the run spoke of, then whether summary, tokens and shards are byte-identical.
Takes several minutes; run by hand. The flags default to `--demo`.
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

COMMAND = [sys.executable, "-c", "from autointerp.cli.main import main; main()", "run"]


def main() -> int:
    """One undisturbed run, one killed as often as asked; 0 where they are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--work", type=Path)
    parser.add_argument("flags", nargs="*", default=["--demo"])
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    whole, killed, said = work / "whole", work / "killed", work / "said"
    events = _watch([*COMMAND, *asked.flags, "--out", str(whole)], said, lambda event: False)
    print(f"undisturbed: {events[-1].seconds:.0f} s")
    order = list(dict.fromkeys(event.stage for event in events))
    draw = random.Random(asked.seed)
    for number in range(asked.kills):
        moment = (number + draw.random()) / asked.kills * events[-1].seconds
        aim = max((e for e in events if e.seconds <= moment), key=lambda e: e.seconds, default=events[0])

        def reached(event: Event, aim: Event = aim) -> bool:
            here, there = order.index(event.stage), order.index(aim.stage)
            return (here, event.done) >= (there, aim.done)

        seen = _watch([*COMMAND, *asked.flags, "--out", str(killed)], said, reached, draw.random())
        print(f"kill {number + 1}: in {seen[-1].stage}, {seen[-1].done} done", flush=True)
    subprocess.run([*COMMAND, *asked.flags, "--out", str(killed)], check=True, capture_output=True)
    differing = [name for name in _kept(whole) if _digest(whole / name) != _digest(killed / name)]
    print(f"{len(_kept(whole))} files compared, differing: {differing or 'none'}")
    return bool(differing)


class Event(NamedTuple):
    """One word of progress."""

    seconds: float
    """Since the start."""
    stage: str
    done: int


def _watch(command: list[str], said: Path, reached: Callable[[Event], bool], delay: float = 0.0) -> list[Event]:
    """Run and note every word of progress; kill the process group `delay` seconds after one that is `reached`."""
    events: list[Event] = []
    began = time.monotonic()
    with said.open("w") as file:
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            lines = [json.loads(line) for line in said.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            for line in [line for line in lines if "stage" in line][len(events) :]:
                events.append(Event(time.monotonic() - began, line["stage"], line["done"]))
            if events and reached(events[-1]):
                time.sleep(delay)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.02)
    return events


def _kept(folder: Path) -> list[str]:
    paths = [folder / "summary.json", *folder.glob("harvest/*/*.safetensors"), *folder.glob("harvest/_corpus/*")]
    return sorted(str(path.relative_to(folder)) for path in paths)


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "missing"


if __name__ == "__main__":
    sys.exit(main())
