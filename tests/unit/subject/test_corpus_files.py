"""A user's own files as sources."""

import gzip
import json
import os
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.subject.corpus.files import FEW_FILES, corpus_name, open_sources
from autointerp.subject.corpus.text_files import PAGE_CHARACTERS


def read(path: Path) -> dict[str, str]:
    return {source.id: source.text for source in open_sources(str(path), path).read(None)}


def test_one_text_file_is_many_sources_and_loses_nothing(tmp_path: Path) -> None:
    """One file as one source would lie in one part, and nothing could be scored."""
    text = "".join(f"Line {i} of a paragraph.\n" + ("\n" if i % 9 == 0 else "") for i in range(2000))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    pages = read(tmp_path / "book.txt")
    assert "".join(pages.values()) == text
    assert len(pages) > 10
    assert all(len(page) <= 2 * PAGE_CHARACTERS + 40 for page in pages.values())
    assert list(pages)[:2] == ["book.txt#1", "book.txt#2"]


def test_many_text_files_are_a_source_each(tmp_path: Path) -> None:
    """Pages of one file are alike; where there are files enough, the split goes by file."""
    for i in range(FEW_FILES):
        (tmp_path / f"{i:03}.txt").write_text("word\n\n" * 2000, encoding="utf-8")
    assert list(read(tmp_path)) == [f"{i:03}.txt" for i in range(FEW_FILES)]


def test_json_lines(tmp_path: Path) -> None:
    """The id where there is one, else file and line; blank lines are no rows."""
    lines = [json.dumps({"text": "a", "id": 5}), "", json.dumps({"text": "b", "more": [1]})]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "y.md").write_text("not read", encoding="utf-8")
    assert read(tmp_path) == {"5": "a", "sub/x.jsonl:3": "b"}


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    """Half a corpus of another ending would be missing without a word. Endings count in either case."""
    line = b'{"text": "a"}\n'
    (tmp_path / "x.JSONL").write_bytes(line)
    (tmp_path / "y.Jsonl.GZ").write_bytes(gzip.compress(line))
    assert open_sources(str(tmp_path), tmp_path).notes == ()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "z.csv").write_text("a", encoding="utf-8")
    for name in (".hidden", "README"):
        (tmp_path / name).write_text("a", encoding="utf-8")
    assert list(read(tmp_path)) == ["x.JSONL:1", "y.Jsonl.GZ:1"]
    (said,) = open_sources(str(tmp_path), tmp_path).notes
    assert said == "of 5 files in the corpus folder: 3 of no kind that is read, left out (.hidden, README, sub/z.csv)"
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    (said,) = open_sources(str(tmp_path), tmp_path).notes
    assert said.endswith("4 of no kind that is read, left out (.hidden, README, linked and 1 more)")


def test_a_link_to_nothing_is_no_text(tmp_path: Path) -> None:
    """A disk that is not mounted would shorten the corpus."""
    (tmp_path / "x.txt").write_text("a", encoding="utf-8")
    (tmp_path / "y.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"y\.jsonl is no file, or a link to nothing; mend or remove it"):
        read(tmp_path)


@pytest.mark.parametrize("ending", ["txt", "jsonl", "parquet"])
def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path, ending: str) -> None:
    """It would name sources, and no record or report can hold such a name."""
    file = tmp_path / os.fsdecode(b"\xff." + ending.encode())
    file.write_text('{"text": "a"}', encoding="utf-8")
    for path in (tmp_path, file):
        with pytest.raises(UsageError, match=rf"udcff\.{ending}' is not UTF-8; rename it"):
            read(path)
    file.rename(tmp_path / os.fsdecode(b"\xff"))
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    assert open_sources(str(tmp_path), tmp_path).notes[0].endswith("left out (?)")


def test_lone_surrogates_become_question_marks(tmp_path: Path) -> None:
    """A source promises to encode as UTF-8; JSON can spell what cannot."""
    (tmp_path / "x.jsonl").write_text('{"id": "i\\ud800", "text": "a\\udfffb \\ud83d\\ude00"}', encoding="utf-8")
    assert read(tmp_path / "x.jsonl") == {"i?": "a?b \U0001f600"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.gz", "folder/a.txt"])
def test_byte_order_marks_are_no_text(tmp_path: Path, name: str, end: str) -> None:
    """Text files kept U+FEFF in their first token, JSON lines did not; joined files have one in the middle."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    lines = ["the cat", "sat down"]
    rows = [json.dumps({"text": "\ufeff" + line}) if "jsonl" in name else line for line in lines]
    whole = "".join("\ufeff" + row + end for row in rows).encode()
    path.write_bytes(gzip.compress(whole) if name.endswith(".gz") else whole)
    found = list(read(path if path.parent == tmp_path else path.parent).values())
    assert found == (lines if "jsonl" in name else ["the cat\nsat down\n"])


@pytest.mark.parametrize("rest", [b'{"text": "a"}\n', b'\n{"text": "a"}\n'])
def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path: Path, rest: bytes) -> None:
    """Editors on Windows write one; it is no part of the first line, which may be blank behind it."""
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + rest)
    assert list(read(tmp_path / "x.jsonl").values()) == ["a"]


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"text": ', "line 2 is not JSON: Expecting value at column 10$"),
     ('{"text": "a', "line 2 is not JSON: Unterminated string starting at column 10$"),
     ("[1]", 'line 2 has no "text"'), ('{"txt": "a"}', 'line 2 has no "text"'),
     ('{"text": "a", "id": ' + "1" * 5000 + "}", "line 2 holds a whole number of more than 4,300 digits; put it in"),
     ('{"text": 3}', 'line 2: "text" holds int, not text')],
)  # fmt: skip
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    """In a file of a million lines 'invalid JSON' helps no one."""
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        read(tmp_path / "x.jsonl")


def test_what_is_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without text, another kind of file, and a misspelt name with the near one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x", encoding="utf-8")
    for path in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(UsageError, match=r"holds no \.txt, \.jsonl"):
            read(path)
    with pytest.raises(UsageError, match="near: python-docs"):
        open_sources("python-doc", tmp_path)
    assert corpus_name("python-docs") == "python-docs"
    assert corpus_name(str(tmp_path / "a.csv")) == "a.csv"
