"""A run's folder: its lock, its configuration, its manifest, and where everything else lies.

    manifest.json  config.toml  store.sqlite  summary.json  report.html  harvest/

Configurations and manifests flow in and out. One writer at a time; a killed writer's lock is free again.
"""

import datetime
import json
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from autointerp.config import HarvestPart, RunConfig, check_config
from autointerp.errors import RunError, UsageError
from autointerp.provenance import package_versions, write_atomically
from autointerp.records import DictionarySpec, RunManifest, Usage
from autointerp.store.agreement import check_agreement
from autointerp.store.chosen import LEADS_OUT, is_here, leading_out, mark_of, marked, new_mark, recall, remember
from autointerp.store.inputs import INPUTS, check_inputs
from autointerp.store.locks import hold_alone, hold_part, holder, take_turn

FORMAT_VERSION = 1
KEYS_NOTE = "backends"


class RunFolder:
    """Paths and bookkeeping of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.harvest = path / "harvest"
        self.store = path / "store.sqlite"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.calls = path / "calls.jsonl"
        """Every reply that was used."""
        self.unusable = path / "unusable.jsonl"
        """Replies that failed items could not use."""
        self.replies = path / "replies.jsonl"
        """Replies that the reply cache could not take."""
        self.batches = path / "batches"
        """Files of requests on their way through a batch endpoint, and the answers that came back."""
        self.batch_book = path / "batch.sqlite"
        """What became of the requests in batch files."""
        self.records = path / "records.jsonl"
        """Bare records, where the run was made of them."""
        self._config = path / "config.toml"
        self._manifest = path / "manifest.json"

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """A folder that holds a run.

        Raises:
            UsageError: it holds none.
        """
        folder = cls(path)
        if not folder._config.is_file():
            raise UsageError(f"{path} holds no run; `autointerp run --out {path}` makes one")
        return folder

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; the system frees the lock of a process that died.

        A `UsageError` inside leaves no trace but finished tokens and shards, so that the mended command finds the
        folder as it was before.

        Raises:
            UsageError: another process writes here, or the folder cannot be written.
        """
        made = self._missing_folders()
        with hold_alone(self.path):
            try:
                with self._undoing():
                    yield
            except (UsageError, OSError):
                self._remove_if_empty(made)
                raise

    def writer(self) -> str | None:
        """Who writes the run now; None where nobody does."""
        return holder(self.path)

    @contextmanager
    def lock_part(self, part: HarvestPart) -> Iterator[None]:
        """Be the only writer of one part of the harvest, beside others; the run itself is written in turns.

        Raises:
            UsageError: another process writes the run or this part, or cuts the harvest into another number of parts.
        """
        made = self._missing_folders()
        try:
            with hold_part(self.path, part):
                yield
        except UsageError:
            with suppress(UsageError), hold_alone(self.path):  # not while another part is at work
                self._remove_if_empty(made)
            raise

    def _missing_folders(self) -> list[Path]:
        return [folder for folder in (self.path, *self.path.parents) if not folder.exists()]

    def _remove_if_empty(self, made: Sequence[Path]) -> None:
        """Remove the lock, and the folders made for it, of a run that never began."""
        if not self._config.is_file():
            (self.path / "lock").unlink(missing_ok=True)
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    @contextmanager
    def turn(self, config: RunConfig, note: Callable[[str], None]) -> Iterator[None]:
        """Begin, and write what all parts need, while no other part does; `note` is told where another is at it.

        A `UsageError` inside leaves no trace.
        """
        waits = f"waiting for another part of {self.path}, which prepares what all need"
        with take_turn(self.path, lambda: note(waits)), self._undoing():
            self.begin(config, named=LEADS_OUT)
            self.check_inputs(config)
            yield

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Bring the bookkeeping back on a `UsageError`, or remove a run that had only begun.

        Finished shards stay, and so do finished tokens, with the configuration that says what they are of.
        """
        bookkeeping = (self._config, self._manifest, self.harvest / INPUTS)
        before = {path: path.read_bytes() if path.is_file() else None for path in bookkeeping}
        try:
            yield
        except UsageError:
            if before[self._config] is not None:
                for path, content in before.items():
                    if content is not None:
                        write_atomically(path, content)
                    else:
                        path.unlink(missing_ok=True)
            elif not any(self.harvest.glob("*/shard-*.safetensors")):
                self._forget_run()
            raise

    def _forget_run(self) -> None:
        self._manifest.unlink(missing_ok=True)
        if not any(self.harvest.glob("*/corpus.json")):
            shutil.rmtree(self.harvest, ignore_errors=True)
            self._config.unlink(missing_ok=True)
        for plan in self.harvest.glob("*/plan.json"):
            shutil.rmtree(plan.parent)

    def config(self, named: Collection[str] = ()) -> RunConfig:
        """The run's configuration as last asked for.

        Files outside are left out where this user did not name them for this run; keys in `named` are not looked at.

        Raises:
            RunError: it is damaged.
            UsageError: its features are listed in a file outside that this user did not name.
        """
        try:
            values = tomllib.loads(self._config.read_text(encoding="utf-8"))
            outside = {key: value for key, value in self._unnamed(values).items() if key not in named}
            kept = {key: value for key, value in values.items() if key not in outside}
            config = check_config({**kept, "out": str(self.path)}, str(self._config))
        except (OSError, ValueError, RecursionError, UsageError) as error:
            raise RunError(
                f"{self._config} is damaged ({error}); delete it and run again with the same settings"
            ) from None
        if "features" in outside:
            raise UsageError(
                f"{self._config} lists its features in {outside['features'][1:]}, which only the folder names; where "
                f"you trust it, run `autointerp score {self.path} --features {outside['features']}`"
            )
        return config

    def named(self) -> dict[str, str]:
        """What this user named for this run that leads out of its folder."""
        return recall(self._mark(), self.path)

    def _mark(self) -> str | None:
        if not self._config.is_file():
            return None
        return mark_of(self._config.read_text(encoding="utf-8", errors="replace"))

    def left_out(self, named: Collection[str] = ()) -> list[str]:
        """Which settings of the folder are not heeded since only it names them; `named` as in `config`."""
        try:
            outside = self._unnamed(tomllib.loads(self._config.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            return []
        return [
            f"{key} = {value} in {self._config} is not read: it leads out of the folder, and you did not name it for "
            f"this run; where you trust it, set AUTOINTERP_{key.upper()}"
            for key, value in outside.items()
            if key not in (*named, "features")
        ]

    def _unnamed(self, values: Mapping[str, object]) -> dict[str, str]:
        """Of a configuration, the files outside that this user did not name for this run."""
        named = self.named()
        found = leading_out(values)
        return {key: value for key, value in found.items() if key != "base_url" and named.get(key) != value}

    def begin(self, config: RunConfig, named: Collection[str] = ()) -> None:
        """Keep the configuration; an earlier one must agree in all that the harvest depends on.

        `named` are the keys that this user gave just now, by whatever way.

        Raises:
            UsageError: the folder holds a run of another model, corpus, seed or dictionary; where it holds only tokens,
                ones of another model, corpus or kind.
        """
        if self._config.is_file() and self._holds_work():
            check_agreement(self.path, self.harvest, self.config(named=LEADS_OUT), config)
        values = config.model_dump(mode="json", exclude_none=True, exclude={"out"})
        outside = leading_out({key: getattr(config, key) for key in LEADS_OUT if key in named})
        mark = self._mark()
        if outside and not is_here(mark, self.path):  # a copy is another run, and leaves its original known
            mark = new_mark()
        write_atomically(self._config, marked(mark, tomli_w.dumps(values)))
        if mark is not None and outside:
            remember(mark, self.path, outside)

    def _holds_work(self) -> bool:
        """Whether a start got further than to say what it was asked for."""
        made = ("*/corpus.json", "*/partial/position.json", "*/plan.json", "*/shard-*.safetensors")
        return self.store.is_file() or self.records.is_file() or any(any(self.harvest.glob(name)) for name in made)

    def manifest(self) -> RunManifest | None:
        """The manifest, where one was written."""
        if not self._manifest.is_file():
            return None
        try:
            return RunManifest.model_validate_json(self._manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{self._manifest} cannot be read ({error}); move it away and run again") from None

    def forget(self) -> None:
        """Take back the configuration of a run that never came to be."""
        self._config.unlink(missing_ok=True)

    def read_note(self, name: str) -> dict[str, Any]:
        """A small JSON object kept with the run; empty where none was.

        Raises:
            RunError: it is damaged.
        """
        path = self.path / f"{name}.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})
        except (ValueError, TypeError, RecursionError):
            raise damaged_note(path) from None

    def result_keys(self) -> dict[str, str]:
        """Where this run's last results stand in its store, as `explainer_key` and `simulator_key`; empty before.

        Raises:
            RunError: it is damaged.
        """
        keys = self.read_note(KEYS_NOTE)
        if keys and not (keys.keys() == {"explainer_key", "simulator_key"} and all(map(_is_text, keys.values()))):
            raise damaged_note(self.path / f"{KEYS_NOTE}.json")
        return keys

    def drop_note(self, name: str) -> None:
        """Forget a note."""
        (self.path / f"{name}.json").unlink(missing_ok=True)

    def write_note(self, name: str, values: Mapping[str, object]) -> None:
        """Keep a small JSON object with the run."""
        write_atomically(self.path / f"{name}.json", json.dumps(values, indent=1, sort_keys=True) + "\n")

    def check_inputs(self, config: RunConfig) -> None:
        """As `inputs.check_inputs`."""
        check_inputs(self.path, self.harvest, config)

    def write_manifest(
        self,
        config: RunConfig,
        dictionaries: Sequence[DictionarySpec],
        *,
        corpus_digest: str | None,
        n_tokens: int,
        prompts: Mapping[str, str],
        usage: Usage,
        closed: bool,
    ) -> None:
        """Write the manifest: first at the start of a run, last at its end."""
        earlier = self.manifest()
        now = datetime.datetime.now(datetime.UTC)
        started = earlier.started if earlier else now.isoformat(timespec="seconds")
        seconds = (now - datetime.datetime.fromisoformat(started)).total_seconds()
        manifest = RunManifest(
            format_version=FORMAT_VERSION,
            config=config.model_dump(mode="json"),
            packages=package_versions(),
            commit=_commit(),
            dictionaries=tuple(dictionaries),
            corpus=config.corpus,
            corpus_digest=corpus_digest,
            prompts=dict(prompts),
            seed=config.seed,
            n_tokens=n_tokens,
            usage=usage,
            started=started,
            closed=now.isoformat(timespec="seconds") if closed else None,
            host=platform.node(),
            seconds=round(seconds, 1) if closed else None,
        )
        write_atomically(self._manifest, manifest.model_dump_json(indent=2) + "\n")


def damaged_note(path: Path) -> RunError:
    """Of a small file that the next run writes anew."""
    return RunError(f"{path} is damaged; delete it and run `autointerp score {path.parent}` again, which makes it anew")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def parse_reference(text: str) -> tuple[Path, str | None]:
    """`RUN` or `RUN:ID`: a run's folder, and one of its dictionaries where it is named."""
    path, colon, name = text.rpartition(":")
    if not colon or Path(text).exists() or "/" in name:
        return Path(text), None
    return Path(path), name


def _commit() -> str | None:
    """The commit of the clone this package runs from, where it does."""
    clone = Path(__file__).resolve().parents[2]
    if not (clone / ".git").exists():
        return None
    asked = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
