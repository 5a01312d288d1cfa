"""Cutting a source into documents that fit a model's context.

In: text and a function that encodes texts to token ids. Out: lists of token ids, none longer than asked. Used
by the harvest and by the scripts that trained the demo model. Knows nothing of BOS, padding or tensors.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Each text to its token ids, with no special token added; many at once, because a call costs more than a paragraph."""

LINE = re.compile(r"[^\n]*\n|[^\n]+")


class _Piece(NamedTuple):
    """Text that is not cut further, unless it is one line longer than a document."""

    text: str
    ids: Sequence[int]


def cut_into_documents(text: str, encode: Encode, max_tokens: int) -> list[list[int]]:
    """Cut `text` into documents of at most `max_tokens` tokens: at blank lines, failing these at line ends.

    Nothing is lost: the pieces' texts joined are `text`, and a document is the encoding of the longest run of
    consecutive pieces that fits. A paragraph that is too long gives its lines as pieces; a line that is too
    long is encoded once and cut at tokens, into documents of its own. The cost is linear in the text: each
    piece is encoded once by itself, and each document a few times.
    """
    if max_tokens < 1:
        raise ValueError(f"a document needs room for at least one token, not {max_tokens}")
    pieces = list(_pieces(text, encode, max_tokens))
    documents: list[list[int]] = []
    start = 0
    while start < len(pieces):
        ids = pieces[start].ids
        if len(ids) > max_tokens:
            documents.extend(list(ids[at : at + max_tokens]) for at in range(0, len(ids), max_tokens))
            start += 1
        else:
            start, ids = _longest_run(pieces, start, encode, max_tokens)
            documents.append(list(ids))
    return documents


def _longest_run(pieces: Sequence[_Piece], start: int, encode: Encode, max_tokens: int) -> tuple[int, Sequence[int]]:
    """The end of the longest run from `start` whose joint encoding fits, and that encoding.

    Joining pieces can change their tokens at the seams, so the sum of their lengths is only a first guess.
    """
    end, total = start + 1, len(pieces[start].ids)
    while end < len(pieces) and total + len(pieces[end].ids) <= max_tokens:
        total += len(pieces[end].ids)
        end += 1
    fitting = _encode_run(pieces[start:end], encode)
    while len(fitting) > max_tokens:
        end -= 1
        fitting = _encode_run(pieces[start:end], encode)
    while end < len(pieces) and len(pieces[end].ids) <= max_tokens:
        longer = _encode_run(pieces[start : end + 1], encode)
        if len(longer) > max_tokens:
            break
        end, fitting = end + 1, longer
    return end, fitting


def _encode_run(run: Sequence[_Piece], encode: Encode) -> Sequence[int]:
    return run[0].ids if len(run) == 1 else encode(["".join(piece.text for piece in run)])[0]


def _pieces(text: str, encode: Encode, max_tokens: int) -> Iterator[_Piece]:
    """Paragraphs, or the lines of a paragraph that is too long."""
    paragraphs = list(_paragraphs(text))
    texts = ["".join(lines) for lines in paragraphs]
    for lines, paragraph, ids in zip(paragraphs, texts, encode(texts), strict=True):
        if len(ids) <= max_tokens or len(lines) == 1:
            yield _Piece(paragraph, ids)
        else:
            yield from map(_Piece, lines, encode(lines))


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Runs of lines, each ending with the blank lines that follow it; every line keeps its line end."""
    lines: list[str] = []
    ended = False
    for match in LINE.finditer(text):
        line = match.group()
        blank = not line.strip()
        if ended and not blank:
            yield lines
            lines = []
        lines.append(line)
        ended = blank
    if lines:
        yield lines
