"""A run's folder: one writer, one configuration, and no trace of a bad start."""

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from autointerp.config import HarvestPart, RunConfig, check_config
from autointerp.errors import RunError, UsageError
from autointerp.records import Usage
from autointerp.store.folder import RunFolder


def refused(match: str | None = None) -> AbstractContextManager[object]:
    """A `UsageError` whose text holds `match`."""
    return pytest.raises(UsageError, match=match)


def config(out: Path, **changes: object) -> RunConfig:
    values: dict[str, object] = {"model": "m", "corpus": "c", "dictionary": [{"id": "a", "path": "p"}], "out": out}
    return check_config({**values, **changes}, "here")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose harvest has begun."""
    made = RunFolder(tmp_path / "deep" / "run")
    with made.lock():
        made.begin(config(made.path))
    (made.harvest / "a").mkdir(parents=True)
    (made.harvest / "a" / "plan.json").write_text("{}", encoding="utf-8")
    return made


def test_a_configuration_comes_back_with_the_folder_it_lies_in(folder: RunFolder, tmp_path: Path) -> None:
    """A moved run must not go on writing at its old place."""
    assert folder.config() == config(folder.path)
    moved = folder.path.rename(tmp_path / "moved")
    assert RunFolder.existing(moved).config().out == moved


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "other"}, "model"),
        ({"corpus": "other"}, "corpus"),
        ({"seed": 5}, "seed"),
        ({"hook_point": "h"}, "hook_point"),
        ({"harvest": {"skip_tokens": 4}}, "[harvest] skip_tokens"),
        ({"dictionary": [{"id": "a", "path": "q"}]}, "dictionary a path"),
    ],
)
def test_what_the_harvest_depends_on_cannot_change(folder: RunFolder, changes: dict[str, object], named: str) -> None:
    """Scores of two models in one folder would be compared as one run's."""
    with refused(re.escape(f"holds a run with {named} = ")), folder.lock():
        folder.begin(config(folder.path, **changes))
    assert folder.config() == config(folder.path)


def test_a_start_that_made_nothing_binds_nothing(tmp_path: Path) -> None:
    """Killed, or out of reach of a hub, with a misspelt corpus: the mended command was refused for its sake."""
    made = RunFolder(tmp_path / "x")
    for changes in ({"corpus": "hf:no/such"}, {"harvest": {"batch_size": 2}}, {}):
        with made.lock():
            made.begin(config(made.path, **changes))
    (made.harvest / "_corpus" / "partial").mkdir(parents=True)
    (made.harvest / "_corpus" / "partial" / "position.json").write_text("{}", encoding="utf-8")
    with refused("holds a run with corpus"), made.lock():
        made.begin(config(made.path, corpus="another"))


def test_what_comes_after_the_harvest_can_change(folder: RunFolder) -> None:
    """Another selection, or one more dictionary, is what a second command is for."""
    more = [{"id": "a", "path": "p"}, {"id": "b", "path": "q"}]
    with folder.lock():
        folder.begin(config(folder.path, features="all", dictionary=more))
    assert [d.id for d in folder.config().dictionary] == ["a", "b"]


def test_what_ran_out_of_memory_can_be_set_lower(folder: RunFolder) -> None:
    """The message advised a smaller batch, or no losses, and the run then refused both."""
    lower = {"harvest": {"batch_size": 2, "loss_tokens": 0}}
    with folder.lock():
        folder.begin(config(folder.path, **lower))
    (folder.harvest / "a" / "manifest.json").write_text("{}", encoding="utf-8")
    with refused(re.escape("[harvest] batch_size = 2, not 4")), folder.lock():
        folder.begin(config(folder.path, harvest={"batch_size": 4, "loss_tokens": 0}))


def test_devices_of_one_type_are_alike(folder: RunFolder) -> None:
    """Part 0 on cuda:0 and part 1 on cuda:1 were two runs, and so were `cuda` and `cuda:0`."""
    for device in ("cuda", "cuda:0", "cuda:1"):
        with folder.lock():
            folder.begin(config(folder.path, harvest={"device": device}))
    with refused(re.escape('[harvest] device = "cuda:1", not "cpu"')), folder.lock():
        folder.begin(config(folder.path, harvest={"device": "cpu"}))


def test_a_second_writer_is_told_who_writes(folder: RunFolder) -> None:
    """Two writers would interleave steps in one store."""
    code = (
        f"import pathlib; from autointerp.store.folder import RunFolder\n"
        f"with RunFolder(pathlib.Path({str(folder.path)!r})).lock(): pass"
    )
    with folder.lock():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"is being written by process {os.getpid()} on " in done.stderr.splitlines()[-1]
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dead_writers_lock_is_free(folder: RunFolder) -> None:
    """A lock file that outlives its process would need a manual repair after every kill."""
    code = (
        f"import os, pathlib; from autointerp.store.folder import RunFolder\n"
        f"with RunFolder(pathlib.Path({str(folder.path)!r})).lock(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with folder.lock():
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be, or a read-only system: one sentence."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with refused("cannot write to"), RunFolder(path).lock():
            pass


def test_a_bad_first_start_leaves_nothing(tmp_path: Path) -> None:
    """The mended command was refused, since the folder 'held a run' of the misspelt model."""
    made = RunFolder(tmp_path / "runs" / "deep" / "x")
    with refused("misspelt"), made.lock():
        made.begin(config(made.path, model="typo"))
        made.check_inputs(config(made.path))
        (made.harvest / "_corpus").mkdir(parents=True)
        raise UsageError("misspelt")
    assert not list(tmp_path.iterdir())


def test_a_bad_start_keeps_finished_shards_and_foreign_files(tmp_path: Path) -> None:
    """Cleaning up must never remove work, or what someone else keeps in that folder."""
    made = RunFolder(tmp_path / "x")
    made.path.mkdir()
    (made.path / "notes.txt").write_text("mine", encoding="utf-8")
    with refused(), made.lock():
        made.begin(config(made.path))
        raise UsageError("bad")
    assert [p.name for p in made.path.iterdir()] == ["notes.txt"]
    with refused(), made.lock():
        made.begin(config(made.path))
        (made.harvest / "a").mkdir(parents=True)
        (made.harvest / "a" / "shard-00000.safetensors").write_bytes(b"work")
        raise UsageError("bad")
    assert (made.harvest / "a" / "shard-00000.safetensors").is_file()
    assert made.config() == config(made.path)


def test_a_late_refusal_keeps_finished_tokens(tmp_path: Path) -> None:
    """A disk found too small after hours of tokenising; the mended command must neither repeat them nor mix texts."""
    made = RunFolder(tmp_path / "x")
    with refused("disk"), made.lock():
        made.begin(config(made.path))
        for name in ("_corpus/corpus.json", "a/plan.json"):
            (made.harvest / name).parent.mkdir(parents=True)
            (made.harvest / name).write_text("{}", encoding="utf-8")
        raise UsageError("disk")
    assert [path.name for path in made.harvest.iterdir()] == ["_corpus"]
    for changes in ({"model": "other"}, {"corpus": "other"}, {"harvest": {"pack": True}}):
        with refused("holds a run with"), made.lock():
            made.begin(config(made.path, **changes))
    assert (made.harvest / "_corpus" / "corpus.json").is_file()
    with made.lock():
        made.begin(config(made.path, harvest={"keep": "sample"}, dictionary=[{"id": "a", "path": "q"}]))
    assert made.config().harvest.keep == "sample"


def test_a_bad_first_part_leaves_nothing(tmp_path: Path) -> None:
    """Locks in an empty folder looked like a run; but those of a part that is at work must stay."""
    made = RunFolder(tmp_path / "deep" / "x")
    with refused("misspelt"), made.lock_part(HarvestPart(0, 2)):
        raise UsageError("misspelt")
    assert not list(tmp_path.iterdir())
    with made.lock_part(HarvestPart(1, 2)):
        with refused("misspelt"), made.lock_part(HarvestPart(0, 2)):
            raise UsageError("misspelt")
        assert (made.path / "lock").is_file()
        with refused("being written"), made.lock_part(HarvestPart(1, 2)):
            pass


def test_a_bad_change_keeps_the_earlier_configuration(folder: RunFolder) -> None:
    """`score --features 99999` once broke every later `report` of the run."""
    with refused(), folder.lock():
        folder.begin(config(folder.path, features="99999"))
        raise UsageError("no such feature")
    assert folder.config().features == "sample:500"


def test_changed_inputs_are_refused(tmp_path: Path) -> None:
    """Events of old weights beside facts of new ones would look like one dictionary's."""
    for name in ("m", "d", "c"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    made = RunFolder(tmp_path / "run")
    asked = config(made.path, model=str(tmp_path / "m"), corpus=str(tmp_path / "c"),
                   dictionary=[{"id": "a", "path": str(tmp_path / "d")}])  # fmt: skip
    made.check_inputs(asked)
    made.check_inputs(asked)
    for name in ("m", "d", "c"):
        before = (tmp_path / name).stat()
        (tmp_path / name).write_text("longer", encoding="utf-8")
        with pytest.raises(UsageError, match=f"{name} changed since"):
            made.check_inputs(asked)
        (tmp_path / name).write_text("x", encoding="utf-8")
        os.utime(tmp_path / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_damaged_bookkeeping_is_one_sentence(folder: RunFolder) -> None:
    """A half-copied run folder must say which file is bad."""
    (folder.path / "manifest.json").write_text('{"format_version": 1', encoding="utf-8")
    with pytest.raises(RunError, match=r"manifest\.json cannot be read"):
        folder.manifest()
    for content in ("model =", ""):
        (folder.path / "config.toml").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"config\.toml is damaged .*; delete it and run again"):
            folder.config()
    with pytest.raises(UsageError, match="holds no run"):
        RunFolder.existing(folder.path / "none")


def test_the_manifest_keeps_its_start(folder: RunFolder) -> None:
    """A resumed run began when it began; only its end is new."""

    def write(closed: bool) -> None:
        folder.write_manifest(
            config(folder.path), [], corpus_digest=None, n_tokens=0, prompts={}, usage=Usage(), closed=closed
        )

    write(closed=False)
    first = folder.manifest()
    assert first is not None
    assert first.closed is None
    write(closed=True)
    second = folder.manifest()
    assert second is not None
    assert second.started == first.started
    assert second.closed is not None


def test_a_corpus_is_the_same_by_its_relative_and_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell completes one, a script builds the other; another file of the same relative path is another corpus."""
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "c.txt").write_text(f"text of {place}", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    made = RunFolder(tmp_path / "run")
    whole, other = str(tmp_path / "here" / "c.txt"), str(tmp_path / "there" / "c.txt")
    with made.lock():
        made.store.touch()
        for corpus in (whole, "../here/c.txt", "c.txt"):
            made.begin(config(made.path, corpus=corpus))
            made.check_inputs(config(made.path, corpus=corpus))
        with refused("holds a run with corpus = "):
            made.begin(config(made.path, corpus=other))
        monkeypatch.chdir(tmp_path / "there")
        for corpus in ("c.txt", other):
            made.begin(config(made.path, corpus=corpus))
            with refused("changed since"):
                made.check_inputs(config(made.path, corpus=corpus))
