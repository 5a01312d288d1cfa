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
from pathlib import Path

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
    whole, killed = work / "whole", work / "killed"
    started = time.monotonic()
    subprocess.run([*COMMAND, *asked.flags, "--out", str(whole)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.0f} s")
    draw = random.Random(asked.seed)
    ahead = seconds / (asked.kills + 1)
    for number in range(1, asked.kills + 1):
        told = _run_and_kill([*COMMAND, *asked.flags, "--out", str(killed)], work / "said", draw, ahead)
        print(f"kill {number}: {told}", flush=True)
    subprocess.run([*COMMAND, *asked.flags, "--out", str(killed)], check=True, capture_output=True)
    differing = [name for name in _kept(whole) if _digest(whole / name) != _digest(killed / name)]
    print(f"{len(_kept(whole))} files compared, differing: {differing or 'none'}")
    return bool(differing)


def _run_and_kill(command: list[str], said_path: Path, draw: random.Random, ahead: float) -> str:
    """Start, wait for the first word of progress, let it get `ahead` on average, kill the group."""
    began = time.monotonic()
    wait: float | None = None
    with said_path.open("w") as said:
        process = subprocess.Popen(command, stderr=said, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and (wait is None or time.monotonic() < wait):
            if wait is None and said_path.stat().st_size:
                wait = time.monotonic() + draw.uniform(0.2, 1.8) * ahead
            time.sleep(0.01)
    if process.poll() is not None:
        return "had ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stages = [
        json.loads(line) for line in said_path.read_text().splitlines() if line.startswith("{") and line.endswith("}")
    ]
    last = stages[-1] if stages else {}
    return f"after {time.monotonic() - began:.1f} s in {last.get('stage', last)} {last.get('done')}/{last.get('total')}"


def _kept(folder: Path) -> list[str]:
    paths = [folder / "summary.json", *folder.glob("harvest/*/*.safetensors"), *folder.glob("harvest/_corpus/*")]
    return sorted(str(path.relative_to(folder)) for path in paths)


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "missing"


if __name__ == "__main__":
    sys.exit(main())
