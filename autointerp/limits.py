"""How much is taken in at most of what somebody else packed: a few kilobytes can unpack to all the memory there is.

One place for the numbers, in bytes unless said otherwise, and for reading within them.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

ANSWER = 64 * 2**20
"""One answer of an endpoint, unpacked; an answer with log probabilities is some hundred kilobytes."""
DOWNLOAD = 4 * 2**30
"""One file of a batch's answers, as the endpoint gives it back."""
BODY = 64 * 2**20
"""One body in a store or a cache, unpacked."""
LINE = 256 * 2**20
"""One line, text file or cell of a corpus, unpacked: a source of this size is some 60 million tokens."""
LIST = 64 * 2**20
"""A small text file that is read whole: a list of features, a table of prices."""
ARRAY = 64 * 2**30
"""One array in a packed file of weights; the largest dictionaries have some gigabytes."""


class TooLargeError(ValueError):
    """More than a limit allows."""


def unpack(packed: bytes, most: int = BODY) -> bytes:
    """What zlib packed.

    Raises:
        ValueError: damaged, or larger than `most` bytes.
    """
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(body) > most:
        raise TooLargeError(f"it unpacks to more than {most // 2**20:,} MB")
    if not unpacking.eof:
        raise ValueError("it is cut")
    return body


class _Readable(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


def lines_of(file: _Readable, most: int = LINE) -> Iterator[bytes]:
    """The lines of an open file, none of which is read beyond `most` bytes.

    Raises:
        TooLargeError: one is longer.
    """
    while line := file.readline(most + 1):
        if len(line) > most:
            raise TooLargeError(f"a line is longer than {most // 2**20:,} MB")
        yield line
