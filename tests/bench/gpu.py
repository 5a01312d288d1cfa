"""Everything that only a card can show, in one command: what is harvested there, and how fast.

    python tests/bench/gpu.py --device cuda [--peak-tflops 989]
    python tests/bench/gpu.py --device cpu --tiny

Rows 1 to 7 are accepted or not, each against the same harvest on the CPU or against itself: the demo and every kind of
dictionary; the order of copies, with the device held up before each; waits of the host; memory that is short; a kill;
precisions; every activation at a wide dictionary. Then come the benchmarks of the pass. Takes about half an hour on a
card; `--tiny` runs all of it in minutes on a CPU, which skips what needs CUDA, to see that the command itself works.
Exit code 1 where a row is not accepted.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tomli_w
import torch

from autointerp import api
from autointerp.aio import cache_folder, run_harvest
from autointerp.config import RunConfig, check_config, make_config
from autointerp.errors import UsageError
from autointerp.harvest import encode, session
from autointerp.harvest.arrays import map_arrays
from autointerp.harvest.events import Harvest
from autointerp.harvest.run import run_pass
from autointerp.listener import SILENT
from autointerp.provenance import digest_file
from autointerp.resources import bundled
from tests.every_dictionary import every_dictionary, write_every_dictionary
from tests.small_run import SmallRun, make_small_run, make_texts

HERE = Path(__file__).parent
SHARED = 0.999
"""Share of events that two devices have in common."""
WITHIN = 1e-3
"""Of metrics, relative to the larger of 1 and the CPU's."""
HELD_UP = 50_000_000
"""Cycles before each copy: some 30 ms, eight times a batch and dictionary."""


class Row(NamedTuple):
    """One line of the table."""

    state: str
    """`ok`, `no`, or `-` where this machine cannot show it."""
    found: str


class Bench(NamedTuple):
    """What all rows share."""

    device: str
    tiny: bool
    work: Path
    small: SmallRun

    @property
    def on_cuda(self) -> bool:
        """Whether rows about CUDA's own ways can be shown."""
        return self.device.startswith("cuda")

    def every(self, out: str, **harvest: object) -> RunConfig:
        """Every kind of dictionary over the small run's text."""
        tables = every_dictionary(self.small, self.work / "dictionaries")
        return self.config(tables, self.small.model, out, **harvest)

    def some(self, out: str, *names: str, **harvest: object) -> RunConfig:
        """Some of them."""
        whole = self.every(out, **harvest)
        return whole.model_copy(update={"dictionary": tuple(d for d in whole.dictionary if d.id in names)})

    def config(self, tables: list[dict[str, object]], model: Path, out: str, **harvest: object) -> RunConfig:
        """A run over the small text."""
        settings = {
            "device": self.device,
            "dtype": "float32",
            "batch_size": 8,
            "shard_tokens": 2048,
            "loss_tokens": 500,
        }
        values = {"model": str(model), "corpus": str(self.small.corpus), "dictionary": tables, "out": self.work / out}
        return check_config({**values, "harvest": {**settings, **harvest}}, "bench")


def main() -> int:
    """Run every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--rows", nargs="*", help="some rows by number")
    asked = parser.parse_args()
    refused = 0
    with tempfile.TemporaryDirectory() as work:
        small = make_small_run(Path(work) / "small")
        texts = make_texts(40 if asked.tiny else 1600)
        small.corpus.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts.values()), encoding="utf-8")
        bench = Bench(asked.device, asked.tiny, Path(work), small)
        print("| row | | found | seconds |\n| --- | --- | --- | --- |", flush=True)
        for number, (name, show) in enumerate(ROWS.items(), start=1):
            if asked.rows and str(number) not in asked.rows:
                continue
            began = time.monotonic()
            try:
                row = show(bench)
            except Exception as error:
                traceback.print_exc()
                row = Row("no", f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
            refused += row.state == "no"
            print(f"| {number} {name} | {row.state} | {row.found} | {time.monotonic() - began:.0f} |", flush=True)
        if not asked.rows:
            refused += any(not run_pass_benchmark(bench, asked.peak_tflops, flags) for flags in speeds(bench))
    return int(refused > 0)


def harvested(config: RunConfig) -> Path:
    """A finished harvest's folder."""
    asyncio.run(run_harvest(config))
    return config.out / "harvest"


def compare(here: Path, there: Path, names: list[str]) -> tuple[float, float, list[str]]:
    """The share of events that both have, the largest difference of a metric, and the features that differ."""
    shared = total = 0
    largest, differing = 0.0, []
    for name in names:
        a, b = Harvest(here, name), Harvest(there, name)
        for feature in range(0, a.spec.d_sae, max(1, a.spec.d_sae // 300)):
            x, y = a.read(feature).slot, b.read(feature).slot
            both = len(np.intersect1d(x, y))
            shared, total = shared + both, total + len(x) + len(y) - both
            if both < max(len(x), len(y)):
                differing.append(f"{name}/{feature}")
        largest = max(largest, *differences(a.metrics.model_dump(), b.metrics.model_dump()))
    return shared / max(total, 1), largest, differing


def differences(one: Any, other: Any) -> list[float]:
    """Of every number, relative to the larger of 1 and the first's."""
    if isinstance(one, dict):
        return [d for key in one for d in differences(one[key], other[key])]
    if one is None or other is None:
        return [0.0 if one is other else float("inf")]
    return [abs(one - other) / max(1.0, abs(one))]


def alike(here: Path, there: Path, names: list[str], share: float = SHARED, within: float = WITHIN) -> Row:
    """The row of two harvests that ought to be alike."""
    shared, largest, differing = compare(here, there, names)
    found = f"{shared:.4%} of events shared, metrics within {largest:.1e}, {len(differing)} features differ"
    return Row("ok" if shared >= share and largest <= within else "no", found)


def show_demo(bench: Bench) -> Row:
    """The demo on the device and on the CPU, and what doctor says."""
    folders: list[Path] = []
    for device in ("cpu", bench.device):
        harvest = {"device": device, "n_tokens": 2**17, "loss_tokens": 2**11}
        if bench.tiny:
            harvest |= {"n_tokens": 2**11, "loss_tokens": 2**7}
        out = str(bench.work / f"demo-{len(folders)}")
        config = make_config(bundled("demo") / "demo.toml", {"out": out, "harvest": harvest})
        if bench.tiny:
            config = config.model_copy(update={"dictionary": config.dictionary[:3]})  # one model, random directions too
        folders.append(harvested(config))
    names = [d.id for d in config.dictionary]
    states = Counter(finding.state for finding in api.doctor(config))
    row = alike(folders[0], folders[1], names)
    found = f"{row.found}; doctor: {dict(states)}"
    return Row("no" if states["fail"] else row.state, found)


def show_every_dictionary(bench: Bench) -> Row:
    """Sixteen kinds and more, plain and with everything that can be set."""
    hard = {"pack": True, "keep": "sample", "keep_tokens": 1024, "max_norm": 1.05, "skip_tokens": 2}
    rows = []
    for name, harvest in (("plain", {}), ("hard", hard)):
        here = bench.every(f"{name}-cpu", device="cpu", **harvest)
        there = bench.every(f"{name}-device", **harvest)
        rows.append(alike(harvested(here), harvested(there), [d.id for d in here.dictionary]))
    return Row("no" if "no" in {row.state for row in rows} else "ok", "; ".join(row.found for row in rows))


def show_late_copies(bench: Bench) -> Row:
    """Each copy to the host held up on the device: shards are the same bytes, on every card there is."""
    if not bench.on_cuda:
        return Row("-", "needs CUDA")
    whole = files_of(harvested(bench.some("in-time", "topk", "relu")))
    same = {}
    for number in range(torch.cuda.device_count()):
        with held_up():
            late = harvested(bench.some(f"late-{number}", "topk", "relu", device=f"cuda:{number}"))
        same[number] = files_of(late) == whole
    return Row("ok" if all(same.values()) else "no", f"same bytes by card: {same}")


@contextmanager
def held_up() -> Iterator[None]:
    """Inside it the device works for a while before each copy to the host."""
    whole = encode._start_copy

    def late(array: torch.Tensor) -> torch.Tensor:
        with torch.cuda.device(array.device):
            torch.cuda._sleep(HELD_UP)  # type: ignore[no-untyped-call]
        return whole(array)

    encode._start_copy = late
    try:
        yield
    finally:
        encode._start_copy = whole


def show_waits(bench: Bench) -> Row:
    """How often the host waits for the device, by line; for reading, not for accepting."""
    if not bench.on_cuda:
        return Row("-", "needs CUDA")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            harvested(bench.some("waits", "topk", "jump", loss_tokens=0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    lines = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
    return Row("ok", f"{sum(lines.values())} waits; " + ", ".join(f"{n} {at}" for at, n in lines.most_common(6)))


def show_short_memory(bench: Bench) -> Row:
    """With little memory the batch is halved, recorded and resumed with, or a sentence says what to set."""
    if not bench.on_cuda:
        return Row("-", "needs CUDA")
    total = torch.cuda.get_device_properties(bench.device).total_memory
    bound = 2 * 10**9
    torch.cuda.set_per_process_memory_fraction(bound / total, torch.device(bench.device))
    try:
        made = write_every_dictionary(bench.work / "wide-for-memory", d_sae=2**14)
        tables: list[dict[str, object]] = [{"id": "relu", "path": str(made["relu"])}]
        config = bench.config(tables, bench.small.model, "short", batch_size=4096, shard_tokens=2**18)
        try:
            folder = harvested(config)
        except UsageError as error:
            return Row("ok" if "too little memory" in str(error) else "no", f"a sentence: {error}")
        plan = json.loads((folder / "relu/plan.json").read_text(encoding="utf-8"))
        before = files_of(folder)
        (folder / "relu/manifest.json").unlink()
        again = files_of(harvested(config)) == before
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, torch.device(bench.device))
    halved = plan["batch_size"] < plan.get("batch_size_asked", 0)
    return Row(
        "ok" if again else "no",
        f"batches of {plan['batch_size']}{', halved' if halved else ''}; resumed alike: {again}",
    )


def show_kills(bench: Bench) -> Row:
    """Killed again and again, the shards are those of an undisturbed run, byte by byte."""
    config = bench.some("killed", "topk", "relu")
    values = config.model_dump(mode="json", exclude_none=True, exclude={"out"})
    path = bench.work / "killed.toml"
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    kills = "1" if bench.tiny else "5"
    command = [sys.executable, str(HERE / "kill_demo.py"), "--command", "harvest", "--kills", kills, "--in-writes", "1"]
    ended = subprocess.run(
        [*command, "--work", str(bench.work / "kills"), "--", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = next(reversed((ended.stdout + ended.stderr).strip().splitlines()), "nothing said")
    return Row("ok" if ended.returncode == 0 else "no", told)


def show_forecast(bench: Bench) -> Row:
    """The memory that was foreseen beside the memory that was taken; two runs are the same bytes."""
    notes: list[str] = []
    peak: list[int] = []
    whole = run_pass

    def watched(*args: Any, **kwargs: Any) -> None:
        before = torch.cuda.memory_allocated(bench.device) if bench.on_cuda else 0
        whole(*args, **kwargs)
        peak.append(torch.cuda.max_memory_allocated(bench.device) - before if bench.on_cuda else 0)

    setattr(session, "run_pass", watched)  # noqa: B010
    try:
        for out in ("once", "twice"):
            session.harvest_dictionaries(
                bench.work / out / "harvest", (config := bench.some(out, "topk", "relu", loss_tokens=0)),
                config.dictionary, cache_folder(), SILENT.progress, notes.append,
            )  # fmt: skip
    finally:
        setattr(session, "run_pass", whole)  # noqa: B010
    same = files_of(bench.work / "once/harvest") == files_of(bench.work / "twice/harvest")
    found = re.search(r"([\d.,]+) ([GM])B of GPU memory", " ".join(notes))
    foreseen = float(found[1].replace(",", "")) * {"G": 1e9, "M": 1e6}[found[2]] if found else 0.0
    told = f"foreseen {foreseen / 1e6:,.1f} MB on the device, taken {max(peak) / 1e6:,.1f} MB" if bench.on_cuda else ""
    return Row("ok" if same else "no", f"two runs of the same bytes: {same}; {told}")


def show_precisions(bench: Bench) -> Row:
    """bfloat16 and float16 models, packed or not: every metric is a number, most events are float32's."""
    names = ["topk", "jump"]
    exact = harvested(bench.some("exact", *names))
    found, state = [], "ok"
    for dtype in ("bfloat16", "float16", "auto"):
        for pack in (False, True):
            folder = harvested(bench.some(f"{dtype}-{pack}", *names, dtype=dtype, pack=pack))
            plan = json.loads((folder / "topk/plan.json").read_text(encoding="utf-8"))
            told = f"{dtype}{' packed' if pack else ''} ({plan['dtype']}, {plan.get('precision', 'ieee')})"
            if pack:
                finite = np.isfinite([Harvest(folder, n).metrics.l0 for n in names]).all()
                found.append(f"{told} ends")
                state = state if finite else "no"
                continue
            shared, _, _ = compare(exact, folder, names)
            found.append(f"{told} {shared:.2%}")
            state = state if shared > 0.9 else "no"
    return Row(state, "; ".join(found))


def show_wide(bench: Bench) -> Row:
    """Every activation once at a wide dictionary."""
    made = write_every_dictionary(bench.work / "wide", d_sae=2**10 if bench.tiny else 2**16)
    tables: list[dict[str, object]] = [{"id": name, "path": str(path)} for name, path in made.items()]
    folder = harvested(bench.config(tables, bench.small.model, "wide-run", loss_tokens=0))
    l0 = {name: Harvest(folder, name).metrics.l0 for name in made}
    told = ", ".join(f"{name} {value:.1f}" for name, value in l0.items())
    return Row("ok" if np.isfinite(list(l0.values())).all() else "no", f"features a token: {told}")


def files_of(folder: Path) -> dict[str, object]:
    """Digests of a harvest's shards, statistics and facts."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        if path.name.startswith("shard-"):
            map_arrays(path)  # its own checksums first
        found[str(path.relative_to(folder))] = digest_file(path)
    return found


ROWS: dict[str, Callable[[Bench], Row]] = {
    "demo as on the CPU": show_demo,
    "every dictionary as on the CPU": show_every_dictionary,
    "late copies": show_late_copies,
    "waits": show_waits,
    "short memory": show_short_memory,
    "kills": show_kills,
    "forecast and two runs": show_forecast,
    "precisions": show_precisions,
    "every activation, wide": show_wide,
}


def speeds(bench: Bench) -> list[list[str]]:
    """Flags of the benchmarks of the pass, one call each."""
    if bench.tiny:
        return [["--device", bench.device, "--tokens", "2048", "--rounds", "1", "--cases", "0"]]
    common = ["--device", bench.device, "--shape", "gemma-2-2b", "--batch", "32", "--context", "1024"]
    common += ["--tokens", "2097152", "--rounds", "2"]
    ways = (["--dtype", "float32"], ["--dtype", "bfloat16"], ["--dtype", "bfloat16", "--tf32"])
    return [[*common, *way] for way in ways]


def run_pass_benchmark(bench: Bench, peak_tflops: float | None, flags: list[str]) -> bool:
    """`bench_harvest.py` with these flags, its table shown; whether it ended well."""
    peak = ["--peak-tflops", str(peak_tflops)] if peak_tflops else []
    print(f"\nbench_harvest.py {' '.join(flags + peak)}", flush=True)
    return subprocess.run([sys.executable, str(HERE / "bench_harvest.py"), *flags, *peak], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
