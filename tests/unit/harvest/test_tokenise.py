"""Text to rows: nothing lost, nothing joined, nothing half-written."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from autointerp.errors import RunError, UsageError
from autointerp.files import sweep_temporaries
from autointerp.harvest import tokenise
from autointerp.harvest.appended import AppendedFiles
from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.harvest.tokens import Corpus
from autointerp.provenance import digest_file
from autointerp.subject.corpus.files import open_sources
from autointerp.subject.corpus.sources import ListedSources, Source, SourceStream

LETTERS = Encoding(
    encode=lambda texts: [[ord(c) for c in text] for text in texts],
    vocabulary=tuple(map(str, range(300))),
    bos=7,
    pad=9,
    context=8,
)


def write(folder: Path, sources: Sequence[Source], encoding: Encoding = LETTERS) -> Corpus:
    stream = ListedSources("list", lambda: sources)
    return write_corpus(folder, "name", lambda: stream, encoding, lambda stage, done, total: None, lambda text: None)


def test_rows_by_hand(tmp_path: Path) -> None:
    """BOS first, padding last, one document a row, lengths with BOS, tokens without."""
    corpus = write(tmp_path, [Source("a", "xy"), Source("blank", " \n"), Source("b", "0123456789")])
    rows = [[7, 120, 121, 9, 9, 9, 9, 9], [7, *map(ord, "0123456")], [7, *map(ord, "789"), 9, 9, 9, 9]]
    assert corpus.tokens.tolist() == rows
    assert corpus.length.tolist() == [3, 8, 4]
    assert corpus.source.tolist() == [0, 1, 1]
    assert list(corpus.sources) == ["a", "b"]
    assert (corpus.n_tokens, corpus.first, corpus.n_row) == (12, 1, 3)


def test_packed_rows_by_hand(tmp_path: Path) -> None:
    """Documents follow each other, each with its BOS, until one does not fit; none is cut to fill a row."""
    sources = [Source(*pair) for pair in (("a", "xy"), ("b", "z"), ("c", "uvw"), ("d", "0123456789"), ("e", "."))]
    corpus = write(tmp_path, sources, LETTERS._replace(pack=True))
    x, y, z, u, v, w = map(ord, "xyzuvw")
    digits = [ord(c) for c in "0123456789"]
    assert corpus.tokens.tolist() == [
        [7, x, y, 7, z, 9, 9, 9],
        [7, u, v, w, 9, 9, 9, 9],
        [7, *digits[:7]],
        [7, *digits[7:], 7, ord("."), 9, 9],
    ]
    assert corpus.start.tolist() == [0, 3, 8, 16, 24, 28]
    assert corpus.length.tolist() == [3, 2, 4, 8, 4, 2]
    assert corpus.source.tolist() == [0, 1, 2, 3, 3, 4]
    assert (corpus.n_row, corpus.n_tokens, corpus.packed) == (4, 17, True)
    places = corpus.places(np.array([0, 3]))
    assert places.document.tolist() == [[0, 0, 0, 1, 1, -1], [4, 4, 4, 4, 5, 5]]
    assert [places.inside[0, i] for i in range(5)] == [0, 1, 2, 0, 1]
    assert places.text.tolist() == [[False, True, True, False, True, False], [False, True, True, True, False, True]]
    assert [corpus.count_tokens(slice(i, i + 1)) for i in range(4)] == [3, 3, 7, 4]


def test_without_bos_every_place_is_text(tmp_path: Path) -> None:
    """A dictionary trained without BOS must not get one."""
    corpus = write(tmp_path, [Source("a", "01234567")], LETTERS._replace(bos=None, pad=0))
    assert (corpus.first, corpus.n_tokens, corpus.tokens.tolist()) == (0, 8, [[ord(c) for c in "01234567"]])


def test_large_vocabularies_need_four_bytes(tmp_path: Path) -> None:
    """Ids above 65,535 wrap round silently in two bytes."""
    big = LETTERS._replace(
        encode=lambda texts: [[70_000] * len(text) for text in texts], vocabulary=tuple(map(str, range(70_001)))
    )
    assert write(tmp_path, [Source("a", "xy")], big).tokens[0, 1] == 70_000


@pytest.mark.parametrize("sources", [[], [Source("a", ""), Source("b", " \n\t")]])
def test_no_text_is_refused(tmp_path: Path, sources: list[Source]) -> None:
    """A harvest of nothing would be a run whose every figure is a division by zero."""
    with pytest.raises(UsageError, match="holds no text"):
        write(tmp_path, sources)


def test_the_digest_is_of_the_text_and_its_borders(tmp_path: Path) -> None:
    """Moving a sentence from one source to the next changes the split, so it must change the digest."""
    digests = {
        write(tmp_path / name, sources).digest
        for name, sources in {
            "1": [Source("a", "xy"), Source("b", "z")],
            "2": [Source("a", "x"), Source("b", "yz")],
            "3": [Source("ax", "y"), Source("b", "z")],
            "4": [Source("a", "xy")],
        }.items()
    }
    assert len(digests) == 4


def unreachable() -> SourceStream:
    """A data set on a hub that does not answer any more."""
    raise ConnectionError


def test_a_finished_corpus_is_kept_and_a_cut_one_told(tmp_path: Path) -> None:
    """Tokenising again would move slots under finished shards; cut tokens must not read as another shape."""
    write(tmp_path, [Source("a", "xy"), Source("b", "zz")])
    again = write_corpus(tmp_path, "name", unreachable, LETTERS, lambda stage, done, total: None, lambda text: None)
    assert list(again.sources) == ["a", "b"]
    file = tmp_path / "_corpus" / "tokens.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(RunError, match=r"tokens\.bin is missing or cut short"):
        Corpus.open(tmp_path).tokens.sum()


def test_reading_stops_at_the_number_of_tokens_asked_for(tmp_path: Path) -> None:
    """A stream of a data set has no end that anybody wants to reach; the last source is whole."""
    sources = [Source(f"{i}", "abcdefghij") for i in range(1000)]
    stream = ListedSources("list", lambda: sources)
    corpus = write_corpus(
        tmp_path, "n", lambda: stream, LETTERS, lambda stage, done, total: None, lambda text: None, 25
    )
    assert (corpus.n_tokens, len(corpus.sources)) == (30, 3)
    more = write_corpus(
        tmp_path / "b", "n", lambda: stream, LETTERS, lambda stage, done, total: None, lambda text: None, 10**6
    )
    assert more.n_tokens == 10_000


def test_what_is_odd_about_a_corpus_is_counted_and_said(tmp_path: Path) -> None:
    """Half of a crawl that is one page a thousand times over changes every density, silently."""
    texts = ["a", "b", "a", None, " ", "c\ud800", "a"]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    said: list[str] = []
    stream = open_sources(str(tmp_path / "x.jsonl"), tmp_path)
    write_corpus(tmp_path, "n", lambda: stream, LETTERS, lambda stage, done, total: None, said.append)
    assert said == [
        "of 7 sources in the corpus: 2 without text, left out; 2 with the same text as another, kept; "
        "1 with characters that no text can hold, written as ?"
    ]
    counts = json.loads((tmp_path / "_corpus" / "corpus.json").read_text(encoding="utf-8"))["counts"]
    assert counts == {"sources": 5, "empty": 2, "mended": 1, "documents": 5, "rows": 5, "n_tokens": 6, "repeated": 2}


def test_what_of_a_folder_is_not_read_is_said(tmp_path: Path) -> None:
    """Text of another ending would be missing without a word."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a.txt", "b.csv"):
        (folder / name).write_text("xy", encoding="utf-8")
    said: list[str] = []
    write_corpus(
        tmp_path,
        "n",
        lambda: open_sources(str(folder), tmp_path),
        LETTERS,
        lambda stage, done, total: None,
        said.append,
    )
    assert said == ["of 2 files in the corpus folder: 1 of no kind that is read, left out (b.csv)"]


def test_progress_tells_tokens_and_how_many_there_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast behind the time left: exact at the end, near before."""
    monkeypatch.setattr(tokenise, "SOURCES_A_BATCH", 10)
    lines = "".join(json.dumps({"text": "abcdefg" * 3}) + "\n" for _ in range(100))
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8")
    said: list[tuple[int, int]] = []
    stream = open_sources(str(tmp_path / "x.jsonl"), tmp_path)
    write_corpus(
        tmp_path, "n", lambda: stream, LETTERS, lambda stage, done, total: said.append((done, total)), lambda t: None
    )
    assert [done for done, _ in said] == [*range(210, 2101, 210), 2100]
    assert all(total == 2100 for _, total in said)


def _die_at(step: int, work: Callable[[], object]) -> None:
    """Do the work and be killed in the place of its `step`-th write, sync or rename."""
    left = [step]

    def counted(inner: Callable[..., object]) -> Callable[..., object]:
        def call(*values: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*values)

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)  # type: ignore[assignment]
    AppendedFiles.write = counted(AppendedFiles.write)  # type: ignore[method-assign,assignment]
    work()


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("encoding", [LETTERS, LETTERS._replace(pack=True, context=24)])
def test_killed_at_any_step_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    """SIGKILL in the place of each write, sync and rename in turn, and often again while it goes on."""
    monkeypatch.setattr(tokenise, "SECONDS_BETWEEN_COMMITS", 0.0)
    monkeypatch.setattr(tokenise, "SOURCES_A_BATCH", 3)
    lines = "".join(json.dumps({"text": "abc de\n\n" * (i % 5)}) + "\n" for i in range(7))
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8")

    def work(out: Path) -> None:
        sweep_temporaries(out)  # as a run does when it is locked
        stream = open_sources(str(tmp_path / "x.jsonl"), tmp_path)
        write_corpus(out, "n", lambda: stream, encoding, lambda stage, done, total: None, lambda text: None)

    work(tmp_path / "whole")
    fork = multiprocessing.get_context("fork")
    killed, step = 0, 0
    while killed == step:
        step += 1
        for again in (step, 8 + step % 9, 10**6) if step % 3 else (step, 10**6):
            child = fork.Process(target=_die_at, args=(again, lambda step=step: work(tmp_path / f"{step}")))
            child.start()
            child.join()
            killed += again == step and child.exitcode == -signal.SIGKILL
        assert contents(tmp_path / f"{step}") == contents(tmp_path / "whole")
    assert step > 40


def test_a_killed_reading_goes_on_near_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of millions of tokens must not begin anew; another encoding must."""
    monkeypatch.setattr(tokenise, "SECONDS_BETWEEN_COMMITS", 0.0)
    monkeypatch.setattr(tokenise, "SOURCES_A_BATCH", 1)
    sources = [Source(f"{i}", f"{i % 10}") for i in range(40)]
    encoded: list[str] = []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        if len(encoded) == 30:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return [[ord(c) for c in text] for text in texts]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, sources, LETTERS._replace(encode=encode))
    encoded.append("more")
    assert list(write(tmp_path, sources, LETTERS._replace(encode=encode)).sources) == [f"{i}" for i in range(40)]
    assert len(encoded) == 41
    other = tmp_path / "other"
    encoded[:] = []
    with pytest.raises(KeyboardInterrupt):
        write(other, sources, LETTERS._replace(encode=encode))
    encoded[:] = []
    with pytest.raises(KeyboardInterrupt):
        write(other, sources, LETTERS._replace(encode=encode, context=16))
    assert len(encoded) == 30
