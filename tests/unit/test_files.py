"""Files that are replaced or written in place, where somebody else may have been before."""

import os
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.files import TEMPORARY, make_temporary, open_in_place, sweep_temporaries
from autointerp.provenance import replace_file, write_atomically


def test_a_replaced_file_has_a_temporary_name_that_nobody_can_foresee(tmp_path: Path) -> None:
    """`NAME.tmp` was opened through whatever link lay there."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file.tmp").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "victim").read_text() == "precious"
    first, second = (make_temporary(tmp_path / "file")[0] for _ in range(2))
    assert first != second
    assert TEMPORARY.fullmatch(first.name)


def test_an_error_of_any_kind_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    """With names of their own, parts of killed writes would pile up."""
    write_atomically(tmp_path / "file", "old")

    def write_half() -> None:
        with replace_file(tmp_path / "file") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_what_kills_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """Only our own form of name is ours to remove."""
    kept = ("notes.tmp", "a.0123456789abcdef.txt", ".0123456789abcdef.tmp")
    for name in (*kept, "summary.json.0123456789abcdef.tmp", "deep/shard.0123456789abcdef.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sweep_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_what_is_written_in_place_is_a_file_of_one_name(tmp_path: Path) -> None:
    """Links, second names, pipes and folders lead elsewhere or nowhere."""
    os.close(open_in_place(tmp_path / "new", os.O_WRONLY | os.O_CREAT))
    (tmp_path / "link").symlink_to(tmp_path / "new")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.link(tmp_path / "new", tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    odd = {"link": "a link", "dangling": "a link", "second": "second name", "pipe": "ordinary", "folder": "ordinary"}
    for name, why in odd.items():
        with pytest.raises(UsageError, match=why):
            open_in_place(tmp_path / name, os.O_WRONLY | os.O_CREAT)
    assert not (tmp_path / "nothing").exists()
