"""What is damaged, changed or full ends in a sentence that names the file, and the run goes on when that is mended."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from autointerp import api
from autointerp.errors import AutointerpError, RunError, StoppedError, UsageError
from autointerp.store import runs
from tests.flows.asked_records import make_run


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("damaged") / "run", n=60)
    api.run_score(run)
    return run


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "run"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


def set_body(body: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        db.execute("update scores set body = ?", (body,))
        db.commit()
        db.close()

    return change


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


DAMAGE = {
    "records flipped": ("records.jsonl", flip),
    "records no UTF-8": ("records.jsonl", lambda path: path.write_bytes(b"\xff\xfe")),
    "a body cut": ("store.sqlite", set_body(b"\x78\x9c\x01")),
    "a body of zeros": ("store.sqlite", set_body(b"\x00" * 64)),
    "a body that is text": ("store.sqlite", set_body("text")),
    "a body that is a number": ("store.sqlite", set_body(7)),
    "keys no JSON": ("backends.json", text("{")),
    "keys a list": ("backends.json", text("[1, 2]")),
    "keys of others": ("backends.json", text('{"who": "knows"}')),
    "keys that are numbers": ("backends.json", text('{"explainer_key": 1, "simulator_key": []}')),
    "keys nested deep": ("backends.json", text("[" * 100_000)),
    "stopped no JSON": ("stopped.json", text("\x00")),
    "configuration": ("config.toml", text("a = " + "[" * 10_000)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_by_every_command(run: Path, name: str) -> None:
    """Zlib, JSON, UTF-8 and pydantic said it as tracebacks."""
    file, damage = DAMAGE[name]
    damage(run / file)
    said = []
    for look in (api.read_status, api.write_report, api.run_score):
        try:
            look(run)
        except AutointerpError as error:
            said.append(str(error))
    assert said
    assert [line for line in said if file not in line] == []


def test_records_that_were_changed_are_told(run: Path, tmp_path: Path) -> None:
    """Every activation altered and the store deleted gave another score, and exit 0."""
    path = run / "records.jsonl"
    path.write_text(path.read_text().replace("1.0", "9.0"))
    (run / "store.sqlite").unlink()
    for use in (api.run_score, lambda run: api.export_records(run, None, "tsv", tmp_path / "x.tsv")):
        with pytest.raises(RunError, match=r"records.jsonl is not what was imported: .* import the records again"):
            use(run)


def test_a_run_without_a_digest_of_its_records_goes_on(run: Path) -> None:
    """Runs that were imported before there was one."""
    (run / "records.json").unlink()
    assert api.run_score(run)["records"].scored == 3


def test_an_import_that_met_a_full_disk_leaves_nothing_half(
    tmp_path: Path, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration without records stayed, and scoring it was a traceback."""
    source = scored.with_suffix(".jsonl")

    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("autointerp.store.kept_records.write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            api.import_records(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    api.import_records(source, tmp_path / "new")
    (tmp_path / "new" / "records.jsonl").unlink()  # as a kill between the two leaves it
    with pytest.raises(UsageError, match="holds no records"):
        api.run_score(tmp_path / "new")
    api.import_records(source, tmp_path / "new")
    assert api.run_score(tmp_path / "new")["records"].scored == 3


def test_a_store_that_fills_ends_in_a_sentence_and_goes_on(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback of SQLAlchemy's; with room made, the same command goes on to the same summary."""
    api.import_records(scored.with_suffix(".jsonl"), tmp_path / "run")
    connect = runs._on_connect

    def small(connection: sqlite3.Connection, record: object) -> None:
        connect(connection, record)
        connection.execute("pragma max_page_count = 14")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_on_connect", small)
        with pytest.raises(StoppedError, match=r"store.sqlite .*make room, then run"):
            api.run_score(tmp_path / "run")
    assert api.run_score(tmp_path / "run")["records"].scored == 3
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", scored)]
    assert summaries[0] == summaries[1]
