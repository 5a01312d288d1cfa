"""Collecting and writing beside the pass: the same files, the same errors, and no more memory than two shards."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import autointerp.harvest.run as harvest_run
from autointerp.errors import RunError
from autointerp.harvest.beside import Beside, has_spare_core
from autointerp.harvest.encode import Encoded, Reader, encode_rows
from autointerp.harvest.masks import TextMask
from autointerp.harvest.run import _Piece
from autointerp.harvest.shards import ShardWriter
from autointerp.harvest.tokens import Corpus
from autointerp.records import DictionarySpec
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.model import load_model
from autointerp.subject.products import Products
from tests.small_run import HOOK, SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config
from tests.unit.harvest.test_run import files


@pytest.mark.parametrize("threaded", [False, True])
def test_calls_are_done_in_order_and_an_error_comes_out(threaded: bool) -> None:
    """An error that stayed in its thread would end in a harvest with a hole and exit code 0."""
    done: list[int] = []

    def fail() -> None:
        raise RunError("the third")

    def run(bad: int) -> None:
        with Beside(2, threaded=threaded) as work:
            for number in range(20):
                work.do(fail if number == bad else lambda number=number: done.append(number))  # type: ignore[misc]

    run(bad=-1)
    assert done == list(range(20))
    for last in (3, 19):
        with pytest.raises(RunError, match="the third"):
            run(bad=last)


def test_what_is_under_way_is_finished_when_something_else_fails() -> None:
    """A shard that is being written when the next one meets a NaN was paid for."""
    begun, may_end, done = threading.Event(), threading.Event(), []

    def write() -> None:
        begun.set()
        may_end.wait(10)
        done.append(1)

    def run() -> None:
        with Beside(1, threaded=True) as work:
            work.do(write)
            begun.wait(10)
            threading.Timer(0.05, may_end.set).start()
            raise RunError("a NaN")

    with pytest.raises(RunError, match="a NaN"):
        run()
    assert done == [1]


def test_no_more_than_the_room_is_under_way() -> None:
    """Encoded batches would heap up on the host where it is slower than the device."""
    under_way, most, ends = 0, 0, threading.Semaphore(0)

    def work() -> None:
        nonlocal under_way
        ends.acquire()
        under_way -= 1

    with Beside(2, threaded=True) as pool:
        for number in range(8):
            if number >= 2:
                ends.release()
            pool.do(work)
            under_way += 1
            most = max(most, under_way)
        ends.release(2)
    assert (most, under_way) == (2, 0)


def test_a_core_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one core a second thread only takes turns; a GPU leaves the host all cores but one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert has_spare_core(1, "cpu")
    assert not has_spare_core(2, "cpu")
    assert has_spare_core(2, "cuda")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert not has_spare_core(1, "cuda:1")


@pytest.mark.parametrize("spare", [False, True])
def test_threads_do_not_show_in_a_harvest(
    small: SmallRun, harvested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: bool
) -> None:
    """Shards, statistics and facts to the byte, on a machine with a core to spare and on one without."""
    threads: dict[str, set[str]] = {"collect": set(), "write": set()}
    for kind, what, name in ((_Piece, "collect", "add"), (ShardWriter, "write", "commit")):
        whole = getattr(kind, name)

        def seen(self: object, *args: object, whole=whole, what=what) -> object:  # type: ignore[no-untyped-def]
            threads[what].add(threading.current_thread().name)
            return whole(self, *args)

        monkeypatch.setattr(kind, name, seen)
    monkeypatch.setattr(harvest_run, "has_spare_core", lambda threads, device: spare)
    run_harvest(small_config(small, tmp_path))
    assert files(tmp_path / "harvest") == files(harvested)
    own = threading.current_thread().name
    assert all((names == {own}) != spare for names in threads.values())


def test_a_full_disk_met_by_the_writing_thread_is_told(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the harvest with its own error, and what was written before stays."""
    whole = ShardWriter.commit
    calls = iter(range(100))

    def full(self: ShardWriter, *args: object) -> None:
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        whole(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(harvest_run, "has_spare_core", lambda threads, device: True)
    monkeypatch.setattr(ShardWriter, "commit", full)
    with pytest.raises(OSError, match="No space left"):
        run_harvest(small_config(small, tmp_path))
    assert len(list((tmp_path / "harvest").glob("*/shard-*.safetensors"))) >= 3
    assert not list((tmp_path / "harvest").glob("*/manifest.json"))


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the operations whose results have a size that only the device knows."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func.name())
        if name in ("aten::nonzero", "aten::masked_select") or (name == "aten::index.Tensor" and _by_mask(args[1])):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def _by_mask(indices: list[torch.Tensor | None]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


def test_a_batch_without_a_norm_limit_waits_for_no_count(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """Each such count made the host wait for all that the device had before it, twice a batch for every dictionary."""
    corpus, subject = Corpus.open_whole(harvested), load_model(small.model, "cpu")
    dictionary = load_dictionary(small.planted)
    spec = DictionarySpec(
        id="planted", role="trained", model="m", hook_point=HOOK, d_in=dictionary.d_in, d_sae=dictionary.d_sae,
        kind=dictionary.kind, source="planted", weights_digest=dictionary.weights_digest,
    )  # fmt: skip
    text, rows = TextMask(corpus, 0, special=False), np.arange(4)
    found: list[Encoded] = []
    waits = []
    subject.capture(torch.zeros(1, 4, dtype=torch.int64), [HOOK])  # the first pass tries how it may run
    for limit in (None, 1e9):
        with _Operations() as operations:
            found += encode_rows(subject, [Reader(spec, dictionary, tmp_path, limit)], text, rows, 0, Products())
        waits.append(len(operations.waits))
    assert waits == [0, 1]
    one, other = (encoded.collect() for encoded in found)
    np.testing.assert_equal(tuple(one), tuple(other))
