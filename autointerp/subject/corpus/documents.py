"""Cutting sources into documents that fit a model's context.

In: texts and a function that encodes texts to token ids. Out: lists of token ids, none longer than asked. Used
by the harvest and by the scripts that trained the demo model. Knows nothing of BOS, padding or tensors.
"""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple, TypeVar

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Each text to its token ids, with no special token added; many at once, because a call costs more than a paragraph."""

LONGEST_TOKEN = 12
"""Characters a token, above which a text is not tried as one document."""
MOST_SAVED = 8
"""Tokens that joining two pieces may save; a run that would need more is not tried."""
LINE = re.compile(r"[^\n]*\n|[^\n]+")


class _Piece(NamedTuple):
    """Text that is not cut further, unless it is one line longer than a document."""

    text: str
    ids: Sequence[int]


T = TypeVar("T")
_Cutting = Generator[Sequence[str], Sequence[Sequence[int]], T]
"""Asks for texts to be encoded, and is sent their token ids."""


def cut_into_documents(texts: Sequence[str], encode: Encode, max_tokens: int) -> list[list[list[int]]]:
    """Cut each text into documents of at most `max_tokens` tokens: at blank lines, failing these at line ends.

    Nothing is lost: the pieces' texts joined are the text, and a document is the encoding of the longest run of
    consecutive pieces that fits. A paragraph that is too long gives its lines as pieces; a line that is too
    long is encoded once and cut at tokens, into documents of its own. The cost is linear in the text: each
    piece is encoded once by itself, and each document a few times. What all texts ask for next is encoded together.
    """
    if max_tokens < 1:
        raise ValueError(f"a document needs room for at least one token, not {max_tokens}")
    cut: list[list[list[int]]] = [[] for _ in texts]
    waiting = [(number, cutting, next(cutting)) for number, cutting in enumerate(_cut(t, max_tokens) for t in texts)]
    while waiting:
        encoded = iter(encode([text for _, _, asked in waiting for text in asked]))
        answered, waiting = waiting, []
        for number, cutting, asked in answered:
            try:
                waiting.append((number, cutting, cutting.send([next(encoded) for _ in asked])))
            except StopIteration as done:
                cut[number] = done.value
    return cut


def _cut(text: str, max_tokens: int) -> _Cutting[list[list[int]]]:
    if len(text) <= max_tokens * LONGEST_TOKEN:
        (whole,) = yield [text]
        if len(whole) <= max_tokens:
            return [list(whole)] if len(whole) else []
    pieces = yield from _pieces(text, max_tokens)
    documents: list[list[int]] = []
    start = 0
    while start < len(pieces):
        ids = pieces[start].ids
        if len(ids) > max_tokens:
            documents.extend(list(ids[at : at + max_tokens]) for at in range(0, len(ids), max_tokens))
            start += 1
        else:
            start, ids = yield from _longest_run(pieces, start, max_tokens)
            documents.append(list(ids))
    return [document for document in documents if document]


def _longest_run(pieces: Sequence[_Piece], start: int, max_tokens: int) -> _Cutting[tuple[int, Sequence[int]]]:
    """The end of the longest run from `start` whose joint encoding fits, and that encoding.

    Joining pieces can change their tokens at the seams, so the sum of their lengths is only a first guess.
    """
    end, total = start + 1, len(pieces[start].ids)
    while end < len(pieces) and total + len(pieces[end].ids) <= max_tokens:
        total += len(pieces[end].ids)
        end += 1
    fitting = yield from _encode_run(pieces[start:end])
    while len(fitting) > max_tokens:
        end -= 1
        fitting = yield from _encode_run(pieces[start:end])
    while end < len(pieces) and len(fitting) + len(pieces[end].ids) - MOST_SAVED <= max_tokens:
        if len(pieces[end].ids) > max_tokens:
            break
        longer = yield from _encode_run(pieces[start : end + 1])
        if len(longer) > max_tokens:
            break
        end, fitting = end + 1, longer
    return end, fitting


def _encode_run(run: Sequence[_Piece]) -> _Cutting[Sequence[int]]:
    if len(run) == 1:
        return run[0].ids
    (ids,) = yield ["".join(piece.text for piece in run)]
    return ids


def _pieces(text: str, max_tokens: int) -> _Cutting[list[_Piece]]:
    """Paragraphs, or the lines of a paragraph that is too long."""
    paragraphs = list(_paragraphs(text))
    texts = ["".join(lines) for lines in paragraphs]
    encoded = yield texts
    pieces: list[_Piece] = []
    for lines, paragraph, ids in zip(paragraphs, texts, encoded, strict=True):
        if len(ids) <= max_tokens or len(lines) == 1:
            pieces.append(_Piece(paragraph, ids))
        else:
            pieces.extend(map(_Piece, lines, (yield lines)))
    return pieces


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
