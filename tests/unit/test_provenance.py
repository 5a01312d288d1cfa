"""Canonical JSON, digests, seeds and file commits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autointerp.errors import UsageError
from autointerp.provenance import (
    canonical_json,
    digest,
    digest_bytes,
    digest_file,
    generator,
    seal,
    seed_of,
    unseal,
    write_atomically,
)
from autointerp.resources import bundled


def test_one_value_has_one_spelling() -> None:
    """A digest that depends on the order of keys would ask a paid endpoint again."""
    assert canonical_json({"b": 1, "a": [1.5, None, "é"]}) == '{"a":[1.5,null,"é"],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))


def test_a_digest_names_its_algorithm_and_does_not_depend_on_pieces(tmp_path: Path) -> None:
    """Without the tag a later change of algorithm looks like a change of content."""
    file = tmp_path / "f"
    file.write_bytes(b"abc" * 1_000_000)
    tagged = digest_file(file)
    assert tagged == digest_bytes([b"abc"] * 1_000_000)
    assert tagged.startswith("blake2b:")
    assert len(tagged) == len("blake2b:") + 40


def test_seeds_are_the_same_in_every_process() -> None:
    """Python's own hash is salted per process: parts by it would change from run to run."""
    code = "from autointerp.provenance import seed_of; print(seed_of(0, 'd', 3, 'explain'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == seed_of(0, "d", 3, "explain")
    assert generator(1, "a").random() == generator(1, "a").random()
    assert seed_of(1, 23) != seed_of(12, 3)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle of a write must leave the old content or the new one."""
    path = tmp_path / "sub" / "file"
    write_atomically(path, "old")

    def broken(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_seal_is_of_all_the_rest() -> None:
    """A count changed in a manifest changed every density, and nothing said so."""
    values = {"n_tokens": 3263, "share": 0.1, "word": "é"}
    sealed = seal(values)
    assert unseal(sealed) == values
    assert json.loads(sealed).keys() == {*values, "seal"}
    for place in range(len(sealed)):
        with pytest.raises(ValueError, match="seal"):
            unseal(sealed[:place] + chr(ord(sealed[place]) ^ 1) + sealed[place + 1 :])
    later = [seal(values, {"closed": day}) for day in ("today", "tomorrow")]
    assert unseal(later[1]) == {**values, "closed": "tomorrow"}
    assert len({json.loads(text)["seal"] for text in [sealed, *later]}) == 1
    for changed in (later[0].replace("3263", "9263"), sealed[:-1], canonical_json(values), "", "{}"):
        with pytest.raises(ValueError, match="seal"):
            unseal(changed)


def test_bundled_files_are_found_or_missed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a wheel without the demo the message says that the installation is broken."""
    assert bundled("demo").is_dir()
    monkeypatch.setattr("autointerp.resources.__file__", str(tmp_path / "pkg" / "resources.py"))
    bundled.cache_clear()
    with pytest.raises(UsageError, match="demo"):
        bundled("demo")


def test_generator_is_numpys_pcg64() -> None:
    """The stream is a promise: choices in a published run are redrawn by it."""
    assert generator("x").bit_generator.state["bit_generator"] == "PCG64"
    assert isinstance(generator("x"), np.random.Generator)


def test_a_seal_over_what_nobody_can_read_is_a_value_error() -> None:
    """Whoever writes a whole folder writes its seals too; nested 100,000 deep it was a `RecursionError`."""
    sealed = '{"a":' + "[" * 100_000 + "]" * 100_000
    with pytest.raises(ValueError, match="nested too deeply"):
        unseal(f'{sealed},"seal":"{digest_bytes([(sealed + "}").encode()])}"}}')
