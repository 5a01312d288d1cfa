"""Text to rows: nothing lost, nothing joined, nothing half-written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from autointerp.errors import RunError, UsageError
from autointerp.harvest.events import Corpus
from autointerp.harvest.tokenise import Encoding, write_corpus
from autointerp.subject.corpus.sources import Source

LETTERS = Encoding(
    encode=lambda text: [ord(c) for c in text], vocabulary=tuple(map(str, range(300))), bos=7, pad=9, context=8
)


def write(folder: Path, sources: Sequence[Source], encoding: Encoding = LETTERS) -> Corpus:
    return write_corpus(folder, "name", sources, encoding, lambda stage, done, total: None)


def test_rows_by_hand(tmp_path: Path) -> None:
    """BOS first, padding last, one document a row, lengths with BOS, tokens without."""
    corpus = write(tmp_path, [Source("a", "xy"), Source("blank", " \n"), Source("b", "0123456789")])
    rows = [[7, 120, 121, 9, 9, 9, 9, 9], [7, *map(ord, "0123456")], [7, *map(ord, "789"), 9, 9, 9, 9]]
    assert corpus.tokens.tolist() == rows
    assert corpus.length.tolist() == [3, 8, 4]
    assert corpus.source.tolist() == [0, 1, 1]
    assert corpus.sources == ("a", "b")
    assert (corpus.n_tokens, corpus.first, corpus.n_row) == (12, 1, 3)


def test_without_bos_every_place_is_text(tmp_path: Path) -> None:
    """A dictionary trained without BOS must not get one."""
    corpus = write(tmp_path, [Source("a", "01234567")], LETTERS._replace(bos=None, pad=0))
    assert (corpus.first, corpus.n_tokens, corpus.tokens.tolist()) == (0, 8, [[ord(c) for c in "01234567"]])


def test_large_vocabularies_need_four_bytes(tmp_path: Path) -> None:
    """Ids above 65,535 wrap round silently in two bytes."""
    big = LETTERS._replace(encode=lambda text: [70_000] * len(text), vocabulary=tuple(map(str, range(70_001))))
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


def test_a_finished_corpus_is_kept_and_a_cut_one_told(tmp_path: Path) -> None:
    """Tokenising again would move slots under finished shards; cut tokens must not read as another shape."""
    write(tmp_path, [Source("a", "xy"), Source("b", "zz")])
    again = write(tmp_path, [Source("other", "text")])
    assert again.sources == ("a", "b")
    file = tmp_path / "_corpus" / "tokens.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(RunError, match=r"tokens\.bin is missing or cut short"):
        Corpus.open(tmp_path).tokens.sum()
